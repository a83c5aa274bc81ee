"""`webhooks sandbox`: what it is told on the command line, and what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from webhooks.cli import demo, group, sandbox
from webhooks.errors import SelectionError
from webhooks.sandbox import Rules
from webhooks.sandbox.refusals import Invalid

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"


@pytest.fixture(autouse=True)
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty directory, and asked to stop as soon as it serves."""
    monkeypatch.chdir(tmp_path)
    asked = threading.Event()
    asked.set()
    monkeypatch.setattr(sandbox, "_asked_to_stop", lambda: asked)


def invoke(text: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(group, ["sandbox", "--port", "0", *shlex.split(text)], env=dict(env or {}))


def test_without_an_address_it_says_how_to_subscribe() -> None:
    result = invoke("")
    assert result.exit_code == 0
    assert "nothing is subscribed: start `webhooks dev` here first, or give --url" in result.stderr
    assert re.search(r"a local Close listens at http://127\.0\.0\.1:\d+/api/v1/\n", result.stderr)
    assert result.stdout == ""


def test_in_a_directory_without_a_source_it_makes_a_key_and_shows_it() -> None:
    result = invoke("--url http://127.0.0.1:1")
    assert re.search(r"posts to http://127\.0\.0\.1:1/webhooks/close; its key is [0-9a-f]{64}\n", result.stderr)


def test_a_key_of_the_directory_is_used_and_not_shown() -> None:
    result = invoke("--url http://127.0.0.1:1", {"WEBHOOKS_SOURCES__close__SECRET": KEY})
    assert "posts to http://127.0.0.1:1/webhooks/close, signed with the key that was given" in result.stderr
    assert KEY not in result.output


def test_a_dev_that_runs_here_is_posted_to(tmp_path: Path) -> None:
    secret = demo.make_secret(tmp_path).read_text()
    demo.leave_note(tmp_path, "http://127.0.0.1:8123")
    result = invoke("")
    assert "posts to http://127.0.0.1:8123/webhooks/close, signed with the key that was given" in result.stderr
    assert secret not in result.output


def test_while_it_runs_the_commands_beside_it_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = demo.make_secret(tmp_path)
    key = secret.read_text()
    found: list[dict[str, str]] = []

    class Looks(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            found.append(demo.running_close(tmp_path))
            return True

    monkeypatch.setattr(sandbox, "_asked_to_stop", Looks)
    result = invoke("--url http://127.0.0.1:8123")
    (url,) = re.findall(r"listens at (\S+)", result.stderr)
    assert found == [
        {"api_url": url, "api_key": "api_local.admin", "public_url": "http://127.0.0.1:8123/webhooks/close"}
    ]
    assert "API_KEY" not in result.stderr
    assert demo.running_close(tmp_path) == {}
    (subscription,) = re.findall(r"subscription (\S+) posts", result.stderr)
    assert json.loads(secret.read_text()) == {subscription: key}


def test_a_key_that_goes_into_another_file_is_none_of_the_demos(tmp_path: Path) -> None:
    secret = demo.make_secret(tmp_path)
    before = secret.read_text()
    invoke("--url http://127.0.0.1:8123 --secret-file keys")
    assert secret.read_text() == before


def test_for_a_source_that_is_somebodys_it_says_how_it_is_asked() -> None:
    env = {"WEBHOOKS_SOURCES__crm__SECRET": KEY, "WEBHOOKS_SOURCES__crm__SCHEME": "close"}
    result = invoke("--url http://127.0.0.1:1", env)
    (url,) = re.findall(r"listens at (\S+)", result.stderr)
    said = f"WEBHOOKS_SOURCES__crm__API_URL={url} and WEBHOOKS_SOURCES__crm__API_KEY=api_local.admin"
    assert f"catch-up, subscriptions and doctor ask it with {said}\n" in result.stderr


def test_the_path_is_that_of_the_source(tmp_path: Path) -> None:
    demo.leave_note(tmp_path, "http://127.0.0.1:8123")
    env = {
        "WEBHOOKS_SOURCES__crm__SECRET": KEY,
        "WEBHOOKS_SOURCES__crm__SCHEME": "close",
        "WEBHOOKS_URL_PREFIX": "/in",
    }
    assert "posts to http://127.0.0.1:8123/in/crm," in invoke("", env).stderr


def test_a_key_is_put_into_a_file_of_its_owner(tmp_path: Path) -> None:
    result = invoke("--url http://127.0.0.1:1 --secret-file keys", {"WEBHOOKS_SOURCES__close__SECRET": KEY})
    assert "its key is in keys" in result.stderr
    text = (tmp_path / "keys").read_text()
    (key,) = re.findall("[0-9a-f]{64}", text)
    assert key != KEY
    assert key not in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("--rule disorder", 2, "is not name=value, such as disorder=30"),
        ("--rule disordr=3", 2, "there is no such rule; there are backlog"),
        ("--rule unlisted=1", 2, "unlisted: is true or false, not 1"),
        ("--type lead.craeted", 2, "did you mean 'lead.created'?"),
        ("--type lead..x", 1, "empty segment"),
        ("--type outcome.created", 2, "names no event type of Close"),
        ("--latency 3", 2, "use a number and a unit"),
        ("--url nowhere", 2, "is an http or https address"),
        ("--url http://127.0.0.1:1 --secret-file no/such/directory", 1, "cannot be written: No such file or directory"),
    ],
)
def test_what_is_wrong_gets_one_clear_line(arguments: str, code: int, says: str) -> None:
    result = invoke(arguments)
    assert result.exit_code == code
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(group, ["sandbox", "--port", str(port)])
    assert result.exit_code == 1
    assert result.stderr == f"webhooks: port {port} cannot be had: Address already in use; --port 0 takes a free one\n"


def test_rules_are_read_as_numbers_truths_and_seconds() -> None:
    rules = sandbox.read_rules(["disorder=30", "duplicates=0.5", "unlisted=true", "rate_limit=5"])
    assert rules == Rules(disorder=timedelta(seconds=30), duplicates=0.5, unlisted=True, rate_limit=5)
    with pytest.raises(Invalid, match="is a number"):
        sandbox.read_rules(["disorder=soon"])


def test_patterns_are_expanded_and_outcomes_only_with_unlisted() -> None:
    assert sandbox.choose_types(["activity.whatsapp_message.*", "lead.merged"], unlisted=False) == [
        "activity.whatsapp_message.created",
        "activity.whatsapp_message.deleted",
        "activity.whatsapp_message.updated",
        "lead.merged",
    ]
    assert sandbox.choose_types(["outcome.created"], unlisted=True) == ["outcome.created"]
    with pytest.raises(SelectionError):
        sandbox.choose_types(["outcome.created"], unlisted=False)


def test_each_post_is_shown_with_its_answer(capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"event":{"id":"ev_1","object_type":"lead","action":"created"}}'
    assert sandbox.announcing(lambda *post: 200)("u", {}, body) == 200
    assert sandbox.announcing(lambda *post: 401)("u", {}, body) == 401

    def refuse(url: str, headers: Mapping[str, str], body: bytes) -> int:
        raise ConnectionRefusedError(os.strerror(111))

    with pytest.raises(ConnectionRefusedError):
        sandbox.announcing(refuse)("u", {}, body)
    assert capsys.readouterr().err.splitlines() == [
        "200 lead.created ev_1",
        "401 lead.created ev_1: not taken; it is tried again",
        "--- lead.created ev_1: no answer (ConnectionRefusedError); it is tried again",
    ]
