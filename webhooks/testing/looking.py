"""Look at deliveries, and assert what became of them; what fails shows a table of what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from webhooks.formats import did_you_mean, one_line
from webhooks.model import DeliveryState
from webhooks.selection import Selection
from webhooks.testing.part import KitPart
from webhooks.testing.records import Posted

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.store.listings import DeliverySummary
    from webhooks.testing.clock import KitClock

#: So many lines are shown of what there is.
SHOWN = 20
_HEAD = ("HANDLER", "STATE", "TYPE", "ATTEMPTS", "REASON")


class Looking(KitPart):
    """The part of a `Kit` that says what became of deliveries."""

    def __init__(self, webhooks: Webhooks, clock: KitClock) -> None:
        super().__init__(webhooks, clock)
        #: dead deliveries that the test has seen
        self._seen_dead: set[int] = set()

    def deliveries(
        self, handler: str | None = None, state: str | None = None, event: int | Posted | None = None
    ) -> list[DeliverySummary]:
        """The deliveries there are, the oldest first.

        handler: its name.
        state: "pending", "running", "succeeded", "dead" or "cancelled".
        event: its id, or what `post` gave back.

        >>> kit.post("lead.created").status
        'stored'
        >>> [each.handler for each in kit.deliveries(state="pending")]
        ['welcome']
        """
        if handler is not None:
            self._drainer.require([handler])
        wanted = None if state is None else _state(state)
        ids = None if event is None else ([event] if isinstance(event, int) else list(event.event_ids))
        found = [
            each
            for each in self._listed()
            if handler in (None, each.handler)
            and wanted in (None, each.state)
            and (ids is None or each.event_id in ids)
        ]
        self._seen_dead.update(each.id for each in found if each.state is DeliveryState.DEAD)
        return found

    def assert_delivered(self, handler: str, times: int = 1, state: str = "succeeded") -> None:
        """Fail unless so many deliveries of a handler are in a state.

        >>> kit.post("lead.created").status
        'stored'
        >>> kit.assert_delivered("welcome", state="pending")
        """
        wanted = _state(state)
        self._require(handler, f"{times} {state}", lambda each: each.state is wanted, lambda found: len(found) == times)

    def assert_not_delivered(self, handler: str) -> None:
        """Fail if a handler has a delivery, but for those that its filters cancelled.

        >>> kit.assert_not_delivered("welcome")
        """
        self._require(handler, "none", lambda each: not _is_filtered(each), lambda found: not found)

    def assert_filtered(self, handler: str, reason: str = "*") -> None:
        """Fail unless a delivery of a handler was filtered (`where`, `ignore_own`, `stale`). reason: a glob.

        >>> kit.post("opportunity.updated", set={"data.status_type": "lost"}).status
        'stored'
        >>> [run.outcome for run in kit.drain()]
        ['filtered']
        >>> kit.assert_filtered("won", reason="*value False")
        """
        self._require(
            handler, f"one filtered for {reason!r}", lambda each: _is_filtered(each) and _matches(each, reason), bool
        )

    def assert_dead(self, handler: str, reason: str = "*") -> None:
        """Fail unless a delivery of a handler is dead. reason: a glob.

        >>> kit.assert_dead("welcome")
        Traceback (most recent call last):
        AssertionError: handler 'welcome': expected one dead for '*', found 0; there is no delivery at all
        """
        self._require(
            handler,
            f"one dead for {reason!r}",
            lambda each: each.state is DeliveryState.DEAD and _matches(each, reason),
            bool,
        )

    def unseen_dead(self) -> list[DeliverySummary]:
        """The dead deliveries that the test has not looked at, by `deliveries` or by what `drain` raised."""
        return [each for each in self._listed() if each.state is DeliveryState.DEAD and each.id not in self._seen_dead]

    def _require(
        self,
        handler: str,
        expected: str,
        counts: Callable[[DeliverySummary], bool],
        holds: Callable[[Sequence[DeliverySummary]], Any],
    ) -> None:
        found = [each for each in self.deliveries(handler) if counts(each)]
        if not holds(found):
            __tracebackhide__ = True
            there = table(self._listed())
            raise AssertionError(f"handler {handler!r}: expected {expected}, found {len(found)}; {there}")

    def _listed(self) -> list[DeliverySummary]:
        steps = self.webhooks.store.listings.walk_deliveries(Selection())
        return [each for step in steps for each in step][::-1]

    def _note_dead(self) -> None:
        self._seen_dead.update(each.id for each in self._listed() if each.state is DeliveryState.DEAD)


def table(deliveries: Sequence[DeliverySummary]) -> str:
    """What there is, for people: a line a delivery below a head."""
    if not deliveries:
        return "there is no delivery at all"
    rows = [_HEAD] + [
        (each.handler, each.state.label, each.type or "", str(each.attempts), one_line(each.reason or "", 100))
        for each in deliveries[:SHOWN]
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = [f"and {len(deliveries) - SHOWN} more"] if len(deliveries) > SHOWN else []
    return "\n  ".join(["there are:", *lines, *more])


def _is_filtered(delivery: DeliverySummary) -> bool:
    return delivery.cause is not None and delivery.cause.is_not_for_it


def _matches(delivery: DeliverySummary, reason: str) -> bool:
    return fnmatchcase(delivery.reason or "", reason)


def _state(text: str) -> DeliveryState:
    """A state by its word. Raises ValueError."""
    states = {state.label: state for state in DeliveryState}
    if text not in states:
        raise ValueError(f"no state {text!r}{did_you_mean(text, states)}; there are: {', '.join(states)}")
    return states[text]


__all__ = ["Looking", "table"]
