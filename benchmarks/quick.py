"""Ratios to look at before and after a change: what an event and a delivery cost, in requests of an empty Flask view.

    python -m benchmarks.quick --json before.json          before the change: about two minutes
    python -m benchmarks.quick --against before.json       after it

All of it is CPU time, the databases' included, divided by that of an empty view in the same round: other programs disturb it
least. A change of less than a tenth says nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import dispatch, ingest, measure, report
from benchmarks.databases import Unavailable
from benchmarks.processes import DidNotStart

EMPTY = "empty"
#: Of each benchmark, and how much of its usual work.
INTAKE = (EMPTY, "ours-postgresql", "ours-sqlite")
RUNNING = ("ours-postgresql", "ours-postgresql-session", "ours-sqlite", "ours-sqlite-session")
REQUESTS, SHARE = 1500, 0.25
#: Ratios that differ by less are the same.
SAME = 0.1
COLUMNS = (report.Column("cpu_us", "CPU µs", 0), report.Column("stored", "stored or done", 3))


def runs(intake: ingest.Bench, running: dispatch.Bench) -> list[tuple[str, str, Callable[[], dict[str, float]]]]:
    """(name, label, what runs it once) of everything that is measured in a round."""
    scenario = ingest.Scenario(requests=REQUESTS)
    found: list[tuple[str, str, Callable[[], dict[str, float]]]] = []
    for server in ingest.contenders():
        if server.name in INTAKE:
            act = functools.partial(ingest.run_once, intake, server, scenario)
            label = server.label if server.name == EMPTY else f"store an event: {server.label}"
            found.append((EMPTY if server.name == EMPTY else f"store-{server.name}", label, act))
    for queue in dispatch.contenders():
        if queue.name in RUNNING:
            done = functools.partial(dispatch.run_once, running, queue, SHARE)
            found.append((f"run-{queue.name}", f"run a delivery: {queue.label}", done))
    return found


def compare(rounds: int, wait: float) -> report.Comparison:
    """Every run in every round, each divided by the empty view of its round."""
    comparison = report.Comparison("what an event and a delivery cost", COLUMNS)
    with contextlib.ExitStack() as stack:
        wanted = runs(ingest.Bench(stack), dispatch.Bench(stack))
        for number in range(rounds):
            for name, label, act in wanted:
                report.progress(f"quick: round {number + 1} of {rounds}, {label}")
                if label in comparison.missing:
                    continue
                try:
                    comparison.run(name, label, act, wait)
                except (Unavailable, DidNotStart) as error:
                    comparison.missing[label] = str(error)
    for name, _, _ in wanted:
        if name != EMPTY:
            comparison.judge(name, EMPTY, "cpu_us", None)
    return comparison


def medians(document: dict[str, object]) -> dict[str, float]:
    """{what was measured: its ratio} of a file that `--json` wrote. Raises ValueError for another file."""
    comparisons = document.get("comparisons")
    if document.get("benchmark") != "quick" or not isinstance(comparisons, list):
        raise ValueError("it was not written by `python -m benchmarks.quick --json`")
    return {one["ours"]: one["ratio"]["median"] for one in comparisons[0]["ratios"]}


def changes(before: dict[str, float], now: dict[str, float], labels: dict[str, str]) -> str:
    """A table of ratios before and now, and which of them changed."""
    rows = [
        {
            "against the file": labels.get(name, name),
            "before": f"{before[name]:.2f}",
            "now": f"{now[name]:.2f}",
            "now ÷ before": f"{now[name] / before[name]:.2f}",
            "": word(now[name] / before[name]),
        }
        for name in now
        if before.get(name)
    ]
    return measure.table(rows)


def word(change: float) -> str:
    """What a ratio of two ratios of cost says."""
    if abs(change - 1) < SAME:
        return "the same"
    return "dearer" if change > 1 else "cheaper"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quick", description=__doc__.partition("\n")[0])
    report.add_options(parser, rounds=3)
    parser.add_argument("--against", metavar="FILE", type=Path, help="compare with a file that --json wrote before")
    options = parser.parse_args(arguments)
    before: dict[str, float] = {}
    if options.against is not None:
        try:
            before = medians(json.loads(options.against.read_text("utf-8")))
        except (OSError, ValueError) as error:
            parser.error(f"{options.against} cannot be compared with: {error}")
    comparison = compare(options.rounds, options.wait)
    print(comparison.show(), flush=True)
    if before:
        now = medians({"benchmark": "quick", "comparisons": [comparison.plain()]})
        print("\n" + changes(before, now, comparison.labels), flush=True)
    report.keep(options.json, "quick", [comparison])
    return 0 if comparison.is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
