"""What only `webhooks dev` has: events as they come with their payload beside them, and a sender of signed ones.

None of these endpoints is registered elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from flask import Response

from webhooks.dashboard import redacting
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.payload.draw import Drawing, draw
from webhooks.dashboard.payload.scan import scan
from webhooks.dashboard.services import Console
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound, WebhooksError
from webhooks.formats import json as jsonio
from webhooks.formats import one_line
from webhooks.formats.redaction import Replacer
from webhooks.model import Event
from webhooks.operations import events as looking
from webhooks.operations import trigger
from webhooks.operations.fixtures import replaced
from webhooks.operations.trigger import PostAnswer
from webhooks.selection import Selection, parse_id
from webhooks.sources import Source
from webhooks.sources.samples import samples_of

PAGES = Pages()

#: Rows of the live list.
ROWS = 15
#: How an event is sent, and what a form says of it.
WAYS: Mapping[str, str] = {
    "as-is": "as it stands",
    "twice": "twice",
    "old": "signed as if sent an hour ago",
    "bad-signature": "with a wrong signature",
}


class ConsoleRow(NamedTuple):
    """One line of the live list: an event, or a request that was refused. event: None for these."""

    at: datetime
    title: str
    about: str
    event: Any = None
    deliveries: Any = ()
    refused: Any = None


@PAGES.get("/console", needs=UserRole.VIEWER, console=True)
def console(visit: Visit) -> Response:
    """Events as they come, refused requests among them, and the payload of one."""
    entries = _entries(visit)
    chosen = visit.text("event")
    events = [entry.event for entry in entries if entry.event is not None]
    id = parse_id(chosen) if chosen else events[0].id if events else None
    seen = redacting.view(visit, looking.view(visit.store, id)) if id is not None else None
    tree = scan(seen.summary.event.raw) if seen is not None and seen.summary.event is not None else None
    address = visit.url("event", id=id) + "?" if id is not None else ""
    return visit.page(
        "console.html",
        entries=entries,
        seen=seen,
        tree=draw(tree, Drawing(address)) if tree is not None else None,
        steps=_steps(visit, entries),
        sources=list(visit.services.sources),
    )


def _entries(visit: Visit) -> list[ConsoleRow]:
    """The latest events and refused requests, the newest first."""
    listings = visit.store.listings
    entries = [
        ConsoleRow(one.received_at, one.type, f"{one.dedup_key} from {one.source}", one, listings.of_event(one.id))
        for one in listings.events(Selection(), limit=ROWS)
    ]
    refused = [one for one in visit.store.rejections.latest(ROWS) if one.status >= 400]
    for one in refused:
        about = one_line(one.diagnosis or one.reason)
        entries.append(ConsoleRow(one.received_at, f"refused with {one.status}", about, refused=one))
    return sorted(entries, key=lambda entry: entry.at, reverse=True)[:ROWS]


def _steps(visit: Visit, entries: list[ConsoleRow]) -> list[tuple[bool, str]]:
    """The first three things to see, and which of them were."""
    came = any(entry.event is not None for entry in entries)
    ran = any(one.state.label == "succeeded" for entry in entries for one in entry.deliveries)
    return [(True, "the server is up"), (came, "an event came"), (ran, "a handler ran")]


# -- sending -------------------------------------------------------------------------------------------------


@PAGES.get("/send", needs=UserRole.OPERATOR, console=True)
def send(visit: Visit) -> Response:
    """The form: a sample of a source, to be edited and sent."""
    return _form(visit)


def _form(visit: Visit, status: int = 200, **more: Any) -> Response:
    names = list(visit.services.sources)
    source = visit.services.sources.get(visit.text("source")) or visit.services.sources[names[0]]
    own = _own_samples(_console(visit))
    types = [sample.type for sample in samples_of(source)]
    wanted = visit.text("type") or next(iter([*types, *own]), "")
    body = visit.text("body") if visit.request.method == "POST" else _sample(source, wanted, own, visit.now)
    return visit.page(
        "send.html",
        status,
        **{
            "source": source.name, "sources": names, "types": list(dict.fromkeys([*types, *own])), "type": wanted, "body": body,
            "ways": WAYS, "way": visit.text("way", "as-is"), "to": visit.text("to"), "answers": (), "problem": None,
            **more,
        },
    )  # fmt: skip


def _sample(source: Source, type: str, own: Mapping[str, Path], now: datetime) -> str:
    """The body of a sample, as a new event of now, indented for an editor."""
    if type in own:
        raw = own[type].read_bytes()
    else:
        try:
            raw, _, _ = trigger.choose(type, source)
        except NotFound:
            return "{}"
    return looking.pretty(trigger.freshen(raw, source.settings.scheme, now))


@PAGES.post("/send", needs=UserRole.OPERATOR, console=True)
def send_now(visit: Visit) -> Response:
    """Sign what is in the form and post it."""
    source = visit.services.sources.get(visit.text("source"))
    if source is None:
        raise NotFound("there is no such source here")
    body = visit.text("body").encode("utf-8", "backslashreplace")
    try:
        jsonio.load(body)
    except jsonio.ERRORS as error:
        return _form(visit, 400, problem=f"The body is no JSON: {error}")
    try:
        answers = _post(visit, source, body, visit.text("way", "as-is"), visit.text("to").strip())
    except WebhooksError as error:
        return _form(visit, 502, problem=str(error))
    return _form(visit, answers=answers)


def _post(visit: Visit, source: Source, body: bytes, way: str, to: str = "") -> list[PostAnswer]:
    """Post a body to a source. way: of `WAYS`. to: another address. Raises `NoAnswer`, `SelectionError`."""
    settings = visit.services.settings
    own = f"{_console(visit).url}{settings.url_prefix}/{source.name}"
    url = trigger.complete_url(to, settings, source.name) if to else own
    signed_at = visit.now - (timedelta(hours=1) if way == "old" else timedelta(0))
    headers = {"content-type": "application/json"}
    return [
        trigger.send(source, body, headers, url, signed_at, bad_signature=way == "bad-signature")
        for _ in range(2 if way == "twice" else 1)
    ]


@PAGES.post("/events/<id>/send-again", needs=UserRole.OPERATOR, console=True)
def send_again(visit: Visit, id: str) -> Response:
    """Post a stored event once more, signed anew, as a new event."""
    event = visit.store.events.get(parse_id(id))
    source = visit.services.sources.get(event.source) if event is not None else None
    if event is None or source is None:
        raise NotFound("this event, or its source, is not here any more")
    (answer,) = _post(visit, source, trigger.freshen(event.raw, source.settings.scheme, visit.now), "as-is")
    sent = answer.body.get("event_id") if isinstance(answer.body, dict) else None
    if sent is None:
        return visit.go("event", id=id, said=f"Answered {answer.status}: {one_line(answer.text, 200)}")
    return visit.go("event", id=sent, said="Sent again, as a new event.")


# -- keeping -------------------------------------------------------------------------------------------------


def _own_samples(console: Console) -> dict[str, Path]:
    """{type: file} of the samples that were saved in this project."""
    directory = console.directory / "samples"
    return {path.stem: path for path in sorted(directory.glob("*.json"))[:200]} if directory.is_dir() else {}


@PAGES.post("/events/<id>/save-sample", needs=UserRole.OPERATOR, console=True)
def save_sample(visit: Visit, id: str) -> Response:
    """Keep a body as a sample of its type, for the form and for `webhooks trigger samples/…`."""
    return _save(visit, id, "samples", lambda event: event.type)


@PAGES.post("/events/<id>/save-test", needs=UserRole.OPERATOR, console=True)
def save_test(visit: Visit, id: str) -> Response:
    """Keep an event for a test of a handler: with all values replaced but words of the sender's protocol."""
    return _save(visit, id, "tests/events", lambda event: f"{event.type}-{event.id}", as_fixture=True)


