"""Leases: keep what runs, take a delivery away from an attempt, and find what no worker holds any more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from webhooks import failpoints
from webhooks.database import Database
from webhooks.errors import StorageUnavailable
from webhooks.model import Delivery, DeliveryCause
from webhooks.store.deliveries.finish import Finishing
from webhooks.store.deliveries.records import Finished
from webhooks.store.events import EventReader

#: A process that could not see or write for a while lets workers in the same case extend their leases first, seconds.
AFTER_BLINDNESS = 2.0
#: What took longer, in seconds, was waiting for something, as everything else did.
SLOW = 0.25


class Leases(Finishing):
    """The part of `Deliveries` that says whose a running delivery is."""

    def __init__(self, database: Database, events: EventReader) -> None:
        super().__init__(database, events)
        self._blind = False
        #: by `time.monotonic()`: from then on leases that seem over are over
        self._rescue_from = 0.0
        self._were_locked: frozenset[int] = frozenset()

    def extend(self, running: Iterable[Delivery], lease: timedelta, *, passed_over: set[int] | None = None) -> set[int]:
        """Move the leases of `running` to now + lease; the ids that are still ours.

        passed_over: gets those of them that another transaction has locked, so that their leases are as they were.
        """
        # in the order of ids, as `finish`: two statements that lock the same rows the other way round would deadlock
        held = sorted((delivery.id, delivery.token) for delivery in running)
        if not held:
            return set()
        rows = self.statements.extend(held, lease)
        if passed_over is not None:
            passed_over.update(id for id, is_moved in rows if not is_moved)
        return {id for id, _ in rows}

    def fence(
        self, delivery: Delivery, because: str | None = None, cause: DeliveryCause | None = None
    ) -> Delivery | None:
        """Move the fencing token on, so that the attempt in hand cannot finish; the delivery under its new token.

        None when the delivery is not ours any more. The row stays running, under the same lease.

        because: noted on it, for people.
        cause: noted on it, for the process that rescues it.

        Waits for nothing: raises `Locked` when another transaction, or the attempt itself, has the row.
        """
        if not self.statements.fence(delivery, because, cause):
            return None
        return replace(delivery, token=delivery.token + 1, reason=because, cause=cause)

    def expired(self, limit: int) -> list[Delivery]:
        """Running deliveries whose lease has run out, at most `limit`; nothing is changed.

        Not those that another transaction has locked, nor what was locked at the last look, nor anything in the first
        seconds after a time in which we could not look (`was_blind`): their workers could not extend the leases either.
        """
        try:
            rows, locked = self.statements.expired(limit)
        except StorageUnavailable:
            self.was_blind()
            raise
        if self._blind:
            self._blind, self._rescue_from = False, time.monotonic() + AFTER_BLINDNESS
        were_locked, self._were_locked = self._were_locked, frozenset(locked)
        if time.monotonic() < self._rescue_from:
            return []
        return [self.delivery(row) for row in rows if row[0] not in were_locked]

    def was_blind(self) -> None:
        """Note that the database could not be read or written just now."""
        self._blind = True

    def finish_expired(self, batch: Sequence[Finished]) -> set[int]:
        """`finish` for leases that ran out; the ids that changed.

        Only rows are changed whose lease is still over, and that no other transaction has locked.
        """
        if not batch:
            return set()
        began = time.monotonic()

        def act(cursor: Any, part: Sequence[Finished]) -> set[int]:
            if time.monotonic() - began > SLOW:
                self.was_blind()  # they were alive when we looked, and have waited as we did
                return set()
            done = self.record(cursor, part, expired_only=True)
            if done:
                failpoints.hit("rescue.before_commit")
                self.statements.wake(cursor)
            return done

        try:
            done, _ = self.statements.piecewise(batch, lambda finished: finished.delivery, act)
        except StorageUnavailable:
            self.was_blind()
            raise
        if done:
            failpoints.hit("rescue.after_commit")
        return done


__all__ = ["AFTER_BLINDNESS", "SLOW", "Leases"]
