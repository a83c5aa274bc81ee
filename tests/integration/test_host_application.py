"""In another's Flask application: its hooks do our requests no harm, and handlers run within its context."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from flask import Flask, current_app, g, redirect, request
from flask_wtf.csrf import CSRFProtect  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Consumer
from tests.support import each, examples, wait_until
from webhooks.http.host import KeptInput
from webhooks.model import Event
from webhooks.routing import Registry

pytestmark = pytest.mark.one_database

MakeConsumer = Callable[..., Consumer]


@each("read", [
    lambda: request.get_data(),
    lambda: request.get_data(cache=False),
    lambda: request.form.to_dict(),
    lambda: request.stream.read(7),
    lambda: list(request.stream),
    lambda: request.get_json(silent=True),
])  # fmt: skip
def test_a_hook_that_reads_the_body_leaves_it_for_us(
    make_consumer: MakeConsumer, payload: Any, read: Callable[[], Any]
) -> None:
    app = Flask("theirs")
    app.before_request(lambda: [read(), None][1])
    consumer = make_consumer(app=app, name=f"n{id(read)}")
    body = payload("lead_merged")
    for content_type in ("application/json", "application/x-www-form-urlencoded"):
        answer = consumer.post(body, content_type=content_type)
        assert answer.status_code == 200, answer.json
        assert answer.json["status"] in ("stored", "duplicate")


def test_a_body_that_is_too_long_stays_too_long_for_a_hook_that_read_it(make_consumer: MakeConsumer) -> None:
    app = Flask("theirs")
    app.before_request(lambda: [request.get_data(), None][1])
    consumer = make_consumer(app=app, max_body=100)
    assert consumer.post(b" " * 101).status_code == 413
    chunked = {"wsgi.input_terminated": True}
    answer = consumer.client.post("/webhooks/close", input_stream=io.BytesIO(b" " * 5000), environ_overrides=chunked)
    assert answer.status_code == 413


@given(pieces=st.lists(st.binary(max_size=20), max_size=5), sizes=st.lists(st.integers(-1, 30), max_size=4))
@settings(max_examples=examples(200))
def test_what_was_kept_reads_like_the_stream_itself(pieces: list[bytes], sizes: list[int]) -> None:
    body = b"\n".join(pieces)
    stream = KeptInput(io.BytesIO(body), len(body) + 1)
    for size in sizes:
        stream.readline(size) if size % 2 else stream.read(size)
    stream.rewind()
    assert stream.read(len(body) // 2) + stream.read() == body
    assert stream.read(5) == b""


@pytest.mark.parametrize("protected", ["before", "after"])
def test_csrf_protection_leaves_our_routes_alone_and_keeps_theirs(
    make_consumer: MakeConsumer, payload: Any, protected: str
) -> None:
    app = Flask("theirs")
    app.secret_key = "of this test"
    app.add_url_rule("/form", "form", lambda: "done", methods=["POST"])
    if protected == "before":
        CSRFProtect(app)
    consumer = make_consumer(app=app)
    if protected == "after":
        CSRFProtect(app)
    assert consumer.post(payload("lead_merged")).status_code == 200
    assert consumer.client.post("/form").status_code == 400


def test_a_hook_that_answers_for_us_is_named_once_with_the_repair(
    make_consumer: MakeConsumer, payload: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("theirs")

    @app.before_request
    def require_login() -> Any:
        return redirect("/login")

    consumer = make_consumer(app=app)
    for _ in range(3):
        assert consumer.post(payload("lead_merged")).status_code == 302
    consumer.client.get("/theirs")
    [line] = [record.getMessage() for record in caplog.records if "hook" in record.getMessage()]
    assert "'/webhooks/close'" in line
    assert "302" in line
    assert "request.blueprint == 'webhooks'" in line
    assert "require_login" in line


def test_what_we_refuse_ourselves_is_no_hooks_doing(
    make_consumer: MakeConsumer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = make_consumer()
    for path in ("/webhooks/close", "/webhooks/nothing", "/webhooks/close/more", "/webhooks//close"):
        assert consumer.client.post(path, data=b"{}").status_code >= 400
    assert not [record for record in caplog.records if "hook of this application" in record.getMessage()]


def test_handlers_run_within_the_applications_context(make_consumer: MakeConsumer, payload: Any) -> None:
    registry, seen, ended = Registry(), [], threading.Event()
    app = Flask("theirs")
    app.config["GREETING"] = "hello"

    @app.teardown_appcontext
    def tear_down(error: BaseException | None) -> None:
        seen.append(("torn down", g.pop("of_handler", None)))

    @registry.on("**", name="plain")
    def plain(event: Event) -> None:
        g.of_handler = "plain"
        seen.append(("plain", current_app.config["GREETING"]))

    @registry.on("**", name="writing")
    def writing(event: Event, session: Any) -> None:
        g.of_handler = "writing"
        seen.append(("writing", current_app.config["GREETING"]))

    @registry.on("**", name="waiting")
    async def waiting(event: Event) -> None:
        seen.append(("waiting", current_app.config["GREETING"]))
        ended.set()

    consumer = make_consumer(registry, app=app)
    consumer.post(payload("lead_merged"))
    seen.clear()
    with closing(consumer.webhooks):
        worker = consumer.webhooks.make_worker(slots=1)
        thread = threading.Thread(target=worker.run)
        thread.start()
        wait_until(lambda: len(seen) == 6)
        worker.stop()
        thread.join()
    assert {entry for entry in seen if entry[0] != "torn down"} == {
        ("plain", "hello"),
        ("writing", "hello"),
        ("waiting", "hello"),
    }
    assert {entry for entry in seen if entry[0] == "torn down"} == {
        ("torn down", "plain"),
        ("torn down", "writing"),
        ("torn down", None),
    }
