"""The direct route of our gevent worker, over real sockets: what it answers itself and what it leaves to gunicorn."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import gevent
import pytest
from flask import Flask
from gevent import socket
from gunicorn.config import Config
from gunicorn.glogging import Logger

from webhooks.app import create_app
from webhooks.http import DirectRoute, PlainAnswer
from webhooks.http.direct import find_direct_route
from webhooks.http.gunicorn.conditions import allows_direct_route
from webhooks.http.gunicorn.connections import ANSWER_SECONDS, BODY_GRACE_SECONDS, HEAD_SECONDS, close_where_asked
from webhooks.http.gunicorn.gevent_worker import GeventWorker, Sources
from webhooks.http.gunicorn.plain_posts import end_of_head
from webhooks.model import Headers
from webhooks.routing import Registry

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"


class Echo:
    """Answers each post with its source and body; remembers that it was asked."""

    def __init__(self) -> None:
        self.paths: Mapping[str, str] = {"/webhooks/close": "close"}
        self.bodies: list[bytes] = []
        self.answer = b""

    def post(self, source: str, headers: Headers, body: bytes) -> PlainAnswer:
        self.bodies.append(body)
        return PlainAnswer(200, self.answer or source.encode() + b" " + body, [("Content-Type", "text/plain")])

    def refuse(self, source: str, status: int) -> PlainAnswer:
        return PlainAnswer(status, b"refused: " + source.encode(), [])


class Application:
    """What gunicorn calls for everything else."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        body = b"by gunicorn: " + environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


class Serving:
    """A worker with one connection to it."""

    def __init__(self, **options: Any) -> None:
        self.echo = Echo()
        self.application = Application()
        config = make_config(**options)
        self.worker = GeventWorker(1, os.getppid(), [], None, 30, config, Logger(config))
        self.worker.wsgi = self.application
        self.worker.read_posts(Sources(self.echo.paths, 1000, budget=10_000), self.echo)
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._greenlets: list[gevent.Greenlet] = []
        self._clients: list[Any] = []
        self.client = self.connect()

    def connect(self) -> Any:
        """Another connection to the worker."""
        self._acted = time.monotonic()
        client = socket.create_connection(self._listener.getsockname(), timeout=5)
        self._clients.append(client)
        server, address = self._listener.accept()
        self._greenlets.append(gevent.spawn(self.worker.handle, self._listener, server, address))
        self.turn()
        return client

    @property
    def waiting(self) -> list[Any]:
        """The connections that wait, for their sender or for a client that is to read an answer."""
        return [*self.worker.connections.waiting, *self.worker.connections.answering]

    def send(self, data: bytes) -> None:
        self._acted = time.monotonic()
        self.client.sendall(data)
        self.turn()

    def turn(self) -> None:
        """Let the worker run until it waits."""
        for _ in range(5):
            gevent.idle()

    def nearly_let_pass(self, seconds: float) -> None:
        """End those that would be late `seconds` after the client's last act began, however long ago that is."""
        self.worker.connections.end_late_ones(self._acted + seconds, at_most=100)
        self.turn()

    def let_pass(self, seconds: float) -> None:
        """End those that would be late in `seconds` from now."""
        self.worker.connections.end_late_ones(time.monotonic() + seconds, at_most=100)
        self.turn()

    def answer(self, client: Any = None) -> tuple[int, bytes, bool]:
        """(status, body, whether the connection stays) of the next answer."""
        with HTTPResponse(client or self.client, method="POST") as response:
            response.begin()
            return response.status, response.read(), not response.will_close

    def is_over(self) -> bool:
        """Whether the worker has closed the connection; waits for it."""
        return bool(self.client.recv(1) == b"")

    def leave(self) -> None:
        """Go away, and wait until the worker has noticed."""
        self.client.close()
        self._greenlets[0].join(5)
        assert self._greenlets[0].dead

    def close(self) -> None:
        for client in self._clients:
            client.close()
        gevent.joinall(self._greenlets, timeout=5)
        connections = self.worker.connections
        assert not self.waiting
        assert (connections.count, connections.held) == (0, 0)
        self._listener.close()
        self.worker.tmp.close()


def make_config(**options: Any) -> Any:
    config = Config()
    for name, value in {"header_map": "drop", "keepalive": 5, **options}.items():
        config.set(name, value)
    return config


@pytest.fixture
def serving() -> Iterator[Serving]:
    with contextlib.closing(Serving()) as serving:
        yield serving


