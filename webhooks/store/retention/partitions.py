"""`webhooks_events` in pieces by time, on PostgreSQL: retention then drops a table instead of deleting its rows.

Ids grow with time, so partitions are ranges of ids, and the primary key stays as it is. `convert` makes the table that
is there the first partition, without rewriting it and without a scan under an exclusive lock: a CHECK on its ids is
validated beside ingest, and ATTACH takes that for proof. Then the names change hands in one transaction. `extend` makes
partitions ahead of time, `retire` drops old ones; a default partition takes what has no other, so no insert ever fails
for want of one.

What is still needed is decided by `pruning`, as for single rows: a partition that holds one needed event stays, and
`what_holds` says for which; `pruning` then deletes the others of its rows. Deliveries are not partitioned: those of a
dropped partition are forgotten afterwards, a batch at a time.

Every lock on the table is waited for at most `WAIT_FOR_TABLE`, less than an insert waits for us: whoever comes later
queues behind the one who waits. Nothing here does anything on SQLite but `convert`, which refuses.
"""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, exists, select
from sqlalchemy.engine import Connection

from webhooks.database import ADVISORY_LOCK, Database
from webhooks.database import tables as schema
from webhooks.errors import ConfigurationError, StorageUnavailable, WebhooksError
from webhooks.formats import shown_instant
from webhooks.model import DeliveryState, id_at, instant_of
from webhooks.store.retention import pruning

TABLE = "webhooks_events"
FIRST = f"{TABLE}_first"
DEFAULT = f"{TABLE}_default"
#: The promise about its ids by which the existing table is attached without a scan. It would refuse events from its
#: bound on, so it never outlives a run for long: `convert` drops it, and `keep` when that was killed.
PROOF = f"ck_{TABLE}_until"

#: How long a lock on the table is waited for; a web process gives an insert two seconds.
WAIT_FOR_TABLE = timedelta(seconds=1)
#: The same for retention, which comes again by itself.
WAIT_TO_DROP = timedelta(milliseconds=500)
#: How long looking for what holds a partition may take while inserts wait.
LOOK_UNDER_LOCK = timedelta(seconds=1)
#: Partitions made ahead of now.
AHEAD = 4
#: The first partition ends no sooner than this: until then it must be attached.
AT_LEAST_AHEAD = timedelta(days=1)
#: Deliveries forgotten in one transaction.
BATCH = 1_000

#: Why a partition stays that another transaction has in its hands.
BUSY = "another transaction, which has it in use; it is tried again"

_ID_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_BOUND = re.compile(r"FROM \('?(MINVALUE|-?\d+)'?\) TO \('?(MAXVALUE|-?\d+)'?\)")
#: States in which a delivery alone keeps its event, by the rule for single rows.
HOLDING = tuple(state for state in DeliveryState if not pruning.may_go([(state, False)]))


class Period(enum.StrEnum):
    """How long the events of one partition are."""

    WEEK = "week"  #: Monday to Sunday, UTC
    MONTH = "month"  #: of the calendar, UTC


class PartitionError(WebhooksError):
    """The table cannot be partitioned, or not now; its text says what to do. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One table of events. lower (included), upper: of its ids; None is no bound. Without both it is the default.

    rows: estimated, by the last vacuum. size_bytes: with indexes and what is stored out of line.
    """

    name: str
    lower: int | None
    upper: int | None
    rows: int = 0
    size_bytes: int = 0

    @property
    def is_default(self) -> bool:
        return self.lower is None and self.upper is None

    @property
    def since(self) -> datetime | None:
        return None if self.lower is None else instant_of(self.lower)

    @property
    def until(self) -> datetime | None:
        return None if self.upper is None else instant_of(self.upper)


@dataclass(frozen=True, slots=True)
class Changes:
    """What `convert` or `extend` did, or would do. first: the partition that the existing table became."""

    made: tuple[Partition, ...] = ()
    first: Partition | None = None
    skipped: tuple[Partition, ...] = ()


@dataclass(frozen=True, slots=True)
class Holders:
    """What an old partition is still needed for; false when for nothing.

    deliveries: {state: how many}. first_event: the eldest that they are of. replays: open ones that name events of it.
    """

    deliveries: Mapping[DeliveryState, int]
    first_event: int | None
    replays: Sequence[int]

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.replays)

    def __str__(self) -> str:
        reasons = [f"replay {id}, which is open and names events of it" for id in self.replays]
        if self.deliveries:
            counts = ", ".join(f"{count} {state.label}" for state, count in self.deliveries.items())
            reasons.insert(0, f"deliveries ({counts}; event {self.first_event} is the first)")
        return " and ".join(reasons)


