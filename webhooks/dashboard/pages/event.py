"""One event: what happened to it, why handlers ran or not, and what is in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flask import Response
from markupsafe import Markup

from webhooks.dashboard import acting, folding, redacting
from webhooks.dashboard.access import Refused, UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.payload.draw import Drawing, draw
from webhooks.dashboard.payload.paths import dotted, in_selection, place_of_data
from webhooks.dashboard.payload.scan import Tree, scan
from webhooks.dashboard.payload.text import shown
from webhooks.dashboard.rendering import render
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound
from webhooks.model import Event
from webhooks.operations import Journal, Verb, explain, records
from webhooks.operations import events as looking
from webhooks.operations.events import EventView
from webhooks.selection import parse_id
from webhooks.selection.line import narrowed
from webhooks.sources import Source
from webhooks.store.listings import EventSummary

PAGES = Pages()

VIEWS = ("tree", "changes", "raw", "headers")
#: A body that is no JSON, and the raw view, are shown up to here.
LONGEST_TEXT = 256_000
#: Of many copies of a key so many are shown, and so many older ones folded.
SHOWN_COPIES, FOLDED_COPIES = 5, 100


class Body(NamedTuple):
    """The payload as one of its views shows it.

    tree: drawn; None where the body is not JSON.
    text: of the other views.
    where: the selection that finds events with the picked value.
    """

    view: str
    tree: Markup | None = None
    is_cut: bool = False
    text: str = ""
    changes: Sequence[str] = ()
    headers: Mapping[str, str] = {}
    where: str | None = None


@PAGES.get("/events/<id>", needs=UserRole.VIEWER, forms=("html", "json"))
def event(visit: Visit, id: str) -> Response:
    """Everything that is known of one event."""
    whole = looking.view(visit.store, parse_id(id))
    seen = redacting.view(visit, whole)
    assert seen.summary.event is not None
    if visit.form == "json":
        return visit.json(as_json(seen, with_payload=visit.may_see_payloads))
    copies = visit.store.listings.ids_of_key(seen.summary.dedup_key)
    revisions = sorted(copies)
    shown_copies, folded_copies = _copies(revisions, seen.summary.id)
    return visit.page(
        "event.html",
        seen=seen,
        event=seen.summary.event,
        copies=revisions,
        shown_copies=shown_copies,
        folded_copies=folded_copies,
        number=revisions.index(seen.summary.id) + 1 if seen.summary.id in revisions else 1,
        moments=folding.fold(looking.timeline(seen), seen.attempts),
        same_error=folding.same_errors(seen.attempts),
        longest_error=folding.LONGEST_ERROR,
        explained=redacting.explanations(
            visit, whole, explain.of_event(visit.store, visit.services.registry, _event_of(whole), whole.deliveries)
        ),
        attempts_of={d.handler: _most_attempts(visit, d.handler) for d in seen.deliveries},
        body=_body(visit, seen, seen.summary.event),
        views=VIEWS,
        rehearsable=_rehearsable(visit, seen.summary),
        is_hidden=redacting.hides_something(visit, whole),
        is_revealed=redacting.is_revealed(visit, seen.summary.id),
        revealed=visit.text(redacting.FIELD) or None,
    )


def _rehearsable(visit: Visit, event: EventSummary) -> frozenset[str]:
    """The handlers that would get an event today and may be rehearsed with it; none where they could not be loaded."""
    if visit.services.make_rehearser is None:
        return frozenset()
    routed = visit.services.registry.route(event.source, event.type)
    return frozenset(handler.name for handler in routed if handler.rehearsable)


def _copies(ids: Sequence[int], this: int) -> tuple[Sequence[int], Sequence[int]]:
    """(those that are shown, those that are folded) of the copies of a key, the newest first. this: is always shown."""
    newest = list(reversed(ids))
    if len(newest) < SHOWN_COPIES + folding.LEAST:
        return newest, ()
    shown = [id for place, id in enumerate(newest) if place < SHOWN_COPIES or id == this]
    return shown, [id for id in newest if id not in shown][:FOLDED_COPIES]


def _event_of(seen: EventView) -> Event:
    assert seen.summary.event is not None
    return seen.summary.event


def as_json(seen: EventView, *, with_payload: bool) -> dict[str, Any]:
    """The document of `webhooks events show --json`; without the payload for who may not see it."""
    document = records.event_json(seen.summary)
    assert seen.summary.event is not None
    if with_payload:
        document |= records.payload_json(seen.summary.event)
    return document | {
        "attempts": [records.attempt_json(attempt) for attempts in seen.attempts.values() for attempt in attempts],
        "delivery_list": [records.delivery_json(delivery) for delivery in seen.deliveries],
    }


def _most_attempts(visit: Visit, name: str) -> int:
    """How many attempts a handler's deliveries get."""
    handler = visit.services.registry.get(name)
    policy = handler.retry if handler is not None else None
    return policy.max_attempts if policy is not None else visit.services.settings.max_attempts