def post(body: bytes = b"{}", path: str = "/webhooks/close", *lines: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


def test_posts_over_one_connection_are_answered_one_after_another(serving: Serving) -> None:
    for number in range(20):
        serving.send(post(b"%d" % number))
        assert serving.answer() == (200, b"close %d" % number, True)
    assert serving.application.asked == []
    assert serving.worker.nr == 20


def test_posts_that_come_at_once_are_answered_in_order(serving: Serving) -> None:
    serving.send(b"".join(post(b"%d" % number) for number in range(5)))
    # read from the socket itself: a response of http.client reads ahead, and takes what follows with it
    data = b""
    while data.count(b"close ") < 5:
        data += serving.client.recv(10_000)
    assert [data.find(b"close %d" % number) for number in range(5)] == sorted(
        data.find(b"close %d" % number) for number in range(5)
    )


@pytest.mark.parametrize("size", [1, 7, 40])
def test_a_post_may_come_in_pieces(serving: Serving, size: int) -> None:
    whole = post(b"in pieces")
    for start in range(0, len(whole), size):
        serving.send(whole[start : start + size])
    assert serving.answer() == (200, b"close in pieces", True)
    assert serving.application.asked == []


def test_what_is_not_plain_goes_to_gunicorn_with_all_that_was_read(serving: Serving) -> None:
    serving.send(post(b"first"))
    assert serving.answer()[1] == b"close first"
    for piece in (
        b"POST /webhooks/cl",
        b"ose HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nchunk",
        b"\r\n0\r\n\r\n",
    ):
        serving.send(piece)
    assert serving.answer() == (200, b"by gunicorn: chunk", True)
    serving.send(post(b"later"))
    assert serving.answer() == (200, b"close later", True)
    assert serving.echo.bodies == [b"first", b"later"]
    assert serving.application.asked == ["POST /webhooks/close"]


def test_another_path_goes_to_gunicorn(serving: Serving) -> None:
    serving.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert serving.answer() == (200, b"by gunicorn: ", True)


def test_what_gunicorn_refuses_is_refused_by_gunicorn(serving: Serving) -> None:
    serving.send(post(b"{}", "/webhooks/close", "Content-Length: 3"))
    assert serving.answer()[0] == 400
    assert (serving.echo.bodies, serving.application.asked) == ([], [])


def test_a_body_above_the_limit_is_left_unread(serving: Serving) -> None:
    serving.send(post(b"x" * 1001))
    serving.answer()
    assert serving.echo.bodies == []
    assert serving.application.asked == ["POST /webhooks/close"]


def test_a_sender_that_asks_for_it_is_closed_after_the_answer(serving: Serving) -> None:
    serving.send(post(b"last", "/webhooks/close", "Connection: close"))
    assert serving.answer() == (200, b"close last", False)
    assert serving.is_over()


def test_a_worker_that_stops_answers_and_closes(serving: Serving) -> None:
    serving.send(post(b"one"))
    assert serving.answer()[2]
    serving.worker.alive = False
    serving.send(post(b"two"))
    assert serving.answer() == (200, b"close two", False)
    assert serving.is_over()


def test_a_worker_ends_after_as_many_requests_as_it_was_told() -> None:
    with contextlib.closing(Serving(max_requests=2)) as serving:
        serving.send(post())
        assert serving.answer()[2]
        serving.send(post())
        assert not serving.answer()[2]
        assert not serving.worker.alive


CHUNKED = b"POST /webhooks/close?a=b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nch"
QUERY = post(b"half a body", "/webhooks/close?a=b")[:-3]
EXPECTS = post(b"half a body", "/webhooks/close", "Expect: 100-continue")[:-3]
BODIES = [post(b"half a body")[:-3], QUERY, CHUNKED, EXPECTS]
BODY_NAMES = ["plain", "query", "chunked", "expects"]
HEADS = [post()[:30], QUERY[:40], CHUNKED[:70], b"GET /healthz HTT", b"\r\nGET /"]


@pytest.mark.parametrize("sent", [b"", *HEADS], ids=repr)
def test_a_sender_that_goes_away_within_a_head_leaves_nothing_behind(serving: Serving, sent: bytes) -> None:
    serving.send(sent)
    serving.leave()
    assert (serving.echo.bodies, serving.application.asked, serving.waiting) == ([], [], [])


@pytest.mark.parametrize("sent", BODIES, ids=BODY_NAMES)
def test_a_body_that_ends_too_soon_is_no_event(serving: Serving, sent: bytes) -> None:
    serving.send(sent)
    serving.client.shutdown(socket.SHUT_WR)
    answer = b""
    while piece := serving.client.recv(10_000):
        answer += piece
    assert serving.echo.bodies == []
    assert b"half a body" not in answer


def test_a_new_connection_has_ten_seconds_and_a_kept_one_as_long_as_gunicorn_says(serving: Serving) -> None:
    serving.nearly_let_pass(HEAD_SECONDS - 1)
    assert len(serving.waiting) == 1
    serving.send(post())
    assert serving.answer()[0] == 200
    serving.nearly_let_pass(4)
    assert len(serving.waiting) == 1
    serving.let_pass(6)
    assert serving.is_over()


@pytest.mark.parametrize("sent", HEADS, ids=repr)
@pytest.mark.parametrize("comes_late", [False, True])
def test_a_head_that_does_not_come_whole_is_closed(serving: Serving, sent: bytes, comes_late: bool) -> None:
    if comes_late:
        serving.send(post())
        assert serving.answer()[0] == 200
    serving.send(sent)
    serving.nearly_let_pass(HEAD_SECONDS - 1)
    assert len(serving.waiting) == 1
    serving.let_pass(HEAD_SECONDS + 1)
    assert serving.answer()[0] == 408
    assert serving.is_over()
    assert serving.application.asked == []


class Recorder:
    """Refusals that are remembered in memory."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, str]] = []

    def record(self, error: Any, *, source: str, request_id: str) -> None:
        assert request_id
        self.seen.append((error.refusal, error.status, source))


def test_what_never_was_a_request_leaves_its_trace(serving: Serving) -> None:
    serving.worker.refusals = recorder = Recorder()
    serving.send(b"POST /webhooks/close HTTP/1.1\r\nX y: 1\r\n\r\n")
    assert serving.answer()[0] == 400
    assert recorder.seen == [("malformed", 400, "")]


def test_a_head_that_does_not_come_whole_leaves_its_trace(serving: Serving) -> None:
    serving.worker.refusals = recorder = Recorder()
    serving.send(HEADS[0])
    serving.let_pass(HEAD_SECONDS + 1)
    assert serving.answer()[0] == 408
    assert recorder.seen == [("too_slow", 408, "")]


@pytest.mark.parametrize("sent", BODIES, ids=BODY_NAMES)
def test_a_body_that_does_not_come_whole_is_closed(serving: Serving, sent: bytes) -> None:
    serving.send(sent)
    serving.nearly_let_pass(BODY_GRACE_SECONDS - 1)
    assert len(serving.waiting) == 1
    serving.let_pass(BODY_GRACE_SECONDS + 1)
    assert serving.answer() == (408, b"refused: close", False)
    assert serving.is_over()
    assert (serving.echo.bodies, serving.application.asked) == ([], [])


def test_a_sender_that_waits_for_it_is_told_to_go_on(serving: Serving) -> None:
    whole = post(b"go on", "/webhooks/close", "Expect: 100-continue")
    serving.send(whole[:-5])
    assert serving.client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    serving.send(whole[-5:])
    assert serving.answer() == (200, b"by gunicorn: go on", True)


def test_a_sender_of_too_much_is_not_told_to_go_on(serving: Serving) -> None:
    serving.send(post(b"x" * 1001, "/webhooks/close", "Expect: 100-continue")[:-1001])
    assert serving.answer()[0] == 200  # the application here does not mind
    assert serving.is_over()


def test_an_upload_to_another_path_is_read_by_the_application(serving: Serving) -> None:
    serving.send(post(b"x" * 5_000, "/uploads")[:-1])
    assert serving.application.asked == ["POST /uploads"]
    assert serving.worker.connections.held == 0
    serving.nearly_let_pass(29)
    assert len(serving.waiting) == 1
    serving.send(b"x")
    assert serving.answer() == (200, b"by gunicorn: " + b"x" * 5_000, True)


def test_an_upload_that_stops_is_closed(serving: Serving) -> None:
    serving.send(post(b"x" * 5_000, "/uploads")[:-1])
    serving.let_pass(36)
    assert serving.is_over()


def test_a_sender_that_takes_no_answer_is_closed(serving: Serving) -> None:
    serving.echo.answer = b"x" * 5_000_000
    serving.send(post())
    while not serving.worker.connections.answering:
        gevent.sleep(0)
    serving.nearly_let_pass(ANSWER_SECONDS - 1)
    assert len(serving.waiting) == 1
    serving.let_pass(ANSWER_SECONDS + 1)
    while serving.waiting:
        gevent.sleep(0)


# -- bounds ------------------------------------------------------------------------------------------------


def test_where_there_are_too_many_the_one_longest_without_a_request_gives_way(serving: Serving) -> None:
    serving.worker.connections.limit = 3
    serving.send(post())  # so it is the second that has been without one for longest
    assert serving.answer()[0] == 200
    second, third = serving.connect(), serving.connect()
    second.sendall(post()[:20])
    serving.send(post())
    assert serving.answer()[0] == 200
    newest = serving.connect()
    with contextlib.suppress(ConnectionResetError):
        while second.recv(1000):
            pass
    for client in (serving.client, third, newest):
        client.sendall(post(b"all others are served"))
        assert serving.answer(client) == (200, b"close all others are served", True)


def test_over_the_budget_the_slowest_incomplete_body_gives_way(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, fast, newest = serving.client, serving.connect(), serving.connect()
    now = time.monotonic()
    monkeypatch.setattr("webhooks.http.gunicorn.gevent_worker.time.monotonic", lambda: now)
    serving.worker.connections.budget = 2000
    slow.sendall(post(b"s" * 999)[:500])
    fast.sendall(post(b"f" * 999)[:900])
    serving.turn()
    now += 2
    newest.sendall(post(b"n" * 999)[:800])
    serving.turn()
    assert serving.answer(slow) == (408, b"refused: close", False)
    for client, letter in ((fast, b"f"), (newest, b"n")):
        client.sendall(post(letter * 999)[900 if letter == b"f" else 800 :])
        serving.turn()
        assert serving.answer(client) == (200, b"close " + letter * 999, True)


@pytest.mark.parametrize("path", ["/webhooks/close", "/webhooks/close?a=b"])
def test_over_the_budget_with_only_young_ones_the_newest_is_told_to_come_again(serving: Serving, path: str) -> None:
    serving.worker.connections.budget = 1500
    serving.send(post(b"1" * 999, path)[:-200])
    newest = serving.connect()
    newest.sendall(post(b"2" * 999, path)[:-200])
    serving.turn()
    assert serving.answer(newest) == (503, b"refused: close", False)
    serving.send(b"1" * 200)
    assert serving.answer()[0] == 200


def test_what_a_body_holds_is_free_again_once_it_is_answered(serving: Serving) -> None:
    for path in ("/webhooks/close", "/webhooks/close?a=b"):
        serving.send(post(b"x" * 999, path)[:-1])
        assert serving.worker.connections.held > 900
        serving.send(b"x")
        assert serving.answer()[0] == 200
        assert serving.worker.connections.held == 0


def test_requests_that_come_at_once_let_others_have_a_turn(serving: Serving) -> None:
    """Also those that are refused at once, for which nothing is waited for."""
    order: list[bytes] = []

    class Refuses(Echo):
        def post(self, source: str, headers: Headers, body: bytes) -> PlainAnswer:
            order.append(body)
            return PlainAnswer(401, b"", [])

    serving.worker.read_posts(serving.worker.sources, Refuses())
    many, one = serving.connect(), serving.connect()
    many.sendall(b"".join(post(b"many") for _ in range(200)))
    one.sendall(post(b"one"))
    while len(order) < 201:
        serving.turn()
    assert order.index(b"one") < 10


@pytest.mark.parametrize("path", ["/uploads", "/webhooks/close?a=b", "/webhooks/close"])
def test_nothing_more_is_read_after_a_refusal(serving: Serving, path: str) -> None:
    """A body that the application does not want: at most what has come already, and the connection is closed."""

    def refuse(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("413 Content Too Large", [("Content-Length", "0"), ("Connection", "close")])
        return []

    serving.worker.wsgi = close_where_asked(refuse)
    size = 500_000_000
    serving.client.sendall(post(b"", path).replace(b"Content-Length: 0", b"Content-Length: %d" % size))
    sent = 0
    with contextlib.suppress(OSError):
        while sent < size:
            sent += serving.client.send(b"x" * 100_000)
            serving.turn()
    assert sent < 20_000_000


def test_a_head_that_gunicorn_ends_elsewhere_is_refused(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (-1, 1):
        client = serving.connect()
        monkeypatch.setattr(
            "webhooks.http.gunicorn.gevent_worker.end_of_head", lambda data, by=wrong: end_of_head(data) + by
        )
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET")
        assert serving.answer(client)[0] == 400
        assert client.recv(1) == b""


def test_nobody_is_closed_while_a_post_is_taken_in(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []

    def look(*_: object) -> PlainAnswer:
        waiting.append(len(serving.waiting))
        return PlainAnswer(200, b"", [])

    monkeypatch.setattr(serving.echo, "post", look)
    serving.send(post())
    assert serving.answer()[0] == 200
    assert waiting == [0]


def test_an_answer_larger_than_the_sockets_buffer_comes_whole(serving: Serving) -> None:
    serving.echo.answer = b"x" * 5_000_000
    serving.send(post())
    assert serving.answer() == (200, serving.echo.answer, True)


def test_a_fault_of_ours_closes_the_connection_and_is_logged(
    serving: Serving, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> PlainAnswer:
        raise RuntimeError("made for the test")

    monkeypatch.setattr(serving.echo, "post", fail)
    serving.worker.log.error_log.propagate = True
    serving.send(post())
    assert serving.is_over()
    assert "a connection was given up" in caplog.text


# -- what gunicorn reads from the first byte on ------------------------------------------------------------


@pytest.fixture
def proxied() -> Iterator[Serving]:
    with contextlib.closing(Serving(proxy_protocol=True, proxy_allow_ips="127.0.0.1")) as serving:
        yield serving


PROXIED = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n"


def test_the_proxy_protocol_is_gunicorns_to_read(proxied: Serving) -> None:
    proxied.send(PROXIED + post(b"one"))
    assert proxied.answer() == (200, b"by gunicorn: one", True)
    proxied.nearly_let_pass(4)
    proxied.send(post(b"two"))
    assert proxied.answer() == (200, b"by gunicorn: two", True)
    assert proxied.echo.bodies == []


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(b"", HEAD_SECONDS), (PROXIED + post()[:30], HEAD_SECONDS), (PROXIED + post(b"half a body")[:-3], 30)],
    ids=["nothing", "head", "body"],
)
def test_what_gunicorn_reads_has_deadlines_too(proxied: Serving, sent: bytes, seconds: float) -> None:
    proxied.send(sent)
    proxied.nearly_let_pass(seconds - 1)
    assert len(proxied.waiting) == 1
    proxied.let_pass(seconds + 1)
    with contextlib.suppress(ConnectionResetError):
        while proxied.client.recv(1000):
            pass
    assert proxied.echo.bodies == []


# -- when the short way is taken ---------------------------------------------------------------------------


def test_the_settings_that_we_ship_leave_the_short_way_open() -> None:
    config = make_config()
    assert allows_direct_route(config, Logger(config))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("accesslog", "-"),
        ("keepalive", 0),
        ("header_map", "dangerous"),
        ("proxy_protocol", True),
        ("statsd_host", "127.0.0.1:8125"),
        ("pre_request", lambda worker, request: None),
        ("post_request", lambda worker, request, environ, response: None),
        ("limit_request_line", 100),
        ("limit_request_fields", 10),
        ("limit_request_field_size", 100),
        ("certfile", __file__),
        ("protocol", "uwsgi"),
    ],
)
def test_whoever_asks_gunicorn_for_more_gets_gunicorn(option: str, value: Any) -> None:
    config = make_config(**{option: value})
    assert not allows_direct_route(config, Logger(config))


def test_a_mount_point_in_the_environment_is_gunicorns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/here")
    config = make_config()
    assert not allows_direct_route(config, Logger(config))


@pytest.fixture
def make_service(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """`create_app`, with a registry of its own and this process's logging left alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webhooks.app.webhooks.default_registry", Registry())
    monkeypatch.setattr("webhooks.settings.logs.set_up_logging", lambda *_: None)
    apps: list[Flask] = []

    def make(**overrides: Any) -> Flask:
        apps.append(create_app({"database_url": sqlite_url, "sources": {"close": {"secret": KEY}}, **overrides}))
        return apps[-1]

    yield make
    for app in apps:
        app.extensions["webhooks"].close()


@pytest.mark.parametrize("trusted_proxies", [0, 1])
def test_our_service_has_the_direct_route(make_service: Callable[..., Flask], trusted_proxies: int) -> None:
    found = find_direct_route(make_service(trusted_proxies=trusted_proxies))
    assert isinstance(found, DirectRoute)
    assert found.paths["/webhooks/close"] == "close"


def test_middleware_around_the_application_sees_every_request(make_service: Callable[..., Flask]) -> None:
    app = make_service()
    inner = app.wsgi_app
    app.wsgi_app = lambda environ, start_response: inner(environ, start_response)  # type: ignore[method-assign]
    assert find_direct_route(app) is None
    assert find_direct_route(lambda environ, start_response: app(environ, start_response)) is None


def test_another_application_has_no_direct_route() -> None:
    assert find_direct_route(Flask("theirs")) is None
