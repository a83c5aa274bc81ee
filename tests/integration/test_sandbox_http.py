"""The local Close over HTTP: its addresses and answers, its own handles, and a server that delivers by itself."""

from __future__ import annotations

import base64
import http.client
import json
import queue
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from tests.support import Clock, examples, wait_until
from webhooks.errors import ConfigurationError
from webhooks.model import Headers
from webhooks.sandbox import Rules, World, create_app, run, serve
from webhooks.sandbox.accounts import ADMIN_KEY, MEMBER_KEY, OAUTH_TOKEN
from webhooks.sandbox.histories import play_seed
from webhooks.sandbox.server import subscribe_all, write_secret
from webhooks.sources.close import signature
from webhooks.sources.keys.keyring import Key

LEAD_CREATED = [{"object_type": "lead", "action": "created"}]


def basic(key: str, password: str = "") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{key}:{password}'.encode()).decode()}"}


ADMIN = basic(ADMIN_KEY)
MEMBER = basic(MEMBER_KEY)


@pytest.fixture
def world(clock: Clock) -> World:
    return World(clock, seed=1)


@pytest.fixture
def client(world: World) -> FlaskClient:
    return create_app(world, post=lambda url, headers, body: 200).test_client()


def read(response: TestResponse) -> Any:
    assert response.content_type == "application/json"
    return json.loads(response.data)


# -- who asks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic /////w=="},
        {"Authorization": f"Bearer {ADMIN_KEY}"},
        {"Authorization": "Bearer"},
        basic("api_unknown"),
        basic(ADMIN_KEY, "password"),
        basic(""),
    ],
)
def test_without_a_known_key_everything_is_401(client: FlaskClient, headers: dict[str, str]) -> None:
    for path in ("/api/v1/lead/", "/api/v1/event/", "/api/v1/webhook/", "/api/v1/nothing/"):
        response = client.get(path, headers=headers)
        assert response.status_code == 401
        assert ADMIN_KEY in read(response)["error"]


@pytest.mark.parametrize(
    ("headers", "name"),
    [(ADMIN, "Ines"), (MEMBER, "Tomasz"), ({"Authorization": f"Bearer {OAUTH_TOKEN}"}, "Ines")],
)
def test_a_key_belongs_to_somebody(client: FlaskClient, headers: dict[str, str], name: str) -> None:
    assert read(client.get("/api/v1/me/", headers=headers))["first_name"] == name


# -- objects ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("lead", {"name": "Quayside"}),
        ("contact", {"name": "Rosa"}),
        ("opportunity", {"value": 100}),
        ("task", {"text": "Call"}),
        ("outcome", {"name": "Survey booked"}),
        ("activity/call", {"duration": 3}),
        ("activity/meeting", {"title": "Survey"}),
        ("activity/note", {"note": "Hello"}),
        ("activity/email", {"status": "draft"}),
        ("activity/whatsapp_message", {"direction": "incoming", "external_whatsapp_message_id": "w"}),
    ],
)
def test_every_kind_can_be_made_read_changed_listed_and_deleted(
    client: FlaskClient, world: World, path: str, body: dict[str, Any]
) -> None:
    if path.startswith(("activity", "task")):
        body = {**body, "lead_id": world.create("lead", {})["id"]}
    made = read(client.post(f"/api/v1/{path}/", json=body, headers=MEMBER))
    here = f"/api/v1/{path}/{made['id']}/"
    assert read(client.get(here, headers=ADMIN)) == made
    changes = {
        name: "other" for name in ("name", "title", "text", "note", "subject", "message_markdown") if name in made
    }
    changed = read(client.put(here, json=changes, headers=ADMIN))
    assert changed["date_updated"] > made["date_updated"]
    assert changed["id"] in [each["id"] for each in read(client.get(f"/api/v1/{path}/", headers=ADMIN))["data"]]
    deleted = client.delete(here, headers=ADMIN)
    assert (deleted.status_code, read(deleted)) == (200, {})
    for response in (client.get(here, headers=ADMIN), client.put(here, json={}, headers=ADMIN)):
        assert response.status_code == 404
        assert made["id"] in read(response)["error"]


