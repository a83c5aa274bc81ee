"""What one operation costs with few and with many events stored: it should not matter.

    python -m benchmarks.growth                       0.1 and 1 million events, both databases: about three minutes
    python -m benchmarks.growth --sizes 0.1 10        ten million need 12 GB of disk and half an hour
    python -m benchmarks.growth --only postgresql

Tables are filled by SQL with handled events of the past days and some waiting retries. All sizes exist side by side and
take turns, so each ratio is made within a round. Timed is the call as ingest and workers make it, client included.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from benchmarks import databases, dispatch, events, measure, report

if TYPE_CHECKING:
    from webhooks.app import Webhooks

HANDLER = "nothing"
BATCH = 16
CLAIM = 50
#: waiting retries, whatever the size: a queue does not grow with the log
WAITING = 2000
#: bytes of a stored body; the load's own events have 2 kB
FILL_BODY = 300

_FILL = {
    "webhooks_dedup_log": """
        insert into webhooks_dedup_log (source, dedup_key, revision, event_id, offered, first_seen_at, last_seen_at)
        select 'close', {key}, {microseconds}, {id}, {id}, {at}, {at} from n""",
    "webhooks_events": """
        insert into webhooks_events (id, source, type, dedup_key, revision, receipt, object_id, group_id, occurred_at,
            received_at, origin, key_label, request_id, headers, body)
        select {id}, 'close', case i % 3 when 0 then 'lead.updated' when 1 then 'lead.created' else 'note.created' end,
            {key}, {microseconds}, 0, {object}, {object}, {at}, {at}, 0, '1', 'fill', '{{}}', {body} from n""",
    "webhooks_deliveries": """
        insert into webhooks_deliveries (id, event_id, handler, state, class, ready, due_at, created_at, finished_at,
            attempts, token)
        select {id}, {id}, 'nothing', case when i <= {waiting} then 0 else 2 end, case when i <= {waiting} then 1 else 0 end,
            {true}, case when i <= {waiting} then {later} else {at} end, {at},
            case when i <= {waiting} then null else {at} end, 1, 1 from n""",
    "webhooks_attempts": """
        insert into webhooks_attempts (delivery_id, number, outcome, started_at, finished_at, worker)
        select {id}, 1, 0, {at}, {at}, 'fill' from n""",
}


def fill(url: str, count: int, now: datetime) -> None:
    """Store `count` handled events of the last ten days; WAITING of them wait for a retry in an hour."""
    from webhooks.database import to_microseconds
    from webhooks.model import id_at

    first = id_at(now - timedelta(days=10))
    step = (id_at(now - timedelta(hours=1)) - first) // count
    begun, apart = to_microseconds(now - timedelta(days=10)), 10 * 86_400_000_000 // count
    later = to_microseconds(now + timedelta(hours=1))
    words: dict[str, object] = {"id": f"({first} + i * {step})", "waiting": WAITING}
    if url.startswith("sqlite"):
        source = f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})"
        at = f"({begun} + i * {apart})"
        words |= {
            "key": "printf('ev_%022d', i * 7919 % 1000000007)",
            "object": "printf('acti_%043d', i * 7919 % 1000000007)",
            "microseconds": at, "at": at, "later": later, "true": 1, "body": f"cast(printf('%{FILL_BODY}d', i) as blob)",
        }  # fmt: skip
    else:
        source = f"with n(i) as (select generate_series(1, {count}::bigint))"
        at = f"({begun} + i * {apart})"
        words |= {
            "key": "'ev_' || lpad((i * 7919 % 1000000007)::text, 22, '0')",
            "object": "'acti_' || lpad((i * 7919 % 1000000007)::text, 43, '0')",
            "microseconds": at, "at": f"to_timestamp({at} / 1e6)", "later": f"to_timestamp({later} / 1e6)",
            "true": "true", "body": f"convert_to(lpad(i::text, {FILL_BODY}), 'UTF8')",
        }  # fmt: skip
    for statement in _FILL.values():
        text = statement.format(**words)
        # SQLite wants WITH in front of the INSERT, PostgreSQL takes it there too
        databases.query(url, f"{source} {text}")
    databases.settle(url, _FILL)


@dataclass
class Table:
    """One filled database and what is asked of it."""

    label: str
    count: int
    webhooks: Webhooks

    def __post_init__(self) -> None:
        self.make = events.make_bodies()

    def operations(self) -> dict[str, Callable[[], float]]:
        """{name: a function that does it some times and says how many microseconds one took}."""
        return {
            "ingest": self._ingest,
            "duplicate": self._duplicate,
            "claim": self._claim,
            "finish": self._finish,
            "list": self._list,
            "plan": self._plan,
        }

    def run(self) -> dict[str, float]:
        return {name: operation() for name, operation in self.operations().items()}

    def _items(self, count: int) -> list[Any]:
        from webhooks.sources.close import envelope

        source = self.webhooks.sources["close"]
        now = datetime.now(UTC)
        return [
            self.webhooks.ingest._item(source, envelope.parse_delivery(self.make()[1]), now, 0, "1", "growth", "")
            for _ in range(count)
        ]

    def _ingest(self) -> float:
        self.fresh = [self._items(BATCH) for _ in range(25)]
        return (
            _microseconds([lambda items=items: self.webhooks.store.intake.record(items) for items in self.fresh])
            / BATCH
        )

    def _duplicate(self) -> float:
        from webhooks.store.intake import with_new_ids

        again = [[with_new_ids(item) for item in items] for items in self.fresh]
        return _microseconds([lambda items=items: self.webhooks.store.intake.record(items) for items in again]) / BATCH

    def _claim(self) -> float:
        from webhooks.model import DeliveryClass

        self.claimed: list[Any] = []

        def claim() -> None:
            some = self.webhooks.store.deliveries.claim(
                {(HANDLER, DeliveryClass.FRESH): CLAIM}, lease=timedelta(seconds=60), worker="growth"
            )
            self.claimed.append(some)

        took = _microseconds([claim] * (25 * BATCH // CLAIM)) / CLAIM
        if any(len(some) != CLAIM for some in self.claimed):
            raise RuntimeError(f"claims took {[len(some) for some in self.claimed]} deliveries, not {CLAIM} each")
        return took

    def _finish(self) -> float:
        from webhooks.routing import SUCCEEDED
        from webhooks.store.deliveries import Finished

        batches = [
            [Finished(claimed.delivery, SUCCEEDED, took=timedelta(milliseconds=1)) for claimed in some]
            for some in self.claimed
        ]
        return _microseconds([lambda b=b: self.webhooks.store.deliveries.finish(b) for b in batches]) / CLAIM

    def _list(self) -> float:
        from webhooks.selection import Selection

        selection = Selection.parse({}, datetime.now(UTC))
        return _microseconds([lambda: self.webhooks.store.listings.events(selection, limit=50)] * 10)

    def _plan(self) -> float:
        """Not constant: it counts. PERFORMANCE: at most 0.5 s over a million events."""
        from webhooks.operations import Replayer
        from webhooks.selection import Selection

        replayer = Replayer(store=self.webhooks.store, registry=self.webhooks.registry)
        selection = Selection.parse({"source": "close"}, datetime.now(UTC))
        return _microseconds([lambda: replayer.plan(selection)])


def _microseconds(calls: Sequence[Callable[[], object]]) -> float:
    """The median of the calls' times: one of them may meet a checkpoint."""
    times = []
    for call in calls:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return measure.summarise(times).median * 1e6


