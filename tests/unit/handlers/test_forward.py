"""The plugin `forward`, as far as it needs no network: its settings, its message and its signature."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from handlers import forward
from tests.support import each
from webhooks import ConfigurationError, Event, Registry

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GOOD = {"url": "https://warehouse.example/hooks", "secret": SECRET, "types": ["lead.*", "activity.**"]}


def read(**changes: Any) -> list[forward.Target]:
    return forward.read_targets({"FORWARD_TARGETS": json.dumps({"warehouse": {**GOOD, **changes}})})


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        forward.read_targets({"FORWARD_TARGETS": text})
    return caught.value.problems


def event(raw: bytes, type: str = "lead.created") -> Event:
    at = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)
    return Event(id=1, source="close", type=type, dedup_key="ev_1", raw=raw, occurred_at=at, received_at=at)


# -- settings ------------------------------------------------------------------------------------------------


def test_without_the_setting_there_is_no_target() -> None:
    assert forward.read_targets({}) == []
    assert forward.read_targets({"FORWARD_TARGETS": " "}) == []


def test_a_target_is_read_with_its_defaults() -> None:
    (target,) = read()

    assert (target.name, target.url, target.types) == ("warehouse", GOOD["url"], ("lead.*", "activity.**"))
    assert (target.source, target.timeout.total_seconds()) == ("close", 10)


def test_targets_can_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "targets.json").write_text(json.dumps({"warehouse": GOOD}))

    (target,) = forward.read_targets({"FORWARD_TARGETS_FILE": str(tmp_path / "targets.json")})

    assert target.name == "warehouse"


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"FORWARD_TARGETS_FILE: 'nowhere\.json' cannot be read: No such file"):
        forward.read_targets({"FORWARD_TARGETS_FILE": "nowhere.json"})


def test_targets_in_place_of_the_file_with_them_are_not_shown() -> None:
    secret = "whsec_" + "ab+/" * 10
    with pytest.raises(ConfigurationError, match="must be a path") as caught:
        forward.read_targets({"FORWARD_TARGETS_FILE": json.dumps({"warehouse": {"secret": secret}})})
    assert "ab+/" not in str(caught.value)


def test_a_value_and_a_file_together_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="FORWARD_TARGETS and FORWARD_TARGETS_FILE are both set; keep one"):
        forward.read_targets({"FORWARD_TARGETS": "{}", "FORWARD_TARGETS_FILE": "x"})


@pytest.mark.parametrize("url", ["http://localhost:9/x", "http://127.0.0.1/", "http://127.9.9.9/", "http://[::1]:80/"])
def test_this_machine_may_be_reached_by_http(url: str) -> None:
    assert read(url=url)[0].url == url


@each(
    ("url", "reason"),
    [
        ("http://warehouse.example/", "is http; use https"),
        ("http://localhost.example/", "is http; use https"),
        ("http://10.0.0.1/", "is http; use https"),
        ("http://127.0.0.1.example/", "is http; use https"),
        ("http://0.0.0.0/", "is http; use https"),
        ("https://", "is no address"),
        ("ftp://warehouse.example/", "is no address"),
        ("warehouse.example/hooks", "is no address"),
        ("https://warehouse.example:x/", "is no address"),
        ("https://warehouse.example/a b", "is no address"),
        ("https://warehouse.example/\r\nx: y", "is no address"),
        ("https://wärehouse.example/", "is no address"),
        ("https://[warehouse/", "is no address"),
        ("", "is no address"),
        (None, "is no address"),
        (["https://warehouse.example/"], "is no address"),
        ("https://me:pass@warehouse.example/", "holds a user name or password"),
        ("https://me@warehouse.example/", "holds a user name or password"),
        ("https://warehouse.example/#top", "ends in #"),
    ],
)
def test_an_address_that_must_not_be_used_is_refused_without_showing_it(url: Any, reason: str) -> None:
    (problem,) = problems(json.dumps({"warehouse": {**GOOD, "url": url}}))

    assert problem.startswith(f"FORWARD_TARGETS, target 'warehouse': url {reason}")
    assert "pass" not in problem.replace("password", "")


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "swordfish",
        SECRET.removeprefix("whsec_"),  # without its prefix
        "whsec_",
        "whsec_c3dvcmRmaXNo",  # too short
        "whsec_" + "c3dvcmRmaXNo" * 8,  # too long
        "whsec_swordfish!",
        None,
        5,
        ["swordfish"],
    ],
)
def test_a_secret_that_is_none_is_refused_without_showing_it(secret: Any) -> None:
    (problem,) = problems(json.dumps({"warehouse": {**GOOD, "secret": secret}}))

    assert "secret is not whsec_ and base64 of 24 to 64 bytes; make one with: python -c" in problem
    assert not any(part in problem for part in ("swordfish", "c3dvcmRm", "MfKQ9r8"))


def test_the_command_that_makes_a_secret_makes_one(capsys: pytest.CaptureFixture[str]) -> None:
    (problem,) = problems(json.dumps({"warehouse": {**GOOD, "secret": ""}}))

    exec(problem.partition('python -c "')[2].rstrip('"'))

    assert read(secret=capsys.readouterr().out.strip())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"types": []}, 'types is no list of patterns, such as ["lead.*"]'),
        ({"types": "lead.*"}, 'types is no list of patterns, such as ["lead.*"]'),
        ({"types": ["lead.*", 5]}, 'types is no list of patterns, such as ["lead.*"]'),
        ({"source": ""}, "source is no name of a source, such as close"),
        ({"timeout_seconds": 0}, "timeout_seconds is no number above 0, up to 300"),
        ({"timeout_seconds": True}, "timeout_seconds is no number above 0, up to 300"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds is no number above 0, up to 300"),
        ({"type": ["lead.*"]}, "unknown 'type'; there are secret, source, timeout_seconds, types, url"),
    ],
)
def test_other_mistakes_are_named(changes: dict[str, Any], problem: str) -> None:
    assert problems(json.dumps({"warehouse": {**GOOD, **changes}})) == (
        f"FORWARD_TARGETS, target 'warehouse': {problem}",
    )


def test_all_mistakes_of_all_targets_are_told_at_once() -> None:
    found = problems(json.dumps({"Ware House": {**GOOD, "types": []}, "other": 5}))

    assert [problem.partition(": ")[0] for problem in found] == [
        "FORWARD_TARGETS, target 'Ware House'",
        "FORWARD_TARGETS, target 'Ware House'",
        "FORWARD_TARGETS, target 'other'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "FORWARD_TARGETS is not JSON (line 1); write {"),
        ("[" * 100_000, "FORWARD_TARGETS is not JSON; write {"),
        ("[]", "FORWARD_TARGETS is no JSON object; write {"),
    ],
)
def test_what_is_no_json_object_is_answered_with_an_example(text: str, problem: str) -> None:
    assert problems(text)[0].startswith(problem)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner)))
def test_no_value_raises_anything_else(value: Any) -> None:
    for key in (*GOOD, "source", "timeout_seconds"):
        with contextlib.suppress(ConfigurationError):
            read(**{key: value})


def test_neither_address_nor_secret_is_in_the_repr() -> None:
    (target,) = read(url="https://warehouse.example/token-1234")

    assert "1234" not in repr(target)
    assert "secret" not in repr(target)


def test_each_target_is_a_handler_of_its_own() -> None:
    registry = Registry()
    forward.register(read()[0], registry)

    (handler,) = registry.handlers()

    assert handler.name == "forward.warehouse"
    assert handler.source == "close"
    assert [str(pattern) for pattern in handler.patterns] == ["lead.*", "activity.**"]


# -- the message ---------------------------------------------------------------------------------------------


@given(body=st.binary(max_size=200), timestamp=st.integers(0, 2**31))
def test_another_implementation_computes_the_same_signature(body: bytes, timestamp: int) -> None:
    """The reference library signs text; the bytes of any UTF-8 are the same."""
    text = body.decode("utf-8", "replace")
    (target,) = read()

    ours = forward.sign("msg_1", timestamp, text.encode(), target.secret)

    theirs = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(timestamp, UTC), text)
    assert ours["webhook-signature"] == theirs


def test_the_bytes_of_the_sender_are_passed_on_unchanged() -> None:
    raw = b'{"event": {"id": "ev_1", "n": 1.000, "text": "\\ud83d caf\xc3\xa9"},\n "n": 123456789012345678901234567890}'

    body = forward.body_of(event(raw))

    assert raw in body
    assert json.loads(body) == {
        "type": "lead.created",
        "timestamp": "2026-03-10T14:05:12+00:00",
        "source": "close",
        "data": json.loads(raw),
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"payload=%7B%7D",
        b"\xff\xfe",
        '{"a": 1}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"NaN",
        b'{"a": Infinity}',
        b"[",
    ],
)
def test_what_is_no_json_is_passed_on_as_text(raw: bytes) -> None:
    assert json.loads(forward.body_of(event(raw)))["data"] == {"body": raw.decode("utf-8", "replace")}


@given(raw=st.binary(max_size=100), type=st.text(min_size=1, max_size=20))
def test_the_body_is_always_json(raw: bytes, type: str) -> None:
    body = json.loads(forward.body_of(event(raw, type)), parse_constant=forward._refuse)

    assert body["type"] == type
