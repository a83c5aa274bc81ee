"""Names of queues, and the table by which an operator moves handlers into them. Pure.

A queue is only a name for a set of handlers, which some workers run and others leave out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from webhooks.formats.text import did_you_mean

#: Where handlers are that name no queue.
DEFAULT_QUEUE = "default"
_QUEUE = re.compile(r"[a-z0-9_-]{1,40}", re.ASCII)
#: Characters of handlers' names, and `*` for any number of them.
_PATTERN = re.compile(r"[A-Za-z0-9_.:*-]{1,200}", re.ASCII)


def read_queue(value: Any) -> str:
    """The name of a queue. Raises ValueError that says what was expected."""
    if not isinstance(value, str) or not _QUEUE.fullmatch(value):
        raise ValueError("expected the name of a queue: a-z, 0-9, _ and -, at most 40 of them")
    return value


def read_handler_pattern(value: Any) -> str:
    """A pattern of handlers' names, in which `*` is any number of characters. Raises ValueError."""
    if not isinstance(value, str) or not _PATTERN.fullmatch(value):
        raise ValueError("expected a handler's name in quotes, in which * stands for any characters: 'video.*'")
    return value


def queue_of(name: str, asked: str, table: Mapping[str, str]) -> str:
    """The queue of a handler: the operator's word, or the author's.

    name: of the handler.
    asked: what its author named.
    table: {pattern: queue}, the first match wins.
    """
    return next((queue for pattern, queue in table.items() if fnmatchcase(name, pattern)), asked)


def choose_queues(
    known: Collection[str], wanted: Collection[str] | None, without: Collection[str] = ()
) -> frozenset[str] | None:
    """The queues that one worker runs; None: all, also such as are named later.

    known: queues of the registered handlers; the default one is always known.
    wanted: those asked for; None or none: all.
    without: those left out.

    Raises ValueError with the unknown names and what was meant, or when none is left.
    """
    every = {*known, DEFAULT_QUEUE}
    unknown = [name for name in (*(wanted or ()), *without) if name not in every]
    if unknown:
        told = ", ".join(f"{name!r}{did_you_mean(name, every)}" for name in unknown)
        raise ValueError(f"no handler is in the queue {told}; queues: {', '.join(sorted(every))}")
    if not wanted and not without:
        return None
    chosen = frozenset(wanted or every) - frozenset(without)
    if not chosen:
        raise ValueError(f"no queue is left to run; queues: {', '.join(sorted(every))}")
    return chosen


__all__ = ["DEFAULT_QUEUE", "choose_queues", "queue_of", "read_handler_pattern", "read_queue"]