# -- the payload ---------------------------------------------------------------------------------------------


def _body(visit: Visit, seen: EventView, event: Event) -> Body:
    view = visit.text("view", "tree")
    view = view if view in VIEWS else "tree"
    if view == "headers":
        return Body(view, headers=event.headers)
    if view == "changes":
        return Body(view, changes=looking.difference(_against(visit, seen)) if visit.may_see_payloads else ())
    if view == "raw":
        return _as_text(visit, view, event.raw)
    tree = scan(event.raw)
    return _as_text(visit, view, event.raw) if tree is None else _drawn(visit, seen, event, tree)


def _as_text(visit: Visit, view: str, raw: bytes) -> Body:
    if not visit.may_see_payloads:
        return Body(view)
    text, is_cut = shown(raw, LONGEST_TEXT)
    return Body(view, text=text, is_cut=is_cut)


def _against(visit: Visit, seen: EventView) -> EventView:
    """The view with another revision as the one before it, where one is asked for."""
    if not visit.text("against"):
        return seen
    other = visit.store.listings.event(parse_id(visit.text("against")))
    if other is None or other.dedup_key != seen.summary.dedup_key:
        raise NotFound(f"event {visit.text('against')[:20]} is no revision of this one, or has been pruned")
    if not redacting.is_revealed(visit, seen.summary.id):
        other = redacting.summary(redacting.redaction_of(visit), other)
    return dataclasses.replace(seen, previous=other)


def _drawn(visit: Visit, seen: EventView, event: Event, tree: Tree) -> Body:
    place = place_of_data(event)
    at = visit.text("at")
    picked = int(at) if at.isdecimal() and int(at) < len(tree.lines) else None
    tools: Markup | None = None
    where: str | None = None
    if picked is not None and not tree.lines[picked].closes:
        line = tree.lines[picked]
        path = in_selection(line.path, place)
        is_plain = line.text[0] not in "{["
        if visit.may_see_payloads and path is not None and is_plain and len(line.text) <= 500:
            where = f"{path} == {line.text}"
        tools = Markup(  # a template's output is escaped
            render(
                "line_tools.html",
                path=dotted(line.path),
                value=_plain(line.text) if visit.may_see_payloads and is_plain else None,
                find=visit.url("events", q=narrowed("", "where", where)) if where is not None else None,
                visit=visit,
            )
        )
    before = _values_before(seen, event, place)
    address = visit.here(at=None)
    drawing = Drawing(
        address=address + ("&" if "?" in address else "?"),
        picked=picked,
        tools=tools,
        before=before or {},
        has_before=bool(before),
        hides_values=not visit.may_see_payloads,
    )
    return Body("tree", draw(tree, drawing), tree.is_cut, where=where)


def _plain(text: str) -> str:
    """A value as one copies it: a string without its quotes."""
    return str(json.loads(text)) if text.startswith('"') else text


