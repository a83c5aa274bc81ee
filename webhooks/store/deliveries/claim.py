"""Claim: look how much is due, and take some of it to run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from webhooks import failpoints
from webhooks.model import DeliveryClass
from webhooks.store.deliveries.records import DELIVERY_COLUMNS, Claimed, D, E, Queue, Wanted
from webhooks.store.deliveries.statements import DeliveryPart
from webhooks.store.handlers import Handlers


class Claiming(DeliveryPart):
    """The part of `Deliveries` that gives deliveries to workers."""

    def waiting(self, handlers: Collection[str], limit: int) -> tuple[dict[Queue, int], timedelta | None]:
        """How many ready deliveries are due, per handler and class, each counted up to `limit`; and when the next is.

        The second value is how long from now, by the database's clock, the earliest due time that lies ahead is
        (None: nothing waits), for the worker's sleep.
        """
        counts: dict[Queue, int] = {}
        ahead: float | None = None
        with self.database.raw() as connection:
            for handler, number, due_now, due in self.statements.look(connection.cursor(), handlers, limit):
                if due_now:
                    counts[handler, DeliveryClass(number)] = due_now
                elif ahead is None or due < ahead:
                    ahead = due
        return counts, None if ahead is None else timedelta(seconds=max(0.0, ahead))

    def claim(self, quotas: Mapping[Queue, int], *, lease: timedelta, worker: str) -> list[Claimed]:
        """Take due and ready deliveries, fresh ones first, oldest first.

        Each becomes running under a new fencing token, with one attempt counted. Rows that another worker is claiming at
        this moment are passed over.

        quotas: at most how many, {(handler, class): number}.
        lease: how long they are ours from now.
        worker: noted on their rows.
        """
        wanted = [(handler, int(kind), n) for (handler, kind), n in quotas.items() if n > 0]
        if not wanted:
            return []
        with self.statements.transaction(laned=False) as cursor:
            claimed = self._claim(cursor, wanted, lease, worker)
            if claimed:
                failpoints.hit("claim.before_commit")
        if claimed:
            failpoints.hit("claim.after_commit")
        return claimed

    def claim_limited(
        self,
        quotas: Mapping[Queue, int],
        *,
        lease: timedelta,
        worker: str,
        handlers: Handlers,
        overrides: Mapping[str, int] | None = None,
    ) -> list[Claimed]:
        """`claim` for handlers that are limited in concurrency or rate: counted and claimed under their rows' locks.

        handlers: whose rows count.
        overrides: a tighter concurrency for some, {handler: number}, e.g. 1 while a breaker is half-open.
        """
        wanted: dict[str, int] = {}
        for (handler, _), n in quotas.items():
            wanted[handler] = wanted.get(handler, 0) + n
        if not any(wanted.values()):
            return []
        with self.statements.transaction(laned=True) as cursor:
            left = handlers.admit(cursor, wanted, overrides)
            admitted: list[Wanted] = []
            for (handler, kind), n in sorted(quotas.items(), key=lambda item: item[0][1]):
                n = min(n, left[handler])
                if n > 0:
                    admitted.append((handler, int(kind), n))
                    left[handler] -= n
            rows = self._claim(cursor, admitted, lease, worker) if admitted else []
            handlers.started(cursor, Counter(claimed.delivery.handler for claimed in rows))
        return rows

    def load(self, id: int) -> Claimed | None:
        """One delivery with its event, whatever its state; None when there is none."""
        with self.database.read() as connection:
            row = connection.exec_driver_sql(
                f"select {D}, {E} from webhooks_deliveries d left join webhooks_events e on e.id = d.event_id"
                f" where d.id = {self.dialect.placeholder}",
                (id,),
            ).fetchone()
        return None if row is None else self._claimed(tuple(row))

    def _claim(self, cursor: Any, wanted: Sequence[Wanted], lease: timedelta, worker: str) -> list[Claimed]:
        return [self._claimed(row) for row in self.statements.claim(cursor, wanted, lease, worker)]

    def _claimed(self, row: Sequence[Any]) -> Claimed:
        width = len(DELIVERY_COLUMNS)
        event = None if row[width] is None else self.events.from_row(row[width:])
        return Claimed(self.delivery(row[:width]), event)


__all__ = ["Claiming"]
