"""What happens to handlers in production and seldom in tests: a worker dies, events overtake one another."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from webhooks import failpoints
from webhooks.app import make_maintenance
from webhooks.testing.part import KitPart
from webhooks.testing.records import Posted, Run, What

#: {where a worker may die: the places in the code that an attempt passes there}.
PLACES = {"after_handler": ("run.after_handler",), "before_commit": ("run.before_commit", "run.after_handler")}


class Adverse(KitPart):
    """The part of a `Kit` that does harm."""

    def crash(self, handler: str, when: str = "before_commit") -> Run:
        """Run one due delivery of a handler, in a worker that dies then; its lease ends, and it is rescued.

        The next `drain` runs it again. The clock has moved by the lease.

        handler: its name.
        when: "after_handler", or "before_commit": what it wrote through its session was on its way. Nothing of either
            is recorded.

        Raises LookupError where no delivery of it is due, and ValueError for another moment.

        >>> kit.post("lead.created").status
        'stored'
        >>> kit.crash("welcome").outcome
        'lost'
        >>> [(run.outcome, run.attempt) for run in kit.drain()]
        [('succeeded', 2)]
        """
        if when not in PLACES:
            raise ValueError(f"when={when!r}: one of {', '.join(PLACES)}")
        [name] = self._drainer.require([handler])
        found = self.webhooks.registry.get(name)
        assert found is not None
        place = PLACES[when][0] if found.wants_session else "run.after_handler"
        with _dying_at(place):
            run = self._drainer.run_and_die(name)
        self._clock.move(self.webhooks.settings.lease + timedelta(seconds=1))
        make_maintenance(self.webhooks).rescue()
        return run

    def deliver_out_of_order(self, events: Sequence[What], seed: int = 0) -> list[Posted]:
        """Post events a second apart by their dates, in another order; what each got, in their own order.

        events: each as `post` takes it; the dates of samples are set.
        seed: of the order; never the given one, where there are two or more.

        >>> posted = kit.deliver_out_of_order(["lead.created"] * 3, seed=1)
        >>> [each.status for each in posted]
        ['stored', 'stored', 'stored']
        """
        now = self._clock()
        bodies = []
        for number, what in enumerate(events):
            source = self.poster.source(None, what)
            at = now - timedelta(seconds=len(events) - number)
            bodies.append((source, *self.poster.body(what, source, {}, at)))
        got = {number: self.poster.post(*bodies[number], now) for number in shuffled(len(events), seed)}
        return [got[number] for number in range(len(events))]


def shuffled(count: int, seed: int) -> list[int]:
    """The numbers up to `count` in an order of their own; never as they are, where there are two or more."""
    order = list(range(count))
    chance = random.Random(seed)
    while order == sorted(order) and count > 1:
        chance.shuffle(order)
    return order


class WorkerDied(BaseException):
    """The worker of an attempt died; nothing may catch it for the handler's."""


@contextmanager
def _dying_at(place: str) -> Iterator[None]:
    """Have the attempt that passes a place end there, as a process does that is killed: nothing more is written."""
    passed = failpoints.hit

    def hit(name: str) -> None:
        if name == place:
            raise WorkerDied(place)
        passed(name)

    failpoints.hit = hit
    try:
        yield
    finally:
        failpoints.hit = passed


__all__ = ["PLACES", "Adverse", "shuffled"]
