"""Selected events one after another, from any place on, a chunk at a time.

The order of arrival has an index. That of occurrence has none: it is sorted in a temporary file, so that memory is
constant. A cursor is the place of the last event that was looked at, as text.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterator
from typing import Self

from webhooks.database import from_microseconds, to_microseconds
from webhooks.operations.replay.options import Options, Order
from webhooks.selection import Selection
from webhooks.store.listings import Cursor, EventSummary, Listings


def in_order(
    listings: Listings,
    selection: Selection,
    options: Options,
    *,
    upper_id: int,
    cursor: str | None,
    step: int,
    bodies: bool,
) -> Generator[list[EventSummary], None, None]:
    """The selected events in the order of `options`, at most `step` at a time; `options.limit` of them, from `cursor` on.

    upper_id: events of a higher id are not looked at.
    cursor: of a replay that is continued; None begins.
    bodies: with the events' content, for ordering keys that need it.
    """
    only_delivered = not selection.events
    if options.order is Order.RECEIVED:
        steps = listings.walk(
            selection,
            after=_place(cursor) if cursor else None,
            step=step,
            up_to_id=upper_id,
            with_event=bodies,
            only_delivered=only_delivered,
        )
        yield from limited((step for step in steps if step), options.limit)
        return
    with Spool() as spool:
        for chunk in listings.walk(selection, up_to_id=upper_id, only_delivered=only_delivered):
            spool.add((to_microseconds(summary.occurred_at), summary.id) for summary in chunk)
        for ids in spool.read(step, after=_pair(cursor) if cursor else None, limit=options.limit):
            found = {
                summary.id: summary
                for chunk in listings.walk(Selection(events=tuple(ids)), with_event=bodies)
                for summary in chunk
            }
            # pruned meanwhile: gone
            yield [found[id] for id in ids if id in found]


def cursor_of(summary: EventSummary, order: Order) -> str:
    """The cursor of a walk that has come to this event."""
    at = summary.occurred_at if order is Order.OCCURRED else summary.received_at
    return json.dumps([to_microseconds(at), summary.id])


def _pair(cursor: str) -> tuple[int, int]:
    at, id = json.loads(cursor)
    return at, id


def _place(cursor: str) -> Cursor:
    at, id = _pair(cursor)
    return Cursor(from_microseconds(at), id)


def limited(chunks: Iterator[list[EventSummary]], limit: int | None) -> Iterator[list[EventSummary]]:
    """At most `limit` events of these; all of them for None."""
    for chunk in chunks:
        if limit is not None:
            if limit <= 0:
                return
            chunk = chunk[:limit]
            limit -= len(chunk)
        yield chunk


def with_last(chunks: Iterator[list[EventSummary]]) -> Iterator[tuple[list[EventSummary], bool]]:
    """Each chunk, and whether it is the last; an empty one alone when there are none."""
    before: list[EventSummary] = []
    for chunk in chunks:
        if not chunk:
            continue  # all of it was pruned meanwhile
        if before:
            yield before, False
        before = chunk
    yield before, True


class Spool:
    """Sorts (microseconds, id) pairs in a temporary file of SQLite's, which goes away by itself."""

    def __enter__(self) -> Self:
        # a walk that was left off is closed by whichever thread collects it
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._file.execute("create table spool (at integer, id integer, primary key (at, id)) without rowid")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, pairs: Iterator[tuple[int, int]]) -> None:
        """Put some in; one that is there already is not doubled."""
        self._file.execute("begin")
        self._file.executemany("insert or ignore into spool values (?, ?)", pairs)
        self._file.execute("commit")

    def read(self, step: int, *, after: tuple[int, int] | None, limit: int | None) -> Iterator[list[int]]:
        """Ids in order, `step` at a time, from `after` on (excluded), at most `limit` in all."""
        last: tuple[int, int] = after if after is not None else (-(2**63), 0)
        left = limit
        while left is None or left > 0:
            size = step if left is None else min(step, left)
            rows = self._file.execute(
                "select at, id from spool where (at, id) > (?, ?) order by at, id limit ?", (*last, size)
            ).fetchall()
            if not rows:
                return
            last = rows[-1]
            left = None if left is None else left - len(rows)
            yield [id for _, id in rows]


__all__ = ["Spool", "cursor_of", "in_order", "limited", "with_last"]
