"""Durable ingest, side by side: our endpoint and what people would write instead. See README.md.

    python -m benchmarks.ingest                      32 connections, 2 KB, gevent, both databases: about two minutes
    python -m benchmarks.ingest --all                8 to 64 connections, each worker class, 20 KB, burst, slow disk
    python -m benchmarks.ingest --only ours-postgresql naive-postgresql --rounds 9

Each round starts every contender once, in turn, warms it, loads it for a few seconds, counts the rows against the
2xx that were answered, and stops it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import databases, events, load, measure, processes, report, services, slow_disk
from benchmarks.databases import Unavailable
from benchmarks.processes import Process
from webhooks.gunicorn_conf import WORKER_CLASSES

#: Every server gets as many processes as the machine of the plan has cores.
SERVER_PROCESSES = 2
PATH = "/webhooks/close"
WARM_SECONDS = 0.7


@dataclass(frozen=True)
class Scenario:
    """One set of circumstances under which contenders are compared."""

    connections: int = 32
    worker_class: str = "gevent"
    size: int = 2100
    seconds: float = 3.0
    #: instead of `seconds`: this many requests, as fast as they go
    requests: int = 0
    #: milliseconds that each flush of SQLite takes longer
    slow_flush: float = 0.0

    @property
    def name(self) -> str:
        parts = [f"{self.connections} connections", self.worker_class, f"{self.size / 1000:.0f} kB"]
        if self.requests:
            parts.append(f"burst of {self.requests:,}")
        if self.slow_flush:
            parts.append(f"each flush {self.slow_flush:g} ms longer")
        return ", ".join(parts)


@dataclass(frozen=True)
class Contender:
    """One server. count: statement that counts what it has stored; clear: empties its tables between runs."""

    name: str
    label: str
    command: Callable[[Scenario, int], list[str]]
    database: str = ""
    prepare: Callable[[str], None] = lambda url: None
    count: str = ""
    clear: str = ""
    environ: dict[str, str] = field(default_factory=dict)
    needs: str = ""


def gunicorn(application: str) -> Callable[[Scenario, int], list[str]]:
    """The same server with the same settings for every Flask application, ours included."""

    def command(scenario: Scenario, port: int) -> list[str]:
        threads = "1" if scenario.worker_class == "sync" else "16"
        return [
            sys.executable, "-m", "gunicorn", "-c", "python:webhooks.gunicorn_conf",
            "-k", WORKER_CLASSES[scenario.worker_class], "-w", str(SERVER_PROCESSES), "--threads", threads, "--keep-alive", "30",
            "-b", f"127.0.0.1:{port}", application,
        ]  # fmt: skip

    return command


def uvicorn(scenario: Scenario, port: int) -> list[str]:
    return [
        sys.executable, "-m", "uvicorn", "--workers", str(SERVER_PROCESSES), "--loop", "uvloop", "--http", "httptools",
        "--no-access-log", "--log-level", "warning", "--port", str(port), "benchmarks.peers.fastapi_asyncpg:app",
    ]  # fmt: skip


def node(scenario: Scenario, port: int) -> list[str]:
    return ["node", str(services.PEERS / "fastify.js")]


def create_naive_tables(url: str) -> None:
    with tempfile.TemporaryDirectory(prefix=databases.PREFIX) as directory:
        environ = {"DATABASE_URL": url, "BENCHMARK_SECRET": events.SECRET}
        process = Process(
            [sys.executable, "-m", "benchmarks.peers.naive_flask"], log=Path(directory) / "log", environ=environ
        )
        process.wait(30)


def create_plain_tables(url: str) -> None:
    databases.query(url, (services.PEERS / "plain.sql").read_text())


def contenders() -> list[Contender]:
    pg, lite = "postgresql", "sqlite"
    ours = Contender(
        "ours-postgresql",
        "webhooks, PostgreSQL",
        gunicorn("wsgi:app"),
        pg,
        prepare=databases.upgrade,
        # a 2xx promises the event and its delivery
        count="select min(n) from (select count(*) n from webhooks_events union all "
        "select count(*) from webhooks_deliveries) x",
        clear="truncate webhooks_events, webhooks_deliveries, webhooks_dedup_log",
    )
    naive = Contender(
        "naive-postgresql",
        "Flask + SQLAlchemy, PostgreSQL",
        gunicorn("benchmarks.peers.naive_flask:app"),
        pg,
        prepare=create_naive_tables,
        count="select count(*) from naive_deliveries",
        clear="truncate naive_events, naive_deliveries restart identity",
    )
    fastapi = Contender(
        "fastapi",
        "FastAPI + asyncpg",
        uvicorn,
        pg,
        prepare=create_plain_tables,
        count="select count(*) from plain_deliveries",
        clear="truncate plain_events, plain_deliveries restart identity",
    )
    fastify = replace(fastapi, name="fastify", label="Fastify + pg", command=node, needs="node")
    one = {"BENCHMARK_STATEMENTS": "one"}
    return [
        Contender("empty", "an empty Flask view", gunicorn("benchmarks.peers.empty_flask:app")),
        ours,
        naive,
        replace(ours, name="ours-sqlite", label="webhooks, SQLite", database=lite),
        replace(naive, name="naive-sqlite", label="Flask + SQLAlchemy, SQLite", database=lite),
        Contender("celery", "Flask + Celery (Redis)", gunicorn("benchmarks.peers.flask_celery:app"), needs="redis"),
        fastapi,
        replace(fastapi, name="fastapi-one", label="FastAPI + asyncpg, one statement", environ=one),
        fastify,
        replace(fastify, name="fastify-one", label="Fastify + pg, one statement", environ=one),
    ]


def goals(scenario: Scenario) -> list[tuple[str, str, str, measure.Goal]]:
    """What is to be reached under `scenario`: (ours, peer, figure, goal); docs/performance.md."""
    ours, lite = "ours-postgresql", "ours-sqlite"
    if scenario.slow_flush:
        return [(lite, "naive-sqlite", "per_second", measure.Goal(10))]
    standard = scenario.connections == 32 and scenario.size < 4000 and not scenario.requests
    if scenario.worker_class == "gthread" and standard:
        return [(ours, "naive-postgresql", "per_second", measure.Goal(3))]
    if scenario.worker_class == "gevent" and scenario.connections == 8:
        return [(ours, "naive-postgresql", "per_second", measure.Goal(4.5))]
    if scenario.worker_class != "gevent" or not standard:
        return []
    at_most = measure.Goal
    return [
        (ours, "naive-postgresql", "per_second", measure.Goal(6)),
        (ours, "celery", "per_second", measure.Goal(4)),
        (ours, "fastapi", "per_second", measure.Goal(2)),
        (ours, "fastify", "per_second", measure.Goal(1.5)),
        (ours, "empty", "per_second", measure.Goal(1)),
        (lite, "naive-sqlite", "per_second", measure.Goal(6)),
        (lite, "empty", "per_second", measure.Goal(1)),
        (ours, "naive-postgresql", "p99_ms", at_most(0.25, at_most=True)),
        (lite, "naive-sqlite", "p99_ms", at_most(0.25, at_most=True)),
        (ours, "naive-postgresql", "cpu_us", at_most(0.2, at_most=True)),
        (lite, "naive-sqlite", "cpu_us", at_most(0.2, at_most=True)),
        (ours, "naive-postgresql", "pss_mb", at_most(0.7, at_most=True)),
    ]


class Bench:
    """The services and databases of one benchmark, made when first needed, gone at the end."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._server: str | None = None
        self._redis: tuple[str, Process] | None = None
        self._urls: dict[str, str] = {}
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=databases.PREFIX)))
        self.shim = slow_disk.Shim(self.directory)

    @property
    def server(self) -> str:
        if self._server is None:
            self._server = self._stack.enter_context(databases.postgresql_server())
        return self._server

    @property
    def redis(self) -> tuple[str, Process]:
        if self._redis is None:
            self._redis = self._stack.enter_context(services.redis())
        return self._redis

    @contextlib.contextmanager
    def database(self, contender: Contender) -> Iterator[str]:
        """The URL for one run: on PostgreSQL one database per contender, emptied; on SQLite a new file."""
        if not contender.database:
            yield ""
        elif contender.database == "sqlite":
            with databases.sqlite_database() as url:
                contender.prepare(url)
                yield url
        else:
            if contender.name not in self._urls:
                url = self._stack.enter_context(databases.postgresql_database(self.server))
                contender.prepare(url)
                self._urls[contender.name] = url
            yield self._urls[contender.name]
            databases.query(self._urls[contender.name], contender.clear)


