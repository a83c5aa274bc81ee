"""The rows of `webhooks_tallies`: added to by every process, folded up by one, read for charts.

A point of a coarse span is made of the points of the finer one once it is over, and set, not added to: folding twice
changes nothing, and what came late for the newest point is in it after the next fold. A finer point goes only when its
time is over and the coarser ones have it. So a time without any process that folds costs resolution later, never figures.

Minutes are those of the database's clock. A row from the future, by a clock that was wrong, is not looked at before its time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import TextClause, delete, select, text
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.store.dialect import dialect_of
from webhooks.store.health import Gauges
from webhooks.store.tallies.counter import Counts, Key
from webhooks.store.tallies.points import SPANS, UNTIMED, ChartWindow, Kind, LevelSample, Span
from webhooks.store.tallies.postgresql import PostgresqlTallies
from webhooks.store.tallies.sqlite import SqliteTallies

MINUTE = timedelta(minutes=1)
#: A point is folded this many minutes after its end: turns that were under way are written then.
LATE = 1
#: Points that are over are read again after so long, for what came late.
KEEP_SECONDS = 600.0
#: Windows that a process keeps.
MOST_KNOWN = 64
#: (span, minute, kind, name, what, bucket, n)
Row = tuple[int, int, int, str, int, int, int]


class TallyStatements(Protocol):
    """What each database does its own way."""

    def minute(self) -> str:
        """The minute by the database's clock, in SQL."""

    def add(self, connection: Connection, rows: Sequence[Row], *, largest: bool) -> None:
        """Add to what is there. rows: sorted. largest: keep the larger number instead."""


