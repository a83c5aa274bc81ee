"""What the pages of the dashboard cost the server, with a large backlog, a hundred thousand just dead, and full tallies.

    python -m benchmarks.dashboard                     a million events, both databases
    python -m benchmarks.dashboard --millions 0.1 --only sqlite
    python -m benchmarks.dashboard --statements 20     and each statement that took 20 ms or more, alone
    python -m benchmarks.dashboard --fill --on URL     fill an empty database of yours, and leave it; then again without --fill

The database is that of `benchmarks.health`, with attempts, dedup keys, lanes that stand still, refused and held requests
and people's actions. The tallies are at their bound: 20 handlers and 3 sources in every point of 30
days. A page is asked for with nothing kept in the process, as the first browser does, some times, and once more as the
next browser does a moment later. Prints the least and the median in milliseconds, the processor's time of this process (with
SQLite the database's is in it), the sum of its statements run alone (the least of five each), their number, and the size of the page.

Other work on the machine makes the median larger, and hardly the least of many.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import databases, health

ROUNDS = 7
ALONE = 5
HANDLERS = 20
#: Lanes that a dead delivery holds, and how many wait in each.
LANES, BEHIND = 200, 10
PAGES = (
    "/", "/?window=15m", "/?window=6h", "/?window=24h", "/?window=7d", "/?window=30d", "/events", "/events?q=handler:handler_3",
    "/events?q=state:dead", "/events?q=type:lead.**", "/events?q=source:close", "/events/{event}", "/events/{dead}", "/deliveries", "/deliveries?q=state:dead", "/deliveries?q=state:pending",
    "/deliveries?q=handler:handler_3", "/deliveries/{dead}", "/failures", "/failures?q=handler:handler_3", "/failures/blocked",
    "/handlers", "/handlers/handler_3", "/sources", "/sources/close", "/refused", "/quarantine", "/doctor",
    "/subscriptions", "/processes", "/activity", "/replays", "/go?q=ev_1000", "/replays/new?q=handler:handler_3+since:1h", "/complete?q=handler:&at=8",
)  # fmt: skip

_MORE = {
    "webhooks_attempts": """
        insert into webhooks_attempts (delivery_id, number, outcome, started_at, finished_at, worker, error)
        select id, 1, case when reason is null then 0 else 1 end, created_at, created_at, 'host:1:a', reason from webhooks_deliveries""",
    "webhooks_dedup_log": """
        insert into webhooks_dedup_log (source, dedup_key, revision, event_id, offered, first_seen_at, last_seen_at)
        select source, dedup_key, 1, id, id, received_at, received_at from webhooks_events""",
    "webhooks_rejections": """
        insert into webhooks_rejections (id, source, received_at, request_id, status, reason, header_names, header_bytes,
            body_bytes, kind)
        select id, 'close', received_at, 'r' || id, 401, 'no key of ours fits', '["close-sig-hash"]', 400, 300, 'signature'
          from webhooks_events order by id desc limit 1500""",
    "webhooks_quarantine": """
        insert into webhooks_quarantine (id, source, digest, reason, kind, received_at, last_seen_at, body, request_id, headers)
        select id, source, body, 'no JSON', 'unparseable', received_at, received_at, body, 'q' || id, '{{"a": "b"}}'
          from webhooks_events order by id desc limit 2000""",
    "webhooks_actions": """
        insert into webhooks_actions (id, at, by, via, verb, subject, state)
        select id, received_at, 'ada', 'cli', case id / 4096 % 2 when 0 then 'pause' else 'resume' end, 'handler_3', 2
          from webhooks_events order by id desc limit 20000""",
    "webhooks_replays": """
        insert into webhooks_replays (id, created_at, created_by, selection, options, state, upper_id, events, deliveries)
        select id, received_at, 'ada', '{{"handler": "handler_3"}}', '{{"order": "occurred"}}', 1, id, 10, 10
          from webhooks_events order by id desc limit 500""",
}  # fmt: skip


def fill_more(url: str) -> None:
    """Everything besides events and deliveries: attempts, keys, lanes, what was refused, and what people did."""
    from webhooks.database.connect import connect
    from webhooks.operations.examinations import DOCTOR
    from webhooks.operations.figures import COUNTS
    from webhooks.store import Store
    from webhooks.store.handlers import HandlerRow

    for statement in _MORE.values():
        databases.query(url, statement.format())
    _hold_lanes(url)
    database = connect(url)
    try:
        store = Store(database, {})
        names = [f"handler_{number}" for number in range(HANDLERS)]
        store.handlers.register([HandlerRow(name, ["**"]) for name in names])
        store.handlers.pause("handler_7", "ada")
        for number in range(4):
            store.processes.beat(f"host:{number}:a", "worker", "1.0", names, lease=timedelta(days=1))
        store.key_uses.note("close", "1", datetime.now(UTC))
        store.snapshots.put(COUNTS, {"dead": 100_000, "refused": 1500, "quarantined": 2000})
        store.snapshots.put(DOCTOR, {"findings": [], "repaired": []})
    finally:
        database.dispose()
    databases.settle(url, _MORE)


def _hold_lanes(url: str) -> None:
    """Put the oldest of what waits for handler_9 into lanes, and let the first of each be dead and hold the others."""
    mine = f"""select id, row_number() over (order by id) - 1 as n from webhooks_deliveries
               where handler = 'handler_9' and class = 0 and state = 0 order by id limit {LANES * (BEHIND + 1)}"""
    true, false = ("1", "0") if url.startswith("sqlite") else ("true", "false")
    databases.query(
        url,
        f"""update webhooks_deliveries set lane = 'lead_' || n % {LANES}, lane_at = m.id, lane_revision = 1, ready = {false},
                   blocks = case when n < {LANES} then {true} else {false} end, state = case when n < {LANES} then 3 else 0 end,
                   finished_at = case when n < {LANES} then due_at end, reason = case when n < {LANES} then 'KeyError: 7' end
              from ({mine}) m where m.id = webhooks_deliveries.id""",
    )


def fill_tallies(store: Any) -> int:
    """Put numbers into every point that a month of a busy installation has; how many rows there are then."""
    from webhooks.store.tallies import UNTIMED, Kind, LevelSample, Ran

    chance = random.Random(1)
    counts: dict[tuple[int, str, int, int], int] = {}
    for number in range(HANDLERS):
        name = f"handler_{number}"
        for bucket in range(4, 18):
            counts[Kind.RUNS, name, Ran.SUCCEEDED, bucket] = chance.randrange(1, 900)
        counts[Kind.RUNS, name, Ran.RETRIED, UNTIMED] = counts[Kind.RUNS, name, Ran.DEAD, 15] = 3
        for level in (LevelSample.DUE, LevelSample.SCHEDULED, LevelSample.RUNNING, LevelSample.OLDEST_SECONDS):
            counts[Kind.LEVELS, name, level, UNTIMED] = chance.randrange(1, 900)
    for source in ("close", "stripe", "github"):
        for receipt in (0, 1, 2):
            for bucket in range(1, 8):
                counts[Kind.REQUESTS, source, receipt, bucket] = chance.randrange(1, 900)
        counts[Kind.REQUESTS, source, 401, UNTIMED] = 4
    counts[Kind.LEVELS, "", LevelSample.SAMPLED, UNTIMED] = 1
    ages = [
        *range(180),
        *range(180, 720, 5),
        *range(720, 4320, 30),
        *range(4320, 21600, 180),
        *range(21600, 43200, 720),
    ]
    ages.reverse()  # points are made of what is newer than the last of them
    for start in range(0, len(ages), 60):
        store.tallies.add([(age * 60.0, counts) for age in ages[start : start + 60]])
        store.tallies.fold(deletes=False)
    store.tallies.fold()
    with store.database.read() as connection:
        return int(connection.exec_driver_sql("select count(*) from webhooks_tallies").scalar_one())


def measure(kind: str, server: str | None, count: int, options: argparse.Namespace) -> None:
    """Fill one database and print what each page took."""
    if options.on:
        if options.fill:
            fill(kind, options.on, count)
        show(kind, options.on, options)
        return
    with databases.database(kind, server) as url:
        fill(kind, url, count)
        show(kind, url, options)


def fill(kind: str, url: str, count: int) -> None:
    """Fill an empty database."""
    begun = time.perf_counter()
    databases.upgrade(url)
    health.fill(url, count)
    fill_more(url)
    print(
        f"{kind:11} {count:,} events and what goes with them, made in {time.perf_counter() - begun:.0f} s", flush=True
    )
    begun = time.perf_counter()
    rows = fill_tallies_of(url)
    print(f"{kind:11} {rows:,} rows of tallies, made in {time.perf_counter() - begun:.1f} s", flush=True)


def fill_tallies_of(url: str) -> int:
    from webhooks.database.connect import connect
    from webhooks.store import Store

    patient = connect(url)  # a web process gives a statement two seconds
    try:
        return fill_tallies(Store(patient, {}))
    finally:
        patient.dispose()


def show(kind: str, url: str, options: argparse.Namespace) -> None:
    """Print what each page of a full database takes."""
    from flask import Flask
    from sqlalchemy import event

    from webhooks.app import Webhooks
    from webhooks.dashboard import DashboardUser, UserRole
    from webhooks.dashboard.kept import Remembered
    from webhooks.routing import Registry

    registry = Registry()
    for number in range(HANDLERS):
        registry.on("**", name=f"handler_{number}")(lambda event: None)
    overrides = {
        "database_url": url,
        "sources": {"close": {"secret": "006b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e"}},
        "secret_key": "signs what the benchmark asks for",
        "tallies": False,
    }
    webhooks = Webhooks(
        registry=registry,
        overrides=overrides,
        environ={},
        dashboard_user=lambda: DashboardUser("ada", UserRole.OPERATOR),
    )
    app = Flask("benchmark")
    webhooks.init_app(app)
    kept: list[Remembered] = []
    real = Remembered.get

    def get(self: Remembered, *arguments: Any) -> Any:
        kept.append(self)
        return real(self, *arguments)

    Remembered.get = get  # type: ignore[method-assign, assignment]
    try:
        said: list[tuple[str, Any]] = []
        engine = webhooks.database.engine
        event.listen(engine, "before_cursor_execute", lambda *told: said.append((told[2], told[3])))
        client = app.test_client()
        places = {
            "event": databases.query(url, "select max(id) from webhooks_events"),
            "dead": databases.query(url, "select max(id) from webhooks_deliveries where state = 3 and id > 0"),
        }
        for page in options.pages or PAGES:
            address = f"/dashboard{page.format(**places)}"
            took, busy = [], []
            for _ in range(options.rounds):
                for each in kept:
                    each._values.clear()
                webhooks.store.tallies._known.clear()
                said.clear()
                begun, begun_cpu = time.perf_counter(), time.process_time()
                response = client.get(address)
                took.append((time.perf_counter() - begun) * 1000)
                busy.append((time.process_time() - begun_cpu) * 1000)
            asked = [one for one in said if not one[0].lower().startswith(("pragma", "begin", "set "))]
            begun = time.perf_counter()
            client.get(address)
            later = (time.perf_counter() - begun) * 1000
            alone = [time_alone(engine, *one) for one in asked]
            print(
                f"{kind:11} {page:34} {response.status_code} {min(took):7.1f} ({statistics.median(took):7.1f}) ms"
                f"  cpu {min(busy):6.1f}  sql {sum(alone):7.1f} in {len(asked):2}  {len(response.data) / 1000:5.1f} kB"
                f"  then {later:6.1f} ms",
                flush=True,
            )
            if options.statements is not None:
                for (statement, parameters), ms in sorted(zip(asked, alone, strict=True), key=lambda each: -each[1]):
                    if ms >= options.statements:
                        words = re.sub(r"\s+", " ", statement)
                        print(
                            f"{'':14}{ms:8.1f} ms  {words if options.whole else words[:150]}"
                            + (f"  {parameters!r}" if options.whole else ""),
                            flush=True,
                        )
    finally:
        Remembered.get = real  # type: ignore[method-assign]
        webhooks.close()


def time_alone(engine: Any, statement: str, parameters: Any) -> float:
    """The least processor's time of some runs of one statement with all its rows fetched, in milliseconds.

    Of PostgreSQL it is that of the server's process, if that runs here, and else what passed on the clock.
    """
    took = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        cursor = connection.connection.cursor()
        spent: Callable[[], float] = time.thread_time
        if engine.dialect.name == "postgresql":
            cursor.execute("set statement_timeout = 0")
            spent = _of_process(connection.connection.driver_connection.info.backend_pid)
        for _ in range(ALONE):
            begun = spent()
            cursor.execute(statement, parameters)
            if cursor.description is not None:
                cursor.fetchall()
            took.append((spent() - begun) * 1000)
        cursor.close()
    return min(took)


def _of_process(pid: int) -> Callable[[], float]:
    """Seconds for which a process had a processor, where Linux says; a clock elsewhere."""
    told = Path(f"/proc/{pid}/schedstat")
    if "postgres" not in _command_of(pid):
        return time.perf_counter
    return lambda: int(told.read_text().split()[0]) / 1e9


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__.partition("\n")[0])
    parser.add_argument("--millions", type=float, default=1, help="events (%(default)s)")
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one database")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="(%(default)s)")
    parser.add_argument("--pages", nargs="+", help="only these, such as /?window=24h")
    parser.add_argument("--statements", type=float, metavar="MS", help="print statements that take so long alone")
    parser.add_argument("--whole", action="store_true", help="with their whole text and values")
    parser.add_argument("--on", metavar="URL", help="measure this database, and leave it as it is")
    parser.add_argument("--fill", action="store_true", help="with --on: it is empty; fill it first")
    options = parser.parse_args(arguments)
    if options.on:
        options.only = "sqlite" if options.on.startswith("sqlite") else "postgresql"
    for kind, server in databases.each_kind(options.only):
        measure(kind, server, int(options.millions * 1_000_000), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
