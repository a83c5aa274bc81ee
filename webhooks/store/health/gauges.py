"""The statement of the gauges: how every handler's deliveries stand, read by indexes alone, counts bounded.

Written once for both databases; what each says its own way is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from webhooks.model import DeliveryClass

#: How far counts go, and how far they go at least where many handlers share one bound.
COUNTED, COUNTED_AT_LEAST = 10_000, 1_000
#: Of each handler and class, so many of those that are due last are looked at for failures,
SAMPLED = 200
#: and so many of the newest deliveries of all for successes.
RECENT = 2_000

_NAMES = """{name}(handler) as (
      select * from (select handler from webhooks_deliveries where {condition} order by handler limit 1) first
      union all
      select (select d.handler from webhooks_deliveries d where {of_d} and d.handler > {name}.handler
               order by d.handler limit 1)
        from {name} where {name}.handler is not null)"""
#: A handler is found by a probe of each index for the next name, so only those that have something there cost anything.
_PLACES = (
    ("waiting", "{d}state = 0 and {d}ready{true}"),
    ("busy", "{d}state = 1"),
    ("gone", "{d}state = 3"),
    ("laned", "{d}lane is not null and ({d}state < 2 or {d}blocks{true})"),
)
_QUEUE = """
    (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0
        and d.ready{true} and d.due_at <= {now} limit {limit}) x) as due{n},
    (select d.due_at from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0 and d.ready{true}
      order by d.due_at, d.id limit 1) as oldest{n},
    (select d.created_at from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0
        and d.ready{true} order by d.due_at, d.id limit 1) as made{n},
    (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0
        and d.ready{true} and d.due_at > {now} limit {limit}) x) as scheduled{n},
"""
_LATEST = """select d.failures, d.created_at from webhooks_deliveries d where d.handler = n.handler and d.class = {n}
               and d.state = 0 and d.ready{true} order by d.due_at desc, d.id desc limit {{sampled}}"""
#: What waits in the lane of `b`.
_IN_LANE = """webhooks_deliveries w where w.handler = n.handler and w.lane = b.lane and w.lane is not null
              and (w.state < 2 or w.blocks{true}) and w.replay_id = 0 and w.state = 0"""
_STATEMENT = """
    with recursive {names},
    busied(handler) as ({busied}),
    n(handler) as (select name from webhooks_handlers union select handler from busied),
    bound(n) as ({bound}),
    recent as materialized (
      select x.handler, max(x.finished_at) as succeeded_at
        from (select handler, state, finished_at from webhooks_deliveries order by id desc limit {{recent}}) x
       where x.state = 2 group by x.handler),
    f as materialized (
      select n.handler, {failures} from n {cross})
    select n.handler, {now} as now_at, {queues}
      (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.state = 1
         limit {limit}) x) as running,
      (select min(x.created_at) from (select d.created_at from webhooks_deliveries d where d.handler = n.handler
         and d.state = 1 limit {limit}) x) as running_since,
      (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.state = 3
         limit {limit}) x) as dead,
      (select count(case when x.state = 0 and not x.ready then 1 end) from (
         select d.state, d.ready from webhooks_deliveries d where d.handler = n.handler and d.lane is not null
            and (d.state < 2 or d.blocks{true}) limit {limit}) x) as in_lanes,
      (select count(*) from (select distinct d.lane from webhooks_deliveries d where d.handler = n.handler
         and d.blocks{true} limit {limit}) x) as lanes,
      (select count(*) from (select 1 from (select distinct d.lane from webhooks_deliveries d
            where d.handler = n.handler and d.blocks{true} limit {limit}) b
         {in_lanes} limit {limit}) x) as held,
      f.retrying, f.failures, f.failing_since,
      (select count(*) from recent where recent.handler = n.handler
          and recent.succeeded_at >= f.failing_since) as succeeded,
      (select bound.n from bound) as counted
      from n join f on f.handler = n.handler
"""


#: {column: what is made of the latest retries, x}
_FAILING = {
    "retrying": "sum(case when x.failures > 0 then 1 else 0 end)",
    "failures": "sum(x.failures)",
    "failing_since": "min(case when x.failures > 0 then x.created_at end)",
}


#: Makes of a query of the latest retries of a handler `n`, `x`, and of {column: what is made of them} the columns and the
#: join that give them.
Latest = Callable[[str, Mapping[str, str]], tuple[str, str]]


#: Makes of what waits in the lane of `b` (a table with conditions) the join of all that wait in the lanes `b`: an index is asked for each.
EachLane = Callable[[str], str]


def gauges_statement(
    *, is_true: str, now: str, latest: Latest, each_lane: EachLane, limit: int, in_all: int | None = None
) -> str:
    """The statement of `Health.gauges`.

    is_true: what follows a truth's name (see `dialect.Dialect`).
    now: the time, in SQL.
    latest: how columns are made of the latest retries.
    each_lane: how what waits in lanes is joined.
    limit: how far counts go.
    in_all: how far the counts of one kind go together: each up to its share, among the handlers that have anything unfinished
        or dead, and to `COUNTED_AT_LEAST`. None: each up to `limit`.
    """
    words = {"true": is_true, "now": now, "limit": "(select bound.n + 1 from bound)" if in_all else str(limit + 1)}
    names = []
    for name, place in _PLACES:
        here, of_d = (place.format(d=d, true=is_true) for d in ("", "d."))
        names.append(_NAMES.format(name=name, condition=here, of_d=of_d))
    parts = (f"select * from ({_LATEST.format(n=int(kind), **words)}) x{int(kind)}" for kind in DeliveryClass)
    failures, cross = latest(" union all ".join(parts), _FAILING)
    return _STATEMENT.format(
        names=", ".join(names),
        busied=" union ".join(f"select handler from {name} where handler is not null" for name, _ in _PLACES),
        bound=_bound(limit, in_all),
        failures=failures,
        cross=cross,
        queues="".join(_QUEUE.format(n=int(kind), **words) for kind in DeliveryClass),
        in_lanes=each_lane(_IN_LANE.format(true=is_true)),
        **words,
    ).format(sampled=SAMPLED, recent=RECENT)


def _bound(limit: int, in_all: int | None) -> str:
    """How far each count goes."""
    if in_all is None:
        return f"select {limit}"
    share = f"{in_all} / case when x.n > 0 then x.n else 1 end"
    least = min(limit, COUNTED_AT_LEAST)
    return f"""select case when {share} > {limit} then {limit} when {share} < {least} then {least} else {share} end
        from (select count(*) as n from busied) x"""


__all__ = ["COUNTED", "COUNTED_AT_LEAST", "RECENT", "SAMPLED", "gauges_statement"]
