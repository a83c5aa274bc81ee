"""What commands beside a running `dev` learn from it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from webhooks.cli import demo

CONFIGURED = {"WEBHOOKS_SOURCES__close__SECRET": "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"}


def write(directory: Path, text: str) -> None:
    (directory / demo.NOTE_FILE).parent.mkdir(exist_ok=True)
    (directory / demo.NOTE_FILE).write_text(text)


def test_nothing_is_added_where_no_demo_ran(tmp_path: Path) -> None:
    assert demo.overrides_if_needed(tmp_path, {}) is None
    assert demo.running_url(tmp_path) is None


def test_the_demo_secret_is_its_owners_and_kept(tmp_path: Path) -> None:
    path = demo.make_secret(tmp_path)
    secret = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert demo.make_secret(tmp_path).read_text() == secret


def test_commands_beside_a_demo_get_its_source_and_its_handlers(tmp_path: Path) -> None:
    path = demo.make_secret(tmp_path)
    demo.leave_note(tmp_path, "http://127.0.0.1:8123", handlers=list(demo.HANDLERS.values()))
    assert demo.running_url(tmp_path) == "http://127.0.0.1:8123"
    assert demo.overrides_if_needed(tmp_path, {}) == {
        "sources": {"close": {"secret_file": str(path)}},
        "handlers": ["webhooks.cli.demo_handlers", "webhooks.cli.demo_deal"],
    }


def test_handlers_that_are_configured_stay_and_none_is_named_twice(tmp_path: Path) -> None:
    demo.leave_note(tmp_path, "http://127.0.0.1:8123", handlers=list(demo.HANDLERS.values()))
    environ = {**CONFIGURED, "WEBHOOKS_HANDLERS": "mine"}
    assert demo.overrides_if_needed(tmp_path, environ) == {"handlers": ["mine", *demo.HANDLERS.values()]}
    environ["WEBHOOKS_HANDLERS"] = ",".join(["mine", *demo.HANDLERS.values()])
    assert demo.overrides_if_needed(tmp_path, environ) is None


def test_a_dev_with_handlers_of_its_own_brings_none(tmp_path: Path) -> None:
    demo.leave_note(tmp_path, "http://127.0.0.1:8123")
    assert demo.overrides_if_needed(tmp_path, CONFIGURED) is None


def test_the_demos_handlers_are_gone_with_it(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    write(
        tmp_path,
        json.dumps({"url": "http://127.0.0.1:8123", "pid": ended.pid, "demo_handlers": list(demo.HANDLERS.values())}),
    )
    assert demo.running_url(tmp_path) is None
    assert demo.overrides_if_needed(tmp_path, {}) is None


def test_commands_beside_a_local_close_ask_it_for_the_demos_source_only(tmp_path: Path) -> None:
    path = demo.make_secret(tmp_path)
    demo.leave_close_note(tmp_path, "http://127.0.0.1:8765/api/v1/", "api_local.admin", "http://127.0.0.1:8000/x")
    asked = {
        "api_url": "http://127.0.0.1:8765/api/v1/",
        "api_key": "api_local.admin",
        "public_url": "http://127.0.0.1:8000/x",
    }
    assert demo.overrides_if_needed(tmp_path, {}) == {"sources": {"close": {"secret_file": str(path), **asked}}}
    assert demo.environment(path) == {
        f"WEBHOOKS_SOURCES__close__{name.upper()}": value for name, value in {"secret_file": str(path), **asked}.items()
    }
    assert demo.overrides_if_needed(tmp_path, CONFIGURED) is None
    demo.remove_close_note(tmp_path)
    assert demo.overrides_if_needed(tmp_path, {}) == {"sources": {"close": {"secret_file": str(path)}}}


def test_a_new_demo_keeps_the_key_and_forgets_whose_it_was(tmp_path: Path) -> None:
    path = demo.make_secret(tmp_path)
    key = path.read_text()
    demo.label_key(path, "whsub_1", key)
    demo.label_key(path, "whsub_2", "another")
    assert json.loads(path.read_text()) == {"whsub_1": key, "whsub_2": "another"}
    demo.leave_close_note(tmp_path, "http://127.0.0.1:8765/api/v1/", "k", None)
    assert json.loads(demo.make_secret(tmp_path).read_text()) == {"whsub_1": key, "whsub_2": "another"}
    demo.remove_close_note(tmp_path)
    assert json.loads(demo.make_secret(tmp_path).read_text()) == {"1": key}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_demo_secret_that_cannot_be_read_is_left_for_the_start_to_complain_of(tmp_path: Path) -> None:
    path = demo.secret_path(tmp_path)
    path.write_text('{"a": 1')
    assert demo.make_secret(tmp_path).read_text() == '{"a": 1'
    demo.label_key(path, "whsub_1", "k")
    assert path.read_text() == '{"a": 1'


def test_a_local_close_that_posts_nowhere_yet_is_asked_all_the_same(tmp_path: Path) -> None:
    demo.leave_close_note(tmp_path, "http://127.0.0.1:8765/api/v1/", "key", None)
    assert demo.running_close(tmp_path) == {"api_url": "http://127.0.0.1:8765/api/v1/", "api_key": "key"}


@pytest.mark.parametrize(
    "note",
    [{"api_url": "https://example.com/api/v1/", "api_key": "k"}, {"api_url": "http://127.0.0.1:1/"}, {"api_key": "k"}],
)
def test_no_key_goes_to_what_is_no_local_close(tmp_path: Path, note: dict[str, str]) -> None:
    (tmp_path / demo.CLOSE_NOTE_FILE).parent.mkdir()
    (tmp_path / demo.CLOSE_NOTE_FILE).write_text(json.dumps({**note, "pid": os.getpid()}))
    assert demo.running_close(tmp_path) == {}


def test_a_dev_takes_away_its_own_note_only(tmp_path: Path) -> None:
    write(tmp_path, json.dumps({"url": "http://127.0.0.1:8123", "pid": os.getppid()}))
    demo.remove_note(tmp_path)
    assert demo.running_url(tmp_path) == "http://127.0.0.1:8123"
    demo.leave_note(tmp_path, "http://127.0.0.1:8124")
    demo.remove_note(tmp_path)
    assert not (tmp_path / demo.NOTE_FILE).exists()
    demo.remove_note(tmp_path)


def test_a_note_that_cannot_be_written_is_said_and_no_reason_to_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / demo.NOTE_FILE).parent.touch()
    demo.leave_note(tmp_path, "http://127.0.0.1:8123")
    demo.remove_note(tmp_path)
    said = capsys.readouterr().err
    assert "commands beside this one do not find its server; set PORT for them" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"url": "http://127.0.0.1:1"}', '{"pid": "x"}', '{"pid": true}', '{"pid": -1}', '{"pid": 0}',
     '{"pid": 123456789012345678901234567890}', "\udce9"],
)  # fmt: skip
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / demo.NOTE_FILE).parent.mkdir()
    (tmp_path / demo.NOTE_FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert demo.running_url(tmp_path) is None
    assert demo.overrides_if_needed(tmp_path, {}) is None


@pytest.mark.parametrize("url", [7, "http://example.com:8000", "file:///etc/passwd", "http://127.0.0.1.example.com:80"])
def test_only_an_address_of_this_machine_is_believed(tmp_path: Path, url: object) -> None:
    write(tmp_path, json.dumps({"url": url, "pid": os.getpid()}))
    assert demo.running_url(tmp_path) is None
