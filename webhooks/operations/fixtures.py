"""Stored events as files for tests: a file an event, with everything replaced that its source's rules do not let stay.

A file has `source`, `type`, `note`, `received_at`, `headers` and `body` (`body_base64` where it is no JSON). Before it is
written it is searched for what was replaced; when that is left anywhere, nothing of it is written and its place is named.
A replaced event has another id and another body, so it is never taken for the first one, and no real key verifies it.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.formats import iso_text
from webhooks.formats import json as jsonio

if TYPE_CHECKING:
    from webhooks.formats.redaction import FixtureRules, Replacer
    from webhooks.model import Event
    from webhooks.selection import Selection
    from webhooks.store import Store

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class FixtureWritten:
    """What became of one event. path: of its file; None where none was written. why_not: why."""

    event_id: int
    path: Path | None
    why_not: str = ""


def write_fixtures(
    store: Store,
    selection: Selection,
    directory: Path,
    rules_of: Callable[[str], FixtureRules] | None,
    limit: int | None = None,
) -> Iterator[FixtureWritten]:
    """Write the selected events, the oldest first.

    directory: made where it is not there; no file in it is written over.
    rules_of: {source: what stays of its events}; None replaces nothing.
    limit: at most so many.
    """
    from webhooks.formats.redaction import Leak, Replacer

    directory.mkdir(parents=True, exist_ok=True)
    replacers: dict[str, Replacer] = {}
    steps = store.listings.walk(selection, step=100, with_event=True)
    events = (one.event for step in steps for one in step if one.event is not None)
    for event in itertools.islice(events, limit):
        try:
            if rules_of is None:
                document = as_it_is(event)
            else:
                if event.source not in replacers:
                    replacers[event.source] = Replacer(rules_of(event.source))
                document = replaced(event, replacers[event.source])
        except Leak as leak:
            yield FixtureWritten(event.id, None, str(leak))
            continue
        except jsonio.NotJSON:
            yield FixtureWritten(
                event.id, None, "its body is no JSON, of which nothing can be replaced; --raw writes it as it is"
            )
            continue
        path = _free(directory, event.type)
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
        yield FixtureWritten(event.id, path)


def replaced(event: Event, replacer: Replacer) -> dict[str, Any]:
    """An event as a fixture without what names anyone. Raises `Leak`, and `NotJSON`."""
    document = {
        **_head(event, "replaced by values of the same kind; no real key verifies it"),
        "headers": replacer.headers(event.headers),
        "body": replacer.replace(jsonio.load(event.raw)),
    }
    replacer.checked({"headers": document["headers"], "body": document["body"]})
    return document


def as_it_is(event: Event) -> dict[str, Any]:
    """An event as a fixture, with all that it holds."""
    document = {**_head(event, "as it came"), "headers": dict(event.headers)}
    try:
        return {**document, "body": jsonio.load(event.raw)}
    except jsonio.NotJSON:
        return {**document, "body_base64": base64.b64encode(event.raw).decode()}


def _head(event: Event, note: str) -> dict[str, Any]:
    return {"source": event.source, "type": event.type, "note": note, "received_at": iso_text(event.received_at)}


def _free(directory: Path, type: str) -> Path:
    """The next file of a type: `lead.updated-3.json`."""
    name = _UNSAFE.sub("-", type).strip(".-")[:80] or "event"
    return next(path for number in itertools.count(1) if not (path := directory / f"{name}-{number}.json").exists())


__all__ = ["FixtureWritten", "as_it_is", "replaced", "write_fixtures"]
