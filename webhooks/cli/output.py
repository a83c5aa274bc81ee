"""What commands print: data on standard output, prose and progress on standard error.

On a terminal tables are drawn by rich; in a pipe they are plain columns, whole and uncoloured. `--json` prints one
document, with ids as decimal strings and times in ISO 8601. Text that senders and handlers wrote is shown with its
control and bidirectional characters escaped, wherever it goes to people; in JSON as \\u, so that nothing is lost.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from webhooks import formats
from webhooks.formats import counted as counted
from webhooks.formats import iso_text, one_line, printable
from webhooks.formats import json as jsonio

#: Colours of the words that say how something stands.
_COLOURS = {
    "succeeded": "green", "done": "green", "stored": "green", "dead": "red", "failed": "red", "timed-out": "red",
    "conflict": "red", "pending": "yellow", "open": "yellow", "running": "cyan", "revision": "cyan",
    "cancelled": "bright_black", "duplicate": "bright_black", "stale": "bright_black", "paused": "yellow",
}  # fmt: skip


def print_note(text: str) -> None:
    """A line of prose, on standard error."""
    click.echo(printable(text), err=True)


def is_terminal() -> bool:
    """Whether standard output is one."""
    return sys.stdout.isatty()


def emit_json(value: Any) -> None:
    """One JSON document on standard output; indented on a terminal."""
    click.echo(jsonio.inert(json.dumps(value, ensure_ascii=False, indent=2 if is_terminal() else None)).encode())


def emit_json_line(value: Any) -> None:
    """One JSON document on one line."""
    click.echo(jsonio.inert(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode())


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, spare: Sequence[str] = ()) -> None:
    """Rows under their headings.

    empty: said on standard error when there are none. spare: columns to leave out on a terminal that is too narrow, the
    first first.
    """
    if not rows:
        print_note(empty)
        return
    cells = [[one_line(cell, 2_000) for cell in row] for row in rows]
    if is_terminal():
        _draw(columns, cells, spare)
    else:
        _emit_plain(columns, cells)


def _emit_plain(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    widths = [max(_width(row[n]) for row in (columns, *cells)) for n in range(len(columns))]
    for row in (columns, *cells):
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


#: Columns of prose, which may be folded to this width; all others are words that are copied, and stay whole.
_FOLDED = frozenset(("REASON", "ERROR", "WHY", "SHOWS", "OPTIONS", "PATTERNS", "DELIVERIES", "MESSAGE", "LAST ERROR"))
_LEAST_FOLDED = 16


def _least_width(column: str, cells: Sequence[str]) -> int:
    """Characters that a column takes at least, with the gap beside it."""
    width = max(map(_width, cells))
    return (min(width, _LEAST_FOLDED) if column in _FOLDED else width) + 2


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    widths = {name: _least_width(name, [row[n] for row in (columns, *rows)]) for n, name in enumerate(columns)}
    for name in spare:
        if sum(widths.values()) > console.width:
            widths.pop(name, None)
    kept = [n for n, name in enumerate(columns) if name in widths]
    if sum(widths.values()) > console.width:  # the terminal breaks the lines, not we the names
        _emit_plain([columns[n] for n in kept], [[row[n] for n in kept] for row in rows])
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="" if os.environ.get("NO_COLOR") else "bold")
    for n in kept:
        table.add_column(columns[n], no_wrap=columns[n] not in _FOLDED, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[n], style=_COLOURS.get(row[n], "")) for n in kept))
    console.print(table)


def emit_fields(pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{colour(name.ljust(width), dim=True)}  {coloured(one_line(value, 2_000))}")


def heading(text: str) -> None:
    """A heading within what one command prints."""
    click.echo()
    click.echo(colour(text, bold=True))


def coloured(word: str) -> str:
    """A word in the colour of what it says, on a terminal."""
    return colour(word, fg=_COLOURS[word]) if word in _COLOURS else word


def colour(text: str, **style: Any) -> str:
    """Text in a style of click's, on a terminal that wants colours."""
    return click.style(text, **style) if is_terminal() and not os.environ.get("NO_COLOR") else text


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, marks on others none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


# -- values ------------------------------------------------------------------------------------------------


def when(instant: datetime | None) -> str:
    """An instant for people: UTC, to the millisecond."""
    return "" if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def iso(instant: datetime | None) -> str | None:
    """An instant in JSON."""
    return None if instant is None else iso_text(instant)


def span(duration: timedelta | None) -> str:
    """A duration for people: 850 ms, 12 s, 3 min 5 s, 2 h 5 min, 3 d 4 h."""
    return "" if duration is None else formats.span(duration)


def incomplete(looked_at: str, to: datetime | None, further: str) -> None:
    """Say how far a look came before its time was over, and how to go on. looked_at: how many, in words."""
    print_note(
        f"the time was over before all was looked at: {looked_at}, to {iso(to)}; look further: {further}, or for longer: "
        "--patience 1m"
    )


# -- progress ----------------------------------------------------------------------------------------------


@contextmanager
def progress(total: int | None, noun: str) -> Iterator[Callable[[int], None]]:
    """Show progress on standard error, if that is a terminal; the function takes how many are done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(noun, total=total, rate="")

        def show(done: int) -> None:
            speed = bars.tasks[0].speed
            bars.update(task, completed=done, rate=f"{speed:,.0f}/s" if speed else "")

        yield show
