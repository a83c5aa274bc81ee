"""Deliveries of a handler that does nothing, finished durably: per second, and how soon after their commit they start.

    python -m benchmarks.dispatch                    all, both databases: about five minutes
    python -m benchmarks.dispatch --only ours-postgresql celery --rounds 9
    python -m benchmarks.dispatch --latency          only: commit to start of the handler, idle

Jobs of 2 kB are queued first, then the workers are started; timed is from the first that is seen done to the last. All
are given two processes, except on SQLite. Of ours each leaves an attempt with its outcome on record; Celery, Dramatiq,
Huey and graphile-worker forget theirs, and Huey takes a task out of its queue before it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import databases, events, measure, processes, report, services
from benchmarks.databases import Unavailable
from benchmarks.processes import Process

if TYPE_CHECKING:
    from webhooks.app import Webhooks

#: A contender that has not finished after this long is stopped; what it did until then is counted.
LIMIT_SECONDS = 60
LOOK_SECONDS = 0.05


#: In place of an interpreter in a command: the one of `services.newer_python`.
NEWER_PYTHON = "python ≥ 3.12"


@dataclass(frozen=True)
class Contender:
    """One queue. jobs: how many it gets; left: SQL or "redis"; workers: processes that are started."""

    name: str
    label: str
    database: str
    jobs: int
    enqueue: Callable[[dict[str, str], int], None]
    command: Sequence[str]
    left: str
    workers: int = 2
    handler: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)


def by_script(*command: str) -> Callable[[dict[str, str], int], None]:
    """Queue by running a program of the peer's."""

    def enqueue(environ: dict[str, str], jobs: int) -> None:
        with tempfile.TemporaryDirectory(prefix=databases.PREFIX) as directory:
            log = Path(directory) / "log"
            Process([*command, str(jobs)], log=log, environ=environ, directory=Path(directory)).wait(LIMIT_SECONDS)

    return enqueue


def newer_python(module: str) -> Callable[[dict[str, str], int], None]:
    """As `python`, by an interpreter that is looked for when it is needed."""
    call = f"import sys; from benchmarks.peers import {module} as peer; peer.enqueue(int(sys.argv[1]))"
    return lambda environ, jobs: by_script(services.newer_python(), "-c", call)(environ, jobs)


def python(module: str) -> Callable[[dict[str, str], int], None]:
    # not by -m: in a module that is __main__ tasks would be queued under that name
    call = f"import sys; from benchmarks.peers import {module} as peer; peer.enqueue(int(sys.argv[1]))"
    return by_script(sys.executable, "-c", call)


@contextlib.contextmanager
def application(url: str, handler: str) -> Iterator[Webhooks]:
    """Ours, with one handler of that name, as a process that takes events in."""
    from webhooks.app import Webhooks
    from webhooks.routing import Registry

    registry = Registry()
    registry.on("**", source="close", name=handler)(_nothing)
    with tempfile.TemporaryDirectory(prefix=databases.PREFIX) as nothing:
        environ = {
            "DATABASE_URL": url,
            "WEBHOOKS_SOURCES__close__SECRET": events.SECRET,
            "WEBHOOKS_HANDLERS_DIR": nothing,  # not those of the working directory
        }
        made = Webhooks(registry=registry, environ=environ).assemble(role="cli")
        try:
            yield made
        finally:
            made.close()


def _nothing(event: object) -> None:
    pass


def record_ours(environ: dict[str, str], jobs: int, handler: str, kind: str = "") -> None:
    """Store `jobs` events with a delivery each. kind: see `benchmarks.peers.ours`."""
    url = environ["DATABASE_URL"]
    databases.upgrade(url)
    databases.query(url, "create table benchmark_effects (event_id bigint)")
    make = events.make_bodies()
    with application(url, handler) as webhooks:
        store = batches(webhooks, make)
        while jobs > 0:
            store(min(jobs, 200))
            jobs -= 200
    databases.query(url, "create table benchmark_rows (event_id bigint primary key, n bigint not null)")
    if kind in ("set", "update"):
        databases.query(url, "insert into benchmark_rows select id, 0 from webhooks_events")


