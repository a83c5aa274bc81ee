"""Files that are made while they are sent: JSON lines and CSV, in steps, bounded, with the place to continue from.

A cell of a spreadsheet that begins like a formula would be run by it: such cells get an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from webhooks.formats import json as jsonio
from webhooks.formats import printable

#: With one of these at its beginning a spreadsheet takes a cell for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
#: Rows of one piece that is sent.
STEP = 100


def cell(value: Any) -> str:
    """A value as a cell that no spreadsheet runs."""
    text = "" if value is None else printable(str(value), 20_000)
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA[:4]) else text


def csv_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """A table as CSV, a piece for some rows."""
    yield _csv([columns])
    for step in _batched(rows, STEP):
        yield _csv([[cell(value) for value in row] for row in step])


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def json_lines(documents: Iterable[Any]) -> Iterator[bytes]:
    """Documents as JSON lines, a piece for some of them."""
    for step in _batched(documents, STEP):
        yield "".join(
            jsonio.inert(json.dumps(document, ensure_ascii=False, separators=(",", ":"))) + "\n" for document in step
        ).encode()


def bounded(rows: Iterable[tuple[str, Any]], limit: int, end: Callable[[str], Any]) -> Iterator[Any]:
    """At most so many rows; where there are more, the last one is what `end` makes of the place to continue from.

    rows: (place, row).
    """
    place = ""
    for number, (here, row) in enumerate(rows):
        if number == limit:
            yield end(place)
            return
        place = here
        yield row


def _batched(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(rows)
    while step := list(itertools.islice(rest, size)):
        yield step


__all__ = ["STEP", "bounded", "cell", "csv_rows", "json_lines"]
