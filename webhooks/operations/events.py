"""Stored events, looked at: one of them whole, those that come, and all of them written out.

`view` gathers what is known of one event, and `timeline`, `difference` and `as_curl` say it; `follow` continues for as
long as it is asked, `export` remembers nothing, so memory stays the same however many there are. Nothing here changes a row.
"""

from __future__ import annotations

import difflib
import enum
import itertools
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from webhooks.errors import NotFound, SelectionError
from webhooks.formats import iso_text, span
from webhooks.formats import json as jsonio
from webhooks.selection import Selection, parse_id

if TYPE_CHECKING:
    from webhooks.model import Attempt, Event
    from webhooks.store import Store
    from webhooks.store.listings import Cursor, DeliverySummary, EventSummary, Page

#: Lines of a payload's difference that are shown at most.
LONGEST_DIFF = 200
#: Ids are drawn before the commit, so an event may appear behind newer ones; `follow` looks back this far.
OVERLAP = timedelta(seconds=10)


# -- one event -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventView:
    """All that is known of one event.

    attempts: {delivery id: its attempts, the first first}.
    previous: the revision before it, where there is one.
    """

    summary: EventSummary
    deliveries: Sequence[DeliverySummary]
    attempts: Mapping[int, Sequence[Attempt]]
    previous: EventSummary | None


class MomentKind(enum.StrEnum):
    """What kind of thing happened to an event."""

    OCCURRED = "occurred"  #: at the sender
    RECEIVED = "received"  #: this copy, or the revision before it
    REPLAYED = "replayed"  #: by a replay
    ATTEMPT = "attempt"  #: a handler ran
    ENDED = "ended"  #: a delivery is dead or was cancelled
    DUE = "due"  #: a delivery waits for this instant


class Moment(NamedTuple):
    """Something that happened to an event.

    what: in words.
    kind: of what it is.
    delivery: of which, where it is of one.
    attempt: the run, where it is one.
    """

    at: datetime
    what: str
    kind: MomentKind
    delivery: DeliverySummary | None = None
    attempt: Attempt | None = None


def view(store: Store, id: int) -> EventView:
    """Gather an event, its deliveries and their attempts. Raises `NotFound`."""
    summary = store.listings.event(id)
    if summary is None:
        raise NotFound(f"no event {id}: it was never stored here, or has been pruned")
    found = store.listings.of_event(id)
    attempts: dict[int, list[Attempt]] = {}
    for attempt in store.deliveries.attempts([delivery.id for delivery in found]):
        attempts.setdefault(attempt.delivery_id, []).append(attempt)
    previous = store.listings.event(summary.previous_id) if summary.previous_id is not None else None
    return EventView(summary, found, attempts, previous)


def timeline(view: EventView) -> list[Moment]:
    """What happened to an event, in order."""
    summary = view.summary
    moments = [
        Moment(summary.occurred_at, "occurred, by the sender's word", MomentKind.OCCURRED),
        Moment(summary.received_at, f"received ({summary.receipt}) from source {summary.source}", MomentKind.RECEIVED),
    ]
    for delivery in view.deliveries:
        moments += _moments_of(delivery, view.attempts.get(delivery.id, ()))
    return sorted(moments, key=lambda moment: moment.at)


def _moments_of(delivery: DeliverySummary, attempts: Sequence[Attempt]) -> Iterator[Moment]:
    name = delivery.handler
    if delivery.replay_id:
        what = f"{name}: replayed (replay {delivery.replay_id})"
        yield Moment(delivery.created_at, what, MomentKind.REPLAYED, delivery)
    for attempt in attempts:
        took = "" if attempt.finished_at is None else f" after {span(attempt.finished_at - attempt.started_at)}"
        at = attempt.finished_at or attempt.started_at
        what = f"{name}: attempt {attempt.number} {attempt.outcome}{took}"
        yield Moment(at, what, MomentKind.ATTEMPT, delivery, attempt)
    if delivery.state.label in ("dead", "cancelled") and delivery.finished_at is not None:
        what = f"{name}: {delivery.state.label}: {delivery.reason or ''}"
        yield Moment(delivery.finished_at, what, MomentKind.ENDED, delivery)
    if delivery.state.label == "pending" and delivery.attempts:
        yield Moment(delivery.due_at, f"{name}: due again", MomentKind.DUE, delivery)


