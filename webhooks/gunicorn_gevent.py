"""gunicorn's gevent worker, with a short way in for plain posts to our sources.

`GeventWorker` reads a connection itself as long as what comes is a plain post (`http1`), answers it by the function
that Flask's endpoint calls too, in one write, and waits for the next. The first request that is anything else, however
legal, goes to gunicorn with every byte that was read, and the connection stays with gunicorn from then on.

The short way is taken only when nobody could notice: not when gunicorn is asked for access logs, hooks or another
protocol, and not when something was put around the application. Then this is gunicorn's worker and nothing else.

What surprises: nobody waits with a time-out of its own. One greenlet looks once a second who has waited too long and
shuts that connection down; a timer for each request costs as much as reading it.

Not here: what a post gets (`views`), the commit (`ingest`). The setting WORKER_CLASS names it: `gunicorn_conf`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from socket import SHUT_RDWR
from typing import Any, Protocol

import gevent
from gunicorn import util
from gunicorn.config import Config, PostRequest, PreRequest
from gunicorn.workers import ggevent

from webhooks.http1 import LONGEST_HEAD, MOST_FIELDS, PlainPost, PlainPosts, Unread, answer_bytes
from webhooks.model import Headers

#: A body has this long to come whole, and an answer to be taken; a request's head and an idle connection have gunicorn's
#: setting `keepalive`.
PATIENCE_SECONDS = 30
_CHUNK = 1 << 16
_LARGEST_CHUNK = 1 << 20


class ShortCut(Protocol):
    """Who answers posts that have been read; `views.ShortCut`. paths: {path: name of the source}."""

    paths: Mapping[str, str]
    max_body: int

    def post(self, source: str, headers: Headers, body: bytes) -> tuple[int, bytes, list[tuple[str, str]]]:
        """(status, body, headers); raises nothing."""


class GeventWorker(ggevent.GeventWorker):  # type: ignore[misc]
    """See the module."""

    alive: bool
    #: None: every connection is gunicorn's
    short_cut: ShortCut | None = None
    posts: PlainPosts
    idle_seconds: float
    #: {connection that waits for its sender: (since when by the monotonic clock, for how many seconds it may)}
    waiting: dict[Any, tuple[float, float]]

    def load_wsgi(self) -> None:
        super().load_wsgi()
        if leaves_nothing_else(self.cfg, self.log):
            self.take_short_cut(find_short_cut(self.wsgi))

    def take_short_cut(self, short_cut: ShortCut | None) -> None:
        """Answer plain posts by `short_cut` from now on, if there is one."""
        self.short_cut = short_cut
        if short_cut is not None:
            self.waiting = {}
            self.idle_seconds = self.cfg.keepalive
            self.posts = PlainPosts(
                short_cut.paths, max_body=short_cut.max_body, scheme_headers=self.cfg.secure_scheme_headers
            )

    def run(self) -> None:
        if self.short_cut is not None:
            gevent.spawn(self._watch)
        super().run()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection to its end."""
        if self.short_cut is not None:
            unread = b""
            try:
                client.setblocking(1)
                unread = self._converse(client, self.short_cut)
            except OSError as error:
                self.log.debug("a connection broke: %s", error)
            except Exception:
                self.log.exception("a connection was given up")
            finally:
                self.waiting.pop(client, None)
                if not unread:
                    util.close(client)
            if not unread:
                return
            client = Rewound(client, unread)
        super().handle(listener, client, addr)

    # -- the short way -------------------------------------------------------------------------------------

    def _converse(self, client: Any, short_cut: ShortCut) -> bytes:
        """Answer plain posts for as long as they come.

        Returns what was read and is not one of them; nothing when the connection is over. Raises OSError when it broke.
        """
        hub = gevent.get_hub()
        data = b""
        with contextlib.closing(hub.loop.io(client.fileno(), 1)) as readable:

            def receive(size: int) -> bytes:
                hub.wait(readable)  # first: what comes next is hardly ever there already
                received: bytes = client.recv(size)
                return received

            while True:
                post, data = self._read_post(client, receive, data)
                if not isinstance(post, PlainPost):
                    return data
                end = post.start + post.length
                if len(data) < end:
                    data = self._read_body(client, receive, data, end)
                    if len(data) < end:
                        return b""
                keeps_alive = self._answer(client, short_cut, post, data[post.start : end])
                data = data[end:]
                if not keeps_alive:
                    return b""

    def _answer(self, client: Any, short_cut: ShortCut, post: PlainPost, content: bytes) -> bool:
        """Take one post in and say what it gets; returns whether the connection stays."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        status, body, headers = short_cut.post(post.source, post.headers, content)
        keeps_alive = post.keeps_alive and self.alive
        answer = answer_bytes(status, headers, body, now=time.time(), keeps_alive=keeps_alive)
        self.waiting[client] = (time.monotonic(), PATIENCE_SECONDS)
        sent = client.send(answer)  # sendall asks the kernel for the size of its buffer first
        if sent < len(answer):
            client.sendall(answer[sent:])
        del self.waiting[client]
        return keeps_alive

    def _read_post(self, client: Any, receive: Callable[[int], bytes], data: bytes) -> tuple[PlainPost | Unread, bytes]:
        """The head that `data` begins with, when it has come whole, and all that was read for it."""
        post = self.posts.read(data)
        if post is Unread.INCOMPLETE:
            self.waiting[client] = (time.monotonic(), self.idle_seconds)
            while post is Unread.INCOMPLETE:
                piece = receive(_CHUNK)
                if not piece:
                    return Unread.INCOMPLETE, b""  # half a head is nobody's request
                data = data + piece if data else piece
                post = self.posts.read(data)
            del self.waiting[client]
        return post, data

    def _read_body(self, client: Any, receive: Callable[[int], bytes], data: bytes, end: int) -> bytes:
        """`data` and what comes, up to `end` bytes; fewer when the sender went away."""
        pieces, size = [data], len(data)
        self.waiting[client] = (time.monotonic(), PATIENCE_SECONDS)
        while size < end:
            piece = receive(min(end - size, _LARGEST_CHUNK))
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
        del self.waiting[client]
        return b"".join(pieces)

    def _watch(self) -> None:
        while True:
            self.end_waiting(time.monotonic())
            gevent.sleep(1)

    def end_waiting(self, now: float) -> None:
        """Shut down each connection that has waited for too long. now: by the monotonic clock."""
        for client, (since, seconds) in list(self.waiting.items()):
            if now - since > seconds:
                with contextlib.suppress(OSError):
                    client.shutdown(SHUT_RDWR)  # its own greenlet reads the end of it, and closes


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
        and not cfg.is_ssl
        and cfg.protocol == "http"
        and cfg.proxy_protocol in (False, "off", None)
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


class Rewound:
    """A connection whose first bytes were read already: `recv` gives them again."""

    def __init__(self, client: Any, unread: bytes) -> None:
        self._client = client
        self._unread = unread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self._unread:
            received: bytes = self._client.recv(size, flags)
            return received
        piece, self._unread = self._unread[:size], self._unread[size:]
        return piece


__all__ = ["GeventWorker"]