def run_once(bench: Bench, contender: Contender, scenario: Scenario) -> dict[str, float]:
    """One run of one contender: {figure: value}. Raises `Unavailable` or `DidNotStart`."""
    environ = {
        "BENCHMARK_SECRET": events.SECRET,
        "WEB_CONCURRENCY": str(SERVER_PROCESSES),
        "WEBHOOKS_SOURCES__close__SECRET": events.SECRET,
        "WEBHOOKS_HANDLERS": "benchmarks.peers.ours",
        **contender.environ,
    }
    others: list[int] = []
    if contender.needs == "redis":
        environ["BENCHMARK_REDIS"], redis = bench.redis
        environ["BENCHMARK_QUEUE"] = queue = f"bench{time.monotonic_ns()}"
        others = [redis.pid]
    if contender.needs == "node":
        environ["NODE_PATH"] = str(services.node_modules())
    with bench.database(contender) as url:
        if url:
            environ["DATABASE_URL"] = url
        if scenario.slow_flush:
            environ.update(bench.shim.environ(scenario.slow_flush))
        port = processes.free_port()
        environ["PORT"] = str(port)
        log = bench.directory / f"{contender.name}.log"
        log.unlink(missing_ok=True)
        process = Process(contender.command(scenario, port), log=log, environ=environ, directory=bench.directory)
        with processes.running(process):
            process.wait_for_port(port)
            process.wait_until_idle()
            make = events.make_requests(PATH, events.make_bodies(scenario.size))
            address = ("127.0.0.1", port)
            warm = load.drive(address, make, connections=scenario.connections, seconds=WARM_SECONDS)
            if not warm.answered:
                text = log.read_text("utf-8", "replace")[-1500:]
                raise processes.DidNotStart(f"{contender.name} answered {dict(warm.statuses)}:\n{text}")

            def used() -> float:
                name = databases.name_of(url) if contender.database == "postgresql" else ""
                return processes.cpu_seconds([*process.pids(), *others, *(processes.backends(name) if name else ())])

            before = used()
            seen = load.drive(
                address,
                make,
                connections=scenario.connections,
                seconds=0 if scenario.requests else scenario.seconds,
                requests=scenario.requests,
            )
            cpu = used() - before
            memory = processes.pss_bytes(process.pids())
        figures = {
            "per_second": seen.per_second,
            "p50_ms": measure.percentile(seen.latencies, 0.5) * 1000,
            "p99_ms": measure.percentile(seen.latencies, 0.99) * 1000,
            "cpu_us": cpu / seen.answered * 1e6,
            "pss_mb": memory / 2**20,
            "refused": seen.refused,
            "load_us": seen.cpu_seconds / seen.answered * 1e6,
        }
        answered = warm.answered + seen.answered
        if contender.count:
            figures["stored"] = databases.query(url, contender.count) / answered
        elif contender.needs == "redis":
            figures["stored"] = queue_length(environ["BENCHMARK_REDIS"], queue) / answered
        return figures