def _save(visit: Visit, id: str, where: str, name: Any, *, as_fixture: bool = False) -> Response:
    event = visit.store.events.get(parse_id(id))
    if event is None:
        raise NotFound("this event has been pruned")
    directory = _console(visit).directory / where
    file = directory / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name(event))[:150]}.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(_fixture(visit, event) if as_fixture else looking.pretty(event.raw) + "\n", "utf-8")
    except ValueError as error:
        return visit.go("event", id=id, said=f"Nothing was written: {error}.")
    except OSError as error:
        return visit.go("event", id=id, said=f"{where}/{file.name} cannot be written: {error.strerror}")
    return visit.go(
        "event",
        id=id,
        said=f"Written to {where}/{file.name}. "
        + (
            "Its values are replaced."
            if as_fixture
            else "It holds what the sender sent: look at it before you commit it."
        ),
    )


def _fixture(visit: Visit, event: Event) -> str:
    """An event as a file for tests. Raises ValueError where a value would be left, or nothing can be replaced."""
    source = visit.services.sources.get(event.source)
    replacer = Replacer(source.fixture_rules) if source is not None else Replacer()
    return json.dumps(replaced(event, replacer), indent=2, ensure_ascii=False) + "\n"


def _console(visit: Visit) -> Console:
    console = visit.services.console
    assert console is not None  # else these endpoints are not registered
    return console
