"""The box: a line becomes a selection, a mistake is shown under it, and its conditions stand above each table.

The grammar is `selection.line`'s, as for commands and Python. What was typed stays as it was typed: a page whose address
says `since:6h` means the last six hours tomorrow as well; `freeze` makes times absolute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from webhooks.errors import SelectionError
from webhooks.operations.events import parse_place
from webhooks.selection import Selection
from webhooks.selection import line as lines

if TYPE_CHECKING:
    from webhooks.dashboard.visit import Visit
    from webhooks.store.listings import Cursor

#: A page looks for so long where no index helps, then shows what it has.
PATIENCE = timedelta(milliseconds=300)
#: Rows of a page.
PER_PAGE = 50
#: Counting stops here.
COUNTED = 10_001
#: An export has at most so many rows.
LONGEST_EXPORT = 100_000

#: The conditions, with what a form says of each: (name, label, an example).
FIELDS: Sequence[tuple[str, str, str]] = (
    ("type", "Type", "activity.whatsapp_message.**"),
    ("source", "Source", "close"),
    ("state", "State of a delivery", "dead, pending"),
    ("handler", "Handler", "whatsapp.mirror"),
    ("error", "Error", "*Timeout*"),
    ("since", "Since", "6h, yesterday, monday 9:00"),
    ("until", "Until", "2026-03-10 14:05"),
    ("key", "The sender's key", "ev_…"),
    ("where", "Where", 'data.status == "won"'),
)


class Chip(NamedTuple):
    """One condition of a line. text: as it was written; without: the line without it."""

    name: str
    text: str
    without: str


@dataclass(frozen=True, slots=True)
class Search:
    """What was typed, and what it means.

    line: as it was typed.
    selection: everything, where the line cannot be read; nothing is looked for then.
    mistake: why it cannot be read.
    """

    line: str
    selection: Selection
    parts: Sequence[lines.LinePart] = ()
    mistake: SelectionError | None = None

    @property
    def chips(self) -> list[Chip]:
        """The conditions of the line, each with the line without it."""
        return [Chip(part.name, part.value, lines.without(self.line, part)) for part in self.parts]

    @property
    def fields(self) -> Mapping[str, str]:
        """{name: what is asked for}, for a form with a field for each condition."""
        return {part.name: part.value for part in self.parts}

    @property
    def frozen(self) -> str:
        """The line with times made absolute."""
        return self.selection.to_line()

    @property
    def options(self) -> str:
        """The same as options of a command; "" for everything."""
        return "" if self.selection.is_empty else str(self.selection)

    def only(self, name: str, value: str) -> str:
        """The line with one more condition, for "only these"."""
        return lines.narrowed(self.line, name, value)

    @property
    def marked(self) -> tuple[str, str, str] | None:
        """(what stands before the wrong character, it, what stands behind); None where no place is known."""
        mistake = self.mistake
        if mistake is None or mistake.position is None:
            return None
        text, at = mistake.text, mistake.position
        start = max(0, at - 60)
        return text[start:at], text[at : at + 1] or " ", text[at + 1 : at + 41]


def read(line: str, now: datetime) -> Search:
    """Read a line; a mistake in it is part of the answer."""
    try:
        return Search(line, lines.read(line, now), lines.parts_of(line))
    except SelectionError as error:
        return Search(line, Selection(), mistake=error)


def line_of(visit: Visit) -> str:
    """The line that a request asks for: `q`, else the fields of the form that has one for each condition."""
    if "q" in visit.request.args or not any(name in visit.request.args for name, _, _ in FIELDS):
        return visit.text("q").strip()
    line = ""
    for name, _, _ in FIELDS:
        value = visit.text(name).strip()
        if value:
            line = lines.narrowed(line, name, value)
    return line


def of(visit: Visit) -> Search:
    """The search of a request."""
    return read(line_of(visit), visit.now)


def place_of(visit: Visit, name: str) -> Cursor | None:
    """A place in a request's query; None where there is none. Raises `SelectionError`."""
    text = visit.text(name)
    return parse_place(text) if text else None


__all__ = [
    "COUNTED",
    "FIELDS",
    "LONGEST_EXPORT",
    "PATIENCE",
    "PER_PAGE",
    "Chip",
    "Search",
    "line_of",
    "of",
    "place_of",
    "read",
]
