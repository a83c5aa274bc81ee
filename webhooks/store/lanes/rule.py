"""What a lane is, and which delivery is its head: the part of the statements that both databases share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

#: (handler, lane)
Lane = tuple[str, str]

#: A run cancels no more than so many of those that it superseded; the others are found stale when it is their turn.
MOST_SUPERSEDED = 1000


class Place(NamedTuple):
    """Where a delivery that ran stands in its lane.

    at: microseconds of occurred_at.
    is_latest: its handler wants the newest of a lane only.
    """

    id: int
    handler: str
    lane: str
    at: int
    revision: int
    replay_id: int = 0
    is_latest: bool = False


def is_latest(lane: str, is_true: str) -> str:
    """A condition: the handler of a lane wants the newest only. lane, is_true: as for `candidate`."""
    return f"(select h.latest from webhooks_handlers h where h.name = {lane}.handler){is_true}"


def newest(lane: str, is_true: str, replay_id: str = "0") -> str:
    """A query of the id of the newest waiting delivery of a lane. replay_id: of that replay; 0: made at ingest."""
    return f"""
      (select d.id from webhooks_deliveries d where d.handler = {lane}.handler and d.lane = {lane}.lane
          and d.lane is not null and d.replay_id = {replay_id} and (d.state < 2 or d.blocks{is_true}) and d.state = 0
        order by d.lane_at desc, d.lane_revision desc, d.id desc limit 1)"""


def candidate(lane: str, is_true: str) -> str:
    """An expression of the id of the delivery that should be the head of a lane; null where none can run.

    lane: the alias of a row with `handler` and `lane`.
    is_true: what follows a truth's name (see `dialect.Dialect`).
    """
    first_replay = f"""(
        select d.replay_id from webhooks_deliveries d where d.handler = {lane}.handler and d.lane = {lane}.lane
           and d.lane is not null and d.replay_id > 0 and (d.state < 2 or d.blocks{is_true}) and d.state = 0
         order by d.replay_id limit 1)"""
    return f"""
    coalesce(
      (select d.id from webhooks_deliveries d where d.handler = {lane}.handler and d.lane = {lane}.lane
         and d.ready{is_true} and d.lane is not null and d.state = 1),
      case when {is_latest(lane, is_true)} then coalesce({newest(lane, is_true)}, {newest(lane, is_true, first_replay)})
      else coalesce(
      (select case when f.blocks{is_true} then null else f.id end
         from (select d.id, d.blocks from webhooks_deliveries d
                where d.handler = {lane}.handler and d.lane = {lane}.lane and d.lane is not null
                  and d.replay_id = 0 and (d.state < 2 or d.blocks{is_true})
                order by d.replay_id, d.lane_at, d.lane_revision, d.id limit 1) f),
      (select d.id from webhooks_deliveries d
        where d.handler = {lane}.handler and d.lane = {lane}.lane and d.lane is not null
          and d.replay_id > 0 and (d.state < 2 or d.blocks{is_true}) and d.state < 2
        order by d.replay_id, d.lane_at, d.lane_revision, d.id limit 1))
      end
    )
"""


class Lanes(Protocol):
    """The statements on lanes. cursor: always the driver's, inside the transaction that changes the lanes' deliveries."""

    def lock(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """Make and lock the rows of `lanes`; no other transaction changes these lanes until this one ends.

        What stands in the same lanes under a former name of their handlers becomes theirs; `settle` then has to follow.
        """

    def advance(self, cursor: Any, places: Collection[Place]) -> None:
        """Move the lanes' marks to the places of deliveries that ran, where those are newer."""

    def supersede(self, cursor: Any, places: Collection[Place]) -> None:
        """Cancel what waits in the lanes of these deliveries and is older, at most `MOST_SUPERSEDED` of each lane.

        A fresh delivery supersedes fresh and replayed ones, a replayed one only those of its replay.
        """

    def postpone(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """Make the newest waiting delivery of each lane due when its burst is over, where its handler waits bursts out.

        Called by what has just put another one into each. A retry keeps its due time.
        """

    def settle(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """Choose the head of each lane anew. The lanes are locked, and their rows are otherwise as they should be."""


def columns(lanes: Iterable[Lane]) -> tuple[list[str], list[str]]:
    """Lanes as two parallel lists, each lane once, in the order in which they are locked."""
    ordered = sorted(set(lanes), key=lambda lane: (lane[0].encode(), lane[1].encode()))
    return [handler for handler, _ in ordered], [lane for _, lane in ordered]


def former_lanes(former_names: Mapping[str, Sequence[str]], lanes: Iterable[Lane]) -> list[tuple[str, str, str]]:
    """(former name, handler, key) of each lane whose handler had other names."""
    found = {(was, handler, key) for handler, key in lanes for was in former_names.get(handler, ())}
    return sorted(found)


def newest_of(places: Iterable[Place]) -> list[Place]:
    """The newest place of each lane."""
    found: dict[Lane, Place] = {}
    for place in places:
        known = found.setdefault((place.handler, place.lane), place)
        if (known.at, known.revision) < (place.at, place.revision):
            found[place.handler, place.lane] = place
    return list(found.values())


__all__ = [
    "MOST_SUPERSEDED", "Lane", "Lanes", "Place", "candidate", "columns", "former_lanes", "is_latest", "newest", "newest_of",
]  # fmt: skip
