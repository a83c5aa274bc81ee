"""A line on the screen of an author who develops: when, one word that says what happened, and the rest.

    14:05:12 stored     lead.created  → leads.mirror (6 ms)
    14:05:12 failed     leads.mirror 3 ms  KeyError: 'status'
                        handlers/leads.py, line 9, in mirror: lead["status"]

Processes write to one screen, so a line and what stands below it is one text. Not here: what is told (`app.screen`, and
`settings.logs` for what is logged).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from typing import IO, Any

from webhooks.formats.text import printable

#: Where the text of a line begins, and what stands below it.
INDENT = " " * 20

_CODES = {"green": "32", "red": "31", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
#: The style of the words that begin a line.
WORDS = {
    "stored": "green", "handled": "green", "reloaded": "green", "revision": "cyan", "duplicate": "dim", "stale": "dim",
    "cancelled": "dim", "log": "dim", "info": "dim", "debug": "dim", "slow": "yellow", "warning": "yellow",
    "not loaded": "red", "refused": "red", "failed": "red", "dead": "red", "conflict": "red", "error": "red",
    "critical": "red", "quarantined": "yellow",
}  # fmt: skip


def wants_colour(stream: IO[str]) -> bool:
    """Whether a stream is a terminal whose user has not set NO_COLOR (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and stream.isatty()


def styled(text: str, style: str) -> str:
    """Text in one of the styles of a terminal."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def screen_line(word: str, text: str, below: Iterable[str] = (), *, at: datetime, colours: bool = False) -> str:
    """One line and what stands below it, each escaped; ends with a newline.

    word: of `WORDS`, or another.
    at: by the clock of the machine.
    """
    time, begin = f"{at:%H:%M:%S}", f"{word:<10}"
    if colours:
        time, begin = styled(time, "dim"), styled(begin, WORDS.get(word, "bold"))
    lines = [f"{time} {begin} {_flat(text)}", *(f"{INDENT}{_flat(line)}" for line in below)]
    return "\n".join(lines) + "\n"


def _flat(text: Any) -> str:
    return printable(str(text)).replace("\n", "\\n")


__all__ = ["INDENT", "screen_line", "styled", "wants_colour"]
