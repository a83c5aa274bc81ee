"""Slow senders, at real servers: they cost the others nothing, or a deadline at most, and memory has a bound."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.support import Processes, send
from tests.acceptance.test_server import Server, Wire, body, signed
from tests.support import allowed, some

pytestmark = pytest.mark.forks

HEAD = b"POST /webhooks/close%b HTTP/1.1\r\nHost: x\r\n"
SLOW = {
    f"{kind}{query.decode()}": HEAD % query + rest
    for query in (b"", b"?a=b")
    for kind, rest in (
        ("head", b"X-Slow: "),
        ("body", b"Content-Length: 500\r\n\r\nx"),
        ("chunk", b"Transfer-Encoding: chunked\r\n\r\n1f4\r\nx"),
        ("expect", b"Content-Length: 500\r\nExpect: 100-continue\r\n\r\n"),
    )
}
SLOW["nothing"] = b""


@contextlib.contextmanager
def crowd(port: int, number: int, *kinds: str) -> Iterator[list[socket.socket]]:
    """Connections that send the beginning of a request each, and nothing more."""
    members = []
    try:
        for turn in range(number):
            member = socket.create_connection(("127.0.0.1", port), timeout=15)
            members.append(member)
            member.sendall(SLOW[kinds[turn % len(kinds)]])
        yield members
    finally:
        for member in members:
            member.close()


def memory(pids: list[int]) -> int:
    """The resident bytes of processes."""
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return sum(pages) * 4096


@pytest.mark.one_database
def test_slow_senders_of_every_kind_cost_others_nothing(database_url: str, processes: Processes) -> None:
    server = Server(processes, database_url).ready()
    with crowd(server.port, 300, *SLOW):
        for number in range(10):
            begin = time.monotonic()
            assert server.post(body(f"ok-{number}")).status == 200
            assert time.monotonic() - begin < allowed(1.0)


def test_where_there_are_too_many_a_newcomer_is_served(sqlite_url: str, processes: Processes) -> None:
    server = Server(processes, sqlite_url, GUNICORN_CMD_ARGS="--workers 2 --worker-connections 20").ready()
    not_served = []
    for kind in SLOW:
        with crowd(server.port, 120, kind):
            for number in range(5):
                begin = time.monotonic()
                status = server.post(body(f"{kind}-{number}")).status
                took = time.monotonic() - begin
                if status != 200 or took >= allowed(1.0):
                    not_served.append(f"{kind}, post {number}: {status} after {took:.2f} s")
    assert not_served == []


def seconds_until_all_are_closed(port: int, kinds: list[str]) -> float:
    """How long the last of connections lives that send the beginning of a request each."""
    begin = time.monotonic()
    with crowd(port, len(kinds), *kinds) as members:
        for member in members:
            with contextlib.suppress(ConnectionResetError):
                while member.recv(10_000):
                    pass
    return time.monotonic() - begin


def seconds_until_closed(port: int, first: bytes, piece: bytes, pause: float) -> float:
    """How long a connection lives that sends `first`, and then `piece` each `pause` seconds, and reads nothing.

    Where nothing is sent first, whole requests come: from when the server reads no more of them, as its answers wait.
    """
    with socket.socket() as client:
        client.settimeout(60)
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # small: answers soon wait
            client.setsockopt(socket.SOL_SOCKET, buffer, 10_000)
        client.connect(("127.0.0.1", port))
        begin = time.monotonic()
        with contextlib.suppress(OSError):
            client.sendall(first)
            until = begin + 100
            while time.monotonic() < until:
                time.sleep(pause)
                if not first:
                    begin = time.monotonic()
                client.sendall(piece)
        return time.monotonic() - begin


#: {phase: (what comes first, then again and again, each how many seconds; when it has to end)}
TRICKLES = {
    "head": (HEAD % b"", b"X", 0.5, 10),
    "head, fast": (HEAD % b"" + b"X-Slow: ", b"x", 0.001, 10),
    "body": (HEAD % b"" + b"Content-Length: 100000\r\n\r\n", b"x", 0.5, 10),
    "body with a query": (HEAD % b"?a=b" + b"Content-Length: 100000\r\n\r\n", b"x", 0.5, 10),
    "chunk": (HEAD % b"" + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n", b"x", 0.5, 10),
    "answer": (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 100, 0.0, 30),
}


@pytest.mark.thorough
def test_what_does_not_come_whole_and_every_phase_of_a_request_end_at_their_deadline_and_not_later(
    sqlite_url: str, processes: Processes
) -> None:
    """A server of each class at once, since the deadlines are long.

    Under sync one at a time: each has its ten seconds when its turn comes. There no connection stays for a second
    request, so no answer waits.
    """
    ports = {}
    for worker_class in ("gevent", "gthread", "sync"):
        server = Server(processes, sqlite_url, worker_class, workers=2 if worker_class == "sync" else 1).ready()
        ports[worker_class] = server.port
    several = ("gevent", "gthread")
    with ThreadPoolExecutor() as short, ThreadPoolExecutor(2 * len(TRICKLES)) as long:
        alone = short.submit(seconds_until_all_are_closed, ports["sync"], ["head"])
        wholes = {name: short.submit(seconds_until_all_are_closed, ports[name], list(SLOW)) for name in several}
        lives = {
            (name, phase): long.submit(seconds_until_closed, ports[name], *TRICKLES[phase][:3])
            for name in several
            for phase in TRICKLES
        }
        took = {name: whole.result() for name, whole in {"sync": alone, **wholes}.items()}
        lives["sync", "body"] = long.submit(seconds_until_closed, ports["sync"], *TRICKLES["body"][:3])
        found = {key: round(life.result(), 1) for key, life in lives.items()}
    assert {name: seconds for name, seconds in took.items() if not 8 < seconds < allowed(14)} == {}
    late = {key: seconds for key, seconds in found.items() if seconds > TRICKLES[key[1]][3] + allowed(6)}
    assert not late, found


def test_under_gthread_a_post_waits_for_one_deadline(sqlite_url: str, processes: Processes) -> None:
    server = Server(processes, sqlite_url, "gthread", GUNICORN_CMD_ARGS="--workers 2 --threads 2").ready()
    with crowd(server.port, 100, *SLOW):
        begin = time.monotonic()
        assert server.post(body("one"), timeout=30).status == 200
        assert time.monotonic() - begin < allowed(13)
        begin = time.monotonic()
        assert server.post(body("another"), timeout=30).status == 200
        assert time.monotonic() - begin < allowed(1)


def test_under_gthread_a_newcomer_is_served_where_there_are_too_many(sqlite_url: str, processes: Processes) -> None:
    options = "--workers 2 --threads 2 --worker-connections 10"
    server = Server(processes, sqlite_url, "gthread", GUNICORN_CMD_ARGS=options).ready()
    with crowd(server.port, 60, "nothing"):
        assert server.post(body("one")).status == 200


@pytest.mark.thorough
@pytest.mark.parametrize("query", some("?a=b", ""))
def test_incomplete_bodies_hold_no_more_than_their_budget(sqlite_url: str, processes: Processes, query: str) -> None:
    server = Server(processes, sqlite_url, WEBHOOKS_INCOMPLETE_BODIES="4MiB").ready()
    assert server.post(body("warm")).status == 200
    pids = server.process.members()
    before = memory(pids)
    whole = signed(b"x" * 2**20, path=f"/webhooks/close{query}")
    refused = 0
    with crowd(server.port, 100, "nothing") as members:
        for member in members:
            with contextlib.suppress(OSError):
                member.sendall(whole[:-10])
        for member in members:
            member.settimeout(0.05)
            with contextlib.suppress(OSError):
                refused += member.recv(12) in (b"HTTP/1.1 408", b"HTTP/1.1 503")
        assert memory(pids) - before < 60 * 2**20
        assert server.post(body("beside")).status in (200, 503)
    assert refused > 50


def test_after_a_refusal_no_more_is_read(sqlite_url: str, processes: Processes) -> None:
    server = Server(processes, sqlite_url, workers=1).ready()
    for query in ("", "?a=b"):
        head = signed(b"", path=f"/webhooks/close{query}").replace(b"Content-Length: 0", b"Content-Length: 900000000")
        sent = 0
        with Wire(server.port) as wire, contextlib.suppress(OSError):
            wire.socket.sendall(head)
            while sent < 900_000_000:
                sent += wire.socket.send(b"x" * 100_000)
        assert sent < 50_000_000


@pytest.mark.thorough
def test_one_sender_that_sends_many_at_once_makes_others_wait_little(sqlite_url: str, processes: Processes) -> None:
    server = Server(processes, sqlite_url).ready()
    forged = signed(body("forged")).replace(b"close-sig-hash: ", b"close-sig-hash: 0")
    with Wire(server.port) as wire:
        wire.socket.settimeout(0.01)
        with contextlib.suppress(TimeoutError):
            while True:
                wire.socket.sendall(forged * 100)
        begin = time.monotonic()
        assert send(server.url + "/healthz").status == 200
        assert server.post(body("one")).status == 200
        assert time.monotonic() - begin < allowed(1)
