"""gunicorn with our application, as deployed: worker classes, kill -9, a database that is away, slow senders."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.acceptance.support import Answer, Process, Processes, free_port, send
from tests.support import ROOT, allowed, pairs, some, wait_until
from webhooks.database.connect import connect
from webhooks.sources import Secret, SourceSettings, make_source

pytestmark = pytest.mark.forks

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SOURCE = make_source(SourceSettings(name="close", scheme="close", secrets=[Secret(KEY)]))
WORKER_CLASSES = {"gevent": "GeventWorker", "gthread": "ThreadWorker", "sync": "SyncWorker"}


def body(key: str, **fields: Any) -> bytes:
    event = {
        "id": key,
        "object_type": "lead",
        "object_id": "lead_1",
        "action": "updated",
        "date_updated": "2026-03-10T14:05:12.417000",
        "data": {"name": "é"},
        **fields,
    }
    return json.dumps({"event": event, "subscription_id": "whsub_1"}).encode()


class Server:
    """gunicorn on a free port. workers: fewer where the test is not about several, since each imports everything."""

    def __init__(
        self, processes: Processes, database_url: str, worker_class: str = "gevent", *, workers: int = 2, **env: str
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        for name in ("wsgi.py", "gunicorn.conf.py"):
            (processes.directory / name).write_text((ROOT / name).read_text())
        self.process: Process = processes.start(
            "gunicorn",
            "wsgi:app",
            "--bind",
            f"127.0.0.1:{self.port}",
            env={
                "DATABASE_URL": database_url,
                "WEBHOOKS_SOURCES__close__SECRET": KEY,
                "WEBHOOKS_WORKER_CLASS": worker_class,
                "WEB_CONCURRENCY": str(workers),
                **env,
            },
        )
        self.process.wait_for(rf"(?s)(Booting worker.*){{{workers}}}")
        assert re.search(rf"Using worker: \S+\.{WORKER_CLASSES[worker_class]}$", self.process.output, re.MULTILINE)
        wait_until(lambda: self.try_get("/healthz") == 200, timedelta(seconds=20), "the application to be loaded")

    def ready(self) -> Server:
        wait_until(lambda: self.try_get("/readyz") == 200, timedelta(seconds=20), "the server to be ready")
        return self

    def try_get(self, path: str) -> int | None:
        try:
            return send(self.url + path).status
        except OSError:
            return None

    def post(self, content: bytes, timeout: float = 10) -> Answer:
        headers = dict(SOURCE.sign(content, datetime.now(UTC)))
        return send(self.url + "/webhooks/close", content, headers, timeout=timedelta(seconds=timeout))


@pytest.fixture
def server(request: pytest.FixtureRequest, database_url: str, processes: Processes) -> Server:
    return Server(processes, database_url, request.param).ready()


EVERY_CLASS = pairs("gevent", "gthread", "sync")
under_every_class = pytest.mark.parametrize(("server", "database_url"), EVERY_CLASS, indirect=True)
#: Every class in the profile `full`, else the one that `webhooks run` takes.
under_the_default_class = pytest.mark.parametrize(("server", "database_url"), some(*EVERY_CLASS), indirect=True)
under_both_classes = pytest.mark.parametrize(
    ("worker_class", "database_url"), pairs("gevent", "gthread"), indirect=["database_url"]
)


def stored(database_url: str) -> dict[str, int]:
    """{dedup key: how many events}."""
    database = connect(database_url)
    try:
        with database.read() as connection:
            return dict(connection.execute(text("select dedup_key, count(*) from webhooks_events group by 1")).all())
    finally:
        database.dispose()


def in_threads(n: int, act: Any) -> None:
    threads = [threading.Thread(target=act, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@under_every_class
def test_fifty_copies_at_once_are_one_event_under_every_worker_class(server: Server, database_url: str) -> None:
    statuses: Counter[str] = Counter()

    def post(number: int) -> None:
        for _ in range(5):
            statuses[json.loads(server.post(body("same")).body)["status"]] += 1

    in_threads(10, post)
    assert statuses == {"stored": 1, "duplicate": 49}
    assert stored(database_url) == {"same": 1}


@under_the_default_class
def test_every_event_that_was_answered_200_is_stored_although_workers_are_killed(
    server: Server, database_url: str
) -> None:
    answered: list[str] = []
    refused: Counter[str] = Counter()
    over = threading.Event()

    def post(number: int) -> None:
        turn = 0
        while not over.is_set():
            key = f"{number}-{turn}"
            turn += 1
            try:
                answer = server.post(body(key))
            except Exception as error:
                refused[type(error).__name__] += 1
                continue
            if answer.status == 200:
                answered.append(key)

    posters = [threading.Thread(target=post, args=(number,)) for number in range(8)]
    for poster in posters:
        poster.start()
    try:
        for kills in range(1, 4):
            wait_until(lambda kills=kills: len(answered) > 60 * kills, timedelta(seconds=30), "answers")  # type: ignore[misc]
            workers = [pid for pid in server.process.members() if pid != server.process.pid]
            os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: len(answered) > 300, timedelta(seconds=30), "answers after the kills")
    finally:
        over.set()
        for poster in posters:
            poster.join()
    kept = stored(database_url)
    assert not [key for key in answered if key not in kept]
    assert set(kept.values()) == {1}


@under_the_default_class
def test_requests_in_flight_are_answered_when_the_server_is_stopped(server: Server, database_url: str) -> None:
    answers: list[int] = []
    started = threading.Event()

    def post(number: int) -> None:
        for turn in range(30):
            try:
                answers.append(server.post(body(f"{number}-{turn}")).status)
            except OSError:
                return  # refused before anything was sent, or closed while idle
            started.set()

    threads = [threading.Thread(target=post, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    assert started.wait(20)
    assert server.process.stop() == 0
    for thread in threads:
        thread.join()
    assert set(answers) == {200}
    assert len(stored(database_url)) >= len(answers)


class Wire:
    """One connection on which requests go out as bytes and answers come back whole."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, *pieces: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
        """(status, headers, JSON) that the request in `pieces` gets."""
        for piece in pieces:
            self.socket.sendall(piece)
        with http.client.HTTPResponse(self.socket, method="POST") as response:
            response.begin()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, json.loads(response.read())