def batches(webhooks: Webhooks, make: Callable[[], tuple[str, bytes]]) -> Callable[[int], None]:
    """A function that stores so many events in one transaction."""
    from webhooks.sources.close import envelope

    source = webhooks.sources["close"]

    def store(count: int) -> None:
        parsed = [envelope.parse_delivery(make()[1]) for _ in range(count)]
        webhooks.ingest.record(source, parsed, received_at=datetime.now(UTC))

    return store


def contenders() -> list[Contender]:
    worker = (sys.executable, "-m", "webhooks", "worker")
    unfinished = "select count(*) from webhooks_deliveries where state < 2"

    def ours(name: str, label: str, database: str, jobs: int, kind: str, handler: str, workers: int) -> Contender:
        def enqueue(environ: dict[str, str], jobs: int) -> None:
            record_ours(environ, jobs, handler, kind)

        return Contender(name, label, database, jobs, enqueue, worker, unfinished, workers, kind)

    def by_effects() -> Iterator[Contender]:
        """One handler twice: in a transaction for each delivery, and with `effects="session"`; and a row each by `batch=`."""
        for database, label, workers in (("postgresql", "PostgreSQL", 2), ("sqlite", "SQLite", 1)):
            for kind, what in (("add", "ORM add"), ("upsert", "Core upsert"), ("update", "get, then update")):
                alone = ours(
                    f"ours-{database}-{kind}", f"webhooks, {label}, {what}", database, 4000, kind, "effect", workers
                )
                yield alone
                yield replace(
                    alone, name=f"{alone.name}-effects", label=f'{alone.label}, effects="session"', jobs=20_000,
                    environ={"BENCHMARK_EFFECTS": "1"},
                )  # fmt: skip
            yield ours(
                f"ours-{database}-batch", f"webhooks, {label}, batch=100", database, 40_000, "batch", "effect", workers
            )

    celery = (
        sys.executable,
        "-m",
        "celery",
        "-A",
        "benchmarks.peers.tasks_celery",
        "worker",
        "-c",
        "2",
        "-l",
        "warning",
    )
    pgqueuer = Contender(
        "pgqueuer", "PgQueuer (PostgreSQL)", "postgresql", 8000, python("tasks_pgqueuer"),
        (sys.executable, "-m", "benchmarks.peers.tasks_pgqueuer"), "select count(*) from pgqueuer",
    )  # fmt: skip
    node = ("node", str(services.PEERS / "tasks_graphile.js"))
    graphile = Contender(
        "graphile", "graphile-worker (PostgreSQL)", "postgresql", 12_000, by_script(*node), node,
        "select count(*) from graphile_worker._private_jobs",
    )  # fmt: skip
    waiting = "select count(*) from procrastinate_jobs where status in ('todo', 'doing')"
    return [
        ours("ours-postgresql", "webhooks, PostgreSQL", "postgresql", 40_000, "nothing", "nothing", 2),
        ours("ours-postgresql-session", "webhooks, PostgreSQL, session", "postgresql", 6000, "session", "effect", 2),
        ours("ours-sqlite", "webhooks, SQLite", "sqlite", 40_000, "nothing", "nothing", 1),
        ours("ours-sqlite-session", "webhooks, SQLite, session", "sqlite", 4000, "session", "effect", 1),
        *by_effects(),
        Contender(
            "celery", "Celery (Redis)", "redis", 3000, python("tasks_celery"),
            (*celery, "--without-gossip", "--without-mingle", "--without-heartbeat"), "celery", 1,
        ),
        Contender(
            "celery-early", "Celery (Redis), early acknowledgement", "redis", 4000, python("tasks_celery"),
            (*celery, "--without-gossip", "--without-mingle", "--without-heartbeat"), "celery", 1,
            environ={"BENCHMARK_EARLY": "1"},
        ),
        Contender(
            "dramatiq", "Dramatiq (Redis)", "redis", 8000, python("tasks_dramatiq"),
            (sys.executable, "-m", "dramatiq", "benchmarks.peers.tasks_dramatiq", "-p", "2", "-t", "8"), "dramatiq", 1,
        ),
        Contender(
            "procrastinate", "Procrastinate (PostgreSQL)", "postgresql", 1500, python("tasks_procrastinate"),
            (sys.executable, "-m", "procrastinate", "-a", "benchmarks.peers.tasks_procrastinate.app", "worker", "-c", "10"),
            waiting,
        ),
        pgqueuer,
        replace(
            pgqueuer, name="pgqueuer-100", label="PgQueuer, 100 at a time", jobs=20_000, environ={"BENCHMARK_CLAIM": "100"}
        ),
        graphile,
        replace(
            graphile, name="graphile-fast", label="graphile-worker, local queue and batches", jobs=40_000,
            environ={"BENCHMARK_FAST": "1"},
        ),
        Contender(
            "oban", "Oban for Python (PostgreSQL)", "postgresql", 10_000, newer_python("tasks_oban"),
            (NEWER_PYTHON, "-m", "benchmarks.peers.tasks_oban"),
            "select count(*) from oban_jobs where state in ('available', 'scheduled', 'executing', 'retryable')",
        ),
        Contender(
            "dbos", "DBOS, SQLAlchemy datasource (PostgreSQL)", "postgresql", 1000, newer_python("tasks_dbos"),
            (NEWER_PYTHON, "-m", "benchmarks.peers.tasks_dbos"),
            "select count(*) from dbos.workflow_status where status in ('ENQUEUED', 'PENDING')",
        ),
        Contender(
            "huey", "Huey (SQLite)", "huey", 4000, python("tasks_huey"),
            (sys.executable, "-m", "huey.bin.huey_consumer", "benchmarks.peers.tasks_huey.huey", "-q"),
            "select count(*) from task", 1,
        ),
    ]  # fmt: skip


