"""Let a sender register: a window in which its first request brings the secret, and the confirmation that Amazon SNS asks for.

What comes in a window is unsigned, so any client that knows the address could send it: an operator sees who it was and a digest, and only a yes
writes the secret into the source's `secret_file`.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from webhooks.errors import ConfigurationError, NotFound

if TYPE_CHECKING:
    from webhooks.operations.actor import Actor
    from webhooks.sources import Source
    from webhooks.store import Store

#: Windows are no longer than this.
LONGEST = timedelta(hours=1)
_LOOK_EVERY_SECONDS = 0.5
#: Where Amazon SNS has a subscription confirmed.
SNS_ADDRESS = re.compile(
    r"https://sns\.[a-z0-9-]{4,32}\.amazonaws\.com(?:\.cn)?/\?Action=ConfirmSubscription&[!-~]{1,1500}"
)


@dataclass(frozen=True, slots=True)
class Brought:
    """What a first request brought. digest: the beginning of the secret's SHA-256. sender: what it said of itself."""

    digest: str
    sender: str


def require_bringing(source: Source) -> None:
    """Raise ConfigurationError where no request brings a secret, or where none could be written."""
    from webhooks.sources import KeyFile

    if not source.takes_secret:
        raise ConfigurationError(
            f"no request brings the secret of source {source.name!r}: its handshake has no secret, such as "
            "{ secret = '@x-hook-secret' }"
        )
    KeyFile(source.name, source.settings.secret_file).require_writable()


def listen(
    store: Store,
    source: Source,
    span: timedelta,
    *,
    actor: Actor,
    sleep: Callable[[float], object] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Brought | None:
    """Open a window and wait for what comes; None when it closes before. The caller decides with `accept` or `refuse`."""
    require_bringing(source)
    store.registrations.open(source.name, min(span, LONGEST), actor.name)
    until = monotonic() + min(span, LONGEST).total_seconds()
    while monotonic() < until:
        found = store.registrations.of(source.name)
        if found is None:
            return None
        if found.secret is not None:
            digest = hashlib.sha256(found.secret.encode("utf-8")).hexdigest()[:16]
            return Brought(digest, found.sender or "it said nothing of itself")
        sleep(_LOOK_EVERY_SECONDS)
    store.registrations.close(source.name)
    return None


def accept(store: Store, source: Source, label: str) -> None:
    """Write what came into the source's secret file, under `label`. Raises NotFound when nothing is there any more."""
    from webhooks.sources import KeyFile, Secret

    found = store.registrations.of(source.name)
    if found is None or found.secret is None:
        raise NotFound(f"nothing waits for source {source.name!r}; listen again")
    KeyFile(source.name, source.settings.secret_file).put(label, Secret(found.secret, label))
    store.registrations.close(source.name)


def refuse(store: Store, source: Source) -> None:
    """Forget what came."""
    store.registrations.close(source.name)


def confirmation_address(store: Store, source: Source) -> str:
    """Where the latest SubscriptionConfirmation of a source is confirmed. Raises NotFound, ConfigurationError."""
    if source.settings.scheme != "sns":
        raise ConfigurationError(
            f"source {source.name!r} has scheme {source.settings.scheme!r}; only sns asks for a confirmation"
        )
    found = store.listings.latest_of_type(source.name, "sns.SubscriptionConfirmation")
    event = None if found is None else store.events.get(found)
    if event is None:
        raise NotFound(f"no confirmation has come to source {source.name!r}; subscribe its address to the topic first")
    data: Any = event.data
    address = data.get("SubscribeURL") if isinstance(data, dict) else None
    if not isinstance(address, str) or SNS_ADDRESS.fullmatch(address) is None:
        raise ConfigurationError("the address in the confirmation is none of Amazon SNS, so it is not asked")
    return address


def confirm(store: Store, source: Source, fetch: Callable[[str], bytes] | None = None) -> None:
    """Confirm the latest subscription. Raises what `confirmation_address` raises, and ConfigurationError when SNS refuses."""
    from http.client import HTTPException

    from webhooks.sources.keys import fetched

    address = confirmation_address(store, source)
    try:
        (fetch or fetched.fetch)(address)
    except (OSError, HTTPException, ValueError) as error:
        raise ConfigurationError(
            f"Amazon SNS did not confirm it ({type(error).__name__}: {error}); try again"
        ) from None


__all__ = ["LONGEST", "Brought", "accept", "confirm", "confirmation_address", "listen", "refuse", "require_bringing"]
