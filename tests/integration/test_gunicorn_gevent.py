"""The short way of our gevent worker, over real sockets: what it answers itself and what it leaves to gunicorn."""

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
from webhooks.gunicorn_gevent import PATIENCE_SECONDS, GeventWorker, find_short_cut, leaves_nothing_else
from webhooks.model import Headers
from webhooks.registry import Registry
from webhooks.views import Answer, ShortCut

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"


class Echo:
    """Answers each post with its source and body; remembers that it was asked."""

    def __init__(self) -> None:
        self.paths: Mapping[str, str] = {"/webhooks/close": "close"}
        self.max_body = 1000
        self.bodies: list[bytes] = []
        self.answer = b""

    def post(self, source: str, headers: Headers, body: bytes) -> Answer:
        self.bodies.append(body)
        return Answer(200, self.answer or source.encode() + b" " + body, [("Content-Type", "text/plain")])


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
        self.worker.take_short_cut(self.echo)
        self.client, server = socket.socketpair()
        self.client.settimeout(5)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self._greenlet = gevent.spawn(self.worker.handle, listener, server, ("127.0.0.1", 1))
        self._listener = listener

    def send(self, data: bytes) -> None:
        self.client.sendall(data)
        self.turn()

    def turn(self) -> None:
        """Let the worker run until it waits."""
        for _ in range(5):
            gevent.sleep(0)

    def wait_until_it_waits_for(self, seconds: float) -> None:
        while [limit for _, limit in self.worker.waiting.values()] != [seconds]:
            gevent.sleep(0)

    def answer(self) -> tuple[int, bytes, bool]:
        """(status, body, whether the connection stays) of the next answer."""
        with HTTPResponse(self.client, method="POST") as response:
            response.begin()
            return response.status, response.read(), not response.will_close

    def is_over(self) -> bool:
        """Whether the worker has closed the connection; waits for it."""
        return bool(self.client.recv(1) == b"")

    def leave(self) -> None:
        """Go away, and wait until the worker has noticed."""
        self.client.close()
        self._greenlet.join(5)
        assert self._greenlet.dead

    def close(self) -> None:
        self.leave()
        assert not self.worker.waiting
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
    assert serving.answer() == (200, b"by gunicorn: later", True)
    assert serving.echo.bodies == [b"first"]
    assert serving.application.asked == ["POST /webhooks/close"] * 2


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


@pytest.mark.parametrize("sent", [b"", post()[:30], post(b"half a body")[:-3]], ids=["nothing", "head", "body"])
def test_a_sender_that_goes_away_leaves_nothing_behind(serving: Serving, sent: bytes) -> None:
    serving.send(sent)
    serving.leave()
    assert (serving.echo.bodies, serving.application.asked, serving.worker.waiting) == ([], [], {})


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [(b"", 5), (post()[:30], 5), (post(b"half a body")[:-3], PATIENCE_SECONDS)],
    ids=["nothing", "head", "body"],
)
def test_a_sender_that_is_too_slow_is_closed(serving: Serving, sent: bytes, seconds: int) -> None:
    serving.send(sent)
    serving.wait_until_it_waits_for(seconds)
    begun = time.monotonic()
    serving.worker.end_waiting(begun + seconds - 1)
    serving.turn()
    assert len(serving.worker.waiting) == 1
    serving.worker.end_waiting(begun + seconds + 1)
    assert serving.is_over()
    assert (serving.echo.bodies, serving.application.asked) == ([], [])


def test_a_sender_that_takes_no_answer_is_closed(serving: Serving) -> None:
    serving.echo.answer = b"x" * 5_000_000
    serving.send(post())
    serving.wait_until_it_waits_for(PATIENCE_SECONDS)
    begun = time.monotonic()
    serving.worker.end_waiting(begun + PATIENCE_SECONDS - 1)
    serving.turn()
    assert len(serving.worker.waiting) == 1
    serving.worker.end_waiting(begun + PATIENCE_SECONDS + 1)
    while serving.worker.waiting:
        gevent.sleep(0)


def test_nobody_is_closed_while_a_post_is_taken_in(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []

    def look(*_: object) -> Answer:
        waiting.append(len(serving.worker.waiting))
        return Answer(200, b"", [])

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
    def fail(*_: object) -> Answer:
        raise RuntimeError("made for the test")

    monkeypatch.setattr(serving.echo, "post", fail)
    serving.worker.log.error_log.propagate = True
    serving.send(post())
    assert serving.is_over()
    assert "a connection was given up" in caplog.text


# -- when the short way is taken ---------------------------------------------------------------------------


def test_the_settings_that_we_ship_leave_the_short_way_open() -> None:
    config = make_config()
    assert leaves_nothing_else(config, Logger(config))


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
    assert not leaves_nothing_else(config, Logger(config))


def test_a_mount_point_in_the_environment_is_gunicorns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPT_NAME", "/here")
    config = make_config()
    assert not leaves_nothing_else(config, Logger(config))


@pytest.fixture
def make_service(sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """`create_app`, with a registry of its own and this process's logging left alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webhooks.app.default_registry", Registry())
    monkeypatch.setattr("webhooks.logs.set_up_logging", lambda *_: None)
    apps: list[Flask] = []

    def make(**overrides: Any) -> Flask:
        apps.append(create_app({"database_url": sqlite_url, "sources": {"close": {"secret": KEY}}, **overrides}))
        return apps[-1]

    yield make
    for app in apps:
        app.extensions["webhooks"].close()


@pytest.mark.parametrize("trusted_proxies", [0, 1])
def test_our_service_has_the_short_way(make_service: Callable[..., Flask], trusted_proxies: int) -> None:
    found = find_short_cut(make_service(trusted_proxies=trusted_proxies))
    assert isinstance(found, ShortCut)
    assert found.paths["/webhooks/close"] == "close"


def test_middleware_around_the_application_sees_every_request(make_service: Callable[..., Flask]) -> None:
    app = make_service()
    inner = app.wsgi_app
    app.wsgi_app = lambda environ, start_response: inner(environ, start_response)  # type: ignore[method-assign]
    assert find_short_cut(app) is None
    assert find_short_cut(lambda environ, start_response: app(environ, start_response)) is None


def test_somebody_elses_application_has_no_short_way() -> None:
    assert find_short_cut(Flask("theirs")) is None
