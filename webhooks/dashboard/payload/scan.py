"""JSON cut into lines, one for each value and each closing bracket, every token as it was written.

The text has been read once by `formats.json`, so it is JSON; here it is only cut. It is never decoded: no number passes
through a float, no key is taken for another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from webhooks.formats import json as jsonio

#: Lines that are drawn at most, and characters.
MOST_LINES, MOST_CHARACTERS = 2_000, 256_000

_TOKEN = re.compile(r'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^ \t\r\n{}\[\],:"]+)', re.DOTALL)


class Line(NamedTuple):
    """One line of a tree.

    number: from 0.
    depth: how many brackets are open before it.
    key: as it was written, quotes included; None in a list and at the root.
    text: of a value, or the bracket that opens or closes.
    path: keys (as written) and places from the root.
    children: of a bracket that opens; -1 for others, and where the tree was cut before it closed.
    has_comma: another one follows on this level.
    """

    number: int
    depth: int
    key: str | None
    text: str
    path: tuple[str | int, ...]
    children: int = -1
    has_comma: bool = False

    @property
    def opens(self) -> bool:
        """Whether it opens an object or a list that is not empty."""
        return self.text in ("{", "[")

    @property
    def closes(self) -> bool:
        """Whether it closes one."""
        return self.text in ("}", "]")


class Tree(NamedTuple):
    """The lines of a body. is_cut: there are more than are drawn."""

    lines: Sequence[Line]
    is_cut: bool


class _Open:
    """A bracket that is open: its line's place in the list, and what has been met in it."""

    __slots__ = ("at", "key", "kind", "number", "path")

    def __init__(self, kind: str, at: int, path: tuple[str | int, ...]) -> None:
        self.kind, self.at, self.path = kind, at, path
        self.number = 0
        self.key: str | None = None


def scan(raw: bytes) -> Tree | None:
    """The lines of a body; None where it is not JSON."""
    try:
        jsonio.load(raw)
    except jsonio.ERRORS:
        return None
    lines: list[Line] = []
    drawn = 0
    for line in _lines(raw.decode("utf-8"), lines):
        lines.append(line)
        drawn += len(line.text) if len(line.text) < 2_000 else 2_000
        if len(lines) >= MOST_LINES or drawn > MOST_CHARACTERS:
            return Tree(lines, True)
    return Tree(lines, False)


def _lines(text: str, lines: list[Line]) -> Iterator[Line]:
    """Each line in order. lines: those given so far, in which an opening one learns its children and its comma."""
    opened: list[_Open] = []
    started: list[int] = []  # of what was closed last, where it began
    number = 0
    for token in _tokens(text):
        inside = opened[-1] if opened else None
        if token == ",":
            lines[-1] = lines[-1]._replace(has_comma=True)
            if lines[-1].closes:  # folded, the line that opened it ends the pair
                at = started.pop()
                lines[at] = lines[at]._replace(has_comma=True)
        elif token == ":":
            continue
        elif token in ("}", "]"):
            bracket = opened.pop()
            first = lines[bracket.at]
            if bracket.number == 0:
                lines[bracket.at] = first._replace(text=first.text + token, children=0)
                continue
            lines[bracket.at] = first._replace(children=bracket.number)
            started[:] = [bracket.at]
            yield Line(number, len(opened), None, token, bracket.path)
            number += 1
        elif inside is not None and inside.kind == "{" and inside.key is None:
            inside.key = token
        else:
            key: str | None = None
            path: tuple[str | int, ...] = ()
            if inside is not None:
                key = inside.key
                step: str | int = key if key is not None else inside.number
                path = (*inside.path, step)
                inside.number, inside.key = inside.number + 1, None
            if token in ("{", "["):
                opened.append(_Open(token, len(lines), path))
            yield Line(number, len(opened) - (token in ("{", "[")), key, token, path)
            number += 1


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while (found := _TOKEN.match(text, at)) is not None:
        yield found[1]
        at = found.end()


__all__ = ["MOST_CHARACTERS", "MOST_LINES", "Line", "Tree", "scan"]
