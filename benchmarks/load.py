"""The load: signed posts over kept-alive connections, one under way on each, made by one thread with epoll.

It shares the machine's cores with the servers it drives, so it does little: each request is built and signed when it is
sent (a load of ready-made requests would measure duplicates), and of each answer only status and length are read.
Closed loop: a slow server gets fewer requests, not a queue of them; latencies are those of the service at that load.
"""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

#: No answer after this long counts as none.
PATIENCE_SECONDS = 10


@dataclass
class Load:
    """What one run of load saw. statuses: {HTTP status: answers}, 0 for connections that broke."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    #: of the load itself; not the server's
    cpu_seconds: float = 0.0

    @property
    def answered(self) -> int:
        """How many got a 2xx."""
        return sum(n for status, n in self.statuses.items() if 200 <= status < 300)

    @property
    def refused(self) -> int:
        return sum(n for status, n in self.statuses.items() if not 200 <= status < 300)

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


class _Connection:
    __slots__ = ("buffer", "sent_at", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE_SECONDS)
        self.socket.settimeout(None)  # a Python time-out would cost a poll() for each call
        limit = struct.pack("ll", PATIENCE_SECONDS, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sent_at = 0.0


def answer_of(data: bytes) -> tuple[int, int, bool] | None:
    """(status, bytes, whether the connection stays) of the answer that `data` begins with; None: incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    start = head.find(b"\r\ncontent-length:")
    length = 0
    if start >= 0:
        stop = head.find(b"\r\n", start + 2)
        length = int(head[start + 17 : stop if stop >= 0 else None])
    size = end + 4 + length
    if len(data) < size:
        return None
    return int(head[9:12]), size, b"\r\nconnection: close" not in head


def drive(
    address: tuple[str, int],
    make: Callable[[], bytes],
    *,
    connections: int,
    seconds: float = 0.0,
    requests: int = 0,
) -> Load:
    """Post for `seconds`, or until `requests` were sent, over `connections`; every request sent is waited for."""
    load = Load()
    epoll = select.epoll()
    open_ones: dict[int, _Connection] = {}
    sent = 0
    collecting = gc.isenabled()
    gc.disable()
    cpu = time.process_time()
    started = time.perf_counter()
    deadline = started + seconds if seconds else float("inf")

    def send(connection: _Connection) -> bool:
        nonlocal sent
        if (requests and sent >= requests) or time.perf_counter() >= deadline:
            return False
        sent += 1
        request = make()
        connection.sent_at = time.perf_counter()
        with contextlib.suppress(OSError):  # the answer, or its absence, tells
            connection.socket.sendall(request)
        return True

    def connect() -> None:
        connection = _Connection(address)
        if send(connection):
            open_ones[connection.socket.fileno()] = connection
            epoll.register(connection.socket, select.EPOLLIN)
        else:
            connection.socket.close()

    def drop(connection: _Connection) -> None:
        epoll.unregister(connection.socket)
        del open_ones[connection.socket.fileno()]
        connection.socket.close()

    try:
        for _ in range(connections):
            connect()
        while open_ones:
            ready = epoll.poll(PATIENCE_SECONDS)
            if not ready:
                load.statuses[0] += len(open_ones)
                break
            for number, _ in ready:
                connection = open_ones[number]
                try:
                    data = connection.socket.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    load.statuses[0] += 1
                    drop(connection)
                    connect()
                    continue
                connection.buffer += data
                answer = answer_of(connection.buffer)
                if answer is None:
                    continue
                status, size, stays = answer
                connection.buffer = connection.buffer[size:]
                load.statuses[status] += 1
                if 200 <= status < 300:
                    load.latencies.append(time.perf_counter() - connection.sent_at)
                if not stays:
                    drop(connection)
                    connect()
                elif not send(connection):
                    drop(connection)
        load.seconds = time.perf_counter() - started
        load.cpu_seconds = time.process_time() - cpu
    finally:
        for connection in open_ones.values():
            connection.socket.close()
        epoll.close()
        if collecting:
            gc.enable()
    return load