def test_events_tell_the_request(client: FlaskClient, world: World) -> None:
    made = read(client.post("/api/v1/contact/", json={"name": "Rosa"}, headers=MEMBER))
    events = read(client.get("/api/v1/event/", headers=ADMIN))["data"]
    assert [f"{each['object_type']}.{each['action']}" for each in events] == ["contact.created", "lead.created"]
    assert events[0]["request_id"] == events[1]["request_id"]
    assert events[0]["meta"] == {"request_method": "POST", "request_path": "/api/v1/contact/"}
    assert events[0]["api_key_id"].startswith("api_")
    assert events[0]["data"] == made
    assert read(client.get(f"/api/v1/event/{events[0]['id']}/", headers=ADMIN)) == events[0]
    assert client.get("/api/v1/event/ev_none/", headers=ADMIN).status_code == 404


def test_wrong_fields_are_named(client: FlaskClient) -> None:
    body = {"lead_id": "lead_none", "status": "outbox", "to": "rosa@quayside.example"}
    response = client.post("/api/v1/activity/email/", json=body, headers=ADMIN)
    assert response.status_code == 400
    assert read(response)["field-errors"] == {"to": "Not a list."}
    response = client.post("/api/v1/activity/email/", json={**body, "to": []}, headers=ADMIN)
    assert read(response)["field-errors"] == {"lead_id": "Object does not exist."}


def test_leads_are_merged_over_http(client: FlaskClient, world: World) -> None:
    one, two = world.create("lead", {"name": "A"})["id"], world.create("lead", {"name": "B"})["id"]
    response = client.post("/api/v1/lead/merge/", json={"source": one, "destination": two}, headers=ADMIN)
    assert (response.status_code, read(response)) == (200, {})
    assert list(world.state()["lead"]) == [two]
    assert client.post("/api/v1/lead/merge/", json={}, headers=ADMIN).status_code == 400


def test_send_to_inbox_is_a_parameter(client: FlaskClient, world: World) -> None:
    lead_id = world.create("lead", {})["id"]
    body = {"direction": "incoming", "external_whatsapp_message_id": "w", "lead_id": lead_id}
    path = "/api/v1/activity/whatsapp_message/"
    made = read(client.post(f"{path}?send_to_inbox=true", json=body, headers=ADMIN))
    client.post(path, json=body, headers=ADMIN)
    assert read(client.get("/sandbox/state"))["inbox"] == [made["id"]]
    found = read(client.get(f"{path}?external_whatsapp_message_id=w&_limit=1", headers=ADMIN))
    assert (len(found["data"]), found["has_more"]) == (1, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/", 404),
        ("GET", "/api/v1/nothing/", 404),
        ("GET", "/api/v1/lead/lead_1/contact/", 404),
        ("GET", "/api/v1/event/ev_1/more/", 404),
        ("GET", "/", 404),
        ("GET", "/sandbox/nothing", 404),
        ("GET", "/sandbox/advance", 405),
        ("PATCH", "/api/v1/lead/", 405),
        ("POST", "/api/v1/event/", 405),
        ("DELETE", "/api/v1/webhook/", 405),
        ("POST", "/api/v1/activity/task_completed/", 405),
        ("GET", "/api/v1/lead/merge/", 405),
        ("OPTIONS", "/api/v1/lead/", 200),
    ],
)
def test_what_is_not_there_is_said_in_json(client: FlaskClient, method: str, path: str, status: int) -> None:
    response = client.open(path, method=method, headers=ADMIN)
    assert response.status_code == status
    if method != "OPTIONS":
        assert read(response)["error"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b"\xff", b"null", b'{"a": NaN}', b"[" * 10_000])
def test_a_body_that_is_no_object_is_400(client: FlaskClient, body: bytes) -> None:
    response = client.post("/api/v1/lead/", data=body, headers=ADMIN)
    assert response.status_code == 400
    assert "JSON" in read(response)["error"]


def test_a_huge_body_is_refused(client: FlaskClient) -> None:
    assert client.post("/api/v1/lead/", data=b" " * 5_000_001, headers=ADMIN).status_code == 413


PATHS = st.lists(
    st.sampled_from(["lead", "merge", "contact", "event", "webhook", "activity", "call", "status", "task", "me"])
    | st.text(max_size=5),
    max_size=4,
).map("/".join)


