"""The box goes somewhere: to the one thing that a word names, else to what a line selects; and it completes what is typed."""

from __future__ import annotations

from flask import Response

from webhooks.dashboard import acting, completion, looks, redacting, search
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound
from webhooks.operations import explain

PAGES = Pages()

#: Pages whose table a line selects; the box stays on them.
SEARCHED = ("events", "deliveries", "failures")
#: Errors that are offered, and letters of each.
MOST_ERRORS, LONGEST_GLOB = 12, 60


@PAGES.get("/go", needs=UserRole.VIEWER)
def go(visit: Visit) -> Response:
    """To the event, delivery, request, handler or source that is named, else to a table."""
    line = visit.text("q").strip()
    place = visit.text("in")
    if not line:
        return visit.go(place if place in SEARCHED and visit.has(place) else "overview")
    word = _one_word(visit, line)
    named = _named(visit, word) if word is not None else None
    if named is not None:
        return named
    return visit.go(place if place in SEARCHED and visit.has(place) and word is None else "events", q=line)


def _one_word(visit: Visit, line: str) -> str | None:
    """The word of a line that is only that."""
    parts = search.read(line, visit.now).parts
    return parts[0].value if len(parts) == 1 and parts[0].name in ("event", "key") else None


def _named(visit: Visit, word: str) -> Response | None:
    """To the one thing of that name; None where there is none."""
    if visit.has("handler") and visit.services.registry.get(word) is not None:
        return visit.go("handler", name=word)
    if visit.has("source") and word in visit.services.sources:
        return visit.go("source", name=word)
    try:
        found = explain.find(visit.store, word)
    except NotFound:
        return _delivery(visit, word)
    if found.events:
        return visit.go("event", id=found.events[-1].id)
    if found.quarantined is not None and visit.has("quarantined"):
        return visit.go("quarantined", id=found.quarantined.id)
    if found.rejection is not None and visit.has("refused_request"):
        return visit.go("refused_request", request_id=word)
    return None


def _delivery(visit: Visit, word: str) -> Response | None:
    if not (word.isascii() and word.isdecimal() and len(word) < 19):
        return None
    found = visit.store.listings.delivery(int(word))
    return visit.go("delivery", id=found.id) if found is not None else None


def _errors(visit: Visit) -> list[str]:
    """What the errors of failures begin with, most frequent first; without what is hidden."""

    def make() -> list[str]:
        groups = redacting.listed(visit, looks.failures(visit.services), MOST_ERRORS).groups
        return list(dict.fromkeys(acting.error_glob(group.error, LONGEST_GLOB) for group in groups if group.error))

    return looks.kept(visit.services, "errors to complete", make, completion.KEPT_SECONDS)


@PAGES.get("/complete", needs=UserRole.VIEWER)
def complete(visit: Visit) -> Response:
    """What could stand where the cursor is, as JSON: [{text, start, end, about}]."""
    line = visit.text("q")[:2_000]
    at = visit.text("at")
    position = min(int(at), len(line)) if at.isdecimal() else len(line)
    known = completion.known(visit.services, with_values=visit.may_see_payloads, errors=_errors(visit))
    return visit.json([one._asdict() for one in completion.complete(line, position, known)])
