"""Senders of rows that can be asked for what never reached us: Stripe, PayPal, GitHub.

`base` has what they share: the settings of the API, and what an entry of a log is. Stripe's log holds the events themselves
(`stripe`). PayPal's and GitHub's (`paypal`, `github`) say what was sent; both are asked to send it again, so that their own
bytes and signature pass the front door. A client is all of a source that touches the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.sources.logs.github import GitHubSource as GitHubSource
    from webhooks.sources.logs.paypal import PayPalSource as PayPalSource
    from webhooks.sources.logs.stripe import StripeSource as StripeSource
else:
    __getattr__, __dir__ = lazily(
        __name__, {"github": ["GitHubSource"], "paypal": ["PayPalSource"], "stripe": ["StripeSource"]}
    )
