"""What gunicorn's parser reads from, and its application answers through, in place of the client's socket.

One framing: the parser gets a head of exactly the bytes that our reader found, and the body as it comes, under the
deadlines of `connections`. An answer has a deadline for each part. Used by `gevent_worker` alone.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders

from webhooks.http.gunicorn.connections import ANSWER_SECONDS, Connection, Connections, TooSlow, body_seconds
from webhooks.http.gunicorn.plain_posts import HEAD_LIMIT


class ConnectionOver(Exception):
    """The connection is to be closed.

    status: what it gets before; 0: nothing.
    lingers: bytes of it may be unread.
    """

    def __init__(self, status: int = 0, *, lingers: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.lingers = lingers


def hold(connections: Connections, connection: Connection, size: int) -> None:
    """Count `size` bytes more of an incomplete request. Raises `ConnectionOver` or `TooSlow` when it may not be kept."""
    if not connections.hold(connection, size, time.monotonic()):
        raise ConnectionOver(503)
    if connection.is_ended:
        raise TooSlow("a request")


class ParserSocket:
    """What gunicorn's parser takes for the socket: one request, its head at once, its body as it comes.

    receive: waits for bytes of the connection, at most so many.
    head: ends where we say.
    rest: what was read already and not given.
    is_over: the sender ended the connection.
    """

    def __init__(
        self,
        connections: Connections,
        connection: Connection,
        receive: Callable[[int], bytes],
        *,
        head: bytes = b"",
        rest: bytes = b"",
        is_over: bool = False,
    ) -> None:
        self._connections = connections
        self._connection = connection
        self._receive = receive
        self._head = head
        self._is_too_long = len(head) >= HEAD_LIMIT
        self.rest = rest
        #: how many bytes of the body are to be given, where its length is known
        self.end: int | None = None
        #: the deadline by the monotonic clock, where another than a body's holds
        self.until = 0.0
        self._is_body = self._is_ours = False
        self._is_over = is_over
        self._began = 0.0
        self._received = 0

    @property
    def has_more(self) -> bool:
        """Whether the sender may have sent more of its request than was read."""
        return not self._is_over and (self.end is None or self.end > 0)

    def begin_body(self, *, is_ours: bool) -> None:
        """The head is over. is_ours: the body has to come in our time, and counts against the budget."""
        self._is_body, self._is_ours = True, is_ours
        self._began = time.monotonic()
        self._connection.begun = self._connection.begun or self._began

    def recv(self, size: int) -> bytes:
        """What the parser gets next; b"" at the end. Raises gunicorn's errors for a head that it wants more of, and `TooSlow`."""
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        if not self._is_body:
            if self._is_over:
                return b""
            if self._is_too_long:
                raise LimitRequestHeaders(f"limit request headers: {HEAD_LIMIT} bytes")
            raise InvalidRequestLine("the head ends before its empty line")
        if self.end is not None:
            size = min(size, self.end)
            if not size:
                return b""
        if self.rest:
            piece, self.rest = self.rest[:size], self.rest[size:]
        else:
            piece = self._wait(size)
            self._is_over = not piece
        self._received += len(piece)
        if self.end is not None:
            self.end -= len(piece)
        if self._is_ours:
            hold(self._connections, self._connection, len(piece))
        return piece

    def _wait(self, size: int) -> bytes:
        connection, waiting = self._connection, self._connections.waiting
        seconds = body_seconds(self._received, is_ours=self._is_ours)
        connection.until = self.until or self._began + seconds
        waiting[connection] = None
        try:
            piece = self._receive(size)
            if connection.is_ended:
                raise TooSlow("the body")
            return piece
        finally:
            if not self._is_ours:
                waiting.pop(connection, None)


class AnswerSocket:
    """What gunicorn answers through: the receiver has a time for each part."""

    def __init__(self, connections: Connections, connection: Connection) -> None:
        self._connections = connections
        self._connection = connection
        self._client = connection.socket

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        self._connection.until = time.monotonic() + ANSWER_SECONDS
        self._connections.answering[self._connection] = None
        try:
            yield
        finally:
            self._connections.answering.pop(self._connection, None)

    def send(self, data: bytes) -> Any:
        """As `socket.send`, under a deadline."""
        with self._answering():
            return self._client.send(data)

    def sendall(self, data: bytes) -> None:
        """As `socket.sendall`, under one deadline for all of it."""
        with self._answering():
            self._client.sendall(data)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> Any:
        """As `socket.sendfile`, under a deadline."""
        with self._answering():
            return self._client.sendfile(file, offset, count)


class ReadBody(io.BytesIO):
    """A body that was read before the application is called, and the error that ended it."""

    def __init__(self, content: bytes, error: Exception | None) -> None:
        super().__init__(content)
        self._error = error
        self.failed = error is not None

    def read(self, size: int | None = -1, /) -> bytes:
        """What came; raises the error that ended it."""
        if self._error is not None:
            raise self._error
        return super().read(size)


__all__ = ["AnswerSocket", "ConnectionOver", "ParserSocket", "ReadBody", "hold"]
