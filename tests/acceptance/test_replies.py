"""Replies under gunicorn: answered by each class that can, beside one that hangs; a class that cannot does not start."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.acceptance.support import Answer, Processes, free_port
from tests.acceptance.test_server import KEY, Server, body, stored
from tests.support import pairs, some

HANDLERS = """
import time
from webhooks import reply

@reply("lead.updated", source="close")
def answer(event):
    return {"hello": event.data["name"]}

@reply("lead.created")
def hang(event):
    time.sleep(3600)
"""


@pytest.fixture
def project(processes: Processes) -> Path:
    folder = processes.directory / "handlers"
    folder.mkdir()
    (folder / "answers.py").write_text(HANDLERS)
    return processes.directory


@pytest.mark.parametrize(("worker_class", "database_url"), some(*pairs("gevent", "gthread")), indirect=["database_url"])
def test_replies_answer_and_those_that_hang_hold_up_no_post(
    database_url: str, project: Path, worker_class: str, processes: Processes
) -> None:
    server = Server(processes, database_url, worker_class, WEB_CONCURRENCY="2").ready()
    held: list[Answer] = []
    hanging = [
        threading.Thread(target=lambda key=key: held.append(server.post(body(key, action="created"), timeout=60)))
        for key in ("hangs", "hangs too", "hangs as well")
    ]
    for thread in hanging:
        thread.start()
    said = [json.loads(server.post(body(f"ev_{n}"), timeout=60).body) for n in range(10)]
    for thread in hanging:
        thread.join()
    # where both threads of the process hang, the default
    assert {json.dumps(each) for each in said if "status" not in each} <= {'{"hello": "\\u00e9"}'}
    assert {each.get("status", "stored") for each in said} == {"stored"}
    assert [json.loads(each.body)["status"] for each in held] == ["stored"] * 3
    assert len(stored(database_url)) == 13
    assert (
        "reply handlers.answers.hang took longer than 2 s; its sender got the default answer" in server.process.output
    )


@pytest.mark.parametrize(("worker_class", "database_url"), some(*pairs("gevent", "gthread")), indirect=["database_url"])
def test_a_reply_is_the_answer(database_url: str, project: Path, worker_class: str, processes: Processes) -> None:
    server = Server(processes, database_url, worker_class, workers=1).ready()
    for _ in range(2):
        answer = server.post(body("same"), timeout=60)
        assert (answer.status, json.loads(answer.body)) == (200, {"hello": "é"})
    assert stored(database_url) == {"same": 1}


@pytest.mark.parametrize(
    "arguments",
    some(
        ("-c", "none.py"),  # one worker: of two that fail at once gunicorn itself shows a traceback
        ("-c", "python:webhooks.gunicorn_conf"),
        ("-c", "python:webhooks.gunicorn_conf", "--preload"),
    ),
    ids=some("gunicorn's", "ours", "ours, preloaded"),
)
def test_a_class_that_answers_one_request_at_a_time_does_not_start(
    project: Path, arguments: tuple[str, ...], sqlite_url: str, processes: Processes
) -> None:
    (project / "none.py").write_text("")
    (project / "wsgi.py").write_text("from webhooks import create_app\napp = create_app()\n")
    found = processes.run(
        "gunicorn",
        "wsgi:app",
        *arguments,
        "--bind",
        f"127.0.0.1:{free_port()}",
        env={
            "DATABASE_URL": sqlite_url,
            "WEBHOOKS_SOURCES__close__SECRET": KEY,
            "WEBHOOKS_WORKER_CLASS": "sync",  # gunicorn's own is the default
        },
    )
    assert found.wait() != 0
    assert "webhooks cannot start:" in found.output
    assert "may take up to two seconds, and gunicorn's worker class sync answers nothing else meanwhile" in found.output
    assert "Traceback" not in found.output