def difference(view: EventView) -> list[str]:
    """The payload against that of the revision before, as a unified diff; empty without one."""
    if view.previous is None or view.previous.event is None or view.summary.event is None:
        return []
    before, after = pretty(view.previous.event.raw).splitlines(), pretty(view.summary.event.raw).splitlines()
    lines = difflib.unified_diff(before, after, str(view.previous.id), str(view.summary.id), lineterm="", n=1)
    return list(itertools.islice(lines, LONGEST_DIFF))


def pretty(raw: bytes) -> str:
    """A body for people: indented JSON, else its text with what is not text escaped."""
    try:
        return json.dumps(jsonio.load(raw), indent=2, ensure_ascii=False)
    except ValueError:
        return raw.decode("utf-8", "backslashreplace")


def as_curl(raw: bytes, url: str, headers: Mapping[str, str]) -> str:
    """A command that posts these bytes; the body goes in as printf's octal escapes where it is not plain text."""
    options = "".join(f" \\\n  -H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items())
    if raw.isascii() and raw.translate(None, b"\n\t").decode().isprintable():
        return f"curl -sS {shlex.quote(url)}{options} \\\n  --data-binary {shlex.quote(raw.decode())}"
    octal = "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\\%'" else f"\\{byte:03o}" for byte in raw)
    return f"printf '{octal}' | curl -sS {shlex.quote(url)}{options} \\\n  --data-binary @-"


# -- many ----------------------------------------------------------------------------------------------------


def follow(
    store: Store, selection: Selection, *, backlog: int, pause: Callable[[], bool]
) -> Iterator[list[EventSummary]]:
    """The latest `backlog` events, then new ones as they are committed, each once.

    pause: waits a little and says whether to continue.
    """
    listings = store.listings
    shown = listings.events(selection, limit=backlog)[::-1] if backlog else []
    yield shown
    seen = {summary.id for summary in shown}
    last = shown[-1].place if shown else None
    newest = last.received_at if last is not None else store.database.now()
    is_first = True
    while is_first or pause():
        window = selection.only(since=max(newest - OVERLAP, selection.since or newest - OVERLAP))
        recent = [summary for step in listings.walk(window) for summary in step]
        fresh = [summary for summary in recent if summary.id not in seen]
        if is_first:
            # what was there before the backlog is no news; what came after it, or while it was read, is
            fresh = [summary for summary in fresh if last is not None and summary.place > last]
            is_first = False
        seen = {summary.id for summary in recent}
        if fresh:
            newest = max(newest, fresh[-1].received_at)
            yield listings.with_deliveries(fresh)


def export(
    store: Store, selection: Selection, after: Cursor | None, see: Callable[[Event], Event] = lambda event: event
) -> Iterator[tuple[Cursor, dict[str, Any]]]:
    """The selected events with their payloads, the oldest first, each with the place to continue from.

    selection, after: which, and from which place on.
    see: what is written of each event, where some of it is hidden.

    Each is `records.event_json` and `records.payload_json`. Each step is a statement of its own, so no read transaction
    stays open, and memory holds one step.
    """
    from webhooks.operations import records

    for step in store.listings.walk(selection, after=after, step=100, with_event=True):
        for summary in store.listings.with_deliveries(step):
            assert summary.event is not None
            yield summary.place, records.event_json(summary) | records.payload_json(see(summary.event))


def page_json(page: Page[EventSummary, Cursor]) -> dict[str, Any]:
    """A page of a listing, with how far it looked and the place to continue from."""
    from webhooks.operations import records

    on = None if page.at is None else place_text(page.at)
    return {"events": [records.event_json(one) for one in page.rows]} | records.look_json(page) | {"after": on}


def place_text(place: Cursor) -> str:
    """A place in the order of arrival, as `parse_place` reads it: `2026-03-10T14:05:12.417000Z/889…`."""
    return f"{iso_text(place.received_at)}/{place.id}"


def parse_place(text: str) -> Cursor:
    """A place as `place_text` writes it. Raises `SelectionError`."""
    from webhooks.store.listings import Cursor

    instant, slash, id = text.partition("/")
    try:
        at = datetime.fromisoformat(instant)
    except ValueError:
        at = None
    if not slash or at is None or at.tzinfo is None:
        raise SelectionError(f"after: {text[:80]!r} is not a place; give what an export printed last", text, 0)
    return Cursor(at.astimezone(UTC), parse_id(id))


__all__ = [
    "EventView",
    "Moment",
    "MomentKind",
    "as_curl",
    "difference",
    "export",
    "follow",
    "page_json",
    "parse_place",
    "place_text",
    "pretty",
    "timeline",
    "view",
]
