"""What pages with buttons share: which deliveries are meant, where to go afterwards, and who may press.

A preview's moment travels in its address (`at`), so the address means the same to all, and its form is confirmed once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webhooks.dashboard.endpoints import PREFIX
from webhooks.errors import NotFound, SelectionError
from webhooks.formats.redaction import HIDDEN
from webhooks.operations import ActivityLog, Journal, Verb, parse_rate
from webhooks.selection import Selection, parse_id
from webhooks.selection import line as lines

if TYPE_CHECKING:
    from flask import Response

    from webhooks.dashboard.visit import Visit
    from webhooks.store.listings import FailureGroup

#: Longest reason that is kept.
LONGEST_WHY = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page of a preview asks for.

    line: the selection as it was typed; "" where ids are given.
    target: the selection with absolute times, or ids.
    preview_id: the moment that is meant.
    options: of the action.
    """

    line: str
    target: Selection | Sequence[int]
    preview_id: int
    options: Mapping[str, Any]


def log_of(visit: Visit) -> ActivityLog:
    """What people did, and are about to do."""
    return visit.services.make_activity()


def asked(visit: Visit) -> Asked:
    """Read the fields `q` or `delivery`, `at` and `rate`. Raises `SelectionError`."""
    preview_id = parse_id(visit.text("at"), "preview")
    rate = visit.text("rate").strip()
    options = {"rate": parse_rate(rate)} if rate else {}
    ids = visit.request.values.getlist("delivery")
    if ids:
        return Asked("", [parse_id(id, "delivery") for id in ids], preview_id, options)
    line = visit.text("q").strip()
    return Asked(line, lines.read(line, log_of(visit).moment_of(preview_id)), preview_id, options)


def why(visit: Visit, *, needed: bool = False) -> str:
    """The reason that was given. Raises `SelectionError` where one is needed and there is none."""
    text = visit.text("why").strip()[:LONGEST_WHY]
    if needed and not text:
        raise SelectionError("say why; it is kept on record, and shown to who comes after you")
    return text


def back(visit: Visit, said: str, otherwise: str = "activity", **values: Any) -> Response:
    """Go back to the page that a button stood on (field `next`), which says what was done.

    said: in words.
    otherwise: the endpoint to go to where no page of ours is named; values: of its address.
    """
    wanted = visit.text("next")
    below = visit.request.script_root + PREFIX
    is_ours = wanted == below or wanted.startswith((f"{below}/", f"{below}?"))
    if is_ours and wanted.isascii() and wanted.isprintable() and "\\" not in wanted:
        return visit.go_to(wanted, said=said)
    if visit.has(otherwise):
        return visit.go(otherwise, said=said, **values)
    return visit.go("activity", said=said)


def needed(make: Callable[..., Any] | None, what: str) -> Callable[..., Any]:
    """What makes something, where handlers could be loaded. Raises `NotFound`, with what cannot be done."""
    if make is None:
        raise NotFound(f"{what} needs the handlers, which could not be loaded here; the note above says why")
    return make


_OF_GLOB = re.compile(r"[#?]")


def group_line(group: FailureGroup) -> str:
    """A group of failures as a line that selects it: what is masked in its error is any text."""
    parts = [f"handler:{lines.quoted(group.handler)}", f"state:{group.state.label}"]
    return " ".join([*parts, *([f"error:{lines.quoted(error_glob(group.error))}"] if group.error else [])])


def error_glob(error: str, longest: int | None = None) -> str:
    """What finds errors like that of a group. longest: letters of it."""
    return _OF_GLOB.sub("*", error.replace(HIDDEN, "*"))[:longest] + "*"


def note_export(visit: Visit, what: str, selection: Selection | None = None, **options: Any) -> None:
    """Put on record that rows are taken out of here. what: the table."""
    noted = {"form": visit.form, **options}
    of = {} if selection is None else {"selection": selection.to_mapping()}
    Journal(visit.store).note(Verb.EXPORT, visit.actor, what, options=noted, **of)


__all__ = ["Asked", "asked", "back", "error_glob", "group_line", "log_of", "needed", "note_export", "why"]
