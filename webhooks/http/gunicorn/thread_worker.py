"""gunicorn's gthread and sync workers, with deadlines for the connections that hold one of their threads.

A thread reads one request, answers it, and waits for both; so a slow sender costs a thread, and enough of them cost all.
The deadlines (`connections`) bound for how long. They count from when a request's first bytes came, not from when a
thread had time for it, so those that had to queue all end together. A connection on which nothing has come waits without
a thread. Where there are too many connections, the one longest without a complete request gives way.

The default class, `gevent_worker`, has a greenlet for each and needs none of this; in front of these two belongs a
proxy that buffers requests (docs/security.md).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import partial
from selectors import EVENT_READ
from socket import SHUT_RDWR
from typing import Any

from gunicorn.errors import AppImportError
from gunicorn.workers import gthread, sync

from webhooks.http.gunicorn.connections import ANSWER_SECONDS, HEAD_SECONDS, TooSlow, body_seconds, close_where_asked
from webhooks.http.gunicorn.refusals import LeavesTraces

#: No wait is shorter: a socket whose time-out is 0 does not wait at all, and is another kind of socket.
_LEAST_SECONDS = 0.001
#: A request whose deadline passed while it waited for a thread has so long to be read; its bytes may be there already.
_OVERDUE_SECONDS = 1.0


class TimedSocket:
    """A client's socket on which nothing waits past a deadline.

    A time-out that gunicorn sets (while it drains a body, say) holds where it is shorter. on_wait: called before each wait.
    """

    def __init__(self, client: Any, on_wait: Callable[[], None] = lambda: None) -> None:
        self._client = client
        self._on_wait = on_wait
        #: when the first byte of the request came, by the monotonic clock
        self.since = time.monotonic()
        #: when a thread began to read it
        self._read_since = self.since
        self._body_since: float | None = None
        self._received = 0
        self._timeout: float | None = None
        #: a thread waits for its sender
        self.is_read = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def begin(self) -> None:
        """The first byte of a request is there."""
        self.since = self._read_since = time.monotonic()
        self._body_since = None
        self._received = 0

    def begin_head(self) -> None:
        """A thread begins to read the request."""
        self._read_since = time.monotonic()

    def begin_body(self) -> None:
        """The head has come whole. What was spent in the queue is not given a second time."""
        self._body_since = time.monotonic() - (self._read_since - self.since)

    def _deadline(self) -> float:
        if self._body_since is None:
            return self.since + HEAD_SECONDS
        return self._body_since + body_seconds(self._received)

    def gettimeout(self) -> float | None:
        """The time-out that gunicorn has set, in seconds."""
        return self._timeout

    def settimeout(self, seconds: float | None) -> None:
        """Have gunicorn's own time-out; a deadline that comes sooner holds."""
        self._timeout = seconds
        self._client.settimeout(seconds)

    def setblocking(self, flag: bool) -> None:
        """As `socket.setblocking`."""
        self.settimeout(None if flag else 0.0)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As `socket.recv`. Raises `TooSlow` at the deadline."""
        if self._timeout == 0.0:
            received: bytes = self._client.recv(size, flags)
            return received
        self._on_wait()
        now = time.monotonic()
        left = max(self._deadline() - now, _LEAST_SECONDS)
        if left == _LEAST_SECONDS and now - self._read_since > _OVERDUE_SECONDS:
            raise TooSlow("a request")  # although more may be there: a sender that never pauses ends, too
        is_ours = self._timeout is None or left < self._timeout
        self._client.settimeout(left if is_ours else self._timeout)
        self.is_read = True
        try:
            piece: bytes = self._client.recv(size, flags)
        except TimeoutError:
            if is_ours:
                raise TooSlow("a request") from None
            raise
        finally:
            self.is_read = False
        if self._body_since is not None:
            self._received += len(piece)
        return piece

    def _send(self, send: Callable[[], Any]) -> Any:
        self._on_wait()
        self._client.settimeout(ANSWER_SECONDS)
        try:
            return send()
        except TimeoutError:
            raise TooSlow("to read the answer") from None

    def send(self, data: bytes) -> Any:
        """As `socket.send`. Raises `TooSlow` when its receiver takes too long."""
        return self._send(lambda: self._client.send(data))

    def sendall(self, data: bytes) -> None:
        """As `socket.sendall`; one deadline for all of it."""
        self._send(lambda: self._client.sendall(data))

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> Any:
        """As `socket.sendfile`."""
        return self._send(lambda: self._client.sendfile(file, offset, count))


class ThreadWorker(LeavesTraces, gthread.ThreadWorker):  # type: ignore[misc]
    """See the module."""

    wsgi: Any
    worker_connections: int

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limit = self.worker_connections
        # those that give way need a moment to end; above this gunicorn accepts no more
        self.worker_connections = self._limit + self._limit // 4 + self.cfg.threads
        #: {connection that a thread reads: nothing}
        self._reading: dict[Any, None] = {}

    def load_wsgi(self) -> None:
        """Load the application."""
        super().load_wsgi()
        self.wsgi = close_where_asked(self.wsgi)

    def accept(self, listener: Any) -> None:
        """Accept a connection, and wait for its first byte without a thread."""
        if self.nr_conns >= self._limit:
            self.make_room()
        try:
            client, addr = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        conn = gthread.TConn(self.cfg, client if self.cfg.is_ssl else TimedSocket(client), addr, listener.getsockname())
        conn.timeout = time.monotonic() + HEAD_SECONDS
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def make_room(self) -> None:
        """End the connection that has been longest without a complete request; one that waits for a thread stays."""
        candidates: list[tuple[float, Any, Any]] = []
        for conns, seconds in ((self.pending_conns, HEAD_SECONDS), (self.keepalived_conns, self.cfg.keepalive)):
            if conns:
                candidates.append((conns[0].timeout - seconds, conns[0], conns))
        reading = next((conn for conn in list(self._reading) if conn.sock.is_read), None)
        if reading is not None:
            candidates.append((reading.sock.since, reading, None))
        if not candidates:
            return
        _, conn, conns = min(candidates, key=lambda candidate: candidate[0])
        if conns is None:
            del self._reading[conn]
            conn.sock.shutdown(SHUT_RDWR)  # its thread reads the end of it, and closes
            return
        conns.popleft()
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def enqueue_req(self, conn: Any) -> None:
        """Have a request read by a thread; its first byte is there."""
        if isinstance(conn.sock, TimedSocket):
            conn.sock.begin()
        super().enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Read and answer a request, in a thread."""
        if not isinstance(conn.sock, TimedSocket):
            return super().handle(conn)
        conn.sock.begin_head()
        self._reading[conn] = None
        try:
            return super().handle(conn)
        finally:
            self._reading.pop(conn, None)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request whose head has come whole."""
        if isinstance(conn.sock, TimedSocket):
            conn.sock.begin_body()
        return super().handle_request(req, conn)

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)


class SyncWorker(LeavesTraces, sync.SyncWorker):  # type: ignore[misc]
    """See the module."""

    wsgi: Any

    def load_wsgi(self) -> None:
        """Load the application. Raises AppImportError for one with replies: while one is made, nothing else is answered."""
        super().load_wsgi()
        ours: Any = getattr(self.wsgi, "extensions", {}).get("webhooks")
        if ours is not None:
            from webhooks.routing import why_not_sync  # not in gunicorn's master, which imports this module

            if (why_not := why_not_sync(ours.registry.replies.all())) is not None:
                raise AppImportError(f"webhooks cannot start:\n{why_not}")
        self.wsgi = close_where_asked(self.wsgi)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Read and answer one request."""
        # a wait of half a minute is longer than gunicorn's `timeout` may be: each says that we are alive
        super().handle(listener, client if self.cfg.is_ssl else TimedSocket(client, self.notify), addr)

    def handle_request(self, listener: Any, req: Any, client: Any, addr: Any) -> None:
        """Answer a request whose head has come whole."""
        if isinstance(client, TimedSocket):
            client.begin_body()
        super().handle_request(listener, req, client, addr)


__all__ = ["SyncWorker", "ThreadWorker"]
