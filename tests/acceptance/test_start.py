"""gunicorn with a mistake in the settings or in a handler: it ends and says so, and does not try for ever."""

from __future__ import annotations

import os
import re
import resource
import shutil
from collections.abc import Mapping
from datetime import timedelta

import pytest

from tests.acceptance.support import SCRIPTS, Processes, free_port
from tests.support import ROOT
from webhooks.app import NOT_LOADED

KEY = {"WEBHOOKS_SOURCES__close__SECRET": "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"}

#: One web process: what every one of them says is seen with two in the first case.
ONE = {"WEB_CONCURRENCY": "1"}


@pytest.mark.parametrize(
    ("command", "env", "said"),
    [
        pytest.param("webhooks run", {}, "no source is configured", marks=pytest.mark.thorough),
        pytest.param(
            "webhooks run",
            {"WEBHOOKS_SOURCES__close__SECRET": "letmein", **ONE},
            "must be 64 hex characters",
            marks=pytest.mark.thorough,
        ),
        pytest.param(
            "webhooks run",
            {**KEY, "WEBHOOKS_CONCURENCY": "4", **ONE},
            "did you mean 'concurrency'?",
            marks=pytest.mark.thorough,
        ),
        ("webhooks run", {**KEY, "WEBHOOKS_HANDLERS": "mistaken", **ONE}, "mistaken.py, line 1"),
        pytest.param(
            "webhooks run --with-worker",
            {**KEY, "WEBHOOKS_HANDLERS": "mistaken"},
            "mistaken.py, line 1",
            marks=pytest.mark.thorough,
        ),
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


@pytest.mark.thorough
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


def test_the_default_is_the_fast_server_and_its_start_says_how_much_it_may_open(processes: Processes) -> None:
    limited = ("sh", "-c", 'ulimit -Sn 256 && exec webhooks run --bind "$0"', f"127.0.0.1:{free_port()}")
    server = processes.start(*limited, env={**KEY, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"})
    server.wait_for("Using worker: webhooks.http.gunicorn.gevent_worker.GeventWorker")
    said = server.wait_for(r"Files that a process may open: (\S+); connections: 2000")[1]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert said == ("unlimited" if hard == resource.RLIM_INFINITY else str(hard))
    server.wait_for("no worker runs in this process")
    assert "slow senders" not in server.output
    assert server.stop() == 0


@pytest.mark.thorough
@pytest.mark.parametrize("worker_class", ["gthread", "sync"])
def test_a_class_that_slow_senders_can_hold_says_what_it_wants_in_front(
    processes: Processes, worker_class: str
) -> None:
    command = ("webhooks", "run", "--", "--bind", f"127.0.0.1:{free_port()}")
    server = processes.start(*command, env={**KEY, "WEBHOOKS_WORKER_CLASS": worker_class})
    server.wait_for("put a proxy that buffers requests in front")
    server.wait_for("(?s)(no worker runs in this process.*){2}")
    assert server.output.count("slow senders") == 1
    assert server.stop() == 0


@pytest.mark.thorough
def test_gunicorn_without_our_settings_says_what_is_missing_and_the_command_that_has_it(processes: Processes) -> None:
    shutil.copy(ROOT / "wsgi.py", processes.directory)
    server = processes.start("gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{free_port()}", env=KEY)
    server.wait_for("run `webhooks run`, or `gunicorn -c python:webhooks.gunicorn_conf wsgi:app`")
    server.wait_for("no worker runs in this process")
    assert server.output.count("python:webhooks.gunicorn_conf") == 1
    assert server.stop() == 0


@pytest.mark.thorough
def test_processes_that_run_handlers_are_never_patched(processes: Processes) -> None:
    """gevent is for the server's own processes; a handler's locks, threads and sockets are Python's."""
    handlers = processes.directory / "handlers"
    handlers.mkdir()
    (handlers / "looks.py").write_text(
        "import sys\nfrom webhooks import on\n"
        "@on('**')\ndef look(log):\n    log.error('patched: %s', 'gevent' in sys.modules)\n"
        "@on('**', isolation='process')\ndef look_alone(log):\n    log.error('patched alone: %s', 'gevent' in sys.modules)\n"
    )
    dev = processes.start("webhooks", "dev", env={"PORT": str(free_port())})
    dev.wait_for("try: webhooks trigger")
    dev.wait_for("console: http")
    assert processes.run("webhooks", "trigger", "lead.created").wait() == 0
    assert dev.wait_for(r"patched: (\w+)")[1] == "False"
    assert dev.wait_for(r"patched alone: (\w+)")[1] == "False"
    assert dev.stop() == 0