@settings(max_examples=examples(300))
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]),
    root=st.sampled_from(["/api/v1/", "/sandbox/"]),
    path=PATHS | st.sampled_from(["rules", "advance", "faults", "pause", "state"]),
    query=st.dictionaries(st.sampled_from(["_cursor", "_limit", "lead_id", "_skip", "x"]), st.text(max_size=9)),
    body=st.binary(max_size=20)
    | st.dictionaries(
        st.sampled_from(
            ["self", "seconds", "status", "times", "text", "path", "headers", "disorder", "url", "events", "name"]
        ),
        st.none()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=5)
        | st.lists(st.integers(), max_size=2)
        | st.dictionaries(st.sampled_from(["self", "status", "a b"]) | st.text(max_size=5), st.text(max_size=5)),
    ).map(lambda body: json.dumps(body).encode()),
)
def test_no_request_makes_the_server_fail(
    method: str, root: str, path: str, query: dict[str, str], body: bytes
) -> None:
    client = create_app(World(Clock()), post=lambda url, headers, body: 200).test_client()
    response = client.open(root + quote(path), method=method, query_string=query, data=body, headers=ADMIN)
    assert response.status_code < 500
    assert client.get("/sandbox/state").status_code == 200


# -- subscriptions ------------------------------------------------------------------------------------------


def test_a_subscription_goes_through_its_life(client: FlaskClient) -> None:
    body = {"url": "http://127.0.0.1:9/webhooks/close", "events": LEAD_CREATED}
    response = client.post("/api/v1/webhook/", json=body, headers=ADMIN)
    assert response.status_code == 201
    made = read(response)
    names = """id url status events verify_ssl signature_key health_status latest_error pause_reason counters
        recent_consecutive_fail_buckets_cnt date_created date_updated created_by updated_by"""
    assert set(made) == set(names.split())
    assert len(bytes.fromhex(made["signature_key"])) == 32
    assert (made["status"], made["verify_ssl"], made["id"][:6]) == ("active", True, "whsub_")
    here = f"/api/v1/webhook/{made['id']}/"
    assert read(client.get(here, headers=ADMIN))["signature_key"] == made["signature_key"]
    assert "signature_key" not in read(client.get("/api/v1/webhook/", headers=ADMIN))["data"][0]
    assert read(client.get("/api/v1/webhook/", headers=MEMBER)) == {"data": []}
    assert client.get(here, headers=MEMBER).status_code == 403
    paused = read(client.put(here, json={"status": "paused"}, headers=ADMIN))
    assert (paused["status"], paused["pause_reason"]) == ("paused", "api")
    assert read(client.put(here, json={"status": "active"}, headers=ADMIN))["pause_reason"] is None
    assert client.delete(here, headers=ADMIN).status_code == 200
    assert client.get(here, headers=ADMIN).status_code == 404


def test_the_key_can_be_shown_when_it_is_made_alone(client: FlaskClient) -> None:
    client.post("/sandbox/rules", json={"show_keys": False})
    body = {"url": "http://127.0.0.1:9/", "events": LEAD_CREATED}
    made = read(client.post("/api/v1/webhook/", json=body, headers=ADMIN))
    assert "signature_key" in made
    assert "signature_key" not in read(client.get(f"/api/v1/webhook/{made['id']}/", headers=ADMIN))


# -- limits and faults --------------------------------------------------------------------------------------


def test_there_is_no_rate_limit_unless_asked_for(client: FlaskClient) -> None:
    response = client.get("/api/v1/lead/", headers=ADMIN)
    assert (response.status_code, "RateLimit" in response.headers) == (200, False)


