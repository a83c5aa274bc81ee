"""What old events are needed for still: the one rule for rows that are pruned and partitions that are dropped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, select
from sqlalchemy.engine import Connection

from webhooks.database import tables as schema
from webhooks.model import DeliveryState
from webhooks.selection import Selection
from webhooks.store import conditions
from webhooks.store.dialect import Dialect
from webhooks.store.replays import ReplayState


def named_by_open_replays(connection: Connection, dialect: Dialect) -> list[tuple[int, list[ColumnElement[bool]]]]:
    """(id, conditions on the events that it names) of every open replay."""
    replays = schema.replays.c
    open_ones = select(replays.id, replays.selection, replays.created_at, replays.upper_id).where(
        replays.state == int(ReplayState.OPEN)
    )
    found = []
    for row in connection.execute(open_ones).fetchall():
        selection = Selection.parse(msgspec.json.decode(row.selection, type=dict[str, Any]), row.created_at)
        named = conditions.on_events(selection, dialect=dialect)
        found.append((row.id, [schema.events.c.id <= row.upper_id, *named]))
    return found


def may_go(deliveries: Sequence[tuple[DeliveryState, bool]], states: Collection[DeliveryState] = ()) -> bool:
    """Whether an event that is old enough may be deleted, by its deliveries: (state, does it block a lane).

    states: asked for; without any, whatever is finished goes, but dead ones only when they are named.
    """
    found = {state for state, _ in deliveries}
    if found & {DeliveryState.PENDING, DeliveryState.RUNNING} or any(blocks for _, blocks in deliveries):
        return False
    if DeliveryState.DEAD in found and DeliveryState.DEAD not in states:
        return False
    return not states or bool(found & set(states))


__all__ = ["may_go", "named_by_open_replays"]
