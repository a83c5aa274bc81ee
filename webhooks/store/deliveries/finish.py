"""Finish: how a run ended goes on record, or it is given back unrun."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from webhooks import failpoints
from webhooks.database import LOCK_PATIENCE, Database
from webhooks.errors import Locked
from webhooks.model import Delivery, DeliveryState
from webhooks.session import DoneMark, OpenTransaction
from webhooks.store.deliveries.records import Finished, FinishRow
from webhooks.store.deliveries.statements import DeliveryPart
from webhooks.store.events import EventReader

#: Once a row was found locked, `finish` asks first which are free, for so many seconds.
CAREFUL = 60.0

_FAILPOINTS = {DeliveryState.SUCCEEDED: "finish", DeliveryState.PENDING: "retry", DeliveryState.DEAD: "dead"}


class Finishing(DeliveryPart):
    """The part of `Deliveries` that ends runs."""

    def __init__(self, database: Database, events: EventReader) -> None:
        super().__init__(database, events)
        self._careful_until = 0.0

    def finish(self, batch: Sequence[Finished], *, passed_over: set[int] | None = None) -> set[int]:
        """Record how attempts ended, in one transaction; the ids of those that were still ours.

        passed_over: gets the ids of those that another transaction has locked, themselves or in their lane; nothing is
        known of them then, and the others may be recorded in several transactions. None: raises `Locked`.
        """
        if not batch:
            return set()
        if passed_over is None:
            return self._finish_all(batch)
        if time.monotonic() >= self._careful_until:
            with contextlib.suppress(Locked):
                return self._finish_all(batch)
        done, locked = self.statements.piecewise(batch, lambda finished: finished.delivery, self._finish_free)
        if locked:
            self._careful_until = time.monotonic() + CAREFUL
        _pass([finished for finished in batch if finished.delivery.id in done], "after_commit")
        passed_over |= locked
        return done

    def _finish_free(self, cursor: Any, batch: Sequence[Finished]) -> set[int]:
        done = self.record(cursor, batch)
        _pass(batch, "before_commit")
        return done

    def _finish_all(self, batch: Sequence[Finished]) -> set[int]:
        with self.statements.transaction(laned=any(finished.delivery.lane for finished in batch)) as cursor:
            done = self._finish_free(cursor, batch)
        _pass(batch, "after_commit")
        return done

    def done_mark(self, batch: Sequence[Finished]) -> DoneMark:
        """How attempts that succeeded are recorded inside the transaction that holds their handler's writes."""
        statement = None if any(finished.delivery.lane for finished in batch) else self.statements.done_mark(batch)
        return DoneMark(lambda transaction: self.finish_on(transaction, batch), statement)

    def finish_on(self, transaction: OpenTransaction, batch: Sequence[Finished]) -> bool:
        """`finish` inside the transaction that holds their handler's writes; False: the lease of one was lost.

        Raises when that transaction is not open any more: a mark that commits alone would be an effect that is lost.
        """
        transaction.require_open()
        done = self.record(transaction.cursor, batch)
        transaction.require_open()
        return len(done) == len(batch)

    def record(self, cursor: Any, batch: Sequence[Finished], *, expired_only: bool = False) -> set[int]:
        """`finish` within a transaction. cursor: the driver's. expired_only: only what has no lease any more."""
        lanes = {(f.delivery.handler, f.delivery.lane) for f in batch if f.delivery.lane}
        rows = [FinishRow.of(finished) for finished in sorted(batch, key=lambda finished: finished.delivery.id)]
        if not lanes:
            return self.statements.finish(cursor, rows, expired_only=expired_only)
        self.statements.lanes.lock(cursor, lanes)
        # of ordered ones only what succeeded makes an older one stale: a failed run will run again, after the older
        succeeded = {f.delivery.id for f in batch if f.verdict.state is DeliveryState.SUCCEEDED}
        ran = [f.delivery.id for f in batch if f.delivery.lane and f.supersedes]
        places = self.statements.places(cursor, ran)
        done = self.statements.finish(cursor, rows, expired_only=expired_only)
        ended = [place for place in places if place.id in done and (place.is_latest or place.id in succeeded)]
        self.statements.lanes.supersede(cursor, [place for place in ended if place.is_latest])
        self.statements.lanes.advance(cursor, [place for place in ended if place.replay_id == 0])
        self.statements.lanes.settle(cursor, lanes)
        return done

    def release(self, claimed: Sequence[Delivery], *, passed_over: set[int] | None = None) -> set[int]:
        """Give back deliveries whose handler did not run: pending, due at once, the attempt not counted.

        The ids of those that were still ours. passed_over: gets those that another transaction has locked.
        """
        if not claimed:
            return set()
        done, locked = self.statements.piecewise(claimed, lambda delivery: delivery, self._release)
        rest = [delivery for delivery in claimed if delivery.id in locked]
        if rest:
            # a worker that settles its lane has a delivery for a moment: only what stays locked is passed over
            with contextlib.suppress(Locked), self.statements.transaction(laned=True, patience=LOCK_PATIENCE) as cursor:
                done |= self._release(cursor, rest)
                locked = set()
        if passed_over is not None:
            passed_over |= locked
        return done

    def _release(self, cursor: Any, claimed: Sequence[Delivery]) -> set[int]:
        lanes = {(delivery.handler, delivery.lane) for delivery in claimed if delivery.lane}
        self.statements.lanes.lock(cursor, lanes)
        ordered = sorted(claimed, key=lambda delivery: delivery.id)
        done = {delivery.id for delivery in ordered if self.statements.release(cursor, delivery)}
        self.statements.lanes.settle(cursor, lanes)
        if done:
            self.statements.wake(cursor)
        return done


def _pass(batch: Sequence[Finished], when: str) -> None:
    if not failpoints.IS_WANTED:
        return
    for finished in batch:
        place = _FAILPOINTS.get(finished.verdict.state)
        if place is not None:
            failpoints.hit(f"{place}.{when}")


__all__ = ["CAREFUL", "Finishing"]