GOALS = (
    ("ours-postgresql", "celery", 30),
    ("ours-postgresql", "graphile", 1.5),
    ("ours-postgresql", "graphile-fast", None),
    ("ours-postgresql", "pgqueuer", 2),
    ("ours-postgresql", "pgqueuer-100", None),
    ("ours-postgresql", "dramatiq", 6),
    ("ours-postgresql", "procrastinate", None),
    ("ours-postgresql", "oban", 5),
    ("ours-postgresql-session", "celery", 6),
    ("ours-postgresql-session", "dbos", None),
    ("ours-postgresql-session", "procrastinate", None),
    ("ours-sqlite", "huey", 8),
    ("ours-sqlite-session", "huey", 2),
    ("ours-postgresql-add-effects", "ours-postgresql-add", 5),
    ("ours-postgresql-upsert-effects", "ours-postgresql-upsert", 4),
    ("ours-postgresql-update-effects", "ours-postgresql-update", None),
    ("ours-postgresql-batch", "ours-postgresql-upsert", None),
    ("ours-postgresql-add-effects", "celery", 12),
    ("ours-sqlite-add-effects", "ours-sqlite-add", 5),
    ("ours-sqlite-upsert-effects", "ours-sqlite-upsert", 2.5),
    ("ours-sqlite-update-effects", "ours-sqlite-update", None),
    ("ours-sqlite-batch", "ours-sqlite-upsert", None),
    ("ours-sqlite-add-effects", "huey", 3),
)
COLUMNS = (
    report.Column("per_second", "done / s", 0),
    report.Column("cpu_us", "CPU µs / delivery", 0),
    report.Column("stored", "done ÷ queued", 3),
)


