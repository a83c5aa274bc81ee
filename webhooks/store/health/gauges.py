"""The statement of the gauges: how every handler's deliveries stand, read by indexes alone, counts bounded.

Written once for both databases; what each says its own way is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from webhooks.model import DeliveryClass

#: How far counts go.
COUNTED = 10_000
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
        and d.ready{true} and d.due_at <= {now} limit {{limit}}) x) as due{n},
    (select d.due_at from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0 and d.ready{true}
      order by d.due_at, d.id limit 1) as oldest{n},
    (select d.created_at from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0
        and d.ready{true} order by d.due_at, d.id limit 1) as made{n},
    (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0
        and d.ready{true} and d.due_at > {now} limit {{limit}}) x) as scheduled{n},
"""
_LATEST = """select d.failures, d.created_at from webhooks_deliveries d where d.handler = n.handler and d.class = {n}
               and d.state = 0 and d.ready{true} order by d.due_at desc, d.id desc limit {{sampled}}"""
_STATEMENT = """
    with recursive {names},
    n(handler) as (select name from webhooks_handlers {union}),
    recent as materialized (
      select handler, state, finished_at from webhooks_deliveries order by id desc limit {{recent}}),
    f as materialized (
      select n.handler, {failures} from n {cross})
    select n.handler, {now} as now_at, {queues}
      (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.state = 1
         limit {{limit}}) x) as running,
      (select min(x.created_at) from (select d.created_at from webhooks_deliveries d where d.handler = n.handler
         and d.state = 1 limit {{limit}}) x) as running_since,
      (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.state = 3
         limit {{limit}}) x) as dead,
      (select count(case when x.state = 0 and not x.ready then 1 end) from (
         select d.state, d.ready from webhooks_deliveries d where d.handler = n.handler and d.lane is not null
            and (d.state < 2 or d.blocks{true}) limit {{limit}}) x) as in_lanes,
      (select count(*) from (select distinct d.lane from webhooks_deliveries d where d.handler = n.handler
         and d.blocks{true} limit {{limit}}) x) as lanes,
      (select count(*) from (select 1 from (select distinct d.lane from webhooks_deliveries d
            where d.handler = n.handler and d.blocks{true} limit {{limit}}) b
         join webhooks_deliveries w on w.handler = n.handler and w.lane = b.lane and w.lane is not null
            and (w.state < 2 or w.blocks{true}) and w.replay_id = 0 and w.state = 0 limit {{limit}}) x) as held,
      f.retrying, f.failures, f.failing_since,
      (select count(*) from recent where recent.handler = n.handler and recent.state = 2
          and recent.finished_at >= f.failing_since) as succeeded
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


def gauges_statement(*, is_true: str, now: str, latest: Latest, limit: int) -> str:
    """The statement of `Health.gauges`.

    is_true: what follows a truth's name (see `dialect.Dialect`).
    now: the time, in SQL.
    latest: how columns are made of the latest retries.
    limit: how far counts go.
    """
    words = {"true": is_true, "now": now}
    names = []
    for name, place in _PLACES:
        here, of_d = (place.format(d=d, true=is_true) for d in ("", "d."))
        names.append(_NAMES.format(name=name, condition=here, of_d=of_d))
    parts = (f"select * from ({_LATEST.format(n=int(kind), **words)}) x{int(kind)}" for kind in DeliveryClass)
    failures, cross = latest(" union all ".join(parts), _FAILING)
    return _STATEMENT.format(
        names=", ".join(names),
        union=" ".join(f"union select handler from {name} where handler is not null" for name, _ in _PLACES),
        failures=failures,
        cross=cross,
        queues="".join(_QUEUE.format(n=int(kind), **words) for kind in DeliveryClass),
        **words,
    ).format(limit=limit + 1, sampled=SAMPLED, recent=RECENT)


__all__ = ["COUNTED", "RECENT", "SAMPLED", "gauges_statement"]