class Trouble(enum.Enum):
    """What may be wrong with partitions."""

    HELD = enum.auto()  #: an old one cannot be dropped
    ENDING = enum.auto()  #: those ahead of now were not made
    STRAYS = enum.auto()  #: events are in the default partition


@dataclass(frozen=True, slots=True)
class Problem:
    """What an operator should know of the partitions. command: what repairs it, or shows more."""

    trouble: Trouble
    text: str
    command: str


@dataclass(slots=True)
class Kept:
    """What one round of retention did. rows_before: events received earlier are to be pruned row by row.

    held: {partition: why it could not be dropped}. problem: why partitions could not be made ahead.
    """

    rows_before: datetime
    made: list[str] = field(default_factory=list)
    dropped: list[Partition] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


# -- time ----------------------------------------------------------------------------------------------------


def boundary_after(at: datetime, period: Period) -> datetime:
    """The first boundary between two partitions after `at`."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.WEEK:
        return day + timedelta(days=7 - day.weekday())
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def ranges(start: datetime, now: datetime, period: Period) -> list[tuple[datetime, datetime]]:
    """The partitions from `start` on, until `AHEAD` whole ones lie ahead of now."""
    goal = now
    for _ in range(AHEAD + 1):
        goal = boundary_after(goal, period)
    found = []
    while start < goal:
        end = boundary_after(start, period)
        found.append((start, end))
        start = end
    return found


def _partition(since: datetime, until: datetime) -> Partition:
    return Partition(f"{TABLE}_p{since:%Y%m%d}", id_at(since), id_at(until))


def period_of(partitions: Sequence[Partition]) -> Period:
    """How the table is partitioned, by the length of the last partition."""
    last = partitions[-1]
    if last.lower is None or last.upper is None:
        return Period.WEEK
    return Period.MONTH if instant_of(last.upper) - instant_of(last.lower) > timedelta(days=7) else Period.WEEK


def gaps(partitions: Sequence[Partition], until: int) -> list[tuple[int, int]]:
    """The ranges of ids below `until` that no partition but the default has. partitions: by their bounds."""
    found: list[tuple[int, int]] = []
    at = 0
    for each in partitions:
        lower, upper = each.lower or 0, until if each.upper is None else each.upper
        if at < min(lower, until):
            found.append((at, min(lower, until)))
        at = max(at, upper)
    if at < until:
        found.append((at, until))
    return found


# -- the partitions --------------------------------------------------------------------------------------------


class Partitions:
    """The partitions of `webhooks_events` in one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def all(self) -> list[Partition] | None:
        """Every partition by its bounds, the default last; None when the table is not partitioned."""
        if self.database.is_sqlite:
            return None
        with self.database.read() as connection:
            return _read(connection)

    # -- making ------------------------------------------------------------------------------------------------

    def partition(self, period: Period | None = None, *, dry_run: bool = False) -> Changes:
        """Partition the table, or make what is missing of the partitions ahead.

        period: of new ones; None: as it is partitioned, at first by week. Raises `PartitionError`, and
        `StorageUnavailable`; both leave the table as it was.
        """
        if self.database.is_sqlite:
            raise ConfigurationError(
                "SQLite has no partitions, and retention deletes rows there; for more events than one file should hold, "
                "name a PostgreSQL in DATABASE_URL"
            )
        return self.convert(period or Period.WEEK, dry_run) if self.all() is None else self.extend(period, dry_run)

    def convert(self, period: Period, dry_run: bool = False) -> Changes:
        """Make the table that is there the first partition of one under its name."""
        now = self.database.now()
        bound = boundary_after(now + AT_LEAST_AHEAD, period)
        made = tuple(_partition(*each) for each in ranges(bound, now, period))
        with self.database.read() as connection:
            _refuse_dependents(connection)
            first = _first(connection, id_at(bound))
        if dry_run:
            return Changes(made, first)
        try:
            self._prove(id_at(bound))
            with self._ddl() as connection:
                if _read(connection) is None:  # else somebody was faster
                    _swap(connection, id_at(bound), made)
        except BaseException as error:
            try:
                self.drop_proof()
            except StorageUnavailable:
                raise StorageUnavailable(
                    f"{error}; until then {TABLE} has the constraint {PROOF}, which would refuse events from "
                    f"{bound:%Y-%m-%d} on: a running worker drops it, and so does the next run"
                ) from error
            raise
        return Changes(made, first)

    def _prove(self, bound: int) -> None:
        """Have the ids of the table proven to be below `bound`. Not when another run has partitioned it meanwhile."""
        with self._ddl() as connection:
            if _read(connection) is None:
                connection.exec_driver_sql(f"alter table {TABLE} drop constraint if exists {PROOF}")
                proof = f"add constraint {PROOF} check (id < {bound:d}) not valid"
                connection.exec_driver_sql(f"alter table {TABLE} {proof}")
        with self._ddl() as connection:
            if _read(connection) is None:
                _require_proof(connection, bound)
                # reads the whole table, and lets everybody else read and write it
                connection.exec_driver_sql(f"alter table {TABLE} validate constraint {PROOF}")

    def drop_proof(self) -> bool:
        """Take away what a killed `convert` left behind; whether there was anything. Not while one is at work."""
        with self.database.read() as connection:
            if not _has_proof(connection):
                return False
        with self.database.write() as connection:
            connection.exec_driver_sql(_limits(WAIT_TO_DROP))
            free = connection.exec_driver_sql(f"select pg_try_advisory_xact_lock({ADVISORY_LOCK})").scalar_one()
            if not free or _read(connection) is not None:
                return False
            connection.exec_driver_sql(f"alter table {TABLE} drop constraint if exists {PROOF}")
        return True

    def extend(self, period: Period | None = None, dry_run: bool = False) -> Changes:
        """Make the partitions that are missing ahead of now.

        A time of which the default partition has events already gets none: they stay there, and are pruned row by row.
        """
        missing, _ = self._missing(period)
        if not missing or dry_run:
            return Changes(tuple(missing))
        made: list[Partition] = []
        skipped: list[Partition] = []
        with self._ddl() as connection:
            there = _read(connection) or []
            names = {each.name for each in there}
            if DEFAULT not in names:
                connection.exec_driver_sql(f"create table {DEFAULT} partition of {TABLE} default")
            for each in missing:
                if each.name in names or any(_overlap(each, other) for other in there):
                    continue
                taken = f"select exists (select 1 from {DEFAULT} where id >= {each.lower} and id < {each.upper})"
                if connection.exec_driver_sql(taken).scalar_one():
                    skipped.append(each)
                    continue
                _make(connection, each)
                made.append(each)
        return Changes(tuple(made), skipped=tuple(skipped))

    def _missing(self, period: Period | None) -> tuple[list[Partition], list[Partition]]:
        """The partitions to be made, and those that are there."""
        there = [each for each in self.all() or [] if not each.is_default]
        now = self.database.now()
        period = period or (period_of(there) if there else Period.WEEK)
        last = max((each.until for each in there if each.until is not None), default=None)
        if last is None or last < now:
            # the time up to now is the default partition's
            last = boundary_after(now, period)
        return [_partition(*each) for each in ranges(last, now, period)], there

    @contextlib.contextmanager
    def _ddl(self) -> Iterator[Connection]:
        """One transaction for DDL, alone among migrations and partitioning, that waits for nobody for long."""
        try:
            with self.database.write() as connection:
                connection.exec_driver_sql(_limits(timedelta(seconds=60)))
                connection.exec_driver_sql(f"select pg_advisory_xact_lock({ADVISORY_LOCK})")
                connection.exec_driver_sql(_limits(WAIT_FOR_TABLE))
                yield connection
        except Exception as error:
            state = _sqlstate(error)
            if state in ("55P03", "40P01"):  # lock_not_available, deadlock_detected
                raise StorageUnavailable(
                    f"the table {TABLE} is in use by another transaction, and was for "
                    f"{WAIT_FOR_TABLE.total_seconds():g} s; it is as it was; run `webhooks db partition` again, when long "
                    "queries, backups and vacuum are over"
                ) from error
            if state == "42501":  # insufficient_privilege
                raise PartitionError(
                    f"this database user does not own {TABLE}, so it cannot change its partitions; run `webhooks db "
                    "partition` as the user who runs `webhooks db upgrade`, before the last partition ends"
                ) from error
            raise

    # -- dropping ----------------------------------------------------------------------------------------------

    def keep(self, before: datetime) -> Kept:
        """One round of retention: make partitions ahead, drop those whose events were all received before `before`.

        What cannot be done now is in the answer, and tried again with the next round. Raises `StorageUnavailable`
        when the database is away.
        """
        partitions = self.all()
        kept = Kept(rows_before=before)
        if partitions is None:
            if not self.database.is_sqlite:
                self.drop_proof()
            return kept
        try:
            kept.made = [each.name for each in self.extend().made]
        except (PartitionError, StorageUnavailable) as error:
            kept.problem = str(error)
        for each in partitions:
            if each.is_default:
                continue
            if each.upper is None or each.upper > id_at(before):
                # its time is not over, so its rows stay with it
                kept.rows_before = min(kept.rows_before, each.since or _ID_EPOCH)
                break
            held = self.drop(each)
            if held is None:
                kept.dropped.append(each)
            else:
                kept.held[each.name] = held
                if held is BUSY:  # it goes soon as a whole, so its rows are left alone
                    kept.rows_before = min(kept.rows_before, each.since or _ID_EPOCH)
        return kept

    def what_holds(self, partition: Partition) -> str | None:
        """What an old partition is still needed for, in words; None when it can go."""
        with self.database.read() as connection:
            return str(_holders(connection, partition)) or None

    def drop(self, partition: Partition) -> str | None:
        """Drop a partition that nothing needs; else why it stays."""
        try:
            held = self.what_holds(partition)
            if held is not None:
                return held
            with self.database.write() as connection:
                connection.exec_driver_sql(_limits(WAIT_TO_DROP, LOOK_UNDER_LOCK))
                # in the order in which an insert takes them; nobody requeues, cancels or replays until we are done
                connection.exec_driver_sql(f"lock table only {TABLE} in access exclusive mode")
                connection.exec_driver_sql("lock table webhooks_deliveries in share mode")
                held = str(_holders(connection, partition)) or None
                if held is None:
                    connection.exec_driver_sql(f"drop table if exists {_quoted(connection, partition.name)}")
            return held
        except Exception as error:
            state = _sqlstate(error)
            if state in ("55P03", "40P01"):
                return BUSY
            if state == "57014":  # query_canceled
                return "more pending deliveries than could be looked through while inserts wait; it is tried again"
            if state == "42501":
                return "its owner: this database user does not own it, so it cannot drop it"
            raise

    def forget_deliveries(self, before: datetime, limit: int = BATCH) -> int:
        """Delete finished deliveries, and their attempts, of events that went with their partition; at most `limit`."""
        partitions = self.all()
        if partitions is None:
            return 0
        table = schema.deliveries.c
        ranged = [each for each in partitions if not each.is_default]
        for lower, upper in gaps(ranged, id_at(before)):
            orphans = (
                select(table.id)
                .where(
                    table.event_id >= lower,
                    table.event_id < upper,
                    table.state >= int(DeliveryState.SUCCEEDED),
                    ~exists().where(schema.events.c.id == table.event_id),
                )
                .order_by(table.event_id)
                .limit(limit)
            )
            with self.database.write() as connection:
                ids = list(connection.execute(orphans.with_for_update(of=schema.deliveries)).scalars())
                if ids:
                    connection.execute(delete(schema.attempts).where(schema.attempts.c.delivery_id.in_(ids)))
                    connection.execute(delete(schema.deliveries).where(table.id.in_(ids)))
                    return len(ids)
        return 0

    def problems(self, before: datetime) -> list[Problem]:
        """What an operator should know of the partitions. before: events received earlier may go."""
        partitions = self.all()
        if partitions is None:
            return []
        old = [each for each in partitions if each.upper is not None and each.upper <= id_at(before)]
        with self.database.read() as connection:
            holders = [(each, _holders(connection, each)) for each in old]
            look = f"select count(*) from (select 1 from {DEFAULT} limit 10000) d"
            has_default = any(each.is_default for each in partitions)
            strays = connection.exec_driver_sql(look).scalar_one() if has_default else 0
        found = [_held(each, holding) for each, holding in holders if holding]
        missing, there = self._missing(None)
        last = max((each.until for each in there if each.until is not None), default=self.database.now())
        if len(missing) > 1:
            text = f"partitions reach until {last:%Y-%m-%d} only, and no worker has made those ahead"
            found.append(Problem(Trouble.ENDING, text, "webhooks db partition"))
        if strays:
            text = (
                f"the default partition has events ({strays if strays < 10_000 else '10000 or more'}), because none was "
                "made for their time; they are pruned row by row"
            )
            found.append(Problem(Trouble.STRAYS, text, "webhooks db partition --status"))
        return found


