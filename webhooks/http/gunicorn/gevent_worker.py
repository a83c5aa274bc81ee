"""gunicorn's gevent worker, with deadlines, bounds, and a short way in for plain posts to our sources.

`GeventWorker` reads the head of every request itself, so that one rule ends those that never come whole. A plain post
(`plain_posts`) it answers by the function that Flask's endpoint calls too, in one write. Everything else, however
legal, is parsed by gunicorn: its head from exactly those bytes (a parser that wants more of them, or leaves some, ends
the connection with 400), its body as it comes. A body for one of our sources is read before the application is called, so
that a slow sender costs a waiting greenlet; other paths of an application read theirs themselves. Between two
requests that have come already others get their turn.

The short way is taken only when nobody could notice: not when gunicorn is asked for access logs, hooks or another
protocol, and not when something was put around the application. TLS, HTTP/2 and the proxy protocol are gunicorn's to
read, from the first byte on; deadlines of ours hold there too, but for HTTP/2 and a TLS handshake.

What surprises: nobody waits with a time-out of its own. One greenlet looks once a second who has waited too long and
shuts that connection down; a timer for each request costs as much as reading it.

Not here: who has waited too long (`connections`), what a post gets (`http.routes`), the commit (`intake`). The setting
WORKER_CLASS names it: `gunicorn_conf`.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import gevent
from gunicorn import util
from gunicorn.config import Config, PostRequest, PreRequest
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders
from gunicorn.http.parser import RequestParser
from gunicorn.workers import ggevent

from webhooks.http.gunicorn.connections import (
    ANSWER_SECONDS,
    BUDGET,
    HEAD_SECONDS,
    Connection,
    Connections,
    TooSlow,
    body_seconds,
    close_where_asked,
)
from webhooks.http.gunicorn.plain_posts import (
    HEAD_LIMIT,
    LONGEST_HEAD,
    MOST_FIELDS,
    PlainPost,
    PlainPosts,
    Unread,
    answer_bytes,
    end_of_head,
)
from webhooks.http.gunicorn.refusals import LeavesTraces
from webhooks.model import Headers

_CHUNK = 1 << 16
_LARGEST_CHUNK = 1 << 20
#: What an application left of a body is read and thrown away up to here; when more comes, the connection is closed.
_REST_BYTES = 1 << 16
_REST_SECONDS = 5
_LINGER_SECONDS = 1.0
#: Files that a process opens besides its connections: the database, logs, modules.
_OTHER_FILES = 200
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ShortCut(Protocol):
    """Who answers posts that have been read; `http.ShortCut`."""

    def post(self, source: str, headers: Headers, body: bytes) -> tuple[int, bytes, list[tuple[str, str]]]:
        """(status, body, headers); raises nothing."""

    def refuse(self, source: str, status: int) -> tuple[int, bytes, list[tuple[str, str]]]:
        """The same for a post that did not come whole; raises nothing."""


class Sources(NamedTuple):
    """The posts that are ours. paths: {path: name of the source}. max_body, budget: in bytes."""

    paths: Mapping[str, str]
    max_body: int
    budget: int = BUDGET


class _Over(Exception):
    """The connection is to be closed. status: what it gets before; 0: nothing. lingers: bytes of it may be unread."""

    def __init__(self, status: int = 0, *, lingers: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.lingers = lingers


class GeventWorker(LeavesTraces, ggevent.GeventWorker):  # type: ignore[misc]
    """See the module."""

    alive: bool
    wsgi: Any
    sources: Sources
    #: None: every request is gunicorn's to parse
    short_cut: ShortCut | None
    posts: PlainPosts
    connections: Connections
    #: {client: its connection}, of those that gunicorn reads from the first byte on
    left_to_gunicorn: dict[Any, Connection]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        limit = connection_limit(self.cfg)
        self.connections = Connections(limit=limit)
        # gunicorn accepts no more than this; those that give way need a moment to end
        self.worker_connections = limit + limit // 4 + 16
        self.left_to_gunicorn = {}
        self.take_posts(Sources({}, 0), None)

    def load_wsgi(self) -> None:
        super().load_wsgi()
        sources = find_sources(self.wsgi)
        if sources is not None:
            self.take_posts(sources, find_short_cut(self.wsgi) if leaves_nothing_else(self.cfg, self.log) else None)
        self.wsgi = close_where_asked(self.wsgi)

    def take_posts(self, sources: Sources, short_cut: ShortCut | None) -> None:
        """Read posts to `sources` from now on, and answer plain ones by `short_cut`, if there is one."""
        self.sources = sources
        self.short_cut = short_cut
        self.connections.budget = sources.budget
        self.posts = PlainPosts(
            sources.paths if short_cut is not None else {},
            max_body=sources.max_body,
            scheme_headers=self.cfg.secure_scheme_headers,
        )

    def run(self) -> None:
        gevent.spawn(self._watch)
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection to its end."""
        connection = Connection(client, time.monotonic())
        with self.connections.serving(connection):
            if not reads_heads(self.cfg):
                self._leave_to_gunicorn(listener, connection, addr)
                return
            status, lingers = 0, False
            try:
                client.setblocking(1)
                self._converse(listener, connection, addr)
            except _Over as over:
                status, lingers = over.status, over.lingers
            except TooSlow:
                status = connection.ended_with
            except OSError as error:
                self.log.debug("a connection broke: %s", error)
            except Exception:
                self.log.exception("a connection was given up")
            # not above: what was read is kept for as long as an error is handled
            try:
                if status:
                    self._say_goodbye(connection, status)
                if status or lingers:
                    self._linger(connection)
            except OSError as error:
                self.log.debug("a connection broke: %s", error)
            finally:
                util.close(client)

    def _leave_to_gunicorn(self, listener: Any, connection: Connection, addr: Any) -> None:
        client = connection.socket
        if "h2" in self.cfg.http_protocols:
            super().handle(listener, client, addr)
            return
        self.left_to_gunicorn[client] = connection
        self.connections.waiting[connection] = None
        try:
            super().handle(listener, client, addr)
        finally:
            del self.left_to_gunicorn[client]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Have a request answered whose head gunicorn has read."""
        connection = self.left_to_gunicorn.get(sock)
        if connection is None:
            super().handle_request(listener_name, req, sock, addr)
            return
        self.connections.complete(connection)
        wire = req.unreader.sock = _Wire(self, connection, sock.recv)
        wire.begin_body(is_ours=False)
        try:
            super().handle_request(listener_name, req, _Sender(self.connections, connection), addr)
        finally:
            req.unreader.sock = sock
        connection.until = time.monotonic() + self.cfg.keepalive + HEAD_SECONDS
        self.connections.waiting[connection] = None

    # -- one connection ------------------------------------------------------------------------------------

    def _converse(self, listener: Any, connection: Connection, addr: Any) -> None:
        """Answer requests for as long as they come. Raises `_Over`; OSError when the connection broke."""
        client, short_cut, waiting = connection.socket, self.short_cut, self.connections.waiting
        hub = gevent.get_hub()
        data = b""
        with contextlib.closing(hub.loop.io(client.fileno(), 1)) as readable:

            def receive(size: int) -> bytes:
                hub.wait(readable)  # first: what comes next is hardly ever there already
                if connection.is_ended:
                    raise TooSlow("a request")
                received: bytes = client.recv(size)
                return received

            while True:
                post, data = self._read_head(connection, receive, data)
                if isinstance(post, PlainPost) and short_cut is not None:
                    end = post.start + post.length
                    if len(data) < end:
                        data = self._read_body(connection, receive, data, post)
                    waiting.pop(connection, None)
                    if connection.held:
                        self.connections.complete(connection)
                    self._answer(connection, short_cut, post, data[post.start : end])
                    data = data[end:]
                else:
                    data = self._have_answered(listener, connection, addr, receive, data)
                if data:
                    gevent.sleep(0)  # a turn for others: nothing was waited for
                connection.source = ""
                connection.begun = connection.until = 0.0

    def _read_head(
        self, connection: Connection, receive: Callable[[int], bytes], data: bytes
    ) -> tuple[PlainPost | Unread, bytes]:
        """The head that `data` begins with, when it has come whole, and all that was read for it."""
        post: PlainPost | Unread = Unread.INCOMPLETE
        if data:
            post = self.posts.read(data)
            if isinstance(post, PlainPost) or end_of_head(data):
                return post, data
            connection.begun = time.monotonic()
            self._hold(connection, len(data))
        # what is left of a new connection's first seconds; one that stays may rest
        is_new = bool(connection.until)
        if not is_new:
            connection.until = time.monotonic() + (HEAD_SECONDS if data else self.cfg.keepalive)
        self.connections.waiting[connection] = None
        while True:
            piece = receive(_CHUNK)
            if not piece:
                if not data:
                    raise _Over
                return Unread.NOT_PLAIN, data  # half a head is nobody's request; gunicorn may refuse it
            is_first = not data
            data = piece if is_first else data + piece
            post = self.posts.read(data)
            if isinstance(post, PlainPost) or (post is Unread.NOT_PLAIN and end_of_head(data)):
                return post, data
            if is_first:
                connection.begun = time.monotonic()
                if not is_new:
                    connection.until = connection.begun + HEAD_SECONDS
            self._hold(connection, len(piece))

    def _read_body(
        self, connection: Connection, receive: Callable[[int], bytes], data: bytes, post: PlainPost
    ) -> bytes:
        """`data` and what comes, up to the end of `post`."""
        pieces, size, end = [data], len(data), post.start + post.length
        began = time.monotonic()
        connection.source = post.source
        connection.begun = connection.begun or began
        connection.until = began + body_seconds(0)
        self.connections.waiting[connection] = None
        self._hold(connection, size - connection.held)
        while size < end:
            piece = receive(min(end - size, _LARGEST_CHUNK))
            if not piece:
                raise _Over(400)
            pieces.append(piece)
            size += len(piece)
            connection.until = began + body_seconds(size - post.start)
            self._hold(connection, len(piece))
        return b"".join(pieces)

    def _hold(self, connection: Connection, size: int) -> None:
        """Count what is kept of an incomplete request. Raises `_Over` or `TooSlow` when it may not be."""
        if not self.connections.hold(connection, size, time.monotonic()):
            raise _Over(503)
        if connection.is_ended:
            raise TooSlow("a request")

    def _answer(self, connection: Connection, short_cut: ShortCut, post: PlainPost, content: bytes) -> None:
        """Take one post in and say what it gets. Raises `_Over` when the connection does not stay."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        status, body, headers = short_cut.post(post.source, post.headers, content)
        keeps_alive = post.keeps_alive and self.alive
        self._send(connection, answer_bytes(status, headers, body, now=time.time(), keeps_alive=keeps_alive))
        if not keeps_alive:
            raise _Over

    def _send(self, connection: Connection, answer: bytes) -> None:
        client, answering = connection.socket, self.connections.answering
        connection.until = time.monotonic() + ANSWER_SECONDS
        answering[connection] = None
        sent = client.send(answer)  # sendall asks the kernel for the size of its buffer first
        if sent < len(answer):
            client.sendall(answer[sent:])
        answering.pop(connection, None)

    def _say_goodbye(self, connection: Connection, status: int) -> None:
        """Answer what did not come whole."""
        self.connections.complete(connection)
        headers: list[tuple[str, str]] = []
        body = b""
        if self.short_cut is not None and connection.source:
            status, body, headers = self.short_cut.refuse(connection.source, status)
        else:
            self.note_refused_in_part(connection.source, status)
        self._send(connection, answer_bytes(status, headers, body, now=time.time(), keeps_alive=False))

    def _linger(self, connection: Connection) -> None:
        """Let the answer arrive: to close with bytes unread would reset the connection, and take the answer back."""
        connection.until = time.monotonic() + ANSWER_SECONDS
        self.connections.answering[connection] = None
        util.close_graceful(connection.socket, timeout=_LINGER_SECONDS, max_drain=_REST_BYTES)

    # -- by gunicorn's parser ------------------------------------------------------------------------------

    def _have_answered(
        self, listener: Any, connection: Connection, addr: Any, receive: Callable[[int], bytes], data: bytes
    ) -> bytes:
        """Have gunicorn parse and answer one request whose head `data` begins with; what follows it is returned."""
        end = end_of_head(data)
        wire = _Wire(
            self, connection, receive, head=data[: end or None], rest=data[end:] if end else b"", is_over=not end
        )
        parser = RequestParser(self.cfg, wire, addr)
        req = None
        try:
            req = next(parser)
            if parser.unreader.take_buffered():
                raise InvalidRequestLine("the head goes on behind its end")
            if isinstance(req.body.reader, LengthReader):
                wire.end = req.body.reader.length
            source = self.sources.paths.get(util.unquote_to_wsgi_str(req.path)) if req.method == "POST" else None
            if source is None:
                self.connections.complete(connection)
                wire.begin_body(is_ours=False)
            else:
                connection.source = source
                self._read_ahead(connection, wire, req)
            self._call(listener, connection, addr, req)
            if not isinstance(req.body, _Body):
                # what the application left is no request
                wire.until = time.monotonic() + _REST_SECONDS
                if not parser.finish_body(deadline=wire.until, max_bytes=_REST_BYTES):
                    raise StopIteration
            if not self.cfg.keepalive:
                raise StopIteration
        except StopIteration:
            raise _Over(lingers=wire.has_more) from None
        except (OSError, _Over):
            raise
        except Exception as error:
            self.handle_error(req, connection.socket, addr, error)
            raise _Over(lingers=True) from None
        return bytes(parser.unreader.take_buffered() + wire.rest)

    def _call(self, listener: Any, connection: Connection, addr: Any, req: Any) -> None:
        """Call the application. Raises StopIteration when the connection does not stay."""
        try:
            self.handle_request(listener.getsockname(), req, _Sender(self.connections, connection), addr)
        except TooSlow:
            raise StopIteration from None  # it may have begun its answer

    def _read_ahead(self, connection: Connection, wire: _Wire, req: Any) -> None:
        """Read the body of a post to one of our sources, before the application is called."""
        expects, req._expected_100_continue = req._expected_100_continue, False
        error: Exception | None = None
        content = b""
        if wire.end is not None and wire.end > self.sources.max_body:
            req.force_close()  # the application refuses it by its length
        else:
            if expects and not wire.rest:
                self._send(connection, _CONTINUE)
            wire.begin_body(is_ours=True)
            try:
                content = req.body.read(self.sources.max_body + 1)
            except (TooSlow, _Over):
                raise
            except Exception as broken:  # gunicorn's, for broken chunks: the application says what that gets
                error = broken
            if error is not None or len(content) > self.sources.max_body:
                req.force_close()
        self.connections.complete(connection)
        req.body = _Body(content, error)

    def _watch(self) -> None:
        while True:
            # those that came together are late together: others get a turn in between
            while self.connections.end_late_ones(time.monotonic(), at_most=4):
                gevent.sleep(0.005)
            gevent.sleep(1)


