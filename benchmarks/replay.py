"""Planning a replay, listing, and replaying, as the number of stored events grows from 10 k to 1 M.

Goals (issue 7): with 1,000,000 stored events a plan takes under 1 s and a page of a listing under 100 ms, on both
databases; a replay of 100,000 events takes constant memory. Bodies are 2 KB, each event has two deliveries; one type in
twenty is rare, one delivery in a thousand is dead.

python -m benchmarks.replay                 10 k and 100 k
python -m benchmarks.replay --all           … and 1 M (some minutes, 5 GB of disk)
python -m benchmarks.replay --only sqlite
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import databases
from webhooks.database import Database, to_microseconds
from webhooks.database.connect import connect
from webhooks.model import DeliveryState, Event, id_at
from webhooks.operations import Actor, Options, Order, Replayer
from webhooks.routing import Registry
from webhooks.selection import Selection
from webhooks.store import Store

SIZES = (10_000, 100_000, 1_000_000)
TYPES = [f"activity.kind_{number:02d}.updated" for number in range(20)]
#: One event in a thousand.
RARE = "lead.merged"
START = datetime(2026, 1, 1, tzinfo=UTC)
REPLAYED = 100_000
PLAN_GOAL = timedelta(seconds=1)
PAGE_GOAL = timedelta(milliseconds=100)
#: Incompressible, as real bodies nearly are to PostgreSQL at this size.
BODY_BYTES = 2_000
ROUNDS = 5


def fill_postgresql(database: Database, size: int) -> None:
    types = ",".join(f"'{type}'" for type in TYPES)
    epoch = id_at(START)
    with database.raw() as connection:
        connection.execute(
            f"""insert into webhooks_events (id, source, type, dedup_key, revision, receipt, object_id, occurred_at,
                    received_at, body)
                select {epoch} + n::bigint * 4096, 'close',
                       case when n %% 1000 = 7 then '{RARE}' else (array[{types}])[1 + n %% 20] end,
                       'ev_' || n, 1, 0, 'acti_' || n %% 5000, t, t,
                       (select decode(string_agg(md5(n::text || k::text), ''), 'hex') from generate_series(1, %s) k)
                  from generate_series(1, %s) n, lateral (select %s::timestamptz + n * interval '2 s' as t) x""",
            (BODY_BYTES // 16, size, START),
        )
        connection.execute(
            """insert into webhooks_deliveries (id, event_id, handler, state, ready, due_at, created_at, finished_at, reason)
                select e.id + h, e.id, 'h' || h, case when (e.id / 4096) %% 1000 = h then 3 else 2 end, true,
                       e.received_at, e.received_at, e.received_at, case when (e.id / 4096) %% 1000 = h then 'E' end
                  from webhooks_events e, generate_series(1, 2) h""".replace("%%", "%"),
        )
        connection.execute("vacuum analyze webhooks_events")
        connection.execute("vacuum analyze webhooks_deliveries")


def fill_sqlite(database: Database, size: int) -> None:
    import random

    made = random.Random(1)
    epoch = id_at(START)
    with database.write_lock(), database.raw() as connection:
        connection.execute("pragma synchronous=off")
        connection.execute("begin immediate")

        def events() -> Iterator[tuple[Any, ...]]:
            for n in range(1, size + 1):
                at = to_microseconds(START + timedelta(seconds=2 * n))
                type = RARE if n % 1000 == 7 else TYPES[n % 20]
                yield (
                    epoch + n * 4096, "close", type, f"ev_{n}", 1, 0, f"acti_{n % 5000}", at, at,
                    made.randbytes(BODY_BYTES),
                )  # fmt: skip

        def deliveries() -> Iterator[tuple[Any, ...]]:
            for n in range(1, size + 1):
                at = to_microseconds(START + timedelta(seconds=2 * n))
                for h in (1, 2):
                    dead = n % 1000 == h
                    yield epoch + n * 4096 + h, epoch + n * 4096, f"h{h}", 3 if dead else 2, 1, at, at, at, "E" * dead

        connection.executemany(
            "insert into webhooks_events (id, source, type, dedup_key, revision, receipt, object_id, occurred_at, "
            "received_at, body) values (?,?,?,?,?,?,?,?,?,?)",
            events(),
        )
        connection.executemany(
            "insert into webhooks_deliveries (id, event_id, handler, state, ready, due_at, created_at, finished_at, "
            "reason) values (?,?,?,?,?,?,?,?,nullif(?, ''))",
            deliveries(),
        )
        connection.execute("commit")
        connection.execute("pragma synchronous=full")


def handler(event: Event) -> None:
    """Never run here."""


def registry() -> Registry:
    made = Registry()
    made.add(handler, "activity.**", name="h1")
    made.add(handler, "**", name="h2")
    return made


def questions(store: Store, replayer: Replayer, size: int) -> dict[str, tuple[timedelta, Callable[[], object]]]:
    """{what is asked: (goal, how)}."""
    middle = START + timedelta(seconds=size)
    page, plan = store.listings.events, replayer.plan
    return {
        "page: latest": (PAGE_GOAL, lambda: page(Selection())),
        "page: in the middle": (PAGE_GOAL, lambda: page(Selection(until=middle))),
        "page: rare type": (PAGE_GOAL, lambda: page(Selection(type=RARE))),
        "page: pattern": (PAGE_GOAL, lambda: page(Selection(type="activity.kind_07.**"))),
        "page: absent type": (PAGE_GOAL, lambda: page(Selection(type="nothing.of.that"))),
        "page: dead": (PAGE_GOAL, lambda: page(Selection(states=(DeliveryState.DEAD,)))),
        "page: by key": (PAGE_GOAL, lambda: page(Selection(key="ev_77"))),
        "page: deliveries": (PAGE_GOAL, lambda: store.listings.deliveries(Selection())),
        "page: dead deliveries": (
            PAGE_GOAL,
            lambda: store.listings.deliveries(Selection(states=(DeliveryState.DEAD,), type="activity.**")),
        ),
        "groups of failures": (PAGE_GOAL, lambda: store.listings.failures(Selection())),
        "plan: everything": (PLAN_GOAL, lambda: plan(Selection())),
        "plan: pattern": (PLAN_GOAL, lambda: plan(Selection(type="activity.kind_07.**"))),
        "plan: half by time": (PLAN_GOAL, lambda: plan(Selection(since=middle))),
        "plan: dead": (PLAN_GOAL, lambda: plan(Selection(states=(DeliveryState.DEAD,)))),
        "plan: original routing": (PLAN_GOAL, lambda: plan(Selection(), Options(original=True))),
        "plan: one handler": (PLAN_GOAL, lambda: plan(Selection(), Options(handler="h1"))),
    }


def replay_all(replayer: Replayer, order: Order, size: int) -> tuple[float, int]:
    """Make the deliveries for the latest `REPLAYED` events; (events per second, growth of memory in kB)."""
    since = START + timedelta(seconds=2 * max(0, size - REPLAYED))
    plan = replayer.plan(Selection(since=since), Options(order=order))
    started = replayer.start(plan, actor=Actor("benchmark"), why=str(order))
    memory: list[int] = []
    begin = time.perf_counter()
    done = replayer.run(started, lambda progress: memory.append(resident_kilobytes()))
    took = time.perf_counter() - begin
    # what the first tenth took is caches and compiled statements
    return done.events / took, max(memory) - memory[len(memory) // 10]


def resident_kilobytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


@contextlib.contextmanager
def filled(kind: str, size: int) -> Iterator[Store]:
    """A store with `size` events."""
    from webhooks.database.migrations.run import upgrade

    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            url = stack.enter_context(databases.sqlite_database())
        else:
            url = stack.enter_context(databases.postgresql_database(stack.enter_context(databases.postgresql_server())))
        database = connect(url)
        stack.callback(database.dispose)
        upgrade(database)
        (fill_sqlite if kind == "sqlite" else fill_postgresql)(database, size)
        yield Store(database, {})


def measure(kind: str, size: int) -> tuple[dict[str, float], list[str]]:
    """({question: milliseconds}, goals missed)."""
    with filled(kind, size) as store:
        replayer = Replayer(store=store, registry=registry())
        results: dict[str, float] = {}
        missed: list[str] = []
        for name, (goal, ask) in questions(store, replayer, size).items():
            times = []
            for _ in range(ROUNDS):
                begin = time.perf_counter()
                ask()
                times.append((time.perf_counter() - begin) * 1000)
            results[name] = statistics.median(times)
            if size == max(SIZES) and results[name] > goal / timedelta(milliseconds=1):
                missed.append(
                    f"{kind}: {name} took {results[name]:.0f} ms; the goal is {goal / timedelta(milliseconds=1):.0f} ms"
                )
        for order in Order:
            rate, growth = replay_all(replayer, order, size)
            results[f"replay by {order}: events/s"] = rate
            results[f"replay by {order}: memory grew by kB"] = growth
        return results, missed


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="also 1 M events")
    parser.add_argument("--size", type=int, action="append", help="only this many events")
    parser.add_argument("--only", choices=["sqlite", "postgresql"], help="only this database")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    sizes = given.size or (SIZES if given.all else SIZES[:2])
    everything: dict[str, dict[int, dict[str, float]]] = {}
    missed: list[str] = []
    for kind in [given.only] if given.only else ["sqlite", "postgresql"]:
        for size in sizes:
            print(f"{kind}, {size:,} events", file=sys.stderr)
            results, failures = measure(kind, size)
            everything.setdefault(kind, {})[size] = results
            missed += failures
    if given.json:
        print(json.dumps(everything, indent=2))
    else:
        for kind, by_size in everything.items():
            print(f"\n{kind:<38}" + "".join(f"{size:>14,}" for size in by_size))
            for name in next(iter(by_size.values())):
                unit = "" if ":" in name and name.startswith("replay") else " ms"
                print(f"{name + unit:<38}" + "".join(f"{by_size[size][name]:>14,.1f}" for size in by_size))
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