def _held(partition: Partition, holders: Holders) -> Problem:
    text = f"partition {partition.name} is old enough to be dropped, and held by {holders}"
    if not holders.deliveries:
        return Problem(Trouble.HELD, text, "webhooks replay list")
    states = ",".join(state.label for state in holders.deliveries)
    times = f" --since {shown_instant(partition.since)}" if partition.since is not None else ""
    times += f" --until {shown_instant(partition.until)}" if partition.until is not None else ""
    return Problem(Trouble.HELD, text, f"webhooks deliveries list --state {states}{times}")


# -- statements ------------------------------------------------------------------------------------------------


def _limits(lock: timedelta, statement: timedelta = timedelta(0)) -> str:
    return (
        f"set local lock_timeout = '{lock / timedelta(milliseconds=1):.0f}ms'; "
        f"set local statement_timeout = '{statement / timedelta(milliseconds=1):.0f}ms'"
    )


def _read(connection: Connection) -> list[Partition] | None:
    kind = connection.exec_driver_sql(f"select relkind from pg_class where oid = '{TABLE}'::regclass").scalar_one()
    if kind not in ("p", b"p"):
        return None
    rows = connection.exec_driver_sql(
        f"""select c.relname, pg_get_expr(c.relpartbound, c.oid), greatest(c.reltuples, 0)::bigint,
                   pg_total_relation_size(c.oid)
              from pg_inherits i join pg_class c on c.oid = i.inhrelid
             where i.inhparent = '{TABLE}'::regclass"""
    ).fetchall()
    found = []
    for name, bound, estimate, size in rows:
        match = _BOUND.search(bound)
        lower, upper = (int(text) if text.lstrip("-").isdigit() else None for text in match.groups()) if match else (None, None)  # fmt: skip
        found.append(Partition(name, lower, upper, estimate, size))
    return sorted(found, key=lambda each: (each.is_default, each.lower or 0))


