"""What a lane is, and which delivery is its head: the part of the statements that both databases share."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Protocol

#: (handler, lane)
Lane = tuple[str, str]
#: (handler, lane, at, revision): where a delivery that ran stands in its lane; at: microseconds of occurred_at.
Place = tuple[str, str, int, int]


def candidate(lane: str, is_true: str) -> str:
    """An expression of the id of the delivery that should be the head of a lane; null where none can run.

    lane: the alias of a row with `handler` and `lane`.
    is_true: what follows a truth's name (see `dialect.Dialect`).
    """
    return f"""
    coalesce(
      (select d.id from webhooks_deliveries d where d.handler = {lane}.handler and d.lane = {lane}.lane
         and d.ready{is_true} and d.lane is not null and d.state = 1),
      (select case when f.blocks{is_true} then null else f.id end
         from (select d.id, d.blocks from webhooks_deliveries d
                where d.handler = {lane}.handler and d.lane = {lane}.lane and d.lane is not null
                  and d.replay_id = 0 and (d.state < 2 or d.blocks{is_true})
                order by d.replay_id, d.lane_at, d.lane_revision, d.id limit 1) f),
      (select d.id from webhooks_deliveries d
        where d.handler = {lane}.handler and d.lane = {lane}.lane and d.lane is not null
          and d.replay_id > 0 and (d.state < 2 or d.blocks{is_true}) and d.state < 2
        order by d.replay_id, d.lane_at, d.lane_revision, d.id limit 1)
    )
"""


class Lanes(Protocol):
    """The statements on lanes. cursor: always the driver's, inside the transaction that changes the lanes' deliveries."""

    def lock(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """Make and lock the rows of `lanes`; no other transaction changes these lanes until this one ends."""

    def advance(self, cursor: Any, places: Collection[Place]) -> None:
        """Move the lanes' marks to the places of deliveries that ran, where those are newer."""

    def settle(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """Choose the head of each lane anew. The lanes are locked, and their rows are otherwise as they should be."""


def columns(lanes: Iterable[Lane]) -> tuple[list[str], list[str]]:
    """Lanes as two parallel lists, each lane once, in the order in which they are locked."""
    ordered = sorted(set(lanes), key=lambda lane: (lane[0].encode(), lane[1].encode()))
    return [handler for handler, _ in ordered], [lane for _, lane in ordered]


def newest_of(places: Iterable[Place]) -> list[Place]:
    """The newest place of each lane."""
    newest: dict[Lane, tuple[int, int]] = {}
    for handler, lane, at, revision in places:
        newest[handler, lane] = max(newest.get((handler, lane), (at, revision)), (at, revision))
    return [(handler, lane, at, revision) for (handler, lane), (at, revision) in newest.items()]


__all__ = ["Lane", "Lanes", "Place", "candidate", "columns", "newest_of"]