def signed(content: bytes, *lines: str, path: str = "/webhooks/close", method: str = "POST") -> bytes:
    """A request of Close's as it stands on the wire."""
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(content)}", *lines]
    head += [f"{name}: {value}" for name, value in SOURCE.sign(content, datetime.now(UTC)).items()]
    return "\r\n".join([*head, "", ""]).encode() + content


@under_both_classes
def test_a_request_gets_the_same_answer_whoever_reads_it(
    database_url: str, processes: Processes, worker_class: str
) -> None:
    """Under gevent plain posts are read by us and all others by gunicorn; nobody can tell from the answers."""
    server = Server(processes, database_url, worker_class, workers=1).ready()
    one, other = body("one"), body("one", date_updated="2026-03-10T14:05:13.417000")
    forged = signed(one).replace(b"close-sig-hash: ", b"close-sig-hash: 0")
    chunked = signed(one, "Transfer-Encoding: chunked").replace(b"Content-Length: %d\r\n" % len(one), b"")
    chunked = chunked.replace(b"\r\n\r\n", b"\r\n\r\n%x\r\n" % len(one)) + b"\r\n0\r\n\r\n"
    plain = [
        ([signed(one)], 200, "stored"),
        ([signed(one)], 200, "duplicate"),
        ([signed(one, "Connection: keep-alive", path="/webhooks/close/")], 200, "duplicate"),
        ([signed(other)[:50], signed(other)[50:-7], signed(other)[-7:]], 200, "revision"),
        ([signed(b"not JSON")], 200, "quarantined"),
        ([forged], 401, "signature_verification_failed"),
    ]
    not_plain = [
        ([signed(one, "X-Under_score: dropped")], 200, "duplicate"),
        ([signed(one, "Close-Sig-Hash: x")], 401, "signature_verification_failed"),
        ([chunked], 200, "duplicate"),
        ([signed(one, path="/webhooks/close?a=b")], 200, "duplicate"),
        ([signed(one).replace(b"Content-Length: ", b"Content-Length: " + b"0" * 30)], 200, "duplicate"),
        ([signed(one, path="/webhooks/nobody")], 404, "not_found"),
        ([signed(one, path="//webhooks/close")], 404, "not_found"),
        ([signed(one, path="/webhooks/clo%73e")], 404, "not_found"),
        ([signed(one, path="/webhooks/close%2f")], 404, "not_found"),
        ([signed(b"", method="PUT")], 405, "method_not_allowed"),
    ]
    unread = [
        ([signed(one, method="PUT")], 405, "method_not_allowed"),
        ([signed(one, "Content-Encoding: gzip")], 415, "unsupported_content_encoding"),
        ([signed(one).replace(b"Host: ", b"Host: a ")], 400, "bad_request"),
        ([signed(one).replace(b"Host: 127.0.0.1\r\n", b"")], 400, "bad_request"),
        ([signed(one).replace(b"Content-Length: ", b"Content-Length: 9999")], 413, "payload_too_large"),
        ([signed(one).replace(b"Content-Length: ", b"Content-Length: " + b"9" * 30)], 413, "payload_too_large"),
    ]
    names = {
        "server",
        "date",
        "connection",
        "content-type",
        "cache-control",
        "x-content-type-options",
        "content-length",
    }
    with Wire(server.port) as wire:
        for sent, status, said in plain:
            answer = wire.ask(*sent)
            assert (answer[0], answer[2].get("status") or answer[2]["error"]) == (status, said), sent
            assert (set(answer[1]), answer[1]["server"], answer[1]["connection"]) == (names, "gunicorn", "keep-alive")
    for sent, status, said in not_plain:
        with Wire(server.port) as wire:
            answer = wire.ask(*sent)
            assert (answer[0], answer[2].get("status") or answer[2]["error"]) == (status, said), sent
            assert (set(answer[1]) - {"allow"}, answer[1]["connection"]) == (names, "keep-alive")
            assert wire.ask(signed(one))[2]["status"] == "duplicate"
    for sent, status, said in unread:
        with Wire(server.port) as wire:
            answer = wire.ask(*sent)
            assert (answer[0], answer[2]["error"], answer[1]["connection"]) == (status, said, "close"), sent
            assert wire.socket.recv(1) == b""
    assert stored(database_url) == {"one": 2}


