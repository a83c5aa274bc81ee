"""Honest posts beside thousands of connections that never send a whole request.

    python -m benchmarks.slow_crowd                 2,000 of them, both databases, the default worker class: two minutes
    python -m benchmarks.slow_crowd --worker-class gthread

Each of the crowd sends half a head, half a body or half a chunk, with and without a query, then a byte every two seconds,
and comes again when it is closed. Under the default class honest posts should not notice. Under gthread a post waits
until the deadline of those that came before it; there the longest of single posts is measured, not a throughput.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import itertools
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks import events, ingest, load, measure, processes, report
from benchmarks.databases import Unavailable
from benchmarks.processes import Process
from webhooks.http.gunicorn.connections import HEAD_SECONDS

CROWD = 2000
_DRIP_SECONDS = 2.0
_POST = b"POST /webhooks/close%b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
_LENGTH = b"Content-Length: 100000\r\n\r\n"
#: {kind: (what it sends at first, what it sends a byte of now and then)}
KINDS = {
    f"{kind}{query.decode()}": (_POST % query + start, drip)
    for query in (b"", b"?a=b")
    for kind, start, drip in (
        ("head", b"X-Slow: ", b"a"),
        ("body", _LENGTH + b"{" * 1000, b"{"),
        ("chunk", b"Transfer-Encoding: chunked\r\n\r\n10000\r\n" + b"{" * 1000, b"{"),
    )
}
COLUMNS = (
    report.Column("per_second", "2xx / s", 0),
    report.Column("p99_ms", "p99 ms", 1),
    report.Column("longest_ms", "longest ms", 0),
    report.Column("pss_mb", "PSS MB", 0),
    report.Column("refused", "not 2xx", 0),
)


def crowd(port: int, size: int, kinds: Sequence[str]) -> None:
    """Be the crowd, until stopped; says `ready` once every connection was opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, size + 100)), hard))
    selector = selectors.DefaultSelector()
    turns = itertools.cycle(KINDS[kind] for kind in kinds)

    def join() -> None:
        start, drip = next(turns)
        with contextlib.suppress(OSError):
            member = socket.create_connection(("127.0.0.1", port), timeout=30)
            member.setblocking(False)
            selector.register(member, selectors.EVENT_READ, drip)
            member.send(start)

    for _ in range(size):
        join()
    print("ready", flush=True)
    while True:
        began = time.monotonic()
        for key in list(selector.get_map().values()):
            with contextlib.suppress(OSError):
                socket.socket.send(key.fileobj, key.data)  # type: ignore[arg-type]
        while (left := began + _DRIP_SECONDS - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                member = key.fileobj
                assert isinstance(member, socket.socket)
                with contextlib.suppress(OSError):
                    if member.recv(65536):
                        continue
                selector.unregister(member)
                member.close()
                join()


@contextlib.contextmanager
def crowding(bench: ingest.Bench, port: int, size: int) -> Iterator[None]:
    """A crowd beside what the body does; none with size 0."""
    if not size:
        yield
        return
    log = bench.directory / "crowd.log"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.slow_crowd", "--crowd", str(port), "--size", str(size)]
    member = Process(command, log=log)
    with processes.running(member):
        member.wait_until(lambda: "ready" in log.read_text(), 60)
        yield


def post_one_by_one(address: tuple[str, int], requests: int) -> load.Load:
    """Posts on a connection of their own each, however long the first of them waits."""
    make = events.make_requests(ingest.PATH, events.make_bodies(2100))
    seen = load.Load()
    started = time.perf_counter()
    for _ in range(requests):
        sent_at = time.perf_counter()
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(make())
            response = http.client.HTTPResponse(connection)
            response.begin()
            seen.statuses[response.status] += 1
        seen.latencies.append(time.perf_counter() - sent_at)
    seen.seconds = time.perf_counter() - started
    return seen


def run_once(bench: ingest.Bench, kind: str, scenario: ingest.Scenario, size: int) -> dict[str, float]:
    ours = next(contender for contender in ingest.contenders() if contender.name == f"ours-{kind}")
    with bench.database(ours) as url:
        environ = {"DATABASE_URL": url, "WEBHOOKS_SOURCES__close__SECRET": events.SECRET}
        port = processes.free_port()
        log = bench.directory / "slow_crowd.log"
        server = Process(ours.command(scenario, port), log=log, environ=environ, directory=bench.directory)
        with processes.running(server):
            server.wait_for_port(port)
            server.wait_until_idle()
            address = ("127.0.0.1", port)
            make = events.make_requests(ingest.PATH, events.make_bodies(scenario.size))
            load.drive(address, make, connections=scenario.connections, seconds=ingest.WARM_SECONDS)
            with crowding(bench, port, size):
                # connections are accepted in their order: once this one is answered, the whole crowd is in
                post_one_by_one(address, 1 if scenario.worker_class == "gevent" else 0)
                if scenario.worker_class == "gevent":
                    seen = load.drive(address, make, connections=scenario.connections, seconds=scenario.seconds)
                else:
                    seen = post_one_by_one(address, 3)
                memory = processes.pss_bytes(server.pids())
    return {
        "per_second": seen.per_second,
        "p99_ms": measure.percentile(seen.latencies, 0.99) * 1000,
        "longest_ms": max(seen.latencies) * 1000,
        "pss_mb": memory / 2**20,
        "refused": seen.refused,
    }


def compare(
    bench: ingest.Bench, kind: str, scenario: ingest.Scenario, size: int, rounds: int, wait: float
) -> report.Comparison:
    comparison = report.Comparison(f"{kind}, {scenario.name}", COLUMNS)
    for number in range(rounds):
        for name, label, members in (("alone", "nothing else", 0), ("crowd", f"beside {size:,} slow ones", size)):
            report.progress(f"slow_crowd: {kind}, round {number + 1} of {rounds}, {label}")
            comparison.run(name, label, functools.partial(run_once, bench, kind, scenario, members), wait)
    if scenario.worker_class == "gevent":
        comparison.judge("crowd", "alone", "p99_ms", measure.Goal(2, at_most=True))
        comparison.judge("crowd", "alone", "per_second", None)
    comparison.judge("crowd", "alone", "pss_mb", None)
    return comparison


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_crowd", description=__doc__.partition("\n")[0])
    report.add_options(parser, rounds=3)
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each run (%(default)s)")
    parser.add_argument("--connections", type=int, default=8, help="honest ones (%(default)s)")
    parser.add_argument("--size", type=int, default=CROWD, help="slow ones (%(default)s)")
    parser.add_argument("--worker-class", default="gevent", choices=("gevent", "gthread", "sync"), help="(%(default)s)")
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one database")
    parser.add_argument("--crowd", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.crowd:
        crowd(options.crowd, options.size, list(KINDS))
    scenario = replace(
        ingest.Scenario(), seconds=options.seconds, connections=options.connections, worker_class=options.worker_class
    )
    comparisons = []
    with contextlib.ExitStack() as stack:
        bench = ingest.Bench(stack)
        for kind in ("postgresql", "sqlite"):
            if options.only not in (None, kind):
                continue
            try:
                comparisons.append(compare(bench, kind, scenario, options.size, options.rounds, options.wait))
            except (Unavailable, processes.DidNotStart) as error:
                print(f"not run: {kind}: {error}")
                continue
            print(comparisons[-1].show(), flush=True)
            if scenario.worker_class == "gthread":
                print(f"the deadline of a head, and of a body that does not come, is {HEAD_SECONDS * 1000:.0f} ms\n")
    report.keep(options.json, "slow_crowd", comparisons)
    return 0 if all(comparison.is_complete for comparison in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
