"""What an assembled consumer says of itself before it works."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from webhooks.app import Webhooks
from webhooks.cli import Failure, demo
from webhooks.routing import Registry

CLOSE = {"sources": {"close": {"secret": "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"}}}


def nothing(event: object) -> None:
    """A handler."""


def said(caplog: pytest.LogCaptureFixture, registry: Registry, role: str) -> str:
    webhooks = Webhooks(registry=registry, overrides=CLOSE)
    with caplog.at_level(logging.WARNING):
        webhooks.assemble(role=role)
    webhooks.close()
    return caplog.text


@pytest.mark.parametrize("role", ["web", "worker"])
def test_a_service_without_handlers_says_where_it_looked(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = said(caplog, Registry(), role)
    assert f"no handler is registered: there is none in {tmp_path / 'handlers'}" in text


def test_a_command_and_a_service_with_handlers_say_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    some = Registry()
    some.add(nothing, "lead.created", name="a")
    assert said(caplog, Registry(), "cli") == ""
    assert said(caplog, some, "web") == ""


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"webhooks\.demo-secret' cannot be made: No such file or directory; go to"):
        demo.make_secret(tmp_path / "nowhere")