def test_a_rate_limit_counts_by_key_and_group_and_ends(client: FlaskClient, world: World) -> None:
    world.set_rules(rate_limit=2, rate_window=10)
    left = [client.get("/api/v1/lead/", headers=ADMIN).headers["RateLimit"] for _ in range(2)]
    assert left == ["limit=2, remaining=1, reset=10", "limit=2, remaining=0, reset=10"]
    world.advance(timedelta(seconds=2.5))
    response = client.get("/api/v1/lead/", headers=ADMIN)
    assert response.status_code == 429
    assert response.headers["RateLimit"] == "limit=2, remaining=0, reset=7.5"
    assert response.headers["Retry-After"] == "8"
    assert read(response)["error"]["rate_reset"] == 7.5
    assert client.get("/api/v1/lead/", headers=MEMBER).status_code == 200
    assert client.get("/api/v1/event/", headers=ADMIN).status_code == 200
    world.advance(timedelta(seconds=7.5))
    assert client.get("/api/v1/lead/", headers=ADMIN).status_code == 200


def test_faults_come_as_ordered(client: FlaskClient) -> None:
    order = {"status": 503, "times": 2, "path": "event/", "headers": {"Retry-After": "7"}}
    assert read(client.post("/sandbox/faults", json=order)) == {"orders": 1}
    assert client.get("/api/v1/lead/", headers=ADMIN).status_code == 200
    answers = [client.get("/api/v1/event/", headers=ADMIN) for _ in range(3)]
    assert [each.status_code for each in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "7"
    named = {"status": 500, "headers": {"status": "x"}}
    assert client.post("/sandbox/faults", json=named).status_code == 200
    assert client.get("/api/v1/lead/", headers=ADMIN).headers["status"] == "x"
    client.post("/sandbox/faults", json={"status": 200, "text": '{"data": [', "path": "event/"})
    response = client.get("/api/v1/event/", headers=ADMIN)
    assert (response.status_code, response.data) == (200, b'{"data": [')


# -- the handles of a test ----------------------------------------------------------------------------------


def test_the_handles_move_time_and_deliver(client: FlaskClient, world: World) -> None:
    subscribe_all(world, "http://127.0.0.1:9/")
    lead = world.create("lead", {"name": "A"})
    world.update("lead", lead["id"], {"name": "B"})
    first = read(client.post("/sandbox/deliver"))
    assert (first["attempts"], first["taken"], first["waiting"]) == (1, 1, 1)
    client.post("/sandbox/advance", json={"seconds": 6})
    assert read(client.post("/sandbox/deliver"))["waiting"] == 0
    world.update("lead", lead["id"], {"name": "C"})
    assert read(client.post("/sandbox/deliver", json={"drain": True}))["waiting"] == 0
    state = read(client.get("/sandbox/state"))
    assert state["objects"]["lead"][lead["id"]]["name"] == "C"
    assert state["next_due"] is None
    paused = read(client.post("/sandbox/pause", json={"subscription_id": state["subscriptions"][0]["id"]}))
    assert (paused["status"], paused["pause_reason"]) == ("paused", "failing")
    assert len(read(client.post("/sandbox/story"))["steps"]) == 12


def test_rules_are_seconds_over_http(client: FlaskClient, world: World) -> None:
    assert read(client.post("/sandbox/rules", json={"disorder": 30, "duplicates": 0.5}))["disorder"] == 30
    assert world.rules.disorder == timedelta(seconds=30)
    response = client.post("/sandbox/rules", json={"disordr": 30})
    assert response.status_code == 400
    assert "disorder" in read(response)["error"]
    assert client.post("/sandbox/rules", json={"self": 1}).status_code == 400


# -- a real server ------------------------------------------------------------------------------------------


class Consumer:
    """Takes webhooks on a port of this machine, and answers what it is told to."""

    def __init__(self) -> None:
        self.status = 200
        self.got: queue.Queue[tuple[list[tuple[str, str]], bytes]] = queue.Queue()
        app = Flask("consumer")

        @app.post("/webhooks/close")
        def take() -> tuple[str, int]:
            self.got.put((list(request.headers.items()), request.get_data()))
            return "", self.status

        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}/webhooks/close"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    consumer = Consumer()
    yield consumer
    consumer.close()


