"""gunicorn's gevent worker, with deadlines, bounds, and a direct route for plain posts to our sources.

`GeventWorker` reads the head of every request itself, so that one rule ends those that never come whole. A plain post
(`plain_posts`) it answers by the function that Flask's endpoint calls too, in one write. Everything else, however
legal, is parsed by gunicorn: its head from exactly those bytes (a parser that wants more of them, or leaves some, ends
the connection with 400), its body as it comes. A body for one of our sources is read before the application is called, so
that a slow sender costs a waiting greenlet; other paths of an application read theirs themselves. Between two
requests that have come already others get their turn.

The direct route is taken only where it makes no difference (`conditions`): not when gunicorn is asked for access logs, hooks or another
protocol, and not when something was put around the application. TLS, HTTP/2 and the proxy protocol are gunicorn's to
read, from the first byte on; deadlines of ours hold there too, but for HTTP/2 and a TLS handshake.

What surprises: no wait has a time-out of its own. One greenlet looks once a second which connections have waited too
long and shuts them down; a timer for each request costs as much as reading it.

Not here: which have waited too long (`connections`), what the parser reads from (`wire`), what a post gets
(`http.direct`), the commit (`intake`). The setting WORKER_CLASS names it: `settings`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import gevent
from gunicorn import util
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import InvalidRequestLine
from gunicorn.http.parser import RequestParser
from gunicorn.workers import ggevent

from webhooks.http.gunicorn.conditions import allows_direct_route, connection_limit, reads_heads
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
from webhooks.http.gunicorn.plain_posts import PlainPost, PlainPosts, Unread, answer_bytes, end_of_head
from webhooks.http.gunicorn.refusals import LeavesTraces
from webhooks.http.gunicorn.wire import AnswerSocket, ConnectionOver, ParserSocket, ReadBody, hold
from webhooks.model import Headers

_CHUNK = 1 << 16
_LARGEST_CHUNK = 1 << 20
#: What an application left of a body is read and thrown away up to here; when more comes, the connection is closed.
_REST_BYTES = 1 << 16
_REST_SECONDS = 5
_LINGER_SECONDS = 1.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class AnswersPosts(Protocol):
    """What answers posts that have been read; `http.DirectRoute`."""

    def post(self, source: str, headers: Headers, body: bytes) -> tuple[int, bytes, list[tuple[str, str]]]:
        """(status, body, headers); raises nothing."""

    def refuse(self, source: str, status: int) -> tuple[int, bytes, list[tuple[str, str]]]:
        """The same for a post that did not come whole; raises nothing."""


class Sources(NamedTuple):
    """The posts that are ours. paths: {path: name of the source}. max_body, budget: in bytes."""

    paths: Mapping[str, str]
    max_body: int
    budget: int = BUDGET


class GeventWorker(LeavesTraces, ggevent.GeventWorker):  # type: ignore[misc]
    """See the module."""

    alive: bool
    wsgi: Any
    sources: Sources
    #: None: every request is gunicorn's to parse
    direct_route: AnswersPosts | None
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
        self.read_posts(Sources({}, 0), None)

    def load_wsgi(self) -> None:
        """Load the application, and find which posts are its own."""
        super().load_wsgi()
        ours: Any = getattr(self.wsgi, "extensions", {}).get("webhooks")
        if ours is not None:
            from webhooks.http.direct import find_direct_route  # not in gunicorn's master, which imports this module

            sources = Sources(ours.paths, ours.settings.max_body, ours.settings.incomplete_bodies)
            direct_route = find_direct_route(self.wsgi) if allows_direct_route(self.cfg, self.log) else None
            self.read_posts(sources, direct_route)
        self.wsgi = close_where_asked(self.wsgi)

    def read_posts(self, sources: Sources, direct_route: AnswersPosts | None) -> None:
        """Read posts to `sources` from now on, and answer plain ones by `direct_route`, if there is one."""
        self.sources = sources
        self.direct_route = direct_route
        self.connections.budget = sources.budget
        self.posts = PlainPosts(
            sources.paths if direct_route is not None else {},
            max_body=sources.max_body,
            scheme_headers=self.cfg.secure_scheme_headers,
        )

    def run(self) -> None:
        """Serve until told to stop."""
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
            except ConnectionOver as over:
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
        wire = req.unreader.sock = ParserSocket(self.connections, connection, sock.recv)
        wire.begin_body(is_ours=False)
        try:
            super().handle_request(listener_name, req, AnswerSocket(self.connections, connection), addr)
        finally:
            req.unreader.sock = sock
        connection.until = time.monotonic() + self.cfg.keepalive + HEAD_SECONDS
        self.connections.waiting[connection] = None

    # -- one connection ------------------------------------------------------------------------------------

    def _converse(self, listener: Any, connection: Connection, addr: Any) -> None:
        """Answer requests for as long as they come. Raises `ConnectionOver`; OSError when the connection broke."""
        client, direct_route, waiting = connection.socket, self.direct_route, self.connections.waiting
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
                if isinstance(post, PlainPost) and direct_route is not None:
                    end = post.start + post.length
                    if len(data) < end:
                        data = self._read_body(connection, receive, data, post)
                    waiting.pop(connection, None)
                    if connection.held:
                        self.connections.complete(connection)
                    self._answer(connection, direct_route, post, data[post.start : end])
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
            hold(self.connections, connection, len(data))
        # what is left of a new connection's first seconds; one that stays may rest
        is_new = bool(connection.until)
        if not is_new:
            connection.until = time.monotonic() + (HEAD_SECONDS if data else self.cfg.keepalive)
        self.connections.waiting[connection] = None
        while True:
            piece = receive(_CHUNK)
            if not piece:
                if not data:
                    raise ConnectionOver
                return Unread.NOT_PLAIN, data  # half a head is no request; gunicorn may refuse it
            is_first = not data
            data = piece if is_first else data + piece
            post = self.posts.read(data)
            if isinstance(post, PlainPost) or (post is Unread.NOT_PLAIN and end_of_head(data)):
                return post, data
            if is_first:
                connection.begun = time.monotonic()
                if not is_new:
                    connection.until = connection.begun + HEAD_SECONDS
            hold(self.connections, connection, len(piece))

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
        hold(self.connections, connection, size - connection.held)
        while size < end:
            piece = receive(min(end - size, _LARGEST_CHUNK))
            if not piece:
                raise ConnectionOver(400)
            pieces.append(piece)
            size += len(piece)
            connection.until = began + body_seconds(size - post.start)
            hold(self.connections, connection, len(piece))
        return b"".join(pieces)

    def _answer(self, connection: Connection, direct_route: AnswersPosts, post: PlainPost, content: bytes) -> None:
        """Take one post in and say what it gets. Raises `ConnectionOver` when the connection does not stay."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        status, body, headers = direct_route.post(post.source, post.headers, content)
        keeps_alive = post.keeps_alive and self.alive
        self._send(connection, answer_bytes(status, headers, body, now=time.time(), keeps_alive=keeps_alive))
        if not keeps_alive:
            raise ConnectionOver

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
        if self.direct_route is not None and connection.source:
            status, body, headers = self.direct_route.refuse(connection.source, status)
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
        wire = ParserSocket(
            self.connections,
            connection,
            receive,
            head=data[: end or None],
            rest=data[end:] if end else b"",
            is_over=not end,
        )
        parser = RequestParser(self.cfg, wire, addr)
        req = None
        try:
            req = next(parser)
            if parser.unreader.take_buffered():
                raise InvalidRequestLine("the head continues behind its end")
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
            if not isinstance(req.body, ReadBody):
                # what the application left is no request
                wire.until = time.monotonic() + _REST_SECONDS
                if not parser.finish_body(deadline=wire.until, max_bytes=_REST_BYTES):
                    raise StopIteration
            if not self.cfg.keepalive:
                raise StopIteration
        except StopIteration:
            raise ConnectionOver(lingers=wire.has_more) from None
        except (OSError, ConnectionOver):
            raise
        except Exception as error:
            self.handle_error(req, connection.socket, addr, error)
            raise ConnectionOver(lingers=True) from None
        return bytes(parser.unreader.take_buffered() + wire.rest)

    def _call(self, listener: Any, connection: Connection, addr: Any, req: Any) -> None:
        """Call the application. Raises StopIteration when the connection does not stay."""
        try:
            self.handle_request(listener.getsockname(), req, AnswerSocket(self.connections, connection), addr)
        except TooSlow:
            raise StopIteration from None  # it may have begun its answer

    def _read_ahead(self, connection: Connection, wire: ParserSocket, req: Any) -> None:
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
            except (TooSlow, ConnectionOver):
                raise
            except Exception as broken:  # gunicorn's, for broken chunks: the application says what that gets
                error = broken
            if error is not None or len(content) > self.sources.max_body:
                req.force_close()
        self.connections.complete(connection)
        req.body = ReadBody(content, error)

    def _watch(self) -> None:
        while True:
            # those that came together are late together: others get a turn in between
            while self.connections.end_late_ones(time.monotonic(), at_most=4):
                gevent.sleep(0.005)
            gevent.sleep(1)


__all__ = ["GeventWorker"]