def _first(connection: Connection, bound: int) -> Partition:
    rows, size = connection.exec_driver_sql(
        f"select greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) from pg_class where oid = '{TABLE}'::regclass"
    ).one()
    return Partition(FIRST, None, bound, rows, size)


def _has_proof(connection: Connection) -> bool:
    query = f"select 1 from pg_constraint where conrelid = '{TABLE}'::regclass and conname = '{PROOF}'"
    return connection.exec_driver_sql(query).first() is not None


def _require_proof(connection: Connection, bound: int, valid: bool = False) -> None:
    """Raise `PartitionError` unless the proof is there, and ours: without it, ATTACH would read the whole table."""
    query = f"""select convalidated, pg_get_constraintdef(oid) from pg_constraint
                 where conrelid = '{TABLE}'::regclass and conname = '{PROOF}'"""
    found = connection.exec_driver_sql(query).first()
    if found is None or (valid and not found[0]) or str(bound) not in found[1]:
        raise PartitionError(
            "another run of `webhooks db partition` was at work at the same time; nothing was changed; run it again"
        )


def _refuse_dependents(connection: Connection) -> None:
    """Refuse while anything refers to the table that would go on referring to the first partition alone."""
    rows = connection.exec_driver_sql(
        f"""select 'view ' || r.ev_class::regclass from pg_depend d join pg_rewrite r on r.oid = d.objid
             where d.classid = 'pg_rewrite'::regclass and d.refobjid = '{TABLE}'::regclass
               and r.ev_class <> d.refobjid
            union select 'foreign key ' || conname || ' of ' || conrelid::regclass from pg_constraint
             where contype = 'f' and confrelid = '{TABLE}'::regclass
            union select 'trigger ' || tgname from pg_trigger where tgrelid = '{TABLE}'::regclass and not tgisinternal
            union select 'policy ' || polname from pg_policy where polrelid = '{TABLE}'::regclass
            union select 'publication ' || p.pubname from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
             where r.prrelid = '{TABLE}'::regclass
            order by 1"""
    )
    found = [str(name) for (name,) in rows]
    if found:
        raise PartitionError(
            f"{TABLE} cannot be partitioned while something refers to it that would go on seeing the first partition "
            f"alone: {', '.join(found)}; drop it, run `webhooks db partition`, and create it again"
        )


