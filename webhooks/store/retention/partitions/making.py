"""Making partitions: of the table that is there, and ahead of time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy.engine import Connection

from webhooks.database import ADVISORY_LOCK, Database
from webhooks.errors import ConfigurationError, StorageUnavailable
from webhooks.model import id_at
from webhooks.store.dialect import dialect_of
from webhooks.store.retention.partitions.periods import boundary_after, overlap, partition_of, period_of, ranges
from webhooks.store.retention.partitions.postgresql import (
    PROOF,
    first_partition,
    has_proof,
    make,
    read_partitions,
    refuse_dependents,
    require_proof,
    sqlstate_of,
    swap,
    wait_at_most,
)
from webhooks.store.retention.partitions.records import DEFAULT, TABLE, Changes, Partition, PartitionError, Period

#: How long a lock on the table is waited for; a web process gives an insert two seconds.
WAIT_FOR_TABLE = timedelta(seconds=1)
#: The same for retention, which comes again by itself.
WAIT_TO_DROP = timedelta(milliseconds=500)
#: The first partition ends no sooner than this: until then it must be attached.
AT_LEAST_AHEAD = timedelta(days=1)


class PartitionMaking:
    """The part of `Partitions` that makes them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)

    def all(self) -> list[Partition] | None:
        """Every partition by its bounds, the default last; None when the table is not partitioned."""
        if not self.dialect.has_partitions:
            return None
        with self.database.read() as connection:
            return read_partitions(connection)

    def partition(self, period: Period | None = None, *, dry_run: bool = False) -> Changes:
        """Partition the table, or make what is missing of the partitions ahead.

        period: of new ones; None: as it is partitioned, at first by week. Raises `PartitionError`, and
        `StorageUnavailable`; both leave the table as it was.
        """
        if not self.dialect.has_partitions:
            raise ConfigurationError(
                "SQLite has no partitions, and retention deletes rows there; for more events than one file should hold, "
                "name a PostgreSQL in DATABASE_URL"
            )
        return self.convert(period or Period.WEEK, dry_run) if self.all() is None else self.extend(period, dry_run)

    def convert(self, period: Period, dry_run: bool = False) -> Changes:
        """Make the table that is there the first partition of one under its name."""
        now = self.database.now()
        bound = boundary_after(now + AT_LEAST_AHEAD, period)
        made = tuple(partition_of(*each) for each in ranges(bound, now, period))
        with self.database.read() as connection:
            refuse_dependents(connection)
            first = first_partition(connection, id_at(bound))
        if dry_run:
            return Changes(made, first)
        try:
            self.prove(id_at(bound))
            with self._ddl() as connection:
                if read_partitions(connection) is None:  # else another run was faster
                    swap(connection, id_at(bound), made)
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

    def prove(self, bound: int) -> None:
        """Have the ids of the table proven to be below `bound`. Not when another run has partitioned it meanwhile."""
        with self._ddl() as connection:
            if read_partitions(connection) is None:
                connection.exec_driver_sql(f"alter table {TABLE} drop constraint if exists {PROOF}")
                proof = f"add constraint {PROOF} check (id < {bound:d}) not valid"
                connection.exec_driver_sql(f"alter table {TABLE} {proof}")
        with self._ddl() as connection:
            if read_partitions(connection) is None:
                require_proof(connection, bound)
                # reads the whole table, and lets others read and write it
                connection.exec_driver_sql(f"alter table {TABLE} validate constraint {PROOF}")

    def drop_proof(self) -> bool:
        """Take away what a killed `convert` left behind; whether there was anything. Not while one is at work."""
        with self.database.read() as connection:
            if not has_proof(connection):
                return False
        with self.database.write() as connection:
            connection.exec_driver_sql(wait_at_most(WAIT_TO_DROP))
            free = connection.exec_driver_sql(f"select pg_try_advisory_xact_lock({ADVISORY_LOCK})").scalar_one()
            if not free or read_partitions(connection) is not None:
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
            there = read_partitions(connection) or []
            names = {each.name for each in there}
            if DEFAULT not in names:
                connection.exec_driver_sql(f"create table {DEFAULT} partition of {TABLE} default")
            for each in missing:
                if each.name in names or any(overlap(each, other) for other in there):
                    continue
                taken = f"select exists (select 1 from {DEFAULT} where id >= {each.lower} and id < {each.upper})"
                if connection.exec_driver_sql(taken).scalar_one():
                    skipped.append(each)
                    continue
                make(connection, each)
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
        return [partition_of(*each) for each in ranges(last, now, period)], there

    @contextlib.contextmanager
    def _ddl(self) -> Iterator[Connection]:
        """One transaction for DDL, alone among migrations and partitioning, that waits for nothing for long."""
        try:
            with self.database.write() as connection:
                connection.exec_driver_sql(wait_at_most(timedelta(seconds=60)))
                connection.exec_driver_sql(f"select pg_advisory_xact_lock({ADVISORY_LOCK})")
                connection.exec_driver_sql(wait_at_most(WAIT_FOR_TABLE))
                yield connection
        except Exception as error:
            state = sqlstate_of(error)
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


__all__ = ["WAIT_TO_DROP", "PartitionMaking"]
