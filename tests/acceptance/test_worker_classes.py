"""One request, one answer: the worker classes read mutated requests, and nobody can tell them apart.

Plain posts are read by our own code under gevent, everything else by gunicorn's parser; under gthread that parser reads
all. Each request goes to both, byte for byte, on connections of their own.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import socket
from datetime import timedelta

import pytest

from tests.acceptance.support import Processes, free_port, send
from tests.acceptance.test_server import KEY, body, signed, stored
from tests.support import examples, wait_until

#: How many requests: in each run of the tests, and in `make crash`.
SHORT, LONG = examples(1_500), 50_000
#: Events that they tell of, again and again.
EVENTS = 40
_ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r]*\r\n(?:[^\r]+\r\n)*?Connection: (\S+)\r\n")
_SAID = re.compile(rb'"(?:status|error)":\s?"(\w+)"')


def chunked(content: bytes, *sizes: int) -> bytes:
    pieces, at = [], 0
    for size in (*sizes, len(content)):
        piece = content[at : at + size]
        at += size
        if piece:
            pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
    return b"".join(pieces) + b"0\r\n\r\n"


def make_request(chance: random.Random) -> bytes:
    """One well-formed request."""
    content = body(f"ev_{chance.randrange(EVENTS)}", data={"n": chance.randrange(3)})
    whole = signed(content, *chance.sample(HEADERS, chance.randrange(4)), path=chance.choice(PATHS))
    kind = chance.randrange(8)
    if kind == 0:
        head = whole[: -len(content)].replace(b"Content-Length: %d" % len(content), b"Transfer-Encoding: chunked")
        whole = head + chunked(content, *(chance.randrange(1, 80) for _ in range(chance.randrange(4))))
    elif kind == 1:
        whole = chance.choice((b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /nowhere HTTP/1.0\r\n\r\n"))
    elif kind == 2:
        whole = signed(content, method=chance.choice(("PUT", "GET", "HEAD", "DELETE", "OPTIONS", "PATCH")))
    elif kind == 3:
        whole = whole.replace(b"close-sig-hash: ", b"close-sig-hash: 0")
    elif kind == 4:
        whole += signed(content)
    return whole


PATHS = ("/webhooks/close", "/webhooks/close", "/webhooks/close/", "/webhooks/close?a=b", "/webhooks/other", "/a%20b")
HEADERS = (
    "Content-Type: application/json", "Connection: close", "Connection: keep-alive", "Expect: 100-continue", "X-A: b",
    "X_A: b", "Accept: */*", "Content-Encoding: gzip", "X-Forwarded-Proto: https", "Transfer-Encoding: chunked",
    "Content-Length: 3", "Host: other", "Cookie: a=b", "TE: trailers", "Upgrade: h2c", "Range: bytes=0-1",
)  # fmt: skip
LINES = (
    *(f"{line}\r\n".encode() for line in HEADERS),
    b"Content-Length: 0000000000000000000000123\r\n", b"Content-Length: -1\r\n", b"Content-Length: 1, 1\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: identity\r\n", b" folded\r\n", b": no name\r\n",
    b"X-\xff: 1\r\n", b"X-A: \x00\r\n", b"X-A: a\nb\r\n", b"\r\n", b"\n", b"Host:\r\n", b"Host: a b\r\n", b"Host: [::1\r\n",
    b"Host: a:1\r\n", b"Trailer: X\r\n", b"Script-Name: /x\r\n", b"X-Long: " + b"a" * 9000 + b"\r\n",
)  # fmt: skip
TOKENS = (
    b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"0", b"9", b"00000000000000000000", b"\x00", b"\x7f", b"\x85", b"\xff", b"a",
    b"%2f", b"//", b"..", b"?", b"#", b";", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"POST", b"chunked", b"fffffffffffffffff",
)  # fmt: skip


def mutate(chance: random.Random, data: bytes) -> bytes:
    """`data` with up to four changes."""
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        at = chance.randrange(len(data) + 1)
        if chance.random() < 0.5:  # in the head, where most of the meaning is
            at = chance.randrange(max(1, data.find(b"\r\n\r\n") + 4))
        act = chance.randrange(7)
        if act == 0:
            data = data[:at] + chance.choice(TOKENS) + data[at:]
        elif act == 1:
            data = data[:at] + data[at + chance.choice((1, 1, 2, 10)) :]
        elif act == 2:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif act == 3:
            data = data[:at]
        elif act == 4:
            start = data.find(b"\r\n", at) + 2
            data = data[:start] + chance.choice(LINES) + data[start:]
        elif act == 5:
            start, end = data.find(b"\r\n", at) + 2, data.find(b"\r\n", at + 1)
            end = data.find(b"\r\n", start) + 2 if end >= 0 else start
            data = data[:start] + data[start:end] + data[start:]
        else:
            start = data.find(b"\r\n", at) + 2
            data = data[:start] + data[data.find(b"\r\n", start) + 2 :]
        if not data:
            return b"\r\n"
    return data


def ask(port: int, data: bytes) -> list[tuple[bytes, ...]]:
    """What the answers to `data` say: (status, what becomes of the connection, the word in the body)."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        with contextlib.suppress(OSError):  # it may have been refused before it was sent
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while piece := wire.recv(65536):
                answer += piece
    answer = answer.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return [match.groups() for match in _ANSWER.finditer(answer)] + [(word,) for word in _SAID.findall(answer)]


def start(processes: Processes, database_url: str, worker_class: str) -> int:
    """One process of our service under a worker class; its port."""
    port = free_port()
    processes.start(
        *("webhooks", "run", "--", "--bind", f"127.0.0.1:{port}", "--workers", "1", "--log-level", "critical"),
        env={
            "DATABASE_URL": database_url,
            "WEBHOOKS_SOURCES__close__SECRET": KEY,
            "WEBHOOKS_WORKER_CLASS": worker_class,
            "WEBHOOKS_LOG_LEVEL": "error",
        },
    )

    def is_ready() -> bool:
        with contextlib.suppress(OSError):
            return send(f"http://127.0.0.1:{port}/readyz").status == 200
        return False

    wait_until(is_ready, timedelta(seconds=20), f"{worker_class} to be ready")
    return port


def compare(sqlite_url: str, processes: Processes, number: int) -> None:
    seed = int(os.environ.get("WEBHOOKS_TEST_SEED", "0")) or random.randrange(10**9)
    other = sqlite_url + "2"
    shutil.copyfile(sqlite_url.removeprefix("sqlite:///"), other.removeprefix("sqlite:///"))
    ports = [start(processes, url, name) for name, url in (("gevent", sqlite_url), ("gthread", other))]
    chance = random.Random(seed)
    found = []
    for _ in range(number):
        data = mutate(chance, make_request(chance))
        answers = [ask(port, data) for port in ports]
        if answers[0] != answers[1]:
            found.append((data, *answers))
    assert not found, f"{len(found)} of {number} (WEBHOOKS_TEST_SEED={seed}); the first: {found[:3]}"
    kept = stored(sqlite_url)
    assert kept == stored(other)
    assert len(kept) >= min(number // 50 + 1, EVENTS), "hardly any request was taken: nothing was compared"


@pytest.mark.thorough
def test_mutated_requests_are_answered_alike(sqlite_url: str, processes: Processes) -> None:
    compare(sqlite_url, processes, SHORT)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_thousand_mutated_requests_are_answered_alike(sqlite_url: str, processes: Processes) -> None:
    compare(sqlite_url, processes, LONG)