def _swap(connection: Connection, bound: int, made: Sequence[Partition]) -> None:
    """Give the table's name to a partitioned one that has it as first partition."""
    connection.exec_driver_sql(f"lock table {TABLE} in access exclusive mode")
    _refuse_dependents(connection)
    _require_proof(connection, bound, valid=True)
    owner = connection.exec_driver_sql(
        f"select pg_get_userbyid(relowner) from pg_class where oid = '{TABLE}'::regclass"
    ).scalar_one()
    grants = connection.exec_driver_sql(
        f"""select a.privilege_type, case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                   a.is_grantable
              from pg_class c, aclexplode(c.relacl) a where c.oid = '{TABLE}'::regclass and a.grantee <> c.relowner"""
    ).fetchall()
    indexes = connection.exec_driver_sql(
        f"""select c.relname, pg_get_indexdef(c.oid), i.indisprimary from pg_index i join pg_class c on c.oid = i.indexrelid
             where i.indrelid = '{TABLE}'::regclass order by i.indisprimary desc, c.relname"""
    ).fetchall()
    connection.exec_driver_sql(f"alter table {TABLE} rename to {FIRST}")
    for name, _, _ in indexes:
        there, other = _quoted(connection, name), _quoted(connection, f"{name[:57]}_first")
        connection.exec_driver_sql(f"alter index {there} rename to {other}")
    connection.exec_driver_sql(
        f"""create table {TABLE} (like {FIRST} including defaults including comments including storage
            including compression including statistics) partition by range (id)"""
    )
    for name, definition, is_primary in indexes:
        connection.exec_driver_sql(
            f"alter table {TABLE} add constraint {_quoted(connection, name)} primary key (id)"
            if is_primary
            else definition
        )
    for privilege, grantee, is_grantable in grants:
        option = " with grant option" if is_grantable else ""
        connection.exec_driver_sql(f"grant {privilege} on {TABLE} to {grantee}{option}")
    connection.exec_driver_sql(f"alter table {TABLE} owner to {_quoted(connection, owner)}")
    connection.exec_driver_sql(
        f"alter table {TABLE} attach partition {FIRST} for values from (minvalue) to ({bound:d})"
    )
    connection.exec_driver_sql(f"alter table {FIRST} drop constraint {PROOF}")
    connection.exec_driver_sql(f"create table {DEFAULT} partition of {TABLE} default")
    for each in made:
        _make(connection, each)


