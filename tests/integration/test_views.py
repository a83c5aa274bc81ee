"""The HTTP surface, request by request: what each gets, and what is stored afterwards."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from gunicorn.util import split_request_uri, unquote_to_wsgi_str
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from tests.integration.conftest import Consumer
from tests.support import PROFILE, Clock, allowed, each, examples
from webhooks.app import create_app
from webhooks.database import tables as schema
from webhooks.delivery import Worker
from webhooks.errors import ConfigurationError, Refusal, StorageUnavailable
from webhooks.http import DirectRoute, Readiness
from webhooks.http.gunicorn.connections import TooSlow
from webhooks.http.routes import has_host
from webhooks.model import Event
from webhooks.routing import Registry
from webhooks.store.rejections import Rejection

pytestmark = pytest.mark.one_database

GOOD = "whatsapp_message_created_incoming"
#: A source that answers a handshake by GET.
META = {"scheme": "meta", "secret": "5f1d0c7a9be24386a0d7c1f2b3e4a596", "verify_token": "a-token-of-these-tests-only"}


if PROFILE == "full":
    ways: dict[str, bool | None] = {"routed": False, "direct": True}
else:  # each way once, and each database
    ways = {"either": None}


@pytest.fixture(params=list(ways.values()), ids=list(ways))
def takes_direct_route(request: pytest.FixtureRequest, database_url: str) -> bool:
    """Every promise holds in somebody's Flask application, and in the service, which does not ask Flask for posts."""
    return database_url.startswith("postgresql") if request.param is None else bool(request.param)


def count(consumer: Consumer, table: Any) -> int:
    with consumer.webhooks.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def nothing_is_stored(consumer: Consumer) -> bool:
    return not any(
        count(consumer, table) for table in (schema.events, schema.dedup_log, schema.quarantine, schema.deliveries)
    )


# -- what is taken in --------------------------------------------------------------------------------------


def test_a_signed_event_is_stored_byte_for_byte_and_answered_200(consumer: Consumer, payload: Any) -> None:
    body = payload(GOOD)
    response = consumer.post(body)
    assert (response.status_code, response.mimetype) == (200, "application/json")
    assert response.json.keys() == {"status", "event_id", "request_id"}
    assert response.json["status"] == "stored"
    event = consumer.webhooks.store.events.get(int(response.json["event_id"]))
    assert event is not None
    assert event.raw == body
    assert event.type == "activity.whatsapp_message.created"
    assert event.request_id == response.json["request_id"]
    assert event.data["message_markdown"].startswith("Bonjour")
    assert event.key_label == "1"


def test_copy_revision_and_stale_copy_are_told_apart(consumer: Consumer, payload: Any) -> None:
    first, later = payload("whatsapp_message_updated"), payload("whatsapp_message_updated_revision")
    receipts = [consumer.post(body).json for body in (first, first, later, first)]
    assert [receipt["status"] for receipt in receipts] == ["stored", "duplicate", "revision", "duplicate"]
    assert receipts[3]["event_id"] == receipts[0]["event_id"]
    assert receipts[2]["event_id"] != receipts[0]["event_id"]


def test_a_revision_that_comes_first_makes_the_earlier_one_stale(consumer: Consumer, payload: Any) -> None:
    bodies = [payload("whatsapp_message_updated_revision"), payload("whatsapp_message_updated")]
    assert [consumer.post(body).json["status"] for body in bodies] == ["stored", "stale"]


def test_the_twin_of_a_second_subscription_is_a_duplicate(consumer: Consumer, payload: Any) -> None:
    bodies = [payload("opportunity_updated_won"), payload("opportunity_updated_won_second_subscription")]
    assert [consumer.post(body).json["status"] for body in bodies] == ["stored", "duplicate"]


def test_a_key_labelled_with_another_subscription_is_one_warning(
    make_consumer: Callable[..., Consumer], payload: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.integration.conftest import KEY

    consumer = make_consumer(sources={"close": {"secret": {"whsub_other": KEY}}})
    for _ in range(2):
        assert consumer.post(payload(GOOD)).status_code == 200
    warnings = [record.getMessage() for record in caplog.records if "the key labelled" in record.getMessage()]
    assert len(warnings) == 1
    assert "'whsub_other' verified an event of subscription 'whsub_7E93T0QEpfN20luyxeovcK'" in warnings[0]


def test_an_unknown_type_is_stored_without_a_delivery(consumer: Consumer, payload: Any) -> None:
    assert consumer.post(payload("unlisted_type_with_new_fields")).json["status"] == "stored"
    assert count(consumer, schema.deliveries) == 0


def test_credentials_and_signatures_are_not_stored_with_the_headers(consumer: Consumer, payload: Any) -> None:
    response = consumer.post(payload(GOOD), Authorization="Basic c2VjcmV0", Cookie="a=secret", X_Trace="kept")
    event = consumer.webhooks.store.events.get(int(response.json["event_id"]))
    assert event is not None
    assert event.headers.get("x-trace") == "kept"
    assert not {"authorization", "cookie", "close-sig-hash"} & set(event.headers)


@each("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/xml", ""])
def test_no_content_type_decides_how_a_signed_body_is_read(consumer: Consumer, payload: Any, content_type: str) -> None:
    assert consumer.post(payload(GOOD), Content_Type=content_type).status_code == 200