class _Wire:
    """What gunicorn's parser takes for the socket: one request, its head at once, its body as it comes.

    head: ends where we say. rest: what was read already and not given. end: how much of the body is to be given, where
    its length is known. is_over: the sender ended the connection. until: the deadline, where another than a body's holds.
    """

    def __init__(
        self,
        worker: GeventWorker,
        connection: Connection,
        receive: Callable[[int], bytes],
        *,
        head: bytes = b"",
        rest: bytes = b"",
        is_over: bool = False,
    ) -> None:
        self._worker = worker
        self._connection = connection
        self._receive = receive
        self._head = head
        self._is_too_long = len(head) >= HEAD_LIMIT
        self.rest = rest
        self.end: int | None = None
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
            self._worker._hold(self._connection, len(piece))
        return piece

    def _wait(self, size: int) -> bytes:
        connection, waiting = self._connection, self._worker.connections.waiting
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


class _Sender:
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
        with self._answering():
            return self._client.send(data)

    def sendall(self, data: bytes) -> None:
        with self._answering():
            self._client.sendall(data)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> Any:
        with self._answering():
            return self._client.sendfile(file, offset, count)


class _Body(io.BytesIO):
    """A body that was read before the application is called, and the error that ended it."""

    def __init__(self, content: bytes, error: Exception | None) -> None:
        super().__init__(content)
        self._error = error
        self.failed = error is not None

    def read(self, size: int | None = -1, /) -> bytes:
        if self._error is not None:
            raise self._error
        return super().read(size)


