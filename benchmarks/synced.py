"""Is the log on disk before the first byte of each 2xx? Asked of the kernel, by strace. See docs/performance.md.

    python -m benchmarks.synced                 both databases, gevent and gthread; some seconds each

A server is traced while it answers signed posts, one at a time and then several at once. Between reading a request and
sending the 2xx a flush of the database's log must begin and end: by the server itself on SQLite, by one of
PostgreSQL's processes there. Needs strace and the right to trace (root, for PostgreSQL).
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import databases, events, ingest, load, processes, report
from benchmarks.databases import Unavailable
from benchmarks.processes import Process

CALLS = "fdatasync,fsync,recvfrom,sendto,read,write,sendmsg"
_LINE = re.compile(r"(?P<pid>\d+)\s+(?P<call>\w+)\((?P<fd>\d+)<(?P<path>[^>]*)>(?P<rest>.*)")
_RESUMED = re.compile(r"(?P<pid>\d+)\s+<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)")
_RESULT = re.compile(r"\)\s*=\s*(-?\d+)")


@dataclass
class Verdict:
    """What a trace showed. unsynced: the numbers of lines that send a 2xx with no flush since its request was read."""

    answers: int = 0
    flushes: int = 0
    unsynced: list[int] = field(default_factory=list)


def judge(lines: Iterable[str], is_log: Callable[[str], bool], is_answer: Callable[[str], bool]) -> Verdict:
    """Read the output of `strace -f -y`. is_log: whether a path is the log's; is_answer: whether sent text is a 2xx."""
    verdict = Verdict()
    unfinished: dict[str, tuple[int, str, str, str]] = {}  # {thread: (line, call, connection, path)}
    read_at: dict[str, int] = {}  # {connection: line at which its last request was read}
    flushed_at = -1  # line at which the last finished flush began
    for number, line in enumerate(lines):
        begun = _LINE.match(line)
        resumed = _RESUMED.match(line)
        if begun is not None:
            call, descriptor, path, rest = begun["call"], begun["fd"], begun["path"], begun["rest"]
            since, connection = number, f"{descriptor} {path}"
            # an answer is on its way when the call begins, a flush is done when it has ended
            if call in ("sendto", "write", "sendmsg") and is_answer(rest):
                verdict.answers += 1
                if flushed_at <= read_at.get(connection, number):
                    verdict.unsynced.append(number)
            if "<unfinished" in rest:
                unfinished[begun["pid"]] = (number, call, connection, path)
                continue
        elif resumed is not None and resumed["pid"] in unfinished:
            since, call, connection, path = unfinished.pop(resumed["pid"])
            rest = resumed["rest"]
        else:
            continue
        result = _RESULT.search(rest)
        if call in ("recvfrom", "read") and result is not None and int(result[1]) > 0:
            read_at[connection] = number
        elif call in ("fdatasync", "fsync") and is_log(path) and result is not None and int(result[1]) == 0:
            verdict.flushes += 1
            flushed_at = max(flushed_at, since)
    return verdict


def is_http_success(text: str) -> bool:
    return '"HTTP/1.1 2' in text


def is_postgresql_log(path: str) -> bool:
    return "/pg_wal/" in path


def is_sqlite_log(path: str) -> bool:
    return path.endswith("-wal")


def postgresql_processes(url: str) -> list[int]:
    """Everything of a server that may flush its log."""
    import psycopg

    with psycopg.connect(url) as connection:
        row = connection.execute("select pg_backend_pid()").fetchone()
        assert row is not None
        status = Path(f"/proc/{row[0]}/stat").read_text().rpartition(")")[2].split()
    return processes.tree(int(status[1]))


def trace(kind: str, server: str | None, worker_class: str, directory: Path) -> Verdict:
    """Trace one server under load."""
    scenario = ingest.Scenario(worker_class=worker_class)
    log = directory / "log"
    output = directory / "trace"
    output.unlink(missing_ok=True)
    with databases.database(kind, server) as url:
        databases.upgrade(url)
        port = processes.free_port()
        environ = {
            "DATABASE_URL": url,
            "WEBHOOKS_SOURCES__close__SECRET": events.SECRET,
            "WEBHOOKS_HANDLERS": "benchmarks.peers.ours",
        }
        command = ingest.gunicorn("wsgi:app")(scenario, port)
        with processes.running(Process(command, log=log, environ=environ, directory=directory)) as process:
            process.wait_for_port(port)
            process.wait_until_idle()
            address = ("127.0.0.1", port)
            make = events.make_requests(ingest.PATH, events.make_bodies())
            load.drive(address, make, connections=8, requests=50)  # every connection to the database is there
            pids = process.pids() + (postgresql_processes(url) if kind == "postgresql" else [])
            attach = [argument for pid in pids for argument in ("-p", str(pid))]
            said = directory / "strace"
            with open(said, "wb") as errors:
                tracer = subprocess.Popen(
                    ["strace", "-f", "-y", "-s", "20", "-e", f"trace={CALLS}", "-o", str(output), *attach],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )
            try:
                deadline = time.monotonic() + 10
                while not is_traced(pids):
                    if tracer.poll() is not None or time.monotonic() > deadline:
                        raise Unavailable(f"strace cannot attach: {said.read_text('utf-8', 'replace')[-300:]}")
                    time.sleep(0.05)
                seen = load.drive(address, make, connections=1, requests=40)
                more = load.drive(address, make, connections=12, requests=400)
            finally:
                if tracer.poll() is None:
                    tracer.send_signal(signal.SIGINT)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        tracer.wait(5)
                if tracer.poll() is None:
                    tracer.kill()
                    tracer.wait()
    is_log = is_postgresql_log if kind == "postgresql" else is_sqlite_log
    with open(output, encoding="utf-8", errors="replace") as lines:
        verdict = judge(lines, is_log, is_http_success)
    if verdict.answers < seen.answered + more.answered:
        raise RuntimeError(f"{seen.answered + more.answered} answers came, the trace shows {verdict.answers}")
    return verdict


def is_traced(pids: Sequence[int]) -> bool:
    for pid in pids:
        with contextlib.suppress(OSError):
            if "\nTracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
                return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synced", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one database")
    options = parser.parse_args(arguments)
    if shutil.which("strace") is None:
        print("not run: strace is not installed")
        return 0
    failed = False
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=databases.PREFIX)))
        for kind in ("sqlite", "postgresql"):
            if options.only not in (None, kind):
                continue
            try:
                server = stack.enter_context(databases.postgresql_server()) if kind == "postgresql" else None
                for worker_class in ("gevent", "gthread", "sync"):
                    report.progress(f"synced: {kind}, {worker_class}")
                    verdict = trace(kind, server, worker_class, directory)
                    said = "each after a flush" if not verdict.unsynced else f"{len(verdict.unsynced)} WITHOUT A FLUSH"
                    print(
                        f"{kind}, {worker_class}: {verdict.answers} answers of 2xx, {verdict.flushes} flushes; {said}"
                    )
                    failed = failed or bool(verdict.unsynced)
            except (Unavailable, processes.DidNotStart) as error:
                print(f"not run: {kind}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
