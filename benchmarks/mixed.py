"""Ingest and dispatch at once on one database, with retries waiting: what each takes from the other.

    python -m benchmarks.mixed                  both databases: about a minute
    python -m benchmarks.mixed --batches        the same with a handler that writes, alone and in shared transactions

The same load once on the server alone and once with a worker beside it, while 2,000 retries wait for later and 2,000
are due. `behind` is how long the worker needs, once the load is over, for what it could not run meanwhile; with `--batches`
it is not waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks import databases, dispatch, events, ingest, load, measure, processes, report
from benchmarks.databases import Unavailable
from benchmarks.processes import Process

RETRIES = 2000
COLUMNS = (
    report.Column("per_second", "2xx / s", 0),
    report.Column("p99_ms", "p99 ms", 1),
    report.Column("done", "deliveries / s", 0),
    report.Column("behind", "behind s", 2),
    report.Column("stored", "stored ÷ 2xx", 3),
)
_UNFINISHED = "select count(*) from webhooks_deliveries where state in (0, 1) and class = 0"
_DONE = "select count(*) from webhooks_deliveries where state = 2"


@dataclass(frozen=True)
class Beside:
    """What runs beside the server. kind: of handler, see `benchmarks.peers.ours`. effects: as it declares them."""

    name: str
    label: str
    workers: int = 1
    kind: str = "nothing"
    effects: str = ""
    #: how long the worker may need once the load is over
    patience: float = 60

    @property
    def handler(self) -> str:
        return "nothing" if self.kind == "nothing" else "effect"


DOING_NOTHING = (Beside("alone", "server alone", workers=0), Beside("both", "server and a worker"))
#: One handler that writes a row: nothing runs it, each run has a transaction, several share one, it takes a hundred at once.
WRITING = (
    Beside("alone", "server alone", 0, "upsert", patience=0),
    Beside("single", "and a worker, upsert", 1, "upsert", patience=0),
    Beside("shared", 'and a worker, upsert, effects="session"', 1, "upsert", "1", patience=0),
    Beside("batch", "and a worker, batch=100", 1, "batch", patience=0),
)
#: p99 while batches run ÷ that while the same runs one by one.
BATCHES_GOAL = 1.5


def add_retries(url: str, beside: Beside) -> None:
    """RETRIES that are due in an hour, and as many that are due now."""
    dispatch.record_ours({"DATABASE_URL": url}, 2 * RETRIES, beside.handler, beside.kind)
    hour = "due_at + 3600000000" if url.startswith("sqlite") else "due_at + interval '1 hour'"
    databases.query(
        url, f"update webhooks_deliveries set class = 1, due_at = case when id % 2 = 0 then {hour} else due_at end"
    )


def run_once(bench: ingest.Bench, kind: str, scenario: ingest.Scenario, beside: Beside) -> dict[str, float]:
    ours = next(contender for contender in ingest.contenders() if contender.name == f"ours-{kind}")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(databases.database(kind, bench.server if kind == "postgresql" else None))
        add_retries(url, beside)
        environ = {
            "DATABASE_URL": url,
            "WEBHOOKS_SOURCES__close__SECRET": events.SECRET,
            "WEBHOOKS_HANDLERS": "benchmarks.peers.ours",
            "BENCHMARK_HANDLER": beside.kind,
            "BENCHMARK_EFFECTS": beside.effects,
        }
        port = processes.free_port()
        log = bench.directory / "mixed.log"

        def start(command: Sequence[str]) -> Process:
            made = Process(command, log=log, environ=environ, directory=bench.directory)
            return stack.enter_context(processes.running(made))

        server = start(ours.command(scenario, port))
        server.wait_for_port(port)
        for _ in range(beside.workers):
            start([sys.executable, "-m", "webhooks", "worker"])
        server.wait_until_idle()
        make = events.make_requests(ingest.PATH, events.make_bodies(scenario.size))
        address = ("127.0.0.1", port)
        warm = load.drive(address, make, connections=scenario.connections, seconds=ingest.WARM_SECONDS)
        done = int(databases.query(url, _DONE))
        seen = load.drive(address, make, connections=scenario.connections, seconds=scenario.seconds)
        done = int(databases.query(url, _DONE)) - done
        ended = time.monotonic()
        while beside.workers and time.monotonic() < ended + beside.patience and int(databases.query(url, _UNFINISHED)):
            time.sleep(0.02)
        figures = {
            "per_second": seen.per_second,
            "p99_ms": measure.percentile(seen.latencies, 0.99) * 1000,
            "stored": (int(databases.query(url, ours.count)) - 2 * RETRIES) / (warm.answered + seen.answered),
        }
        if beside.workers:
            figures["done"] = done / seen.seconds
        if beside.workers and beside.patience:
            figures["behind"] = time.monotonic() - ended
        return figures


def compare(
    bench: ingest.Bench, kind: str, scenario: ingest.Scenario, rounds: int, wait: float, *, batches: bool = False
) -> report.Comparison:
    comparison = report.Comparison(f"{kind}, {scenario.name}; {RETRIES:,} retries waiting, {RETRIES:,} due", COLUMNS)
    chosen = WRITING if batches else DOING_NOTHING
    for number in range(rounds):
        for beside in chosen:
            report.progress(f"mixed: {kind}, round {number + 1} of {rounds}, {beside.label}")
            act = functools.partial(run_once, bench, kind, scenario, beside)
            comparison.run(beside.name, beside.label, act, wait)
    for beside in chosen[1:]:
        comparison.judge(beside.name, "alone", "per_second", None)
        comparison.judge(beside.name, "alone", "p99_ms", None)
    if batches:
        goal = measure.Goal(BATCHES_GOAL, at_most=True) if kind == "sqlite" else None
        for name in ("shared", "batch"):
            comparison.judge(name, "single", "p99_ms", goal)
    return comparison


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed", description=__doc__.partition("\n")[0])
    report.add_options(parser, rounds=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run (%(default)s)")
    parser.add_argument("--worker-class", default="gevent", choices=("gevent", "gthread", "sync"), help="(%(default)s)")
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one database")
    parser.add_argument("--batches", action="store_true", help="with a handler that writes, alone and several at once")
    options = parser.parse_args(arguments)
    scenario = replace(ingest.Scenario(), seconds=options.seconds, worker_class=options.worker_class)
    comparisons = []
    with contextlib.ExitStack() as stack:
        bench = ingest.Bench(stack)
        for kind in ("postgresql", "sqlite"):
            if options.only not in (None, kind):
                continue
            try:
                comparisons.append(
                    compare(bench, kind, scenario, options.rounds, options.wait, batches=options.batches)
                )
            except (Unavailable, processes.DidNotStart) as error:
                print(f"not run: {kind}: {error}")
                continue
            print(comparisons[-1].show(), flush=True)
    report.keep(options.json, "mixed", comparisons)
    return 0 if all(comparison.is_complete for comparison in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
