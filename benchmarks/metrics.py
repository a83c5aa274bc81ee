"""Durable ingest with metrics on, beside the same server with metrics off. See README.md.

    python -m benchmarks.metrics                     both databases, five rounds: about two minutes
    python -m benchmarks.metrics --rounds 15 --seconds 5

A ratio is made within a round. On, the server counts everything and is not scraped; with --scrape it is, each second.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks import ingest, measure, report
from benchmarks.databases import Unavailable
from benchmarks.processes import DidNotStart

TOKEN = "benchmark-benchmark"
ON = {"WEBHOOKS_METRICS": "1", "WEBHOOKS_METRICS_TOKEN": TOKEN}
#: What metrics may cost: CPU of an event, and events a second.
GOALS = (("cpu_us", measure.Goal(1.03, at_most=True)), ("per_second", measure.Goal(0.97)))


def pairs() -> list[ingest.Contender]:
    """Our server on both databases, without metrics and with."""
    found = []
    for ours in ingest.contenders():
        if ours.name in ("ours-postgresql", "ours-sqlite"):
            on = replace(
                ours, name=f"{ours.name}-metrics", label=f"{ours.label}, metrics", environ={**ours.environ, **ON}
            )
            found += [ours, on]
    return found


@contextlib.contextmanager
def scraping(contender: ingest.Contender, wanted: bool) -> Iterator[ingest.Contender]:
    """The contender on a port that is known, scraped each second while the body runs, if that is wanted."""
    if not wanted or not contender.name.endswith("-metrics"):
        yield contender
        return
    over = threading.Event()
    ports: list[int] = []

    def command(scenario: ingest.Scenario, port: int) -> list[str]:
        ports.append(port)
        return contender.command(scenario, port)

    def scrape() -> None:
        while not over.wait(1.0):
            with contextlib.suppress(OSError, IndexError):
                url = f"http://127.0.0.1:{ports[-1]}/metrics"
                request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
                urllib.request.urlopen(request, timeout=5).read()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield replace(contender, command=command)
    finally:
        over.set()
        thread.join()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__.partition("\n")[0])
    report.add_options(parser, rounds=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run (%(default)s)")
    parser.add_argument("--scrape", action="store_true", help="scrape each second meanwhile")
    options = parser.parse_args(arguments)
    scenario = ingest.Scenario(seconds=options.seconds)
    comparison = report.Comparison(f"metrics, {scenario.name}", ingest.COLUMNS)
    with contextlib.ExitStack() as stack:
        bench = ingest.Bench(stack)
        chosen = pairs()
        for number in range(options.rounds):
            for contender in chosen if number % 2 else reversed(chosen):
                report.progress(f"round {number + 1} of {options.rounds}, {contender.label}")
                with scraping(contender, options.scrape) as known:
                    run = functools.partial(ingest.run_once, bench, known, scenario)
                    try:
                        comparison.run(contender.name, contender.label, run, options.wait)
                    except (Unavailable, DidNotStart) as error:
                        comparison.missing[contender.label] = str(error)
    for off in ("ours-postgresql", "ours-sqlite"):
        for figure, goal in GOALS:
            comparison.judge(f"{off}-metrics", off, figure, goal)
    print(comparison.show(), flush=True)
    report.keep(options.json, "metrics", [comparison])
    return 0 if comparison.is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
