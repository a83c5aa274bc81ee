"""What is known of alarms: which stand since when, which target was told what, and how each target takes it.

One process at a time decides and writes (the duty "alarms", see `processes`); commands write `muted_until` only, in
statements of their own, so neither undoes the other. A row is there as long as its alarm stands, is muted, or has an
end that some target was not told.

Also the figures that only alarms ask for; all others are those of `gauges`. Each is bounded: of the dead the newest are looked at, of refused requests the
sample that is kept anyway (`rejections`), of the runs of handlers those of the newest deliveries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import bindparam, case, delete, func, or_, select, text
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import DeliveryState

#: Rows of one kind that a question looks at.
LOOKED_AT = 10_000
#: Of deliveries the newest so many are looked at for runs that failed.
RECENT = 2_000
#: Rows of `webhooks_alarms` that are read; more alarms than that are one catastrophe.
MOST = 1_000
#: The subject by which an alarm is muted for every subject.
EVERY = "*"


@dataclass(frozen=True, slots=True)
class Told:
    """What a target heard last of an alarm: when it was answered, how bad it was, and since when it stood then."""

    at: datetime
    severity: int
    since: datetime


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One alarm as it is on record.

    since: when its condition began; None for a row that only mutes.
    ended_at: when it was first seen not to stand any more, and some target was not told that.
    text, count, example, severity: as last seen.
    told: {target: what it heard last}.
    """

    name: str
    subject: str
    since: datetime | None = None
    severity: int = 0
    text: str = ""
    count: int = 0
    example: int | None = None
    ended_at: datetime | None = None
    muted_until: datetime | None = None
    told: Mapping[str, Told] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What tells one alarm from another."""
        return self.name, self.subject


@dataclass(frozen=True, slots=True)
class TargetState:
    """How a target takes what it is sent.

    failing_since: when the first of the failures in a row was; None when the last attempt was answered.
    sent: instants of the messages that it answered, within the last hour.
    """

    name: str
    tried_at: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    error: str | None = None
    sent: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Died:
    """Deliveries of one handler that died lately: how many, the newest, and what is on record as its reason."""

    count: int
    example: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class AlarmFigures:
    """What only alarms ask for, beside `gauges`.

    died: {handler: what died within 15 minutes}.
    runs: {handler: (runs, those that failed)} within 10 minutes.
    refused: {source: requests refused for their signature, within 15 minutes}.
    unavailable: {source: requests answered 503, within 3 minutes}.
    """

    died: Mapping[str, Died]
    runs: Mapping[str, tuple[int, int]]
    refused: Mapping[str, int]
    unavailable: Mapping[str, int]


class Alarms:
    """The rows of `webhooks_alarms` and `webhooks_alarm_targets`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # -- alarms ----------------------------------------------------------------------------------------------

    def rows(self) -> dict[tuple[str, str], AlarmRow]:
        """{(name, subject): row} of all that are on record."""
        table = schema.alarms
        with self.database.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.name, table.c.subject).limit(MOST)).fetchall()
        return {(row.name, row.subject): _alarm(row) for row in rows}

    def put(self, rows: Iterable[AlarmRow], gone: Iterable[tuple[str, str]] = ()) -> None:
        """Write rows, without their `muted_until`, and delete those that are gone unless they mute. One transaction."""
        table = schema.alarms.c
        with self.database.write() as connection:
            now = self.database.now(connection)
            for row in rows:
                connection.execute(_PUT, _values(row))
            for name, subject in gone:
                mine = (table.name == name) & (table.subject == subject)
                over = or_(table.muted_until.is_(None), table.muted_until <= now)
                connection.execute(delete(schema.alarms).where(mine, over))
                connection.execute(
                    schema.alarms.update()
                    .where(mine)
                    .values(since=None, ended_at=None, told="{}", text="", count=0, example=None)
                )

    def mute(self, name: str, subject: str, until: datetime | None) -> None:
        """Say nothing of an alarm before `until`; None ends that. subject: `EVERY` for all of that name."""
        table = schema.alarms.c
        with self.database.write() as connection:
            connection.execute(_MUTE, {"name": name, "subject": subject, "muted_until": until})
            if until is None:
                mine = (table.name == name) & (table.subject == subject)
                connection.execute(delete(schema.alarms).where(mine, table.since.is_(None)))

    # -- targets ---------------------------------------------------------------------------------------------

    def targets(self) -> dict[str, TargetState]:
        """{name: state} of the targets that were ever sent anything."""
        with self.database.read() as connection:
            rows = connection.execute(select(schema.alarm_targets)).fetchall()
        return {row.name: _target(row) for row in rows}

    def put_target(self, state: TargetState) -> None:
        """Write how a target took its last message."""
        values = {
            "name": state.name,
            "tried_at": state.tried_at,
            "failures": state.failures,
            "failing_since": state.failing_since,
            "error": state.error,
            "sent": msgspec.json.encode([schema.to_microseconds(at) for at in state.sent]).decode(),
        }
        with self.database.write() as connection:
            connection.execute(_PUT_TARGET, values)

    # -- the duty --------------------------------------------------------------------------------------------

    def last_round(self, duty: str) -> tuple[str, datetime] | None:
        """Which process held a duty last, and when its last hold began; None when none ever did."""
        table = schema.leases
        with self.database.read() as connection:
            row = connection.execute(select(table).where(table.c.name == duty)).fetchone()
        if row is None:
            return None
        return row.holder, row.until - timedelta(microseconds=row.lease or 0)

    # -- figures ---------------------------------------------------------------------------------------------

    def figures(self) -> AlarmFigures:
        """Ask for them, in a few bounded statements. Raises `StorageUnavailable`."""
        with self.database.read() as connection:
            at = self.database.now(connection)
            quarter = at - timedelta(minutes=15)
            refused = _refused(connection, ("signature",), quarter)
            unavailable = _refused(connection, ("storage", "overloaded", "fault"), at - timedelta(minutes=3))
            return AlarmFigures(
                _died(connection, quarter),
                _runs(connection, at - timedelta(minutes=10)),
                refused,
                unavailable,
            )