class Bench:
    """The services of one benchmark, made when first needed, gone at the end."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._server: str | None = None
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=databases.PREFIX)))

    @property
    def server(self) -> str:
        if self._server is None:
            self._server = self._stack.enter_context(databases.postgresql_server())
        return self._server

    @contextlib.contextmanager
    def place(self, contender: Contender) -> Iterator[tuple[dict[str, str], list[int], Callable[[], int]]]:
        """An empty queue: the environment that names it, processes that serve it, and how to count what is left."""
        if contender.database == "redis":
            with services.redis() as (url, process):
                yield {"BENCHMARK_REDIS": url}, [process.pid], redis_counter(url, contender.left)
        elif contender.database == "huey":
            with databases.sqlite_database() as url:
                path = url.removeprefix("sqlite:///")
                yield {"BENCHMARK_FILE": path}, [], lambda: int(databases.query(url, contender.left))
        else:
            kind = contender.database
            with databases.database(kind, self.server if kind == "postgresql" else None) as url:
                yield {"DATABASE_URL": url}, [], lambda: int(databases.query(url, contender.left))


def redis_counter(url: str, kind: str) -> Callable[[], int]:
    client: Any = importlib.import_module("redis").Redis.from_url(url)

    def left() -> int:
        if kind == "celery":
            return int(client.llen("celery")) + int(client.hlen("unacked"))
        return int(client.hlen("dramatiq:default.msgs"))

    return left


def our_environ(contender: Contender) -> dict[str, str]:
    return {
        "WEBHOOKS_SOURCES__close__SECRET": events.SECRET,
        "WEBHOOKS_HANDLERS": "benchmarks.peers.ours",
        "BENCHMARK_HANDLER": contender.handler,
        "BENCHMARK_EFFECTS": "",
    }


def run_once(bench: Bench, contender: Contender, share: float) -> dict[str, float]:
    """Queue, start the workers, watch them: {figure: value}."""
    jobs = max(200, int(contender.jobs * share))
    body = events.make_bodies()()[1].decode()
    with bench.place(contender) as (place, others, left), contextlib.ExitStack() as stack:
        environ = {**place, **our_environ(contender), **contender.environ, "BENCHMARK_BODY": body}
        if contender.command[0] == "node":
            environ["NODE_PATH"] = str(services.node_modules())
        contender.enqueue(environ, jobs)
        queued = left()
        log = bench.directory / f"{contender.name}.log"
        log.unlink(missing_ok=True)
        command = [services.newer_python() if word == NEWER_PYTHON else word for word in contender.command]
        workers = [
            stack.enter_context(
                processes.running(Process(command, log=log, environ=environ, directory=bench.directory))
            )
            for _ in range(contender.workers)
        ]
        database = databases.name_of(place["DATABASE_URL"]) if contender.database == "postgresql" else ""

        def used() -> float:
            ours = [pid for worker in workers for pid in worker.pids()]
            return processes.cpu_seconds([*ours, *others, *(processes.backends(database) if database else ())])

        deadline = time.monotonic() + LIMIT_SECONDS
        while (first := left()) == queued:
            if time.monotonic() > deadline:
                raise processes.DidNotStart(
                    f"{contender.name} did nothing:\n{log.read_text('utf-8', 'replace')[-1500:]}"
                )
            time.sleep(LOOK_SECONDS)
        started, cpu = time.monotonic(), used()
        last = first
        while last > 0 and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            last = left()
        seconds = time.monotonic() - started
        cpu = used() - cpu
        text = log.read_text("utf-8", "replace")
        if "Traceback" in text:
            raise processes.DidNotStart(f"{contender.name} failed jobs instead of running them:\n{text[-1500:]}")
        if first == last:
            raise processes.DidNotStart(f"{contender.name} was done before it could be timed; give it more jobs")
        return {
            "per_second": (first - last) / seconds,
            "cpu_us": cpu / (first - last) * 1e6,
            "stored": (jobs - last) / jobs,
        }


# -- latency -----------------------------------------------------------------------------------------------


def latency_once(bench: Bench, database: str, samples: int) -> dict[str, float]:
    """How long after its commit the handler of a lone event starts, in an idle worker process."""
    contender = Contender("latency", "", database, 0, lambda *_: None, (), "", 1, "clock")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(databases.database(database, bench.server if database == "postgresql" else None))
        databases.upgrade(url)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        address = str(bench.directory / f"clock-{time.monotonic_ns()}")
        listener.bind(address)
        listener.settimeout(10)
        environ = {**our_environ(contender), "DATABASE_URL": url, "BENCHMARK_SOCKET": address}
        log = bench.directory / "latency.log"
        command = [sys.executable, "-m", "webhooks", "worker"]
        webhooks = stack.enter_context(application(url, "clock"))
        make = events.make_bodies()
        committed: dict[str, int] = {}

        def send() -> None:
            from webhooks.sources.close import envelope

            id, body = make()
            parsed = [envelope.parse_delivery(body)]
            webhooks.ingest.record(webhooks.sources["close"], parsed, received_at=datetime.now(UTC))
            committed[id] = time.monotonic_ns()

        stack.enter_context(processes.running(Process(command, log=log, environ=environ, directory=bench.directory)))
        waits: list[float] = []
        for number in range(samples + 5):
            send()
            try:
                id, started = listener.recv(1000).decode().split()
            except TimeoutError:
                raise processes.DidNotStart(f"no delivery ran:\n{log.read_text('utf-8', 'replace')[-1500:]}") from None
            if number >= 5:  # the first ones wait for the process to start
                waits.append((int(started) - committed[id]) / 1e6)
            time.sleep(random.uniform(0.02, 0.08))
        return {"p50_ms": measure.percentile(waits, 0.5), "p99_ms": measure.percentile(waits, 0.99)}


def compare_latency(bench: Bench, rounds: int, samples: int, wait: float) -> report.Comparison:
    columns = (report.Column("p50_ms", "p50 ms", 1), report.Column("p99_ms", "p99 ms", 1))
    comparison = report.Comparison(f"commit to start of the handler, idle, {samples} events a round", columns)
    for number in range(rounds):
        for database, label in (("postgresql", "webhooks, PostgreSQL"), ("sqlite", "webhooks, SQLite")):
            report.progress(f"latency: round {number + 1} of {rounds}, {label}")
            try:
                comparison.run(database, label, functools.partial(latency_once, bench, database, samples), wait)
            except (Unavailable, processes.DidNotStart) as error:
                comparison.missing[label] = str(error)
    limits = {"postgresql": (2, 10), "sqlite": (15, 40)}
    for database, (p50, p99) in limits.items():
        comparison.judge_value(database, "p50_ms", measure.Goal(p50, at_most=True))
        comparison.judge_value(database, "p99_ms", measure.Goal(p99, at_most=True))
    return comparison


# -- all ---------------------------------------------------------------------------------------------------


def compare(bench: Bench, chosen: Sequence[Contender], rounds: int, share: float, wait: float) -> report.Comparison:
    comparison = report.Comparison("deliveries that do nothing, finished durably", COLUMNS)
    left = list(chosen)
    for number in range(rounds):
        turn = number % len(left) if left else 0
        for contender in [*left[turn:], *left[:turn]]:
            report.progress(f"dispatch: round {number + 1} of {rounds}, {contender.label}")
            try:
                comparison.run(
                    contender.name, contender.label, functools.partial(run_once, bench, contender, share), wait
                )
            except (Unavailable, processes.DidNotStart) as error:
                comparison.missing[contender.label] = str(error)
                left = [other for other in left if other is not contender]
    for ours, peer, goal in GOALS:
        comparison.judge(ours, peer, "per_second", None if goal is None else measure.Goal(goal))
    return comparison


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dispatch", description=__doc__.partition("\n")[0])
    report.add_options(parser, rounds=3)
    everyone = contenders()
    parser.add_argument("--jobs", type=float, default=1.0, metavar="FACTOR", help="more or fewer of them (%(default)s)")
    parser.add_argument("--samples", type=int, default=100, help="events a round for the latency (%(default)s)")
    parser.add_argument("--latency", action="store_true", help="only the latency")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of: " + ", ".join(c.name for c in everyone))
    options = parser.parse_args(arguments)
    unknown = set(options.only or ()) - {contender.name for contender in everyone}
    if unknown:
        parser.error(f"no contender is named {', '.join(sorted(unknown))}")
    comparisons = []
    with contextlib.ExitStack() as stack:
        bench = Bench(stack)
        if not options.latency:
            chosen = [contender for contender in everyone if not options.only or contender.name in options.only]
            comparisons.append(compare(bench, chosen, options.rounds, options.jobs, options.wait))
            print(comparisons[-1].show(), flush=True)
        if options.latency or not options.only:
            comparisons.append(compare_latency(bench, options.rounds, options.samples, options.wait))
            print(comparisons[-1].show(), flush=True)
    report.keep(options.json, "dispatch", comparisons)
    return 0 if all(comparison.is_complete for comparison in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