def _make(connection: Connection, partition: Partition) -> None:
    # attached rather than made as a partition: that would lock the parent against every reader and writer
    name = _quoted(connection, partition.name)
    connection.exec_driver_sql(f"create table {name} (like {TABLE} including all)")
    connection.exec_driver_sql(
        f"alter table {TABLE} attach partition {name} for values from ({partition.lower}) to ({partition.upper})"
    )


def _holders(connection: Connection, partition: Partition) -> Holders:
    events = schema.events.c
    lower, upper = partition.lower or 0, partition.upper
    deliveries: dict[DeliveryState, int] = {}
    examples: list[int] = []
    for state in HOLDING:
        # the number in the text, so that the partial indexes on states are found
        count, example = connection.exec_driver_sql(
            f"""select count(*), min(event_id) from webhooks_deliveries
                 where state = {int(state)} and event_id >= {lower} and event_id < {upper}"""
        ).one()
        if count:
            deliveries[state] = count
            examples.append(example)
    replays = []
    for id, conditions in pruning.named_by_open_replays(connection, sqlite=False):
        named = select(events.id).where(events.id >= lower, events.id < upper, *conditions).limit(1)
        if connection.execute(named).first() is not None:
            replays.append(id)
    return Holders(deliveries, min(examples, default=None), replays)


def _overlap(one: Partition, other: Partition) -> bool:
    if other.is_default:
        return False
    starts_before = other.lower is None or one.upper is None or other.lower < one.upper
    ends_after = other.upper is None or one.lower is None or other.upper > one.lower
    return starts_before and ends_after


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)


def _sqlstate(error: BaseException) -> str | None:
    found: Any = error
    while found is not None:
        state = getattr(getattr(found, "orig", found), "sqlstate", None)
        if state is not None:
            return str(state)
        found = found.__cause__
    return None


__all__ = [
    "AHEAD", "DEFAULT", "FIRST", "Changes", "Holders", "Kept", "Partition", "PartitionError", "Partitions", "Period",
    "Problem", "Trouble", "boundary_after", "gaps", "instant_of", "period_of", "ranges",
]  # fmt: skip
