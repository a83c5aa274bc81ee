"""Give a handler another name, and keep what is stored of it: by `formerly=` in the code, or `webhooks handlers rename`.

`take_over` is what a process does that knows the new name, before it runs anything: it pauses the old name for every worker,
waits until those that know nothing else have felt that, and moves what is there. From then on `FormerNames`, a duty, moves what a process of the
old code still adds. So no delivery is lost or run twice, and the order within a key holds, while old and new code run together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from webhooks.errors import InvalidHandler, NotFound
from webhooks.formats import did_you_mean
from webhooks.operations.actor import Actor

if TYPE_CHECKING:
    from webhooks.operations.handlers import HandlersHere
    from webhooks.store import Store

#: A pause is felt by every worker within two seconds.
FELT_AFTER = timedelta(seconds=3)
#: How often a process looks for what was added under a former name.
EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Renamed:
    """What came of it. moved: how many deliveries, and lanes of them."""

    old: str
    new: str
    moved: int


def former_names(registry: HandlersHere) -> Mapping[str, Sequence[str]]:
    """{handler: names that it had before} of a registry."""
    return {handler.name: handler.formerly for handler in registry.handlers() if handler.formerly}


def take_over(
    store: Store,
    names: Mapping[str, Sequence[str]],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Renamed]:
    """Move what is stored under former names; returns when none of it can run under them any more.

    names: {handler: names that it had before}.
    sleep: handed in by tests.

    Raises `StorageUnavailable`.
    """
    pairs = [(old, new) for new, olds in names.items() for old in olds]
    begun = {pair: at for pair in pairs if (at := store.handler_names.begin(*pair)) is not None}
    if not begun:
        return []
    store.database.former_names = {**store.database.former_names, **names}
    known = {name for process in store.processes.running() for name in process.handlers if process.is_worker}
    latest = max((at for (old, _), at in begun.items() if old in known), default=None)
    if latest is not None and (left := latest + FELT_AFTER - store.database.now()) > timedelta(0):
        sleep(min(left, FELT_AFTER).total_seconds())
    return [Renamed(old, new, _move_all(store, old, new)) for old, new in begun]


def _move_all(store: Store, old: str, new: str) -> int:
    total = 0
    while moved := store.handler_names.step(old, new, thorough=True):
        total += moved
    return total


def rename(store: Store, registry: HandlersHere, old: str, new: str, *, actor: Actor) -> Renamed:
    """Move what is stored of `old` to `new`, on behalf of `actor`.

    Raises `NotFound` for names that are not known, and `InvalidHandler` where the code here still has the old one.
    """
    states = store.handlers.states()
    if old not in states:
        raise NotFound(f"no handler {old!r} is on record{did_you_mean(old, states)}")
    if registry.get(old) is not None:
        raise InvalidHandler(
            f"handler {old!r} is registered here; give it its new name in the code first: @on(…, name={new!r}, "
            f"formerly=({old!r},)), which then moves its deliveries too"
        )
    if registry.get(new) is None and new not in states:
        known = [handler.name for handler in registry.handlers()]
        raise NotFound(f"no handler {new!r} is registered here{did_you_mean(new, known)}")
    (done,) = take_over(store, {new: (old,)})
    actor.tell("handler_rename", f"renamed handler {old!r} to {new!r}: {done.moved} moved")
    return done


class FormerNames:
    """A duty: move what processes of the old code add under former names. Every worker has it; a look costs nothing where there is none."""

    def __init__(
        self, store: Store, names: Mapping[str, Sequence[str]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._pairs = [(old, new) for new, olds in names.items() for old in olds]
        self._monotonic = monotonic
        self._next = 0.0

    def tick(self, holder: str) -> None:
        """Move a batch."""
        if not self._pairs or self._monotonic() < self._next:
            return
        self._next = self._monotonic() + EVERY_SECONDS
        for old, new in self._pairs:
            self._store.handler_names.step(old, new)

    def wait(self, timeout: timedelta) -> None:
        """Nothing is under way."""


__all__ = ["FELT_AFTER", "FormerNames", "Renamed", "former_names", "rename", "take_over"]
