"""Connections that wait for their other side: until when each may, how much they hold, and which one gives way.

A sender gets `HEAD_SECONDS` for a request's head, then `body_seconds` for its body, and `ANSWER_SECONDS` to read an
answer. `Connections` knows all that wait in a process. It is asked once a second which are late; when a process
serves as many connections as it may, it ends the one that has been longest without a complete request; and when the
requests that are still incomplete hold more than the budget, it ends the slowest of them.

To end a connection means to shut it down and to say what it gets; the greenlet that serves it wakes up, answers and
closes it.

Not here: reading and writing (`gevent_worker`, `thread_worker`), what a request means (`plain_posts`).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from socket import SHUT_RD, SHUT_RDWR
from typing import Any

#: A request's head has this long, from its first byte on or from the start of its connection.
HEAD_SECONDS = 10.0
#: A body may come as slowly as it likes for this long,
BODY_GRACE_SECONDS = 10.0
#: has to come at this rate from then on,
LEAST_BYTES_PER_SECOND = 1000
#: and, when it is one of ours, be complete after this long.
BODY_SECONDS = 30.0
#: An answer, or each part of one that another application streams, has to be read by its receiver in this time.
ANSWER_SECONDS = 30.0
#: Bytes that the incomplete requests of a process hold together, unless a setting says otherwise.
BUDGET = 64 << 20
#: When the budget is used up, newer requests are left alone: their rate says nothing yet.
YOUNG_SECONDS = 1.0


class TooSlow(ConnectionResetError, TimeoutError):
    """The other side let its deadline pass. gunicorn logs it as the reset connection that it is going to be."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.ECONNRESET, f"{what} took too long")


def body_seconds(received: int, *, is_ours: bool = True) -> float:
    """How long a body may take of which `received` bytes have come. is_ours: not an upload to another path."""
    seconds = received / LEAST_BYTES_PER_SECOND
    return min(BODY_SECONDS, BODY_GRACE_SECONDS + seconds) if is_ours else BODY_SECONDS + seconds


class Connection:
    """One connection and what it waits for. Times are those of the monotonic clock."""

    __slots__ = ("begun", "ended_with", "held", "is_ended", "socket", "source", "until")

    def __init__(self, socket: Any, now: float) -> None:
        self.socket = socket
        #: when the first byte of the incomplete request came; 0: none has
        self.begun = 0.0
        #: when it will have waited for too long
        self.until = now + HEAD_SECONDS
        #: the source that it posts to, once that is known
        self.source = ""
        #: bytes that are kept of it
        self.held = 0
        #: it is shut down, and has to be closed by the greenlet that serves it
        self.is_ended = False
        #: with this status first, unless 0
        self.ended_with = 0


class Connections:
    """The connections of one process.

    limit: of connections. budget: of bytes that incomplete requests hold.
    """

    def __init__(self, *, limit: int, budget: int = BUDGET) -> None:
        self.limit = limit
        self.budget = budget
        self.count = 0
        #: bytes that incomplete requests hold together
        self.held = 0
        #: {connection without a complete request: nothing}, the one that has been so for longest first
        self.waiting: dict[Connection, None] = {}
        #: {connection that has not read its answer: nothing}, the one that has been so for longest first
        self.answering: dict[Connection, None] = {}

    @contextlib.contextmanager
    def serving(self, connection: Connection) -> Iterator[None]:
        """Count a connection, for the time of the body; another one gives way where there are too many."""
        if self.count >= self.limit:
            self.make_room()
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1
            self.complete(connection)
            self.answering.pop(connection, None)

    def make_room(self) -> None:
        """End the connection that has been longest without a complete request, else without reading its answer."""
        for connection in self.waiting:
            self.end(connection, 0)
            return
        for connection in self.answering:
            self._break(connection)
            return

    def complete(self, connection: Connection) -> None:
        """The request has come whole, or never will."""
        self.waiting.pop(connection, None)
        if connection.held:
            self.held -= connection.held
            connection.held = 0

    def hold(self, connection: Connection, size: int, now: float) -> bool:
        """Count `size` bytes more of its request; returns whether they may be kept (else: 503).

        Over the budget the slowest of the others is ended with 408; it can be this one.
        """
        connection.held += size
        self.held += size
        while self.held > self.budget:
            slowest = min(
                (other for other in self.waiting if other.held and now - other.begun >= YOUNG_SECONDS),
                key=lambda other: other.held / (now - other.begun),
                default=None,
            )
            if slowest is None:
                return False
            self.end(slowest, 408)
        return True

    def end_late_ones(self, now: float, at_most: int) -> bool:
        """End connections whose time is over; returns whether there may be more of them than `at_most`."""
        late = [connection for connection in self.waiting if now > connection.until]
        for connection in late[:at_most]:
            self.end(connection, 408)
        unread = [connection for connection in self.answering if now > connection.until]
        for connection in unread[:at_most]:
            self._break(connection)
        return max(len(late), len(unread)) > at_most

    def end(self, connection: Connection, status: int) -> None:
        """End one that waits for its sender. status: what it gets, where a part of a request has come; 0: nothing."""
        connection.is_ended = True
        connection.ended_with = status if connection.begun else 0
        self.complete(connection)
        with contextlib.suppress(OSError):
            connection.socket.shutdown(SHUT_RD)

    def _break(self, connection: Connection) -> None:
        connection.is_ended = True
        self.answering.pop(connection, None)
        with contextlib.suppress(OSError):
            connection.socket.shutdown(SHUT_RDWR)


def close_where_asked(application: Any) -> Any:
    """A WSGI application whose answers close their connection when they say `Connection: close`.

    gunicorn drops that header, which is its own to set, and would go on reading a body that was refused.
    """

    def call(environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: Any, *error: Any) -> Any:
            if any(name.lower() == "connection" and value.lower() == "close" for name, value in headers):
                start_response.__self__.force_close()
            return start_response(status, headers, *error)

        return application(environ, start)

    return call
