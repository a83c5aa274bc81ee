"""Dropping old partitions, and forgetting what belonged to their events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, exists, select

from webhooks.database import tables as schema
from webhooks.errors import StorageUnavailable
from webhooks.model import DeliveryState, id_at
from webhooks.store.retention.partitions import making
from webhooks.store.retention.partitions.making import PartitionMaking
from webhooks.store.retention.partitions.periods import gaps
from webhooks.store.retention.partitions.postgresql import holders_of, quoted, sqlstate_of, wait_at_most
from webhooks.store.retention.partitions.records import TABLE, Kept, Partition, PartitionError

#: How long looking for what holds a partition may take while inserts wait.
LOOK_UNDER_LOCK = timedelta(seconds=1)
#: Deliveries forgotten in one transaction.
BATCH = 1_000

#: Why a partition stays that another transaction is using.
BUSY = "another transaction, which has it in use; it is tried again"

_ID_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


class PartitionDropping(PartitionMaking):
    """The part of `Partitions` that drops them."""

    def keep(self, before: datetime) -> Kept:
        """One round of retention: make partitions ahead, drop those whose events were all received before `before`.

        What cannot be done now is in the answer, and tried again with the next round. Raises `StorageUnavailable`
        when the database is unavailable.
        """
        partitions = self.all()
        kept = Kept(rows_before=before)
        if partitions is None:
            if self.dialect.has_partitions:
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
            return str(holders_of(connection, partition, self.dialect)) or None

    def drop(self, partition: Partition) -> str | None:
        """Drop a partition that nothing needs; else why it stays."""
        try:
            held = self.what_holds(partition)
            if held is not None:
                return held
            with self.database.write() as connection:
                connection.exec_driver_sql(wait_at_most(making.WAIT_TO_DROP, LOOK_UNDER_LOCK))
                # in the order in which an insert takes them; nothing is requeued, cancelled or replayed until we are done
                connection.exec_driver_sql(f"lock table only {TABLE} in access exclusive mode")
                connection.exec_driver_sql("lock table webhooks_deliveries in share mode")
                held = str(holders_of(connection, partition, self.dialect)) or None
                if held is None:
                    connection.exec_driver_sql(f"drop table if exists {quoted(connection, partition.name)}")
            return held
        except Exception as error:
            state = sqlstate_of(error)
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


__all__ = ["PartitionDropping"]