# -- what is not -------------------------------------------------------------------------------------------


@each(
    "headers",
    [
        {"close_sig_hash": ""},
        {"close_sig_hash": "0" * 64},
        {"close_sig_hash": "é" * 64},
        {"close_sig_hash": "a" * 10_000},
        {"close_sig_timestamp": ""},
        {"close_sig_timestamp": "17731515120"},
        {"close_sig_timestamp": "-773151512"},
        {"close_sig_timestamp": "1e9"},
        {"close_sig_timestamp": "9" * 5000},
    ],
)
def test_a_wrong_signature_is_401_with_one_text_and_leaves_no_trace(
    consumer: Consumer, payload: Any, headers: dict[str, str]
) -> None:
    response = consumer.post(payload(GOOD), **headers)
    assert response.status_code == 401
    assert response.json == {
        "error": "signature_verification_failed",
        "request_id": response.json["request_id"],
    }
    assert nothing_is_stored(consumer)


def test_a_signature_over_other_bytes_is_401(consumer: Consumer, payload: Any) -> None:
    body = payload(GOOD)
    signed = dict(consumer.webhooks.sources["close"].sign(body, consumer.webhooks.clock()))
    assert consumer.client.post("/webhooks/close", data=body + b" ", headers=signed).status_code == 401


def test_a_retry_of_three_days_is_taken_and_one_of_31_days_is_not(
    make_consumer: Callable[..., Consumer], clock: Clock, payload: Any
) -> None:
    consumer = make_consumer(clock=clock)
    body = payload(GOOD)
    signed = dict(consumer.webhooks.sources["close"].sign(body, clock()))
    clock.move(timedelta(days=31))
    assert consumer.client.post("/webhooks/close", data=body, headers=signed).status_code == 401
    clock.move(-timedelta(days=28))
    assert consumer.client.post("/webhooks/close", data=body, headers=signed).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "unparseable"),
        (b"\xff\xfe{}", "unparseable"),
        (b'{"event": NaN}', "unparseable"),
        (b"[" * 5000, "unparseable"),
        (b"[]", "unrecognised"),
        (b'{"event": null}', "unrecognised"),
        (b'{"event": {"id": 5, "object_type": "lead", "action": "created"}}', "unrecognised"),
        (json.dumps({"event": {"id": "e" * 256, "object_type": "lead", "action": "created"}}).encode(), "unrecognised"),
        (b'{"event": {"id": "a\\u0000b", "object_type": "lead", "action": "created"}}', "unrecognised"),
        (b'{"event": {"id": "a\\ud800b", "object_type": "lead", "action": "created"}}', "unrecognised"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_signed_but_unreadable_body_is_quarantined_once(consumer: Consumer, body: bytes, kind: str) -> None:
    first, second = consumer.post(body), consumer.post(body)
    assert (first.status_code, first.json["status"], first.json["event_id"]) == (200, "quarantined", None)
    assert first.json["quarantine_id"] == second.json["quarantine_id"]
    with consumer.webhooks.database.read() as connection:
        row = connection.execute(select(schema.quarantine)).one()
    assert (bytes(row.body), row.copies) == (body, 2)
    assert row.kind == kind or kind == "unrecognised"
    assert count(consumer, schema.events) == 0


def test_a_source_may_reject_what_it_cannot_read(make_consumer: Callable[..., Consumer]) -> None:
    from tests.integration.conftest import KEY

    consumer = make_consumer(sources={"close": {"secret": KEY, "on_unparseable": "reject"}})
    response = consumer.post(b"no json")
    assert (response.status_code, response.json["error"]) == (400, "invalid_json")
    assert nothing_is_stored(consumer)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_413_and_not_read_to_its_end(
    make_consumer: Callable[..., Consumer], declared: bool
) -> None:
    consumer = make_consumer(max_body="10kB")

    class Endless(io.RawIOBase):
        read_bytes = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            assert size >= 0, "asked for everything"
            self.read_bytes += size
            return b"x" * size

    stream = Endless()
    extra: dict[str, Any] = {"wsgi.input": stream}
    if declared:
        extra["CONTENT_LENGTH"] = "20000"
    else:
        extra |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    response: Any = consumer.client.post("/webhooks/close", environ_overrides=extra)
    assert (response.status_code, response.json["error"]) == (413, "payload_too_large")
    assert stream.read_bytes <= (0 if declared else 10_001)


@pytest.mark.parametrize("zeros", [1, 18, 25, 4000, 5000])
def test_a_length_with_leading_zeros_is_what_it_says(consumer: Consumer, payload: Any, zeros: int) -> None:
    body = payload(GOOD)
    signed = dict(consumer.webhooks.sources["close"].sign(body, consumer.webhooks.clock()))
    extra = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": "0" * zeros + str(len(body))}
    response = consumer.client.post("/webhooks/close", headers=signed, environ_overrides=extra)
    assert (response.status_code, response.json["status"]) == (200, "stored")


@each("length", ["1" * 30, "9" * 5000, "0" * 30 + "1" * 30, "18446744073709551617"])
def test_a_length_of_many_digits_is_too_large(consumer: Consumer, length: str) -> None:
    extra = {"wsgi.input": io.BytesIO(b"x"), "CONTENT_LENGTH": length}
    response = consumer.client.post("/webhooks/close", environ_overrides=extra)
    assert (response.status_code, response.json["error"]) == (413, "payload_too_large")


@each("host", ["", "a b", "a/b", "[::1", "::1", "a:b", "user@a"])
def test_a_request_whose_host_is_none_is_400(consumer: Consumer, payload: Any, host: str) -> None:
    body = payload(GOOD)
    signed = dict(consumer.webhooks.sources["close"].sign(body, consumer.webhooks.clock()))
    response = consumer.client.post("/webhooks/close", data=body, headers=signed, environ_overrides={"HTTP_HOST": host})
    assert (response.status_code, response.json["error"]) == (400, "bad_request")
    assert nothing_is_stored(consumer)


def test_a_host_may_be_missing_in_http_1_0_alone() -> None:
    assert has_host({"SERVER_PROTOCOL": "HTTP/1.0"})
    assert not has_host({"SERVER_PROTOCOL": "HTTP/1.1"})
    assert not has_host({"SERVER_PROTOCOL": "HTTP/1.0", "HTTP_HOST": "a b"})


def test_a_compressed_body_is_415_and_not_inflated(consumer: Consumer, payload: Any) -> None:
    response = consumer.post(payload(GOOD), Content_Encoding="gzip")
    assert (response.status_code, response.json["error"]) == (415, "unsupported_content_encoding")


def test_a_body_that_does_not_come_in_time_is_408(consumer: Consumer) -> None:
    class Stalls(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            raise TooSlow("the body")

    extra = {"wsgi.input": Stalls(), "CONTENT_LENGTH": "5"}
    response: Any = consumer.client.post("/webhooks/close", environ_overrides=extra)
    assert (response.status_code, response.json["error"]) == (408, "request_timeout")
    assert response.headers["Connection"] == "close"


@each(("status", "slug"), [(400, "incomplete_body"), (408, "request_timeout"), (503, "overloaded")])
def test_what_a_server_read_in_part_is_refused(consumer: Consumer, status: int, slug: str) -> None:
    direct = DirectRoute(consumer.app.wsgi_app, consumer.webhooks.ingest, paths=consumer.webhooks.paths, max_body=10)
    answer = direct.refuse("close", status)
    assert (answer.status, json.loads(answer.body)["error"]) == (status, slug)
    assert ("Retry-After" in dict(answer.headers)) is (status == 503)


def test_a_body_cut_short_is_no_event(consumer: Consumer, payload: Any) -> None:
    body = payload(GOOD)
    signed = dict(consumer.webhooks.sources["close"].sign(body, consumer.webhooks.clock()))
    response = consumer.client.post(
        "/webhooks/close",
        headers=signed,
        environ_overrides={"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body) + 1)},
    )
    assert response.status_code == 400
    assert response.headers["Connection"] == "close"
    assert nothing_is_stored(consumer)


@each(
    "path",
    ["/webhooks/nope", "/webhooks/CLOSE", "/webhooks/close%00", "/webhooks/%63lose/x", "/webhooks/close;a", "/webhooks//close",
     "/webhooks/close/../close", "/webhooks/..%2f", "/webhooks/close/healthz",
     "//webhooks/close", "///webhooks/close", "/webhooks/clo%73e", "/webhooks/close%2f", "/webhooks/close%2F", "/webhooks/close//",
     "/%77ebhooks/close", "/./webhooks/close", "/webhooks/./close", "/x/../webhooks/close", "/webhooks/close/.", "/webhooks/close/%2e",
     "/webhooks/close;a=b", "/webhooks;a/close", "/webhooks/close#x", "/webhooks\\close", "/webhooks/close%", "/webhooks/close%20",
     "/webhooks/clo%u0073e", "/webhooks/clo%c1%b3e", "http://localhost//webhooks/close",
     "http://localhost/webhooks/clo%73e"],
)  # fmt: skip
def test_no_trick_with_the_path_reaches_a_source(consumer: Consumer, payload: Any, path: str) -> None:
    response = consumer.client.open(
        environ_overrides=spelled(path), method="POST", **as_signed(consumer, payload(GOOD))
    )
    assert response.status_code == 404
    if path.startswith("/webhooks/"):  # elsewhere a missing page is the host's
        assert response.json == {"error": "not_found", "request_id": response.json["request_id"]}
    assert nothing_is_stored(consumer)


@pytest.mark.parametrize(
    "path",
    ["/webhooks/close", "/webhooks/close?a=%2f", "http://localhost/webhooks/close", "HTTP://h:80/webhooks/close/"],
)
def test_the_one_spelling_of_a_path_reaches_its_source(consumer: Consumer, payload: Any, path: str) -> None:
    response = consumer.client.open(
        environ_overrides=spelled(path), method="POST", **as_signed(consumer, payload(GOOD))
    )
    assert response.json["status"] == "stored"


@each("path", ["//healthz", "/health%7a", "/healthz;a", "//readyz", "/healthz%2f"])
def test_the_pages_for_probes_have_one_spelling_too(consumer: Consumer, path: str) -> None:
    assert consumer.client.open(environ_overrides=spelled(path), method="GET").status_code == 404


def spelled(target: str) -> dict[str, str]:
    """A request's target as gunicorn hands it over: decoded for WSGI, and as it was sent."""
    path = split_request_uri(target).path
    return {"RAW_URI": target, "REQUEST_URI": target, "PATH_INFO": unquote_to_wsgi_str(path)}


def as_signed(consumer: Consumer, body: bytes) -> dict[str, Any]:
    return {"data": body, "headers": dict(consumer.webhooks.sources["close"].sign(body, consumer.webhooks.clock()))}


_SEGMENTS = [
    "/",
    "//",
    "webhooks",
    "close",
    "clo%73e",
    ".",
    "..",
    "%2e",
    "%2f",
    ";a",
    "%00",
    "x",
    "?a",
    "#",
    "\\",
    "%",
    "http://h",
    "é",
]


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(target=st.lists(st.sampled_from(_SEGMENTS), min_size=1, max_size=7).map("".join).filter(lambda t: t.isascii()))
@example("/webhooks/close")
@example("/webhooks/close/")
@example("http://h/webhooks/close?a")
@pytest.mark.parametrize("mounted", ["", "/hooks"])
def test_a_path_reaches_its_source_in_one_spelling_whoever_routes_it(
    consumer: Consumer, payload: Any, mounted: str, target: str
) -> None:
    """Flask's routing and ours agree: 401 (its source was asked) for what is spelled plainly, else 404."""
    environ = spelled(target)
    if mounted:
        environ |= {"SCRIPT_NAME": mounted, "RAW_URI": mounted + target, "REQUEST_URI": mounted + target}
    path = re.sub(r"^http://h(?=/)", "", target) if not mounted else target
    is_plain = re.fullmatch(r"/webhooks/close/?(\?.*)?", path) is not None
    response = consumer.client.open(environ_overrides=environ, method="POST", data=b"{}")
    assert response.status_code == (401 if is_plain else 404)


@pytest.mark.parametrize("url_prefix", ["/webhooks", "/a/b.c"])
def test_a_host_that_merges_slashes_or_has_pages_of_its_own_changes_nothing(
    make_consumer: Callable[..., Consumer], payload: Any, url_prefix: str
) -> None:
    app = Flask("theirs")
    app.url_map.strict_slashes = True

    @app.errorhandler(404)
    def theirs(error: Any) -> tuple[str, int]:
        return "<html>their page</html>", 404

    @app.get(f"{url_prefix}/theirs/page")
    def page() -> str:
        return "theirs"

    consumer = make_consumer(app=app, url_prefix=url_prefix)
    assert consumer.post(payload(GOOD), path=f"{url_prefix}/close").json["status"] == "stored"
    assert consumer.client.get(f"{url_prefix}/theirs/page").text == "theirs"
    assert consumer.client.get("/nothing").text == "<html>their page</html>"
    for path in (f"/{url_prefix}/close", f"{url_prefix}//close", f"{url_prefix}/close//", f"{url_prefix}/close/x/"):
        response = consumer.client.open(
            environ_overrides=spelled(path), method="POST", **as_signed(consumer, payload(GOOD))
        )
        assert (response.status_code, response.json["error"]) == (404, "not_found"), path


def test_a_trailing_slash_is_the_same_and_never_a_redirect(consumer: Consumer, payload: Any) -> None:
    assert consumer.post(payload(GOOD), path="/webhooks/close/").json["status"] == "stored"


@each("path", ["/webhooks/close", "/webhooks/close/"])
@each("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "FOO", "post"])
def test_other_methods_are_405_and_store_nothing(consumer: Consumer, payload: Any, method: str, path: str) -> None:
    response = consumer.client.open(
        path,
        environ_overrides={"REQUEST_METHOD": method},
        data=payload(GOOD),
        headers={"X-HTTP-Method-Override": "POST"},
    )
    assert (response.status_code, response.headers["Allow"]) == (405, "HEAD, POST")
    assert response.json["error"] == "method_not_allowed"
    assert nothing_is_stored(consumer)


@each(("path", "status"), [("/webhooks/close", 200), ("/webhooks/other", 404), ("/webhooks/clo%73e", 404)])
def test_a_sender_may_ask_whether_its_address_exists(consumer: Consumer, path: str, status: int) -> None:
    response = consumer.client.open(environ_overrides=spelled(path), method="HEAD")
    assert (response.status_code, response.data) == (status, b"")
    assert nothing_is_stored(consumer)


def test_every_405_says_what_is_allowed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the service too, whose pages for other errors are ours."""
    from tests.integration.conftest import KEY

    monkeypatch.setattr("webhooks.app.webhooks.default_registry", Registry())
    monkeypatch.setattr("webhooks.settings.logs.set_up_logging", lambda *_: None)
    app = create_app({"database_url": database_url, "sources": {"close": {"secret": KEY}, "meta": META}})
    try:
        client = app.test_client()
        allowed = {
            "/webhooks/close": "HEAD, POST",
            "/webhooks/meta": "GET, HEAD, POST",
            "/healthz": "GET, HEAD, OPTIONS",
        }
        for path, methods in allowed.items():
            for method in ("PUT", "FOO"):
                response = client.open(path, method=method)
                assert (response.status_code, response.headers.get("Allow")) == (405, methods), (path, method)
    finally:
        app.extensions["webhooks"].close()


def test_a_database_that_is_away_is_503_with_retry_after(
    consumer: Consumer, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(items: Any, patience: Any) -> Any:
        raise StorageUnavailable("connection refused")

    monkeypatch.setattr(consumer.webhooks.ingest.commit, "_record", away)
    response = consumer.post(payload(GOOD))
    assert (response.status_code, response.json["error"]) == (503, "storage_unavailable")
    assert int(response.headers["Retry-After"]) >= 1


def test_a_fault_of_ours_is_503_so_that_the_sender_tries_again(
    consumer: Consumer, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer.webhooks.registry, "route", lambda source, type: 1 / 0)
    response = consumer.post(payload(GOOD))
    assert (response.status_code, response.json["error"]) == (503, "internal_error")
    assert "ZeroDivision" not in response.text


def test_a_flood_of_one_source_is_turned_away(
    make_consumer: Callable[..., Consumer], payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.integration.conftest import KEY

    sources = {name: {"scheme": "close", "secret": KEY} for name in ("close", "quiet")}
    consumer = make_consumer(in_flight_per_source=1, sources=sources)
    registry = consumer.webhooks.registry
    route, second, other = registry.route, [], []

    def meanwhile(source: str, type: str) -> Any:
        monkeypatch.setattr(registry, "route", route)
        second.append(consumer.post(payload(GOOD)))
        other.append(consumer.post(payload(GOOD), source="quiet"))
        return route(source, type)

    monkeypatch.setattr(registry, "route", meanwhile)
    assert consumer.post(payload(GOOD)).status_code == 200
    assert (second[0].status_code, second[0].json["error"]) == (503, "overloaded")
    assert "Retry-After" in second[0].headers
    assert other[0].status_code == 200
    assert consumer.post(payload(GOOD)).status_code == 200  # and afterwards there is room again


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=300),
    headers=st.dictionaries(
        st.sampled_from(["close-sig-hash", "close-sig-timestamp", "content-type", "content-encoding", "x-odd"]),
        st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=80),
    ),
)
def test_no_request_is_answered_with_anything_but_a_refusal(
    consumer: Consumer, body: bytes, headers: dict[str, str]
) -> None:
    response = consumer.client.post("/webhooks/close", data=body, headers=headers)
    assert response.status_code in (401, 415)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["event", "id", "object_type", "action", "date_updated", "data", "lead_id", "object_id"]), inner, max_size=6
    ),
    max_leaves=20,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_no_signed_body_gives_a_5xx(consumer: Consumer, body: bytes) -> None:
    response = consumer.post(body)
    assert response.status_code == 200
    assert response.json["status"] in ("quarantined", "stored", "duplicate", "revision", "stale")


# -- the traces of what is not ------------------------------------------------------------------------------


class Traces:
    """A consumer whose rejections are written at once, and what it knows afterwards of a refused request."""

    def __init__(self, consumer: Consumer, caplog: pytest.LogCaptureFixture) -> None:
        self.consumer = consumer
        self._caplog = caplog
        consumer.webhooks.background.write_soon = lambda write: write()

    def of(self, response: Any) -> Rejection:
        """The one trace in rows, counts and lines that a refused request left."""
        id = response.json["request_id"]
        found = self.consumer.webhooks.store.rejections.find(id)
        assert found is not None
        assert (found.request_id, found.status) == (id, response.status_code)
        assert self.consumer.webhooks.refusals.counts()[found.source, Refusal(found.kind)] == 1
        lines = [record for record in self._caplog.records if getattr(record, "request_id", None) == id]
        assert len(lines) == 1
        assert lines[0].name == "webhooks.intake.refusals"
        return found


@pytest.fixture
def traces(make_consumer: Callable[..., Consumer], caplog: pytest.LogCaptureFixture) -> Traces:
    from tests.integration.conftest import KEY

    sources = {
        "close": {"secret": KEY},
        "meta": META,
        "strict": {"scheme": "close", "secret": KEY, "on_unparseable": "reject"},
    }
    return Traces(make_consumer(sources=sources, max_body="10kB"), caplog)


def test_every_kind_of_refusal_leaves_a_trace(traces: Traces, payload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer, client = traces.consumer, traces.consumer.client
    good = payload(GOOD)
    cut = {"environ_overrides": {"wsgi.input": io.BytesIO(b"x"), "CONTENT_LENGTH": "2"}}
    asked = {
        "signature": client.post("/webhooks/close", data=b"x"),
        "challenge": client.get("/webhooks/meta?hub.mode=subscribe&hub.verify_token=no&hub.challenge=1"),
        "incomplete": client.post("/webhooks/close", **cut),
        "unreadable": consumer.post(b"no json", source="strict"),
        "not_found": client.post("/webhooks/clsoe", data=b"x"),
        "method": client.put("/webhooks/close"),
        "too_large": client.post("/webhooks/close", data=b"x" * 20_000),
        "encoding": consumer.post(good, Content_Encoding="gzip"),
    }
    for kind, response in asked.items():
        found = traces.of(response)
        assert (found.kind, found.source) == (
            kind, {"not_found": "", "challenge": "meta", "unreadable": "strict"}.get(kind, "close"),
        )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(consumer.webhooks.registry, "route", lambda source, type: 1 / 0)
        assert traces.of(consumer.post(good)).kind == "fault"
    with monkeypatch.context() as patch:
        patch.setattr(consumer.webhooks.ingest.commit, "_record", away)
        assert traces.of(consumer.post(good)).kind == "storage"
    monkeypatch.setattr(consumer.webhooks.ingest, "_in_flight_limit", 0)
    assert traces.of(consumer.post(good)).kind == "overloaded"


def away(items: Any, patience: Any) -> Any:
    raise StorageUnavailable("connection refused")


def test_paths_that_are_none_are_counted_and_kept_in_bounds_whatever_they_are(traces: Traces) -> None:
    consumer = traces.consumer
    odd = "/webhooks/close%0d%0a\x1b[2Jforged%e2%80%ae;" + "y" * 3000
    environ = {"RAW_URI": odd, "REQUEST_URI": odd, "PATH_INFO": unquote_to_wsgi_str(odd)}
    found = traces.of(consumer.client.open(environ_overrides=environ, method="POST"))
    assert (found.kind, found.source) == ("not_found", "")
    assert len(found.reason) <= 310
    assert found.reason.isprintable()
    for number in range(300):
        consumer.client.post(f"/webhooks/none-{number}", data=b"x")
    assert consumer.webhooks.refusals.counts() == {("", Refusal.NOT_FOUND): 301}
    assert len(consumer.webhooks.store.rejections.latest(1000)) <= 3


def test_the_service_records_what_its_other_pages_refuse(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.integration.conftest import KEY

    monkeypatch.setattr("webhooks.app.webhooks.default_registry", Registry())
    monkeypatch.setattr("webhooks.settings.logs.set_up_logging", lambda *_: None)
    app = create_app({"database_url": database_url, "sources": {"close": {"secret": KEY}}})
    webhooks = app.extensions["webhooks"]
    try:
        traces = Traces(Consumer(app, webhooks), caplog)
        assert "'/webhook/close'" in traces.of(app.test_client().post("/webhook/close")).reason
        assert "'PUT'" in traces.of(app.test_client().put("/healthz")).reason
    finally:
        webhooks.close()


def test_a_refused_request_is_told_to_observers_whatever_the_reason(traces: Traces) -> None:
    from webhooks import signals

    heard: list[tuple[str, int]] = []

    def hear(source: str, *, error: Any, request: Any, **_: Any) -> None:
        heard.append((source, error.status))
        assert request.id

    with signals.request_rejected.connected_to(hear):
        traces.consumer.client.post("/webhooks/close", data=b"x")
        traces.consumer.client.put("/webhooks/close")
        traces.consumer.client.post("/webhooks/close", data=b"x" * 20_000)
        traces.consumer.client.post("/webhooks/none", data=b"x")
    assert heard == [("close", 401), ("close", 405), ("close", 413)]


def test_the_trace_of_a_fault_of_ours_holds_no_controls(
    traces: Traces, payload: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(source: str, type: str) -> Any:
        raise ValueError("\x1b[2Jcleared\nERROR forged line \u202e")

    monkeypatch.setattr(traces.consumer.webhooks.registry, "route", fail)
    assert traces.consumer.post(payload(GOOD)).status_code == 503
    text = caplog.records[-1].getMessage()
    assert "in fail" in text  # where it happened
    assert not set(text) & {"\x1b", "\u202e"}
    assert "\nERROR" not in text
    assert caplog.records[-1].exc_info is None


# -- health ------------------------------------------------------------------------------------------------


def test_health_and_readiness(consumer: Consumer) -> None:
    assert consumer.client.get("/healthz").json["status"] == "ok"
    ready = consumer.client.get("/readyz")
    assert (ready.status_code, ready.json["status"], ready.json["worker"]["alive"]) == (200, "ready", False)


def test_readiness_is_503_while_the_schema_is_behind(consumer: Consumer) -> None:
    version = text("select version_num from webhooks_version")
    with consumer.webhooks.database.write() as connection:
        head = connection.execute(version).scalar_one()
        connection.execute(text("update webhooks_version set version_num = '0001'"))
    try:
        response = consumer.client.get("/readyz")
        assert response.status_code == 503
        assert "webhooks db upgrade" in response.json["problems"][0]
        assert consumer.client.get("/healthz").status_code == 200
    finally:  # the database is shared with other tests
        with consumer.webhooks.database.write() as connection:
            connection.execute(text("update webhooks_version set version_num = :head"), {"head": head})


class Moment:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_crowd_that_asks_for_readiness_waits_for_one_check_and_not_for_long(clock: Clock) -> None:
    """While the database does not answer: one request asks it, and the others are answered by what is known."""
    moment, began, goes_on = Moment(), threading.Event(), threading.Event()
    asked: list[float] = []

    def check() -> tuple[tuple[str, ...], None]:
        asked.append(moment.now)
        began.set()
        assert goes_on.wait(20)
        return ("database unavailable",), None

    readiness = Readiness(check, clock, moment)
    readiness.PATIENCE = 0.05
    leader = threading.Thread(target=readiness)
    leader.start()
    assert began.wait(20)
    first = time.monotonic()
    moment.now += 0.05  # patience is counted from the start of the check, so these 60 do not wait at all
    assert {readiness()[0] for _ in range(60)} == {503}
    assert time.monotonic() - first < allowed(5)
    goes_on.set()
    leader.join()
    assert [readiness()[0] for _ in range(3)] == [503] * 3
    assert asked == [100.0]


def test_who_asks_during_a_check_gets_its_answer_or_one_that_is_young(clock: Clock) -> None:
    moment = Moment()
    answers: list[int] = []
    problems: tuple[str, ...] = ()

    def check() -> tuple[tuple[str, ...], None]:
        if moment.now > 101:  # another one asks meanwhile, and waits no longer than it may
            readiness.PATIENCE = 0
            other = threading.Thread(target=lambda: answers.append(readiness()[0]))
            other.start()
            other.join()
        return problems, None

    readiness = Readiness(check, clock, moment)
    assert readiness()[0] == 200
    moment.now, problems = 101.5, ("database unavailable",)
    assert readiness()[0] == 503
    moment.now, problems = 104.0, ()
    assert readiness()[0] == 200
    moment.now += readiness.KEPT_AT_MOST + 0.1
    assert readiness()[0] == 200
    # the first was told what held 1.5 s before; the second that nothing is known, or that it was so 2.5 s before
    assert answers == [200, 503, 503]


def test_strangers_are_not_told_what_the_database_said(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = 'connection to server at "10.1.2.3", port 5432 failed: FATAL: role "hooks_rw" does not exist\x1b[2J'

    def away(*_: Any) -> Any:
        raise StorageUnavailable(said)

    monkeypatch.setattr("webhooks.database.migrations.compare.is_current", away)
    for _ in range(3):
        response = consumer.client.get("/readyz")
        assert consumer.webhooks.readiness is not None
        consumer.webhooks.readiness.forget()  # so that each asks anew
        assert (response.status_code, response.json["problems"]) == (503, ["database unavailable"])
        assert response.headers["Retry-After"] == "5"
        assert not any(word in response.text for word in ("10.1.2.3", "5432", "hooks_rw"))
    lines = [record.getMessage() for record in caplog.records if "/readyz" in record.getMessage()]
    assert len(lines) == 1  # a probe asks every few seconds
    assert "10.1.2.3" in lines[0]
    assert "\x1b" not in lines[0]


def test_a_database_that_refuses_is_not_ready_and_no_fault_of_ours(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise PermissionError("permission denied for table webhooks_version of role hooks_rw")

    monkeypatch.setattr("webhooks.database.migrations.compare.is_current", refuse)
    response = consumer.client.get("/readyz")
    assert (response.status_code, response.json["problems"]) == (503, ["database unavailable"])


# -- in somebody's application -----------------------------------------------------------------------------


def test_two_instances_in_one_application_do_not_share_handlers(
    make_consumer: Callable[..., Consumer], payload: Any
) -> None:
    from tests.integration.conftest import KEY

    app = Flask("theirs")

    @app.get("/")
    def index() -> str:
        return "theirs"

    first, second = Registry(), Registry()

    @first.on("activity.**", name="first.all")
    def handle(event: Event) -> None: ...

    one = make_consumer(first, app=app)
    two = make_consumer(second, app=app, name="other", url_prefix="/other", sources={"close": {"secret": KEY[::-1]}})
    body = payload(GOOD)
    assert len(one.post(body).json) == 3
    assert two.post(body, path="/other/close").json["status"] == "duplicate"
    assert one.post(body, path="/other/close").status_code == 401
    assert app.test_client().get("/").text == "theirs"
    assert count(one, schema.deliveries) == 1


def test_the_same_name_twice_in_one_application_is_refused(make_consumer: Callable[..., Consumer]) -> None:
    app = Flask("theirs")
    make_consumer(app=app)
    with pytest.raises(ConfigurationError, match="name="):
        make_consumer(app=app)


def test_an_event_travels_from_request_to_handler(make_consumer: Callable[..., Consumer], payload: Any) -> None:
    registry = Registry()
    seen: list[Any] = []

    @registry.on("activity.whatsapp_message.*", source="close", name="tests.mirror")
    def mirror(event: Event, data: Any, log: Any) -> None:
        seen.append((event.type, data["id"]))
        worker.stop()

    consumer = make_consumer(registry)
    consumer.post(payload(GOOD))
    worker: Worker = consumer.webhooks.make_worker()
    assert worker.run() == 0
    assert seen == [("activity.whatsapp_message.created", "acti_UeKPVIqd4hcVmcQEdCG0ycXXGV4Px3JMZVXIs1M1xPI")]
    with consumer.webhooks.database.read() as connection:
        assert connection.execute(select(schema.deliveries.c.state)).scalar_one() == 2


# -- the direct route --------------------------------------------------------------------------------------


def test_only_posts_to_configured_sources_are_answered_without_flask(
    make_consumer: Callable[..., Consumer], payload: Any, takes_direct_route: bool
) -> None:
    app = Flask(__name__)
    asked: list[str] = []

    @app.before_request
    def note() -> None:
        from flask import request

        asked.append(f"{request.method} {request.path}")

    consumer = make_consumer(app=app)
    for path in ("/webhooks/close", "/webhooks/close/"):
        assert consumer.post(payload(GOOD), path=path).status_code == 200
    assert asked == ([] if takes_direct_route else ["POST /webhooks/close", "POST /webhooks/close/"])
    asked.clear()
    statuses = [
        consumer.client.get("/webhooks/close").status_code,
        consumer.client.post("/webhooks/other").status_code,
        consumer.client.post("/webhooks/close/more").status_code,
        consumer.client.get("/healthz").status_code,
    ]
    assert statuses == [405, 404, 404, 200]
    assert len(asked) == 4
