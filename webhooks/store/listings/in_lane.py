"""Where a delivery stands in its lane: what comes before and after it there, and what it waits for.

A lane holds its unfinished deliveries and the dead ones that hold it; those that are over have left it, and no index
knows them. The order is that of `store.lanes`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import bindparam, text

from webhooks.model import DeliveryState
from webhooks.selection import Selection
from webhooks.store.listings.deliveries import DeliveryPages
from webhooks.store.listings.records import DeliverySummary, LaneNeighbours, LaneWait

#: Written as in the conditions of the partial indexes.
_IN_LANE = "o.handler = d.handler and o.lane = d.lane and o.lane is not null"
_UNFINISHED = "(o.state < 2 or o.blocks{true})"
_PLACE = "({one}.replay_id, {one}.lane_at, {one}.lane_revision, {one}.id)"
#: One side of a delivery. A dead one holds back what came from the sender; what a replay made passes it by.
_SIDE = f"""
    select {{side}} as side, s.id from (
      select o.id from webhooks_deliveries d join webhooks_deliveries o on {_IN_LANE} and {_UNFINISHED}
       where d.id = :id and (d.replay_id = 0 or o.state < 2)
         and {_PLACE.format(one="o")} {{compares}} {_PLACE.format(one="d")}
       order by o.replay_id {{way}}, o.lane_at {{way}}, o.lane_revision {{way}}, o.id {{way}} limit :most) s
"""
_SIDES = f"{_SIDE.format(side=0, compares='<', way='desc', true='{true}')} union all {_SIDE.format(side=1, compares='>', way='asc', true='{true}')}"
#: The one of each lane that may run, and the dead ones that hold it.
_WAITS = f"""
    select d.id, o.id, o.state, o.lane_at, o.lane_revision
      from webhooks_deliveries d join webhooks_deliveries o on {_IN_LANE} and o.ready{{true}}
     where d.id in :ids and o.id <> d.id
    union all
    select d.id, o.id, o.state, o.lane_at, o.lane_revision
      from webhooks_deliveries d join webhooks_deliveries o on {_IN_LANE} and o.blocks{{true}}
     where d.id in :ids and d.replay_id = 0 and (o.lane_at, o.lane_revision, o.id) < (d.lane_at, d.lane_revision, d.id)
"""


class LanePages(DeliveryPages):
    """The part of `Listings` that shows lanes from the inside."""

    def lane_neighbours(self, id: int, *, shown: int = 3, counted: int = 100) -> LaneNeighbours:
        """What stands before and after a delivery in its lane, the nearest first; nothing where it has none.

        shown: of each side.
        counted: of each side, at most; there are more where one more is said.
        """
        query = text(_SIDES.format(true=self.dialect.is_true))
        with self.database.read() as connection:
            rows = connection.execute(query, {"id": id, "most": counted + 1}).fetchall()
        before, after = ([row.id for row in rows if row.side == side] for side in (0, 1))
        nearest = self._by_id([*before[:shown], *after[:shown]])
        return LaneNeighbours(
            [nearest[each] for each in before[:shown] if each in nearest],
            [nearest[each] for each in after[:shown] if each in nearest],
            len(before),
            len(after),
        )

    def _by_id(self, ids: Collection[int]) -> dict[int, DeliverySummary]:
        steps: Iterable[list[DeliverySummary]] = self.walk_deliveries(Selection(), ids=ids) if ids else ()
        return {one.id: one for step in steps for one in step}

    def lane_waits(self, ids: Collection[int]) -> dict[int, LaneWait]:
        """{delivery: what it waits for}, of those that wait for another of their lane: a dead one that holds it, or its head."""
        if not ids:
            return {}
        query = text(_WAITS.format(true=self.dialect.is_true)).bindparams(bindparam("ids", expanding=True))
        with self.database.read() as connection:
            rows = connection.execute(query, {"ids": list(ids)}).fetchall()
        # what holds the lane comes first, the oldest of it: what else may run ends by itself
        found: dict[int, LaneWait] = {}
        for waiting, ahead, state, _, _ in sorted(
            rows, key=lambda row: (row[2] != DeliveryState.DEAD, *row[3:], row[1])
        ):
            found.setdefault(waiting, LaneWait(ahead, DeliveryState(state)))
        return found


__all__ = ["LanePages"]
