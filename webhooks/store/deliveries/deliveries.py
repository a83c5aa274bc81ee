"""`Deliveries`: everything that can be done to deliveries, under one name."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from webhooks.database import tables as schema
from webhooks.model import Attempt, DeliveryCause
from webhooks.store.deliveries.by_hand import ByHand
from webhooks.store.deliveries.by_id import ById
from webhooks.store.deliveries.finish import Finishing
from webhooks.store.deliveries.leases import Leases
from webhooks.store.deliveries.records import OUTCOMES


class Deliveries(ById, Leases, Finishing, ByHand):
    """The deliveries of one database. database: where they are. events: reads the events that are claimed with them."""

    def attempts(self, delivery_ids: Sequence[int]) -> list[Attempt]:
        """The recorded attempts of these deliveries, oldest first."""
        table = schema.attempts
        with self.database.read() as connection:
            rows = connection.execute(
                select(table).where(table.c.delivery_id.in_(delivery_ids)).order_by(table.c.delivery_id, table.c.number)
            ).fetchall()
        return [
            Attempt(
                delivery_id=row.delivery_id,
                number=row.number,
                outcome=OUTCOMES[row.outcome],
                started_at=row.started_at,
                finished_at=row.finished_at,
                worker=row.worker or "",
                error=row.error,
                cause=None if row.cause is None else DeliveryCause(row.cause),
            )
            for row in rows
        ]


__all__ = ["Deliveries"]