def test_a_connection_on_which_nothing_comes_is_closed_under_gevent(sqlite_url: str, processes: Processes) -> None:
    server = Server(processes, sqlite_url, "gevent", workers=1, GUNICORN_CMD_ARGS="--keep-alive 1").ready()
    with Wire(server.port) as wire:
        assert wire.ask(signed(body("one")))[0] == 200
        wire.socket.settimeout(8)
        assert wire.socket.recv(1) == b""


@pytest.mark.parametrize("worker_class", some("gevent", "gthread"))
def test_a_frozen_database_is_503_within_two_and_a_half_seconds_and_recovers(
    postgresql_url: str, processes: Processes, worker_class: str
) -> None:
    """Frozen: a proxy in front of PostgreSQL that stops passing bytes, as a stopped server or a broken network would."""
    proxy = FreezableProxy(postgresql_url)
    try:
        server = Server(processes, proxy.url, worker_class).ready()
        assert server.post(body("before")).status == 200
        proxy.frozen.set()
        took: list[float] = []
        statuses: list[int] = []

        def post(number: int) -> None:
            begin = time.monotonic()
            answer = server.post(body(f"frozen-{number}"))
            took.append(time.monotonic() - begin)
            statuses.append(answer.status)
            assert int(answer.headers["retry-after"]) >= 1

        in_threads(6, post)
        in_threads(6, post)
        assert set(statuses) == {503}
        assert max(took) < allowed(2.6)
        assert server.try_get("/healthz") == 200
        proxy.frozen.clear()
        wait_until(lambda: server.post(body("after")).status == 200, timedelta(seconds=15), "recovery")
    finally:
        proxy.close()


@pytest.mark.parametrize("worker_class", some("gevent", "gthread", "sync"))
def test_what_the_server_refuses_by_itself_is_counted_and_not_a_line_each(
    sqlite_url: str, processes: Processes, worker_class: str
) -> None:
    server = Server(processes, sqlite_url, worker_class).ready()
    for number in range(30):
        with contextlib.closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
            connection.sendall(b"POST /webhooks/close HTTP/1.1\r\nHost: x\r\nX \x1b[2Jy-%d: 1\r\n\r\n" % number)
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    lines = [line for line in server.process.output.splitlines() if "malformed, 400" in line]
    assert 1 <= len(lines) <= 10  # five of each process
    assert "\x1b[2J" not in server.process.output
    assert "Invalid request from ip=" not in server.process.output
    assert server.process.stop() == 0
    held = [int(number) for number in re.findall(r"and (\d+) more in the last minute", server.process.output)]
    assert sum(held) + len(lines) == 30