def _values_before(
    seen: EventView, event: Event, place: tuple[str, ...] | None
) -> dict[tuple[str | int, ...], str] | None:
    """{path: value as written} of the revision before; else of what the sender says has changed; None without either."""
    if seen.previous is not None and seen.previous.event is not None:
        tree = scan(seen.previous.event.raw)
        return None if tree is None else {line.path: line.text for line in tree.lines if not line.closes}
    if place is None or not event.changed_fields or not isinstance(event.previous, Mapping):
        return None
    tree = scan(event.raw)
    assert tree is not None
    now = {line.path: line.text for line in tree.lines if not line.closes}
    for name in event.changed_fields:
        if name in event.previous:
            now[(*place, json.dumps(name))] = json.dumps(event.previous[name], ensure_ascii=False)
    return now


@PAGES.get("/events/<id>/payload", needs=UserRole.VIEWER)
def payload(visit: Visit, id: str) -> Response:
    """The body as it came, as a file that no browser interprets."""
    if not visit.may_see_payloads:
        raise Refused(403, "your role does not see payloads")
    found = visit.store.events.get(parse_id(id))
    if found is None:
        raise NotFound(f"no event {id[:20]}: it was never stored here, or has been pruned")
    if not redacting.is_revealed(visit, found.id):
        found = redacting.event(redacting.redaction_of(visit), found)
    headers = {
        "Content-Disposition": f'attachment; filename="{found.id}.bin"',
        "Content-Security-Policy": "sandbox",
    }
    return Response(found.raw, 200, headers, content_type="application/octet-stream")


@PAGES.post("/events/<id>/reveal", needs=UserRole.OPERATOR)
def reveal(visit: Visit, id: str) -> Response:
    """Show what is hidden of an event, to this session and for a few minutes; with a reason, on record."""
    found = visit.store.events.get(parse_id(id))
    if found is None:
        raise NotFound(f"no event {id[:20]}: it was never stored here, or has been pruned")
    if not visit.may_see_payloads:
        raise Refused(403, "your role does not see payloads")
    why = acting.why(visit, needed=True)
    Journal(visit.store).note(Verb.REVEAL, visit.actor, str(found.id), why=why, options={"source": found.source})
    token = redacting.reveal_token(visit, found.id, visit.now)
    return visit.go(
        "event", id=found.id, revealed=token, said="It is shown to you for five minutes; that is on record."
    )


@PAGES.post("/events/<id>/curl", needs=UserRole.OPERATOR)
def curl(visit: Visit, id: str) -> Response:
    """A command that posts the event again, signed anew: a valid request, so it is on record who made it."""
    found = visit.store.events.get(parse_id(id))
    if found is None:
        raise NotFound(f"no event {id[:20]}: it was never stored here, or has been pruned")
    source = visit.services.sources.get(found.source)
    if source is None:
        raise NotFound(f"source {found.source!r} is not configured here, so nothing can be signed for it")
    hidden = redacting.event(redacting.redaction_of(visit), found).raw != found.raw
    if not visit.may_see_payloads or (hidden and not redacting.is_revealed(visit, found.id)):
        raise Refused(403, "the command would hold values that are hidden from you; reveal the event first")
    Journal(visit.store).note(Verb.CURL, visit.actor, str(found.id), options={"source": found.source})
    headers = {"content-type": "application/json", **source.sign(found.raw, visit.now)}
    return visit.page("curl.html", event=found, text=looking.as_curl(found.raw, _address_of(visit, source), headers))


def _address_of(visit: Visit, source: Source) -> str:
    """Where events of a source are posted to."""
    settings, console = visit.services.settings, visit.services.console
    base = console.url.rstrip("/") if console is not None else f"http://127.0.0.1:{settings.port}"
    own = "" if console is not None else source.settings.public_url
    return own or f"{base}{settings.url_prefix}/{source.name}"
