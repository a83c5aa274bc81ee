"""What the questions cost that `doctor`, `stats` and listings ask, with a large backlog and a hundred thousand just dead.

    python -m benchmarks.health                        a million deliveries, 400,000 of them pending, both databases
    python -m benchmarks.health --millions 0.1 --only sqlite

Ten handlers; half of what is pending is due. Then 100,000 deliveries die, and nothing is vacuumed: the listing of the
newest dead is timed right after. Prints the median of five calls in milliseconds, client included.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import databases

HANDLERS = 10
ROUNDS = 5
BODY = 300
DEAD = 100_000

_EVENTS = """
    insert into webhooks_events (id, source, type, dedup_key, revision, receipt, occurred_at, received_at, headers, body)
    select {id}, 'close', case i % 3 when 0 then 'lead.updated' when 1 then 'lead.created' else 'note.created' end,
           'ev_' || i, 1, 0, {at}, {at}, '{{}}', {body} from n"""
#: 40 of 100 wait: half of these are due, half wait for a retry
_DELIVERIES = """
    insert into webhooks_deliveries (id, event_id, handler, state, class, ready, due_at, scheduled_at, created_at, finished_at,
        attempts, failures, token, reason)
    select {id}, {id}, 'handler_' || (i % {handlers}), case when i / 10 % 10 < 4 then 0 else 2 end,
           case when i / 10 % 10 < 2 then 1 else 0 end, {true}, case when i / 10 % 10 < 2 then {later} else {at} end,
           case when i / 10 % 10 < 2 then {now} end, {at}, case when i / 10 % 10 < 4 then null else {at} end, 1,
           case when i / 10 % 10 < 2 then 3 else 0 end, 1, case when i / 10 % 10 < 2 then 'ValueError: ' || i % 7 end from n"""
_DIE = """
    update webhooks_deliveries set state = 3, reason = 'ValueError: dead', finished_at = {now}
     where id in (select id from webhooks_deliveries where state = 2 order by id desc limit {dead})"""


def fill(url: str, count: int) -> None:
    """Store `count` events of the last day, a delivery each; then let the newest done ones die."""
    from webhooks.database import to_microseconds
    from webhooks.model import id_at

    now = datetime.now(UTC)
    first = id_at(now - timedelta(days=1))
    step = (id_at(now) - first) // count
    begun, apart = to_microseconds(now - timedelta(days=1)), 86_400_000_000 // count
    later, here = to_microseconds(now + timedelta(hours=1)), to_microseconds(now)
    at = f"({begun} + i * {apart})"
    if url.startswith("sqlite"):
        source = f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {count})"
        words = {"at": at, "later": later, "now": here, "true": 1, "body": f"cast(printf('%{BODY}d', i) as blob)"}
    else:
        source = f"with n(i) as (select generate_series(1, {count}::bigint))"
        words = {
            "at": f"to_timestamp({at} / 1e6)", "later": f"to_timestamp({later} / 1e6)",
            "now": f"to_timestamp({here} / 1e6)", "true": "true", "body": f"convert_to(lpad(i::text, {BODY}), 'UTF8')",
        }  # fmt: skip
    words |= {"id": f"({first} + i * {step})", "handlers": HANDLERS, "dead": min(DEAD, count // 10)}
    for statement in (_EVENTS, _DELIVERIES):
        databases.query(url, f"{source} {statement.format(**words)}")
    if url.startswith("sqlite"):
        databases.query(url, "analyze")
    else:
        for table in ("events", "deliveries"):
            databases.query(url, f"alter table webhooks_{table} set (autovacuum_enabled = false)")
            databases.query(url, f"vacuum analyze webhooks_{table}")
    databases.query(url, _DIE.format(**words))


def questions(store: Any) -> dict[str, Callable[[], Any]]:
    """{name: what is asked}."""
    from webhooks.model import DeliveryState
    from webhooks.selection import Expression, Selection

    listings = store.listings
    dead = Selection(states=(DeliveryState.DEAD,))
    deadline = timedelta(milliseconds=300)
    return {
        "gauges": lambda: store.health.gauges(),
        "stats 1h": lambda: listings.stats(timedelta(hours=1)),
        "stats 24h": lambda: listings.stats(timedelta(days=1)),
        "newest dead": lambda: listings.deliveries(dead),
        "events of the newest dead": lambda: listings.events(dead),
        "newest dead of a handler": lambda: listings.deliveries(dead.only(handler="handler_3")),
        "unrouted, nothing found": lambda: listings.look(Selection(unrouted=True), deadline=deadline),
        "error without a state, nothing found": lambda: listings.look(Selection(error="nowhere"), deadline=deadline),
        "where, nothing found": lambda: listings.look(
            Selection(where=Expression.parse('data.x == "y"')), deadline=deadline
        ),
        "deliveries by error, nothing found": lambda: listings.look_at_deliveries(
            Selection(error="nowhere"), deadline=deadline
        ),
    }


def measure(kind: str, server: str | None, count: int) -> None:
    """Fill one database and print what each question took."""
    from webhooks.database.connect import connect
    from webhooks.store import Store

    with databases.database(kind, server) as url:
        databases.upgrade(url)
        fill(url, count)
        database = connect(url)
        try:
            for name, ask in questions(Store(database, {})).items():
                took = []
                for _ in range(ROUNDS):
                    begun = time.perf_counter()
                    ask()
                    took.append((time.perf_counter() - begun) * 1000)
                print(f"{kind:11} {name:40} {statistics.median(took):9.1f} ms   (first {took[0]:.1f})", flush=True)
        finally:
            database.dispose()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.health", description=__doc__.partition("\n")[0])
    parser.add_argument("--millions", type=float, default=1, help="deliveries (%(default)s)")
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one database")
    options = parser.parse_args(arguments)
    for kind, server in databases.each_kind(options.only):
        measure(kind, server, int(options.millions * 1_000_000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