@pytest.mark.thorough
@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
def test_a_crowd_that_asks_for_readiness_does_not_slow_posts(
    postgresql_url: str, processes: Processes, worker_class: str
) -> None:
    proxy = FreezableProxy(postgresql_url)
    try:
        server = Server(processes, proxy.url, worker_class).ready()
        assert server.post(body("before")).status == 200
        proxy.frozen.set()
        over = threading.Event()
        seen: list[tuple[int, float, bytes]] = []

        def ask() -> None:
            while not over.is_set():
                begin = time.monotonic()
                with contextlib.suppress(OSError, http.client.HTTPException):
                    answer = send(server.url + "/readyz")
                    seen.append((answer.status, time.monotonic() - begin, answer.body))
                time.sleep(0.2)

        crowd = [threading.Thread(target=ask) for _ in range(60)]
        for one in crowd:
            one.start()
        took: list[float] = []

        def post(number: int) -> None:
            begin = time.monotonic()
            assert server.post(body(f"frozen-{number}")).status == 503
            took.append(time.monotonic() - begin)

        try:
            for _ in range(2):
                in_threads(6, post)
        finally:
            over.set()
            for one in crowd:
                one.join()
        assert max(took) < allowed(3.0), sorted(took)
        assert len(took) == 12
        assert {status for status, _, _ in seen[-50:]} == {503}
        assert not any(b"127.0.0.1" in answered or b"port" in answered for _, _, answered in seen)
    finally:
        proxy.close()


def test_a_database_that_is_away_is_503_and_the_server_starts_without_it(processes: Processes) -> None:
    server = Server(processes, f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", workers=1)
    begin = time.monotonic()
    answer = server.post(body("one"))
    assert (answer.status, json.loads(answer.body)["error"]) == (503, "storage_unavailable")
    assert time.monotonic() - begin < allowed(2.5)
    assert server.try_get("/healthz") == 200
    assert server.try_get("/readyz") == 503


@pytest.mark.one_database
def test_an_unmigrated_database_says_what_to_run(empty_database_url: str, processes: Processes) -> None:
    server = Server(processes, empty_database_url, workers=1)
    assert server.post(body("one")).status == 503
    ready = send(server.url + "/readyz")
    assert ready.status == 503
    assert "webhooks db upgrade" in ready.body.decode()
    assert "run `webhooks db upgrade`" in server.process.output


@pytest.mark.parametrize("worker_class", some("gthread", "gevent"))
def test_a_database_locked_by_another_program_is_503_in_time(
    sqlite_url: str, processes: Processes, worker_class: str
) -> None:
    """Of two processes one waits at the lock file and the other in SQLite: each for one deadline, not for both in turn."""
    import sqlite3

    server = Server(processes, sqlite_url, worker_class).ready()
    assert server.post(body("before")).status == 200
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    took: list[float] = []
    answers: list[Answer] = []

    def post(number: int) -> None:
        time.sleep(number * 0.13)  # they come one after another, so that some wait behind others
        begin = time.monotonic()
        if number in (17, 23):  # earlier its answer of before may be given again
            answers.append(send(server.url + "/readyz"))
        else:
            answers.append(server.post(b"unreadable" if number % 3 == 2 else body(f"locked-{number}")))
        took.append(time.monotonic() - begin)

    try:
        other.execute("begin immediate")
        in_threads(24, post)
        assert {answer.status for answer in answers} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert max(took) < allowed(2.5)
        other.execute("rollback")
        assert server.post(body("after")).status == 200
        assert "Traceback" not in server.process.output
    finally:
        other.close()


class FreezableProxy:
    """Passes bytes between the server under test and PostgreSQL, until `frozen` is set."""

    def __init__(self, url: str) -> None:
        from sqlalchemy.engine import make_url

        from webhooks.settings import read_database_url

        parsed = make_url(read_database_url(url))
        host = parsed.query.get("host") or parsed.host or "127.0.0.1"
        self._target = (str(host), parsed.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = parsed.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        self.frozen = threading.Event()
        self._closing = False
        self._sockets: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _open(self) -> socket.socket:
        host, port = self._target
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{host}/.s.PGSQL.{port}")
        return connection

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)  # at once: what comes while we close is closed, too
            target = self._open()
            self._sockets.append(target)
            for source, sink in ((client, target), (target, client)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                while self.frozen.is_set():
                    time.sleep(0.01)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closing = True
        self.frozen.clear()
        self._listener.shutdown(socket.SHUT_RDWR)  # close alone would leave its thread in accept
        self._accepting.join(10)
        self._listener.close()
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # close alone would leave a thread in recv with it
            end.close()