COLUMNS = (
    report.Column("ingest", "ingest µs", 0),
    report.Column("duplicate", "duplicate µs", 0),
    report.Column("claim", "claim µs", 0),
    report.Column("finish", "finish µs", 0),
    report.Column("list", "list µs", 0),
    report.Column("plan", "plan a replay µs", 0),
)


def compare(kind: str, server: str | None, sizes: Sequence[float], rounds: int, wait: float) -> report.Comparison:
    comparison = report.Comparison(
        f"{kind}: one event or delivery, in batches of {BATCH} and claims of {CLAIM}; list: a page of 50", COLUMNS
    )
    now = datetime.now(UTC)
    with contextlib.ExitStack() as stack:
        tables = []
        for size in sizes:
            count = int(size * 1e6)
            report.progress(f"growth: {kind}, storing {count:,} events")
            url = stack.enter_context(databases.database(kind, server))
            databases.upgrade(url)
            fill(url, count, now)
            webhooks = stack.enter_context(dispatch.application(url, HANDLER))
            tables.append(Table(f"{kind}, {size:g} million events", count, webhooks))
        for table in tables:  # statements are prepared, pages are read
            table.run()
        for number in range(rounds):
            turn = number % len(tables)
            for table in [*tables[turn:], *tables[:turn]]:
                report.progress(f"growth: round {number + 1} of {rounds}, {table.label}")
                comparison.run(str(table.count), table.label, table.run, wait)
        for table in tables[1:]:
            for name in ("ingest", "duplicate", "claim", "finish", "list"):
                comparison.judge(str(table.count), str(tables[0].count), name, measure.Goal(1.1, at_most=True))
            limit = 0.5e6 if table.count <= 10**6 else 2e6
            comparison.judge_value(str(table.count), "plan", measure.Goal(limit, at_most=True))
    return comparison


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.partition("\n")[0])
    report.add_options(parser, rounds=5)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.1, 1], metavar="MILLIONS", help="(%(default)s)")
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one database")
    options = parser.parse_args(arguments)
    comparisons = []
    for kind, server in databases.each_kind(options.only):
        comparisons.append(compare(kind, server, options.sizes, options.rounds, options.wait))
        print(comparisons[-1].show(), flush=True)
    report.keep(options.json, "growth", comparisons)
    return 0


if __name__ == "__main__":
    sys.exit(main())
