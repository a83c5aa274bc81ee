"""gunicorn with a mistake in the settings or in a handler: it ends and says so, and does not try for ever."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

import pytest

from tests.acceptance.support import Processes
from webhooks.app import NOT_LOADED

KEY = {"WEBHOOKS_SOURCES__close__SECRET": "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"}


@pytest.mark.parametrize(
    ("command", "env", "said"),
    [
        ("webhooks run", {}, "no source is configured"),
        ("webhooks run", {"WEBHOOKS_SOURCES__close__SECRET": "letmein"}, "must be 64 hex characters"),
        ("webhooks run", {**KEY, "WEBHOOKS_CONCURENCY": "4"}, "did you mean 'concurrency'?"),
        ("webhooks run", {**KEY, "WEBHOOKS_HANDLERS": "mistaken"}, "mistaken.py, line 1"),
        ("webhooks run --with-worker", {**KEY, "WEBHOOKS_HANDLERS": "mistaken"}, "mistaken.py, line 1"),
    ],
    ids=["no source", "wrong secret", "misspelled setting", "broken handler", "broken handler, with a worker"],
)
def test_a_mistake_ends_the_server_and_is_named(
    processes: Processes, command: str, env: Mapping[str, str], said: str
) -> None:
    (processes.directory / "mistaken.py").write_text("raise RuntimeError('not today')\n")
    server = processes.start(*command.split(), "--", "--bind", "127.0.0.1:0", env=env)
    assert server.wait(timedelta(seconds=30)) == NOT_LOADED, server.output
    assert "webhooks cannot start:" in server.output
    assert said in server.output
    assert "Traceback" not in server.output


def test_gunicorn_in_a_starter_project_has_the_settings_of_webhooks_run(processes: Processes) -> None:
    assert processes.run("webhooks", "init").wait() == 0
    command = ("gunicorn", "wsgi:app", "--print-config")
    plain, ours = (
        processes.run(*command, *options, env=KEY) for options in ((), ("-c", "python:webhooks.gunicorn_conf"))
    )
    assert plain.wait() == ours.wait() == 0, plain.output
    settings, expected = (dict(re.findall(r"^(\w+) += (.*)$", shown.output, re.MULTILINE)) for shown in (plain, ours))
    assert settings["threads"] == "16"
    assert {name for name in settings if settings[name] != expected[name]} == {"config"}
