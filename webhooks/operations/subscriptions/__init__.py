"""The sender's subscriptions to us: what they must ask for, whether they run, and which keys we hold.

What must be asked for follows from the registered handlers (`wanted`, pure): their patterns are expanded by the
catalogue, and `difference` says what a subscription lacks and has too much. `manage` lists, makes, compares, pauses,
resumes and rotates them through the sender's API. Keys go from its answer into the SECRET_FILE and nowhere else.

Rotation promises that no delivery is refused for good: the new key is in the file before the old subscription goes,
the old one goes only when a delivery under the new key was seen, and its key stays a little longer. Interrupted at any
point, the same command continues it.

What surprises: a subscription is ours if we hold a key under its id, or if it posts to the source's `public_url`. One
that merely has a similar address may be another installation's, and is never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.operations.subscriptions.manage import Rotation as Rotation
    from webhooks.operations.subscriptions.manage import SubscriptionError as SubscriptionError
    from webhooks.operations.subscriptions.manage import Subscriptions as Subscriptions
    from webhooks.operations.subscriptions.wanted import SubscriptionChange as SubscriptionChange
    from webhooks.operations.subscriptions.wanted import Wanted as Wanted
    from webhooks.operations.subscriptions.wanted import difference as difference
    from webhooks.operations.subscriptions.wanted import (
        subscriptions_of_this_endpoint as subscriptions_of_this_endpoint,
    )
    from webhooks.operations.subscriptions.wanted import wanted_types as wanted_types
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "manage": ["Rotation", "SubscriptionError", "Subscriptions"],
            "wanted": [
                "SubscriptionChange",
                "Wanted",
                "difference",
                "subscriptions_of_this_endpoint",
                "wanted_types",
            ],
        },
    )
