"""What a handler costs by what it does, alone and sharing transactions, and what a worker does by how long a handler takes.

    python -m benchmarks.handlers                        both, on both databases: about four minutes
    python -m benchmarks.handlers --only update          one kind
    python -m benchmarks.handlers --plot docs/throughput.svg --rounds 1   throughput by handler time, as a picture

Each kind runs twice in every round: one transaction a delivery, and with `effects="session"`, by which those that wait together
share one; INSERT also by handlers that take several events at once (`batch=`). On SQLite one process, on PostgreSQL two.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import dispatch, measure, plot, report
from benchmarks.databases import Unavailable
from benchmarks.dispatch import Bench, Contender
from benchmarks.processes import DidNotStart

#: {kind: (what the handler does, deliveries in a run)}
KINDS = {
    "session": ("INSERT", 3000),
    "add": ("session.add", 3000),
    "upsert": ("upsert by Core", 3000),
    "mapped-upsert": ("upsert by the ORM", 3000),
    "set": ("UPDATE", 3000),
    "update": ("get, then update", 2000),
}
#: Those that share are so many times as many: they would be done before both workers are warm.
SHARED = 4
#: Most events that a handler takes at once (`batch=`), with one INSERT for all of them.
SIZES = (10, 100)
#: Milliseconds that a handler takes, of the plot.
TIMES = (1, 3, 10, 30, 100, 300)
#: Threads of all workers of a run in which handlers sleep, and seconds that such a run takes.
PLACES, SECONDS = 8, 3.0
MOST = 20_000
DATABASES = {"postgresql": ("PostgreSQL", 2), "sqlite": ("SQLite", 1)}


def contenders(kinds: Sequence[str]) -> list[Contender]:
    """Each kind on each database: `<database>-<kind>`, sharing `<database>-<kind>-shared`, at once `<database>-batch-<size>`."""
    found: list[Contender] = []
    for database, (label, workers) in DATABASES.items():
        for kind in kinds:
            does, jobs = KINDS[kind]
            one = ours(f"{database}-{kind}", f"{label}, {does}", database, jobs, kind, workers)
            shared = {"BENCHMARK_EFFECTS": "session"}
            more = replace(
                one, name=f"{one.name}-shared", label=f"{one.label}, shared", environ=shared, jobs=SHARED * jobs
            )
            found += [one, more]
        if "session" in kinds:
            for size in SIZES:
                at_once = f"{label}, INSERT of {size} at once"
                found.append(ours(f"{database}-batch-{size}", at_once, database, 6000, f"batch-{size}", workers))
    return found


def ours(name: str, label: str, database: str, jobs: int, kind: str, workers: int) -> Contender:
    """A contender that runs our handler of a kind."""

    def enqueue(environ: dict[str, str], jobs: int) -> None:
        dispatch.record_ours(environ, jobs, "nothing" if kind.startswith("sleep-") else "effect", kind)

    command = (sys.executable, "-m", "webhooks", "worker")
    unfinished = "select count(*) from webhooks_deliveries where state < 2"
    return Contender(name, label, database, jobs, enqueue, command, unfinished, workers, kind)


def compare(bench: Bench, kinds: Sequence[str], rounds: int, share: float, wait: float) -> report.Comparison:
    """Each kind in every round, and how much sharing gives."""
    comparison = report.Comparison("handlers with a session, by what they do", dispatch.COLUMNS)
    for number in range(rounds):
        for contender in contenders(kinds):
            report.progress(f"handlers: round {number + 1} of {rounds}, {contender.label}")
            if contender.label not in comparison.missing:
                run(comparison, bench, contender, share, wait)
    for database in DATABASES:
        for kind in kinds:
            comparison.judge(f"{database}-{kind}-shared", f"{database}-{kind}", "per_second", None)
        for size in SIZES:
            comparison.judge(f"{database}-batch-{size}", f"{database}-session", "per_second", None)
    return comparison


def run(comparison: report.Comparison, bench: Bench, contender: Contender, share: float, wait: float) -> None:
    """Run one contender once; one that cannot run is noted as missing."""
    act = functools.partial(dispatch.run_once, bench, contender, share)
    try:
        comparison.run(contender.name, contender.label, act, wait)
    except (Unavailable, DidNotStart) as error:
        comparison.missing[contender.label] = str(error)


def by_time(bench: Bench, rounds: int, wait: float) -> report.Comparison:
    """Deliveries a second of one worker with eight places, by how long the handler sleeps."""
    comparison = report.Comparison(f"one worker with {PLACES} places, by how long a handler takes", dispatch.COLUMNS)
    for _ in range(rounds):
        for database, (label, _) in DATABASES.items():
            for milliseconds in TIMES:
                jobs = min(MOST, int(PLACES * SECONDS * 1000 / milliseconds))
                name = f"{database}-{milliseconds}"
                contender = ours(name, f"{label}, {milliseconds} ms", database, jobs, f"sleep-{milliseconds}", 1)
                report.progress(f"handlers: {contender.label}")
                run(comparison, bench, contender, 1.0, wait)
    return comparison


def picture(comparison: report.Comparison) -> str:
    """The SVG of `by_time`: deliveries a second over milliseconds, and what eight places could do at most."""
    lines = [
        plot.Line(
            label,
            [
                (float(at), measure.summarise(comparison.results[f"{database}-{at}"]["per_second"]).median)
                for at in TIMES
                if f"{database}-{at}" in comparison.results
            ],
        )
        for database, (label, _) in DATABASES.items()
    ]
    ideal = plot.Line(f"{PLACES} places ÷ time", [(float(at), PLACES * 1000 / at) for at in TIMES], is_dashed=True)
    return plot.draw(
        [ideal, *(line for line in lines if line.points)],
        x_title="milliseconds that a handler takes (it waits)",
        y_title="deliveries a second, one worker",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.handlers", description=__doc__.partition("\n")[0])
    report.add_options(parser, rounds=3)
    parser.add_argument("--jobs", type=float, default=1.0, metavar="FACTOR", help="more or fewer of them (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS), help="kinds of handlers")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="only throughput by handler time, drawn as SVG")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        bench = Bench(stack)
        if options.plot is None:
            comparison = compare(bench, options.only, options.rounds, options.jobs, options.wait)
        else:
            comparison = by_time(bench, options.rounds, options.wait)
            options.plot.write_text(picture(comparison), "utf-8")
        print(comparison.show(), flush=True)
    report.keep(options.json, "handlers", [comparison])
    return 0 if comparison.is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
