"""Senders: `make_source(settings)` makes the source that verifies and reads a sender's requests.

Promises: any current secret passes, compared in constant time over the bytes as they came; the body stays the sender's
bytes. Pure: no database, no HTTP but the client of a sender's own API. Not here: routes (`http`), duplicates
(`intake`).

A request meets `base` (what a source is), `keys` (secrets and where they come from) with `signing`, then `declared`
(senders as rows of one table), `logs` (those of them that can be asked) or `close`; `diagnosis` says afterwards why one was refused. `remote` is what a sender's
API can do, `samples` are bodies to try with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.sources.base import ANY_SENDER as ANY_SENDER
    from webhooks.sources.base import LogKind as LogKind
    from webhooks.sources.base import Secret as Secret
    from webhooks.sources.base import SenderWords as SenderWords
    from webhooks.sources.base import Source as Source
    from webhooks.sources.base import SourceSettings as SourceSettings
    from webhooks.sources.base import SourceWithLog as SourceWithLog
    from webhooks.sources.base import with_log as with_log
    from webhooks.sources.declared.schemes import scheme_names as scheme_names
    from webhooks.sources.keys.keyfile import KeyFile as KeyFile
    from webhooks.sources.keys.keyring import KeyRing as KeyRing
    from webhooks.sources.keys.keyring import read_secret_file as read_secret_file
    from webhooks.sources.making import make_source as make_source
    from webhooks.sources.remote import ApiError as ApiError
    from webhooks.sources.remote import ApiMalformed as ApiMalformed
    from webhooks.sources.remote import ApiRefused as ApiRefused
    from webhooks.sources.remote import ApiUnavailable as ApiUnavailable
    from webhooks.sources.remote import AskAgainClient as AskAgainClient
    from webhooks.sources.remote import LogClient as LogClient
    from webhooks.sources.remote import LogPage as LogPage
    from webhooks.sources.remote import NotDeliveredAgain as NotDeliveredAgain
    from webhooks.sources.remote import StaleCursor as StaleCursor
    from webhooks.sources.remote import Subscription as Subscription
    from webhooks.sources.remote import SubscriptionClient as SubscriptionClient
    from webhooks.sources.remote import Topic as Topic
    from webhooks.sources.samples import Sample as Sample
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": [
                "ANY_SENDER",
                "LogKind",
                "Secret",
                "SenderWords",
                "Source",
                "SourceSettings",
                "SourceWithLog",
                "with_log",
            ],
            "declared.schemes": ["scheme_names"],
            "keys.keyfile": ["KeyFile"],
            "keys.keyring": ["KeyRing", "read_secret_file"],
            "making": ["make_source"],
            "samples": ["Sample"],
            "remote": [
                "ApiError",
                "ApiMalformed",
                "ApiRefused",
                "ApiUnavailable",
                "AskAgainClient",
                "LogClient",
                "LogPage",
                "NotDeliveredAgain",
                "StaleCursor",
                "Subscription",
                "SubscriptionClient",
                "Topic",
            ],
        },
    )
