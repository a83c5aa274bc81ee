"""Claim deliveries by their ids: for an engine that tells its processes which ones to run.

An id is a hint. What is not due, not ready, claimed already or done by now is passed over, so an id that comes twice, or
late, does nothing. Not on SQLite, which processes of several machines cannot share.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import NoReturn

from webhooks import failpoints
from webhooks.database import Database
from webhooks.errors import ConfigurationError
from webhooks.model import DeliveryClass
from webhooks.store.deliveries.claim import Claiming
from webhooks.store.deliveries.postgresql import PostgresqlDeliveries
from webhooks.store.deliveries.records import Claimed, Offered, Queue
from webhooks.store.deliveries.statements import Row
from webhooks.store.handlers import Handlers


class ById(Claiming):
    """The part of `Deliveries` that offers ids and claims by them. Each method raises `ConfigurationError` on SQLite."""

    @functools.cached_property
    def _ids(self) -> PostgresqlDeliveries:
        return self.dialect.pick(PostgresqlDeliveries, _refuse)

    def first(self, quotas: Mapping[Queue, int]) -> list[Offered]:
        """The first due and ready deliveries of each queue, in the order in which they are to run; claims nothing.

        quotas: at most how many, {(handler, class): number}.
        """
        wanted = [(handler, int(kind), n) for (handler, kind), n in quotas.items() if n > 0]
        if not wanted:
            return []
        with self._ids.transaction(laned=False) as cursor:
            return [_offered(row) for row in self._ids.first(cursor, wanted)]

    def claimable(self, ids: Sequence[int], handlers: Collection[str]) -> list[Offered]:
        """Those of `ids` that are due and ready, and of these handlers; claims nothing."""
        if not ids:
            return []
        with self._ids.transaction(laned=False) as cursor:
            return [_offered(row) for row in self._ids.claimable(cursor, ids, handlers)]

    def is_any_running(self, handlers: Collection[str]) -> bool:
        """Whether a delivery of these handlers runs, in any process."""
        with self._ids.transaction(laned=False) as cursor:
            return bool(self._ids.is_any_running(cursor, handlers))

    def wake(self) -> None:
        """Have workers and feeders look: something ended that may let more be claimed."""
        with self._ids.transaction(laned=False) as cursor:
            self._ids.wake(cursor)

    def claim_ids(
        self,
        ids: Sequence[int],
        handlers: Collection[str],
        *,
        lease: timedelta,
        worker: str,
    ) -> list[Claimed]:
        """`claim` for those of `ids` that are due and ready now, and of these handlers; the rest is passed over.

        handlers: names of those that need no permission.
        lease: how long they are ours from now.
        worker: noted on their rows.
        """
        if not ids or not handlers:
            return []
        with self._ids.transaction(laned=False) as cursor:
            rows = self._ids.claim_ids(cursor, ids, handlers, lease, worker)
        if rows:
            failpoints.hit("claim.after_commit")
        return [self._claimed(row) for row in rows]

    def claim_ids_limited(
        self,
        ids: Sequence[int],
        names: Collection[str],
        *,
        lease: timedelta,
        worker: str,
        handlers: Handlers,
        overrides: Mapping[str, int] | None = None,
    ) -> list[Claimed]:
        """`claim_ids` for handlers that are limited: counted and claimed under their rows' locks.

        names: of the limited handlers.
        handlers, overrides: as for `claim_limited`.
        """
        with self._ids.transaction(laned=True) as cursor:
            found = [_offered(row) for row in self._ids.claimable(cursor, ids, names)] if ids and names else []
            left = handlers.admit(cursor, Counter(each.handler for each in found), overrides) if found else {}
            admitted: list[int] = []
            for each in found:
                if left[each.handler] > 0:
                    left[each.handler] -= 1
                    admitted.append(each.id)
            rows = self._ids.claim_ids(cursor, admitted, names, lease, worker) if admitted else []
            claimed = [self._claimed(row) for row in rows]
            handlers.started(cursor, Counter(each.delivery.handler for each in claimed))
        return claimed


def _offered(row: Row) -> Offered:
    id, token, handler, kind, alone = row
    return Offered(id, token, handler, DeliveryClass(kind), alone)


def _refuse(database: Database) -> NoReturn:
    raise ConfigurationError(
        ["an engine that is told ids needs PostgreSQL; on SQLite run `webhooks worker`, which needs nothing beside it"]
    )


__all__ = ["ById"]
