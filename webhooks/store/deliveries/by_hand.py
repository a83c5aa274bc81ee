"""By hand: what an operator does to deliveries that do not run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, select, text

from webhooks import failpoints
from webhooks.database import tables as schema
from webhooks.store.actions import ActionStep
from webhooks.store.deliveries.statements import DeliveryPart

#: Deliveries that are changed in one transaction: a worker waits for no more of them.
_PIECE = 500


class ByHand(DeliveryPart):
    """The part of `Deliveries` that people call. A method is a transaction for each 500 deliveries."""

    def requeue(
        self,
        ids: Collection[int],
        *,
        lanes: Mapping[int, str | None] | None = None,
        waits: Mapping[int, timedelta] | None = None,
        step: ActionStep | None = None,
    ) -> set[int]:
        """Put dead and cancelled deliveries back to pending, due now, failures forgotten; the ids that changed.

        ids: of deliveries; those in other states stay as they are.
        lanes: {id: lane}, computed anew, of deliveries that died because theirs could not be.
        waits: {id: how much later than now it is due}.
        step: of the action that asks for it, noted in the same transaction; then at most 500 ids.
        """
        return self._by_hand(
            ids,
            "state in (3, 4)",
            """state = 0, failures = 0, due_at = {now}, scheduled_at = {now}, reason = null, cause = null, finished_at = null,
               blocks = {false}, alone = {false}, class = case when class = 2 then 2 else 1 end, ready = (lane is null)""",
            lanes=lanes or {},
            waits=waits or {},
            step=step,
        )

    def make_due(
        self, ids: Collection[int], *, waits: Mapping[int, timedelta] | None = None, step: ActionStep | None = None
    ) -> set[int]:
        """Make pending deliveries that are due later due now, and change nothing else of them; the ids that changed.

        waits: {id: how much later than now it is due}.
        step: as for `requeue`.
        """
        return self._by_hand(
            ids, "state = 0 and due_at > {now}", "due_at = {now}, scheduled_at = {now}", waits=waits or {}, step=step
        )

    def cancel(self, ids: Collection[int], reason: str, *, step: ActionStep | None = None) -> set[int]:
        """End pending deliveries, and dead ones that hold a lane, as cancelled; the ids that changed.

        reason: kept with each.
        step: as for `requeue`.
        """
        return self._by_hand(
            ids,
            "(state = 0 or (state = 3 and blocks))",
            "state = 4, reason = :reason, cause = null, finished_at = {now}, blocks = {false}, ready = (lane is null)",
            reason=reason,
            step=step,
        )

    def put_back_running(self) -> int:
        """Put every running delivery back to pending under a new token, as if no worker had it; how many.

        For a copy of a database, where no process has them. Its attempt is uncounted.
        """
        table = schema.deliveries.c
        running = select(table.id).where(table.state == 1).limit(_PIECE)
        changed = 0
        while True:
            with self.database.write() as connection:
                ids = connection.execute(running).scalars().all()
                if not ids:
                    return changed
                values = {"state": 0, "lease_until": None, "token": table.token + 1, "attempts": table.attempts - 1}
                changed += connection.execute(
                    schema.deliveries.update().where(table.id.in_(ids)).values(values)
                ).rowcount

    def _by_hand(
        self,
        ids: Collection[int],
        eligible: str,
        change: str,
        lanes: Mapping[int, str | None] | None = None,
        waits: Mapping[int, timedelta] | None = None,
        step: ActionStep | None = None,
        **parameters: Any,
    ) -> set[int]:
        if step is not None:
            assert len(ids) <= _PIECE, "a step is one transaction"
            change, parameters = f"{change}, action_id = :action_id", {**parameters, "action_id": step.action.id}
        words = {"now": self.dialect.now(), "false": self.dialect.false}
        change, eligible = change.format(**words), eligible.format(**words)
        statement = text(
            f"update webhooks_deliveries set {change} where id in :ids and {eligible} returning id"
        ).bindparams(bindparam("ids", expanding=True))
        ordered = sorted(set(ids))
        done: set[int] = set()
        for start in range(0, len(ordered), _PIECE):
            piece = ordered[start : start + _PIECE]
            done |= self._change(
                piece,
                statement,
                parameters,
                lanes={id: lanes[id] for id in piece if id in lanes} if lanes else {},
                waits={id: waits[id] for id in piece if id in waits} if waits else {},
                step=step,
            )
        return done

    def _change(
        self,
        ids: Sequence[int],
        statement: Any,
        parameters: Mapping[str, Any],
        *,
        lanes: Mapping[int, str | None],
        waits: Mapping[int, timedelta],
        step: ActionStep | None,
    ) -> set[int]:
        table = schema.deliveries
        with self.database.write() as connection:
            cursor: Any = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
            for id, lane in lanes.items():
                connection.execute(self._relane(id, lane))
            held = connection.execute(
                select(table.c.handler, table.c.lane).where(table.c.id.in_(ids), table.c.lane.is_not(None)).distinct()
            ).fetchall()
            keys = {(handler, lane) for handler, lane in held}
            self.statements.lanes.lock(cursor, keys)
            done = {row[0] for row in connection.execute(statement, {"ids": ids, **parameters})}
            later = [(wait // schema.MICROSECOND, id) for id, wait in waits.items() if id in done and wait]
            if later:
                mark = self.dialect.placeholder
                cursor.executemany(
                    f"update webhooks_deliveries set due_at = due_at + {self.dialect.add_microseconds(mark)} where id = {mark}",
                    later,
                )
            self.statements.lanes.settle(cursor, keys)
            if done:
                self.dialect.wake(connection)
            if step is not None:
                step.note(self.database, connection, len(done))
                failpoints.hit("action.before_commit")
        if step is not None:
            failpoints.hit("action.after_commit")
        return done

    def _relane(self, id: int, lane: str | None) -> Any:
        """A statement that gives a dead delivery its lane and its place in it."""
        table, events = schema.deliveries, schema.events
        change = table.update().where(table.c.id == id, table.c.state == 3)
        if lane is None:
            return change.values(lane=None)
        of_event = events.c.id == table.c.event_id
        at = select(self.statements.microseconds(events.c.occurred_at)).where(of_event).scalar_subquery()
        revision = select(events.c.revision).where(of_event).scalar_subquery()
        return change.values(lane=lane, ready=False, lane_at=at, lane_revision=revision)


__all__ = ["ByHand"]