def queue_length(url: str, queue: str) -> int:
    client: Any = importlib.import_module("redis").Redis.from_url(url)
    try:
        length = client.llen(queue)
        client.delete(queue)
        return int(length)
    finally:
        client.close()


COLUMNS = (
    report.Column("per_second", "2xx / s", 0),
    report.Column("p50_ms", "p50 ms", 1),
    report.Column("p99_ms", "p99 ms", 1),
    report.Column("cpu_us", "CPU µs / event", 0),
    report.Column("pss_mb", "PSS MB", 0),
    report.Column("stored", "stored ÷ 2xx", 3),
    report.Column("refused", "not 2xx", 0),
)


def compare(
    bench: Bench,
    chosen: Sequence[Contender],
    scenario: Scenario,
    rounds: int,
    progress: Callable[[str], None],
    wait: float = 0,
) -> report.Comparison:
    """Run all contenders in every round, and say what came of it."""
    comparison = report.Comparison(scenario.name, COLUMNS)
    left = list(chosen)
    for number in range(rounds):
        # each starts first in some round, so that what fades (a warm disk cache, a cooling CPU) favours none
        turn = number % len(left) if left else 0
        for contender in [*left[turn:], *left[:turn]]:
            progress(f"{scenario.name}: round {number + 1} of {rounds}, {contender.label}")
            try:
                comparison.run(
                    contender.name, contender.label, functools.partial(run_once, bench, contender, scenario), wait
                )
            except (Unavailable, processes.DidNotStart) as error:
                comparison.missing[contender.label] = str(error)
                left = [other for other in left if other is not contender]
    for ours, peer, figure, goal in goals(scenario):
        comparison.judge(ours, peer, figure, goal)
    return comparison