def connection_limit(cfg: Config) -> int:
    """How many connections a process serves: gunicorn's setting, and fewer where it may not open so many files."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = int(cfg.worker_connections)
    return limit if files == resource.RLIM_INFINITY else max(16, min(limit, files - _OTHER_FILES))


def reads_heads(cfg: Config) -> bool:
    """Whether requests come in the bytes of the connection itself, one after another."""
    return not cfg.is_ssl and cfg.protocol == "http" and not has_proxy_protocol(cfg) and "h2" not in cfg.http_protocols


def has_proxy_protocol(cfg: Config) -> bool:
    return cfg.proxy_protocol not in (False, "off", None)


def find_sources(application: Any) -> Sources | None:
    """The sources of a WSGI application that is ours, or has ours in it."""
    ours: Any = getattr(application, "extensions", {}).get("webhooks")
    if ours is None:
        return None
    settings = ours.settings
    return Sources(ours.paths, settings.max_body, settings.incomplete_bodies)


def find_short_cut(application: Any) -> ShortCut | None:
    """The short cut of a WSGI application that is ours and has nothing around it."""
    ours: Any = getattr(application, "extensions", {}).get("webhooks")
    if ours is None or ours.entrance is None or application.wsgi_app is not ours.entrance:
        return None
    short_cut: ShortCut | None = ours.short_cut
    return short_cut


def leaves_nothing_else(cfg: Config, log: Any) -> bool:
    """Whether gunicorn's settings leave nothing to do that the short way does not."""
    return (
        bool(cfg.keepalive)
        and reads_heads(cfg)
        and cfg.header_map == "drop"
        and not log.access_log_enabled
        and not cfg.statsd_host
        and cfg.pre_request is PreRequest.default
        and cfg.post_request is PostRequest.default
        and not os.environ.get("SCRIPT_NAME")
        and (cfg.limit_request_line <= 0 or cfg.limit_request_line >= LONGEST_HEAD)
        and (cfg.limit_request_field_size <= 0 or cfg.limit_request_field_size >= LONGEST_HEAD)
        and (cfg.limit_request_fields <= 0 or cfg.limit_request_fields >= MOST_FIELDS)
    )


__all__ = ["GeventWorker"]