def test_a_server_delivers_by_itself_over_real_http(consumer: Consumer) -> None:
    world = World(seed=1)
    with serve(world) as close:
        parts = urlsplit(close.url)
        assert (parts.hostname, parts.path) == ("127.0.0.1", "/api/v1/")
        connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=10)
        body = json.dumps({"url": consumer.url, "events": LEAD_CREATED})
        connection.request("POST", "/api/v1/webhook/", body, ADMIN)
        made = json.loads(connection.getresponse().read())
        connection.request("POST", "/api/v1/contact/", json.dumps({"name": "Rosa"}), ADMIN)
        assert connection.getresponse().read()
        connection.close()
        headers, raw = consumer.got.get(timeout=10)
        key = Key(made["id"], signature.decode_key(made["signature_key"]))
        assert signature.verify(Headers(headers), raw, [key], world.now()) == made["id"]
        assert json.loads(raw)["event"]["data"]["name"] == "Rosa"


def test_a_consumer_that_is_down_gets_everything_later(consumer: Consumer) -> None:
    world = World(seed=1, rules=Rules(retry_base=timedelta(milliseconds=10)))
    consumer.status = 503
    subscription = subscribe_all(world, consumer.url)
    with serve(world):
        world.create("lead", {"name": "A"})
        consumer.got.get(timeout=10)
        consumer.status = 200
        wait_until(lambda: subscription.delivered == 1, what="the retry")
    assert subscription.failed >= 1
    assert world.waiting() == 0


def test_only_this_machine_can_reach_a_local_close() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"):
        with pytest.raises(ConfigurationError, match="this machine only"):
            serve(World(), host=host)


def test_a_port_that_is_taken_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="free port"):
            serve(World(), port=taken.getsockname()[1])


def test_run_says_where_it_is_and_writes_the_key(tmp_path: Path, consumer: Consumer) -> None:
    lines: list[str] = []
    stop = threading.Event()
    secrets = tmp_path / "keys.json"
    secrets.write_text('{"old": "key"}')
    arguments = {"port": 0, "url": consumer.url, "secret_file": secrets, "say": lines.append, "until": stop}
    thread = threading.Thread(target=run, kwargs={**arguments, "unlisted": True})
    thread.start()
    try:
        wait_until(lambda: len(lines) == 3, what="three lines")
        url = urlsplit(lines[0].rpartition(" ")[2])
        connection = http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=10)
        connection.request("POST", "/api/v1/outcome/", '{"name": "x"}', ADMIN)
        assert connection.getresponse().status == 200
        connection.close()
        headers, raw = consumer.got.get(timeout=10)
    finally:
        stop.set()
        thread.join(timeout=10)
    keys = json.loads(secrets.read_text())
    id = json.loads(raw)["subscription_id"]
    assert set(keys) == {"old", id}
    assert keys[id] not in "".join(lines)
    assert secrets.stat().st_mode & 0o777 == 0o600
    key = Key(id, signature.decode_key(keys[id]))
    now = World().now()
    assert signature.verify(Headers(headers), raw, [key], now) == id


def test_a_key_is_written_into_a_file_that_is_not_there_yet(tmp_path: Path, world: World) -> None:
    subscription = subscribe_all(world, "http://127.0.0.1:9/", ["lead.created"])
    path = tmp_path / "keys.json"
    write_secret(path, subscription)
    assert json.loads(path.read_text()) == {subscription.id: subscription.signature_key}
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_at_once_leave_one_true_log() -> None:
    world = World(seed=1)
    app = create_app(world, post=lambda url, headers, body: 200)
    subscribe_all(world, "http://127.0.0.1:9/")

    def write(number: int) -> None:
        client = app.test_client()
        for _ in range(20):
            client.post("/api/v1/contact/", json={"name": str(number)}, headers=ADMIN)
            client.post("/sandbox/deliver")

    threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.log) == 160
    instants = [entry.date_updated for entry in world.log]
    assert instants == sorted(set(instants))
    world.deliver(lambda url, headers, body: 200)
    assert sum(each.delivered for each in world.subscriptions) == 160


def test_a_walk_over_http_reads_the_whole_log(client: FlaskClient, world: World) -> None:
    play_seed(world, 5, 120)
    found: list[str] = []
    params: dict[str, str] = {}
    while True:
        page = read(client.get("/api/v1/event/", query_string=params, headers=ADMIN))
        found += [each["id"] for each in page["data"]]
        if page["cursor_next"] is None:
            break
        params = {"_cursor": page["cursor_next"]}
    assert found == [entry.id for entry in reversed(list(world.log))]
