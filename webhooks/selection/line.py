"""A selection in one line, as people type it into a box: `type:lead.** state:dead since:2d where: data.x == "y"`.

Words are split as a shell splits them. `name:value`, `--name value` and `--name=value` are conditions, so that a pasted
command is read as well; a bare word is an event, by our id or by the sender's key; `where:` takes the rest of the line.

`read` gives the `Selection`, `write` its line with times made absolute: reading what was written gives the same.
`parts_of` keeps what was typed: a page takes a condition out of the line, or puts one in, and `since:6h` stays relative.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from webhooks.errors import SelectionError
from webhooks.formats import did_you_mean, one_line
from webhooks.selection.selection import CONDITIONS, Selection

#: Longer lines are not read.
LONGEST_LINE = 4_000

_WORD = re.compile(r"[a-z][a-z-]*", re.ASCII)
_ID = re.compile(r"[0-9]{1,19}", re.ASCII)
_NEEDS_QUOTES = re.compile(r"[\s'\"\\]")


@dataclass(frozen=True, slots=True)
class LinePart:
    """One condition of a line.

    name: of the condition; "event" and "key" for bare words.
    value: what is asked for, without quotes.
    start, end: where it stands in the line.
    places: of each character of the value in the line.
    """

    name: str
    value: str
    start: int
    end: int
    places: Sequence[int]

    def place_of(self, position: int | None) -> int:
        """Where a character of the value stands in the line; behind it for what is missing at its end."""
        if position is None or not self.places:
            return self.start
        return self.places[position] if position < len(self.places) else self.places[-1] + 1


@dataclass(frozen=True, slots=True)
class _Word:
    """A word as a shell gives it. is_quoted: its first character stands in quotes."""

    text: str
    start: int
    end: int
    places: Sequence[int]
    is_quoted: bool


def read(line: str, now: datetime) -> Selection:
    """The selection of a line. now: aware; relative times count back from it.

    Raises `SelectionError`, its text the line and its position a character of it.
    """
    parts = parts_of(line)
    given: dict[str, Any] = {}
    for part in parts:
        try:
            Selection.parse({part.name: part.value}, now)  # alone, so that its mistake has its place
        except SelectionError as error:
            raise SelectionError(str(error), line, part.place_of(error.position)) from error
        if part.name in given and part.name not in ("event", "state"):
            raise SelectionError(f"{part.name}: given twice; it takes one value", line, part.start)
        given.setdefault(part.name, []).append(part.value)
    try:
        return Selection.parse(given, now)
    except SelectionError as error:  # what several conditions contradict together
        raise SelectionError(str(error), line, parts[-1].start) from error


def write(selection: Selection) -> str:
    """The line of a selection, with times made absolute."""
    mapping = selection.to_mapping()
    words = list(mapping.pop("event", []))
    where = mapping.pop("where", None)
    words += [f"{name}:{quoted(value)}" for name, value in mapping.items()]
    return " ".join([*words, f"where: {where}"] if where is not None else words)


def quoted(value: str) -> str:
    """A value as one word of a line."""
    if value and not _NEEDS_QUOTES.search(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parts_of(line: str) -> list[LinePart]:
    """The conditions of a line, in its order; their values are not read yet. Raises `SelectionError`."""
    if len(line) > LONGEST_LINE:
        raise SelectionError(f"{len(line)} characters; at most {LONGEST_LINE} are taken", line[:80])
    parts: list[LinePart] = []
    at = _behind_a_command(line)
    while (word := _next_word(line, at)) is not None:
        part = _condition(line, word)
        parts.append(part)
        at = part.end
    return parts


def without(line: str, part: LinePart) -> str:
    """The line without one of its conditions."""
    return f"{line[: part.start].rstrip()} {line[part.end :].lstrip()}".strip()


def narrowed(line: str, name: str, value: str) -> str:
    """The line with one more condition, in place of another of that name; before its `where`."""
    try:
        parts = parts_of(line)
    except SelectionError:
        parts, line = [], ""
    for part in reversed(parts):
        if part.name == name and name != "event":
            line = without(line, part)
    try:
        where = next((part for part in parts_of(line) if part.name == "where"), None)
    except SelectionError:
        where = None
    start = len(line) if where is None else where.start
    added = f"where: {value}" if name == "where" else quoted(value) if name == "event" else f"{name}:{quoted(value)}"
    return f"{line[:start].rstrip()} {added} {line[start:].lstrip()}".strip()


# -- words -----------------------------------------------------------------------------------------------------


def _behind_a_command(line: str) -> int:
    """Where the conditions begin: behind `webhooks events list`, `flask webhooks replay` and the like, where one was pasted."""
    found = re.match(r"\s*(?:\$\s+)?(?:flask\s+)?webhooks\s+", line)
    if found is None:
        return 0
    at = found.end()
    while (word := _next_word(line, at)) is not None and _WORD.fullmatch(word.text) and not word.is_quoted:
        at = word.end
    return at


def _next_word(line: str, at: int) -> _Word | None:
    """The next word from there; None at the end. Raises `SelectionError` for a quote that is never closed."""
    while at < len(line) and line[at].isspace():
        at += 1
    if at == len(line):
        return None
    start, characters, places, quote = at, [], [], ""
    is_quoted = line[at] in "'\""
    while at < len(line) and (quote or not line[at].isspace()):
        character = line[at]
        if not quote and character in "'\"":
            quote, opened = character, at
        elif character == quote:
            quote = ""
        else:
            if character == "\\" and quote != "'" and at + 1 < len(line) and (not quote or line[at + 1] in '"\\'):
                at += 1
            characters.append(line[at])
            places.append(at)
        at += 1
    if quote:
        raise SelectionError(f"this {quote} is never closed", line, opened)
    return _Word("".join(characters), start, at, places, is_quoted)


def _condition(line: str, word: _Word) -> LinePart:
    """The condition that begins with a word. Raises `SelectionError`."""
    name, separator, value = word.text.partition(":")
    offset = len(name) + 1
    if word.text.startswith("--") and not word.is_quoted:
        name, separator, value = word.text[2:].partition("=")
        offset = len(name) + 3
    elif word.is_quoted or not separator:
        bare = "event" if _ID.fullmatch(word.text) else "key"
        return LinePart(bare, word.text, word.start, word.end, word.places)
    if name not in CONDITIONS:
        near = did_you_mean(name, CONDITIONS) or f"; conditions: {', '.join(CONDITIONS)}"
        hint = (
            ""
            if word.text.startswith("--")
            else f"; a sender's key with a colon is written key:{one_line(word.text, 60)}"
        )
        raise SelectionError(f"{one_line(name, 40)!r} is not a condition{near}{hint}", line, word.start)
    if name == "where" and not word.text.startswith("--"):
        return _rest(line, word, word.start + len("where:"))
    if value:
        return LinePart(name, value, word.start, word.end, word.places[offset:])
    following = _next_word(line, word.end)
    if following is None or not following.text:
        raise SelectionError(f"{name}: nothing given; write a value behind it, or take it out", line, word.start)
    return LinePart(name, following.text, word.start, following.end, following.places)


def _rest(line: str, word: _Word, at: int) -> LinePart:
    """`where` with all that follows it, whatever quotes it has."""
    text = line[at:]
    value = text.strip()
    if not value:
        raise SelectionError("where: nothing given; write an expression behind it, or take it out", line, word.start)
    begin = at + len(text) - len(text.lstrip())
    return LinePart("where", value, word.start, len(line), range(begin, begin + len(value)))


def as_options(line: str) -> Mapping[str, Sequence[str]]:
    """{name: its values} of a line, for a form that has a field for each condition. Raises `SelectionError`."""
    found: dict[str, list[str]] = {}
    for part in parts_of(line):
        found.setdefault(part.name, []).append(part.value)
    return found


__all__ = ["LONGEST_LINE", "LinePart", "as_options", "narrowed", "parts_of", "quoted", "read", "without", "write"]