def _statement(sql: str, *instants: str) -> Any:
    return text(sql).bindparams(*(bindparam(name, type_=schema.Instant()) for name in instants))


_PUT = _statement(
    """insert into webhooks_alarms (name, subject, since, severity, text, count, example, ended_at, told)
       values (:name, :subject, :since, :severity, :text, :count, :example, :ended_at, :told)
       on conflict (name, subject) do update set since = excluded.since, severity = excluded.severity,
         text = excluded.text, count = excluded.count, example = excluded.example, ended_at = excluded.ended_at,
         told = excluded.told""",
    "since",
    "ended_at",
)
_MUTE = _statement(
    """insert into webhooks_alarms (name, subject, muted_until) values (:name, :subject, :muted_until)
       on conflict (name, subject) do update set muted_until = excluded.muted_until""",
    "muted_until",
)
_PUT_TARGET = _statement(
    """insert into webhooks_alarm_targets (name, tried_at, failures, failing_since, error, sent)
       values (:name, :tried_at, :failures, :failing_since, :error, :sent)
       on conflict (name) do update set tried_at = excluded.tried_at, failures = excluded.failures,
         failing_since = excluded.failing_since, error = excluded.error, sent = excluded.sent""",
    "tried_at",
    "failing_since",
)


def _values(row: AlarmRow) -> dict[str, Any]:
    told = {
        target: (schema.to_microseconds(each.at), each.severity, schema.to_microseconds(each.since))
        for target, each in row.told.items()
    }
    return {
        "name": row.name,
        "subject": row.subject,
        "since": row.since,
        "severity": row.severity,
        "text": row.text,
        "count": row.count,
        "example": row.example,
        "ended_at": row.ended_at,
        "told": msgspec.json.encode(told).decode(),
    }


def _alarm(row: Any) -> AlarmRow:
    told = msgspec.json.decode(row.told, type=dict[str, tuple[int, int, int]])
    return AlarmRow(
        row.name,
        row.subject,
        row.since,
        row.severity,
        row.text,
        row.count,
        row.example,
        row.ended_at,
        row.muted_until,
        {
            target: Told(schema.from_microseconds(at), severity, schema.from_microseconds(since))
            for target, (at, severity, since) in told.items()
        },
    )


def _target(row: Any) -> TargetState:
    sent = tuple(schema.from_microseconds(at) for at in msgspec.json.decode(row.sent, type=list[int]))
    return TargetState(row.name, row.tried_at, row.failures, row.failing_since, row.error, sent)


# -- figures -------------------------------------------------------------------------------------------------


def _died(connection: Connection, since: datetime) -> dict[str, Died]:
    """By the index of the newest dead: an old delivery that died just now is seen among the newest `LOOKED_AT`."""
    table = schema.deliveries.c
    newest = (
        select(table.id, table.handler, table.finished_at)
        .where(table.state == DeliveryState.DEAD, table.id > 0)
        .order_by(table.id.desc())
        .limit(LOOKED_AT)
        .subquery()
    )
    query = (
        select(newest.c.handler, func.count().label("n"), func.max(newest.c.id).label("example"))
        .where(newest.c.finished_at >= since)
        .group_by(newest.c.handler)
    )
    rows = connection.execute(query).fetchall()
    examples = [row.example for row in rows]
    reasons: dict[int, str | None] = {}
    if examples:
        for row in connection.execute(select(table.id, table.reason).where(table.id.in_(examples))):
            reasons[row.id] = row.reason
    return {row.handler: Died(row.n, row.example, reasons.get(row.example)) for row in rows}


def _runs(connection: Connection, since: datetime) -> dict[str, tuple[int, int]]:
    """{handler: (runs, failed ones)} of the newest `RECENT` deliveries that ran since then."""
    table = schema.deliveries.c
    newest = (
        select(table.handler, table.state, table.failures, table.finished_at, table.scheduled_at)
        .order_by(table.id.desc())
        .limit(RECENT)
        .subquery()
    )
    at = newest.c
    ended = at.state.in_((DeliveryState.SUCCEEDED, DeliveryState.DEAD)) & (at.finished_at >= since)
    waits = (at.state == DeliveryState.PENDING) & (at.failures > 0) & (at.scheduled_at >= since)
    failed = func.sum(case(((at.state != DeliveryState.SUCCEEDED), 1), else_=0))
    query = (
        select(at.handler, func.count().label("runs"), failed.label("failed")).where(ended | waits).group_by(at.handler)
    )
    return {row.handler: (row.runs, int(row.failed)) for row in connection.execute(query)}


def _refused(connection: Connection, kinds: Sequence[str], since: datetime) -> dict[str, int]:
    """{source: requests refused as one of `kinds` since then}, of those that are kept; unknown sources left out."""
    table = schema.rejections.c
    query = (
        select(table.source, func.count().label("n"))
        .where(table.kind.in_(kinds), table.received_at >= since, table.source != "")
        .group_by(table.source)
    )
    return {row.source: row.n for row in connection.execute(query)}


__all__ = ["EVERY", "AlarmFigures", "AlarmRow", "Alarms", "Died", "TargetState", "Told"]
