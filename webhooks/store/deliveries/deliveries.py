"""`Deliveries`: everything that can be done to deliveries, under one name."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from webhooks.database import tables as schema
from webhooks.model import Attempt, AttemptOutcome, Delivery, DeliveryCause, DeliveryState
from webhooks.store.deliveries.by_hand import ByHand
from webhooks.store.deliveries.by_id import ById
from webhooks.store.deliveries.finish import Finishing
from webhooks.store.deliveries.leases import Leases
from webhooks.store.deliveries.records import OUTCOMES


class Deliveries(ById, Leases, Finishing, ByHand):
    """The deliveries of one database. database: where they are. events: reads the events that are claimed with them."""

    def attempts(self, delivery_ids: Sequence[int]) -> list[Attempt]:
        """The recorded attempts of these deliveries, oldest first: those with a row of their own, and successes."""
        table, of = schema.attempts.c, schema.deliveries.c
        with self.database.read() as connection:
            rows = connection.execute(select(schema.attempts).where(table.delivery_id.in_(delivery_ids))).fetchall()
            succeeded = connection.execute(
                select(of.id, of.attempts, of.finished_at, of.took, of.worker).where(
                    of.id.in_(delivery_ids), of.took.is_not(None)
                )
            ).fetchall()
        found = [
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
        found += [
            Attempt(
                delivery_id=row.id,
                number=row.attempts,
                outcome=AttemptOutcome.SUCCEEDED,
                started_at=row.finished_at - row.took * schema.MICROSECOND,
                finished_at=row.finished_at,
                worker=row.worker or "",
            )
            for row in succeeded
        ]
        return sorted(found, key=lambda attempt: (attempt.delivery_id, attempt.number))

    def state_of(self, delivery: Delivery) -> DeliveryState | None:
        """The state of a delivery under the token that it was claimed with; None when it is another's by now.

        What came of it, after a COMMIT that was not answered.
        """
        table = schema.deliveries.c
        with self.database.read() as connection:
            state = connection.execute(
                select(table.state).where(table.id == delivery.id, table.token == delivery.token)
            ).scalar_one_or_none()
        return None if state is None else DeliveryState(state)


__all__ = ["Deliveries"]