def scenarios(options: argparse.Namespace) -> list[tuple[Scenario, set[str] | None]]:
    """What to run, and with whom (None: all)."""
    standard = Scenario(seconds=options.seconds)
    pg = {"ours-postgresql", "naive-postgresql", "empty"}
    both = {*pg, "ours-sqlite", "naive-sqlite"}
    if not options.all:
        chosen = Scenario(
            connections=options.connections,
            worker_class=options.worker_class,
            size=options.size,
            seconds=options.seconds,
            requests=options.burst,
            slow_flush=options.slow_flush,
        )
        return [(chosen, {"ours-sqlite", "naive-sqlite"} if options.slow_flush else None)]
    return [
        (standard, None),
        (Scenario(connections=8, seconds=options.seconds), pg | {"fastapi", "fastify"}),
        (Scenario(connections=64, seconds=options.seconds), pg | {"fastapi", "fastify"}),
        (Scenario(worker_class="gthread", seconds=options.seconds), both),
        (Scenario(worker_class="sync", seconds=options.seconds), both),
        (Scenario(size=20_000, seconds=options.seconds), both),
        (Scenario(connections=64, requests=10_000), both),
        (Scenario(slow_flush=4, seconds=options.seconds), {"ours-sqlite", "naive-sqlite"}),
    ]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__.partition("\n")[0])
    report.add_options(parser, rounds=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run (%(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--worker-class", default="gevent", choices=("gevent", "gthread", "sync"), help="(%(default)s)")
    parser.add_argument("--size", type=int, default=2100, help="bytes of a body (%(default)s)")
    parser.add_argument("--burst", type=int, default=0, metavar="N", help="N requests as fast as they go, not seconds")
    parser.add_argument("--slow-flush", type=float, default=0.0, metavar="MS", help="delay each flush (SQLite only)")
    parser.add_argument("--all", action="store_true", help="every scenario of the plan; about fifteen minutes")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of: " + ", ".join(c.name for c in contenders()))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    everyone = contenders()
    unknown = set(options.only or ()) - {contender.name for contender in everyone}
    if unknown:
        parser().error(f"no contender is named {', '.join(sorted(unknown))}")
    comparisons = []
    with contextlib.ExitStack() as stack:
        bench = Bench(stack)
        for scenario, names in scenarios(options):
            chosen = [
                contender
                for contender in everyone
                if (names is None or contender.name in names) and (not options.only or contender.name in options.only)
            ]
            comparison = compare(bench, chosen, scenario, options.rounds, report.progress, options.wait)
            print(comparison.show(), flush=True)
            comparisons.append(comparison)
    report.keep(options.json, "ingest", comparisons)
    return 0 if all(comparison.is_complete for comparison in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
