"""What `[dashboard] redact` hides, on every page that shows it: bodies, their differences, exports, and errors that quote them.

An event is redacted before a page sees it, so no page can forget to. Errors are texts of handlers, which may quote what came:
the same values are taken out of them. An operator reveals an event with a reason; that is on record, and holds for a few
minutes in her session.

What is not hidden: that a selection finds an event by a value (`where:`) tells who knows the value that it is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from webhooks.formats import json as jsonio
from webhooks.formats.redaction import HIDDEN, Redaction, scrub
from webhooks.model import Content, Event
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.dashboard.visit import Visit
    from webhooks.delivery import Rehearsal
    from webhooks.model import Attempt
    from webhooks.operations.events import EventView
    from webhooks.operations.explain import Explanation
    from webhooks.store.listings import DeliverySummary, EventSummary, FailureGroup, FailureGroups

#: How long what was revealed is seen without being asked for again.
REVEALED = timedelta(minutes=5)
#: The field of an address that carries it.
FIELD = "revealed"


def redaction_of(visit: Visit) -> Redaction:
    """What is hidden here."""
    return visit.access.settings.redact


# -- one event -----------------------------------------------------------------------------------------------


def event(redaction: Redaction, found: Event) -> Event:
    """An event whose body, and what is read of it, hide what is hidden."""
    if not redaction:
        return found
    content = found.content
    data, previous = redaction.hide_at("data", content.data), redaction.hide_at("previous_data", content.previous)
    meta = redaction.hide_at("meta", content.meta)
    hidden = Content(
        data=None if data == HIDDEN else data,
        previous=previous if isinstance(previous, Mapping) else {},
        changed_fields=content.changed_fields,
        action=content.action,
        object_type=content.object_type,
        object_id=content.object_id,
        meta=meta if isinstance(meta, Mapping) else {},
    )
    return dataclasses.replace(found, raw=redaction.hide_body(found.raw), reader=lambda raw, type: hidden)


def summary(redaction: Redaction, found: EventSummary) -> EventSummary:
    """The same of one line of a listing that has its event."""
    if not redaction or found.event is None:
        return found
    return dataclasses.replace(found, event=event(redaction, found.event))


def view(visit: Visit, seen: EventView) -> EventView:
    """All that is known of an event, as this visit may see it."""
    redaction = redaction_of(visit)
    if not redaction or is_revealed(visit, seen.summary.id):
        return seen
    texts = texts_of(redaction, [one.event for one in (seen.summary, seen.previous) if one is not None])
    return dataclasses.replace(
        seen,
        summary=summary(redaction, seen.summary),
        previous=None if seen.previous is None else summary(redaction, seen.previous),
        deliveries=[_delivery(one, texts) for one in seen.deliveries],
        attempts={id: [_attempt(one, texts) for one in each] for id, each in seen.attempts.items()},
    )


def explanations(visit: Visit, seen: EventView, found: Sequence[Explanation]) -> Sequence[Explanation]:
    """Why handlers ran or not, without what is hidden in the event. seen: as it is, without anything hidden."""
    redaction = redaction_of(visit)
    if not redaction or is_revealed(visit, seen.summary.id):
        return found
    texts = texts_of(redaction, [one.event for one in (seen.summary, seen.previous) if one is not None])
    return [dataclasses.replace(one, why=scrub(one.why, texts)) if one.why else one for one in found]


def hides_something(visit: Visit, seen: EventView) -> bool:
    """Whether something of this event is hidden from everyone."""
    redaction = redaction_of(visit)
    found = seen.summary.event
    return bool(redaction) and found is not None and redaction.hide_body(found.raw) != found.raw


# -- errors --------------------------------------------------------------------------------------------------


def texts_of(redaction: Redaction, events: Iterable[Event | None]) -> set[str]:
    """What is hidden in these events, as texts."""
    texts: set[str] = set()
    for each in events:
        if each is None:
            continue
        try:
            texts |= redaction.texts(jsonio.load(each.raw))
        except ValueError:
            texts.add(each.raw.decode("utf-8", "replace"))
    return texts


def deliveries(visit: Visit, rows: Sequence[DeliverySummary]) -> Sequence[DeliverySummary]:
    """Lines of a listing, their reasons without what is hidden in their events."""
    redaction = redaction_of(visit)
    if not redaction or not rows:
        return rows
    texts = _texts_by_event(visit, redaction, {one.event_id for one in rows if one.reason})
    return [_delivery(one, texts.get(one.event_id, set())) for one in rows]


def attempts(visit: Visit, found: DeliverySummary, of_it: Sequence[Attempt]) -> Sequence[Attempt]:
    """Attempts of one delivery, their errors without what is hidden in its event."""
    redaction = redaction_of(visit)
    if not redaction:
        return of_it
    texts = _texts_by_event(visit, redaction, {found.event_id}).get(found.event_id, set())
    return [_attempt(one, texts) for one in of_it]


def rehearsals(visit: Visit, runs: Sequence[Rehearsal]) -> Sequence[Rehearsal]:
    """What handlers would have done, their reasons without what is hidden in the events that they got."""
    redaction = redaction_of(visit)
    if not redaction:
        return runs
    texts = _texts_by_event(visit, redaction, {one.event_id for one in runs if one.reason})
    return [
        dataclasses.replace(one, reason=scrub(one.reason, texts.get(one.event_id, set()))) if one.reason else one
        for one in runs
    ]


def kind_of(visit: Visit, error: str | None) -> str | None:
    """An error of which no event is at hand: its kind alone, where anything is hidden; what it says may quote what came."""
    if not error or not redaction_of(visit):
        return error
    kind, colon, _ = error.partition(":")
    return f"{kind}: {HIDDEN}" if colon and kind.isidentifier() else HIDDEN


def body(visit: Visit, id: int, raw: bytes) -> bytes:
    """A body that is kept under an id of its own, such as one in quarantine, as this visit may see it."""
    redaction = redaction_of(visit)
    return raw if not redaction or is_revealed(visit, id) else redaction.hide_body(raw)


def listed(visit: Visit, found: FailureGroups, most: int | None = None) -> FailureGroups:
    """The first groups of a listing of failures; see `groups`."""
    return dataclasses.replace(found, groups=groups(visit, found.groups[:most]))


def groups(visit: Visit, found: Sequence[FailureGroup]) -> Sequence[FailureGroup]:
    """Groups of failures, their errors without what is hidden in the event of each example."""
    redaction = redaction_of(visit)
    if not redaction or not found:
        return found
    examples = {}
    ids = [one.example_id for one in found]
    for step in visit.store.listings.walk_deliveries(Selection(), ids=ids):
        examples.update({one.id: one.event_id for one in step})
    texts = _texts_by_event(visit, redaction, set(examples.values()))
    return [
        dataclasses.replace(one, error=scrub(one.error, _masked(texts.get(examples.get(one.example_id, 0), set()))))
        for one in found
    ]


def _masked(texts: Iterable[str]) -> set[str]:
    """Texts, and how they look where numbers are masked, as in the errors of groups."""
    from webhooks.store.listings.failures import alike

    return {form for text in texts for form in (text, alike(text)) if form.strip("# ")}


def _texts_by_event(visit: Visit, redaction: Redaction, ids: set[int]) -> dict[int, set[str]]:
    """{event: what is hidden in it}, in one statement."""
    if not ids:
        return {}
    chosen = Selection(events=tuple(sorted(ids)))
    return {
        one.id: texts_of(redaction, [one.event])
        for step in visit.store.listings.walk(chosen, with_event=True)
        for one in step
    }


def _delivery(one: DeliverySummary, texts: set[str]) -> DeliverySummary:
    return one if not one.reason or not texts else dataclasses.replace(one, reason=scrub(one.reason, texts))


def _attempt(one: Attempt, texts: set[str]) -> Attempt:
    return one if not one.error or not texts else dataclasses.replace(one, error=scrub(one.error, texts))


# -- revealing -----------------------------------------------------------------------------------------------


def reveal_token(visit: Visit, id: int, now: datetime) -> str:
    """What lets this session see all of an event for a few minutes."""
    session = visit.user.session if visit.user is not None else ""
    return visit.access.notes.make(f"{session}\nreveal\n{id}\n{int((now + REVEALED).timestamp())}")


def is_revealed(visit: Visit, id: int) -> bool:
    """Whether this session has revealed an event, and it holds still."""
    parts = (visit.access.notes.read(visit.text(FIELD)) or "").split("\n")
    if visit.user is None or not visit.may("operator") or len(parts) != 4:
        return False
    session, what, of, until = parts
    is_ours = (session, what, of) == (visit.user.session, "reveal", str(id))
    return is_ours and until.isdecimal() and visit.now.timestamp() < int(until)


__all__ = [
    "FIELD", "attempts", "body", "deliveries", "event", "explanations", "groups", "hides_something", "is_revealed", "kind_of", "listed", "redaction_of", "rehearsals",
    "reveal_token", "summary", "view",
]  # fmt: skip