@dataclass(frozen=True, slots=True)
class Points:
    """What was counted in a time.

    since, until: minutes since 1970, whole points; the last one may not be over.
    step: minutes of a point.
    now: the minute at which they were read.
    begins: the first minute of which anything is known; None when nothing is.
    rows: {(minute at which its point begins, kind, what, bucket): n}, of all names or of one.
    """

    since: int
    until: int
    step: int
    now: int
    begins: int | None = None
    rows: Mapping[tuple[int, int, int, int], int] = field(default_factory=dict)
    #: {kind: its rows (beginning, what, bucket, n)}, once one was asked for
    _kinds: dict[int, list[tuple[int, int, int, int]]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    @property
    def at(self) -> range:
        """The beginning of every point, those without numbers too."""
        return range(self.since, self.until, self.step)

    def counts(self, kind: Kind) -> dict[int, dict[int, int]]:
        """{beginning of a point: {what: n}}; points without numbers are left out."""
        return self._by(kind, 1)

    def buckets(self, kind: Kind) -> dict[int, dict[int, int]]:
        """{beginning of a point: {bucket: n}}."""
        return self._by(kind, 2)

    def _by(self, kind: Kind, place: int) -> dict[int, dict[int, int]]:
        """place: in a row, of what it is added up by."""
        if not self._kinds:
            made: dict[int, list[tuple[int, int, int, int]]] = {}
            for (at, each, what, bucket), n in self.rows.items():
                made.setdefault(each, []).append((at, what, bucket, n))
            self._kinds.update(made)  # at once: several threads may draw the same points
        found: dict[int, dict[int, int]] = {}
        for row in self._kinds.get(kind, ()):
            point = found.setdefault(row[0], {})
            point[row[place]] = point.get(row[place], 0) + row[3]
        return found


@dataclass(frozen=True, slots=True)
class _Made:
    """How far points are made. now: the minute. begins: the first one known. until: {span: its points are made up to there}."""

    now: int
    begins: int | None
    until: Mapping[int, int]


class Tallies:
    """Reads and writes the numbers of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._statements: TallyStatements = dialect_of(database).pick(PostgresqlTallies, SqliteTallies)
        #: (when, what) `_made` said last
        self._looked: tuple[float, _Made | None] = (float("-inf"), None)
        #: {(window, name): (when it was read whole, its points)}
        self._known: dict[tuple[str, str | None], tuple[float, Points]] = {}

    # -- writing -------------------------------------------------------------------------------------------

    def add(self, turns: Sequence[tuple[float, Counts]]) -> None:
        """Add what a process counted. turns: [(age in seconds, {key: n})]. One transaction. Raises StorageUnavailable."""
        with self.database.write() as connection:
            now = self.database.now(connection)
            rows: dict[tuple[int, Key], int] = {}
            for age, counts in turns:
                minute = minute_of(now - timedelta(seconds=age))
                for key, n in counts.items():
                    rows[minute, key] = rows.get((minute, key), 0) + n
            ordered = [(1, minute, *key, n) for (minute, key), n in sorted(rows.items())]
            self._statements.add(connection, ordered, largest=False)

    def sample(self, gauges: Gauges) -> None:
        """Keep how deliveries stand, as the sample of its minute; the largest of several. One transaction."""
        rows: dict[Key, int] = {(Kind.LEVELS, "", LevelSample.SAMPLED, UNTIMED): 1}
        for name, backlog in gauges.handlers.items():
            oldest = 0 if backlog.due_since is None else (gauges.at - backlog.due_since).total_seconds()
            levels = {
                LevelSample.DUE: backlog.due,
                LevelSample.SCHEDULED: backlog.scheduled,
                LevelSample.RUNNING: backlog.running,
                LevelSample.DEAD: backlog.dead,
                LevelSample.OLDEST_SECONDS: max(0, int(oldest)),
            }
            rows |= {(Kind.LEVELS, name, level, UNTIMED): n for level, n in levels.items() if n}
        with self.database.write() as connection:
            minute = minute_of(self.database.now(connection))
            ordered = [(1, minute, *key, n) for key, n in sorted(rows.items())]
            self._statements.add(connection, ordered, largest=True)

    # -- folding -------------------------------------------------------------------------------------------

    def fold(self, *, deletes: bool = True) -> int:
        """Make coarser points of those that are over, and delete what was kept for long enough; how many rows. One transaction.

        Safe to run twice; the caller sees to it that one process does. deletes: False where the clock is not to be believed.
        """
        with self.database.write() as connection:
            for fine, coarse in itertools.pairwise(SPANS):
                made = self._made(connection)
                over = floor(made.now - LATE, coarse.minutes)
                newest = made.until[coarse.minutes] - coarse.minutes  # once more, for what came late
                spans = {"fine": fine.minutes, "coarse": coarse.minutes}
                connection.execute(_FOLD, {**spans, "since": max(0, newest), "until": over})
            made = self._made(connection)
            if not deletes:
                return 0
            return sum(
                self._drop(connection, span, coarse, made)
                for span, coarse in zip(SPANS, (*SPANS[1:], None), strict=True)
            )

    def _drop(self, connection: Connection, span: Span, coarse: Span | None, made: _Made) -> int:
        """Delete points of one span. coarse: the next one, which must have them; None: there is none."""
        table = schema.tallies.c
        before = made.now - span.keep
        beyond = select(table.at).where(table.span == span.minutes).order_by(table.at.desc()).offset(span.rows)
        too_many = connection.execute(beyond.limit(1)).scalar()
        if too_many is not None:
            before = max(before, too_many + 1)
        if coarse is not None:  # whole points of it, since the newest may be made again
            before = floor(min(before, made.until[coarse.minutes]), coarse.minutes)
        old = delete(schema.tallies).where(table.span == span.minutes, table.at < before)
        return connection.execute(old).rowcount

    def _look(self, connection: Connection) -> _Made:
        """How far points are made, as it was within the last second."""
        at, made = self._looked
        now = self.database.monotonic()
        if made is None or now - at > 1:
            made = self._made(connection)
            self._looked = (now, made)
        return made

    def _made(self, connection: Connection) -> _Made:
        columns = ", ".join(
            f"(select max(at) from webhooks_tallies where span = {span.minutes} and at <= {{now}}) as max{span.minutes},"
            f" (select min(at) from webhooks_tallies where span = {span.minutes}) as min{span.minutes}"
            for span in SPANS
        )
        now = self._statements.minute()
        row = connection.exec_driver_sql(f"select {now} as now, {columns}".format(now=now)).mappings().one()
        first = [row[f"min{span.minutes}"] for span in SPANS]
        until = {span.minutes: row[f"max{span.minutes}"] for span in SPANS}
        return _Made(
            row["now"],
            min((at for at in first if at is not None), default=None),
            {span: 0 if at is None else at + span for span, at in until.items()},
        )

    # -- reading -------------------------------------------------------------------------------------------

    def window(self, window: ChartWindow, *, name: str | None = None) -> Points:
        """As `read`; points that are over are kept in this process, and read again after ten minutes."""
        key, now = (window.name, name), self.database.monotonic()
        read_at, known = self._known.get(key, (float("-inf"), None))
        if known is None or now - read_at > KEEP_SECONDS:
            points, read_at = self.read(window, name=name), now
        else:
            over = floor(known.now - LATE, window.span)
            fresh = self.read(window, name=name, since=over)
            rows = {at: n for at, n in known.rows.items() if fresh.since <= at[0] < over}
            points = replace(fresh, rows=rows | dict(fresh.rows))
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[key] = (read_at, points)
        return points

    def read(self, window: ChartWindow, *, name: str | None = None, since: int = 0) -> Points:
        """What was counted in the last `window`, point by point. Two statements.

        name: of a source or handler; None adds up all of them.
        since: the first minute that is wanted, where earlier points are known already.
        """
        step = window.span
        with self.database.read() as connection:
            made = self._look(connection)
            last = floor(made.now, step) + step
            first = last - window.minutes // step * step
            values: dict[str, Any] = {"step": step}
            values |= _ranges(made, step, max(first, floor(since, step)), made.now + 1)
            statement = _ALL if name is None else _NAMED
            rows = connection.execute(statement, values if name is None else {**values, "name": name}).fetchall()
        found = {(row.point, row.kind, row.what, row.bucket): int(row.n) for row in rows}
        return Points(first, last, step, made.now, made.begins, found)

    def known_minutes(self, window: ChartWindow) -> int:
        """Of how many minutes of the last `window` anything is known; at least one."""
        with self.database.read() as connection:
            made = self._look(connection)
        begins = made.now if made.begins is None else made.begins
        return max(1, min(window.minutes, made.now - begins + 1))

    def covers(self, minutes: int) -> int | None:
        """Whether all of the last so many minutes was counted: the minutes of a point in which that is told, else None.

        A worker takes a sample each minute; nine of ten points have one, and so has one of the last three minutes. Two statements.
        """
        with self.database.read() as connection:
            made = self._look(connection)
            step = next((span.minutes for span in SPANS if minutes <= span.keep), SPANS[-1].minutes)
            since = floor(made.now - minutes, step)
            if made.begins is None or made.begins > since or made.now - made.until[1] > 2:
                return None
            values = {"step": step} | _ranges(made, step, since, made.now + 1)
            sampled: int = connection.execute(_SAMPLED, values).scalar_one()
        return step if sampled >= 0.9 * ((made.now - since) // step) else None

    def totals(self, ago: int, minutes: int, span: int) -> dict[Key, int]:
        """{(kind, name, what, bucket): n} of so many minutes that ended `ago` minutes ago, in whole points. Two statements.

        Levels are left out: they are samples. ago: 0 for until now.
        """
        return self.totals_of([(ago, minutes, span)])[0]

    def totals_of(self, parts: Sequence[tuple[int, int, int]]) -> list[dict[Key, int]]:
        """The totals of several times, in two statements for all of them. parts: (ago, minutes, span), as `totals` has them."""
        with self.database.read() as connection:
            made = self._look(connection)
            whole: list[list[tuple[int, int, int]]] = []
            for ago, minutes, span in parts:
                until = floor(made.now, span) + span - ago // span * span
                since = until - max(span, minutes // span * span)
                whole.append(_whole(made, SPANS, since, min(until, made.now + 1)))
            values = {
                f"{name}_{part}_{place}": minute
                for part, ranges in enumerate(whole)
                for place, (_, *minutes_of) in enumerate(ranges)
                for name, minute in zip(("from", "to"), minutes_of, strict=True)
            }
            statement = _totals(tuple(tuple(span for span, _, _ in ranges) for ranges in whole))
            rows = connection.execute(statement, values).fetchall() if values else []
        found: list[dict[Key, int]] = [{} for _ in parts]
        for row in rows:
            found[row.part][row.kind, row.name, row.what, row.bucket] = int(row.n)
        return found


def minute_of(at: datetime) -> int:
    """Minutes since 1970."""
    return int((at - schema.EPOCH) // MINUTE)


def instant_of_minute(minute: int) -> datetime:
    """When a minute begins."""
    return schema.EPOCH + minute * MINUTE


def floor(minute: int, span: int) -> int:
    """The beginning of the point of `span` minutes in which a minute lies."""
    return minute - minute % span


def _ranges(made: _Made, span: int, since: int, until: int) -> dict[str, int]:
    """Which span has which part of a time: the coarsest up to where it is made, the next from there on, and so on.

    {"from5": first minute of span 5, "to5": the one after its last, …}; spans coarser than `span` have none.
    """
    at, ranges = since, dict[str, int]()
    for each in reversed(SPANS):
        minutes = each.minutes
        end = at if minutes > span else until if minutes == 1 else min(until, max(at, made.until[minutes]))
        ranges |= {f"from{minutes}": at, f"to{minutes}": end}
        at = end
    return ranges


def _whole(made: _Made, spans: Sequence[Span], since: int, until: int) -> list[tuple[int, int, int]]:
    """The fewest points that add up to a time: [(span, first minute, the one after the last)].

    The coarsest of those that lie in it whole and are made, and finer ones before and behind them: of an hour some
    twenty rather than sixty.

    spans: that may be taken, the finest first.
    """
    if since >= until:
        return []
    if len(spans) == 1:
        return [(spans[0].minutes, since, until)]
    *finer, coarsest = spans
    first = -floor(-since, coarsest.minutes)
    last = floor(min(until, made.until[coarsest.minutes]), coarsest.minutes)
    if first >= last:
        return _whole(made, finer, since, until)
    middle = (coarsest.minutes, first, last)
    return [*_whole(made, finer, since, first), middle, *_whole(made, finer, last, until)]


_FOLD = text(
    f"""insert into webhooks_tallies (span, at, kind, name, what, bucket, n)
        select :coarse, at - at % :coarse, kind, name, what, bucket,
               cast(case when kind = {Kind.LEVELS:d} then max(n) else sum(n) end as bigint)
          from webhooks_tallies
         where span = :fine and at >= :since and at < :until
         group by at - at % :coarse, kind, name, what, bucket
        on conflict (span, at, kind, name, what, bucket) do update set n = excluded.n"""
)
_RANGES = " union all ".join(
    "select at, kind, name, what, bucket, n from webhooks_tallies"
    f" where span = {span.minutes} and at >= :from{span.minutes} and at < :to{span.minutes}"
    for span in SPANS
)
#: What is counted is added up. Of the levels of one name the largest sample of a point counts, and those of several names
#: are added up: but for how old the oldest is.
_POINTS = f"""
    select at - at % :step as point, kind, what, bucket, cast(sum(n) as bigint) as n
      from ({_RANGES}) r where kind <> {Kind.LEVELS:d}{{named}}
     group by at - at % :step, kind, what, bucket
    union all
    select point, {Kind.LEVELS:d}, what, bucket,
           cast(case when what >= {LevelSample.OLDEST_SECONDS:d} then max(n) else sum(n) end as bigint)
      from (select at - at % :step as point, name, what, bucket, max(n) as n
              from ({_RANGES}) s where kind = {Kind.LEVELS:d}{{level_named}}
             group by at - at % :step, name, what, bucket) x
     group by point, what, bucket"""


@functools.lru_cache(maxsize=100)
def _totals(parts: tuple[tuple[int, ...], ...]) -> TextClause:
    """The sums of several times, each told by its number. parts: of each the spans of its ranges."""
    sums = []
    for part, spans in enumerate(parts):
        ranges = " union all ".join(
            "select kind, name, what, bucket, n from webhooks_tallies"
            f" where span = {span} and at >= :from_{part}_{place} and at < :to_{part}_{place}"
            for place, span in enumerate(spans)
        )
        if ranges:
            sums.append(
                f"""select {part} as part, kind, name, what, bucket, cast(sum(n) as bigint) as n from ({ranges}) r
                     where kind <> {Kind.LEVELS:d} group by kind, name, what, bucket"""
            )
    return text(" union all ".join(sums))


_SAMPLED = text(
    f"""select count(distinct at - at % :step) from ({_RANGES}) r
         where kind = {Kind.LEVELS:d} and what = {LevelSample.SAMPLED:d}"""
)
_ALL = text(_POINTS.format(named="", level_named=""))
_NAMED = text(
    _POINTS.format(named=" and name = :name", level_named=f" and (name = :name or what = {LevelSample.SAMPLED:d})")
)

__all__ = ["LATE", "Points", "Row", "Tallies", "floor", "instant_of_minute", "minute_of"]
