"""Servers that load the application first and fork afterwards, none of which reads our settings."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.acceptance.support import SCRIPTS, Processes, free_port, send
from tests.support import either_database, pairs, some, wait_until
from webhooks.database.connect import connect
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SOURCE = make_source(SourceSettings("close", "close", secrets=[Secret(KEY)]))

#: An application of somebody's that has asked the database before its server forks.
APP = """
from flask import Flask
from webhooks import Webhooks

app = Flask(__name__)
app.config["WEBHOOKS_DATABASE_URL"] = {url!r}
app.config["WEBHOOKS_SOURCES"] = {{"close": {{"secret": {key!r}}}}}
consumer = Webhooks(app)
assert consumer.check()[0] == ()
consumer.register_handlers()
"""


def post(url: str, payload: bytes, number: int) -> int:
    found = json.loads(payload)
    found["event"]["id"] = f"ev_fork_{number}"
    body = json.dumps(found).encode()
    answer = send(f"{url}/webhooks/close", body, dict(SOURCE.sign(body, datetime.now(UTC))))
    assert answer.status != 200 or json.loads(answer.body)["event_id"], answer
    return answer.status


@pytest.mark.thorough
@pytest.mark.parametrize(("worker_class", "database_url"), some(*pairs("gthread", "gevent")), indirect=["database_url"])
def test_preloaded_workers_answer_each_post_with_its_own_outcome(
    database_url: str, processes: Processes, payload: Any, worker_class: str
) -> None:
    (processes.directory / "theirs.py").write_text(APP.format(url=database_url, key=KEY))
    (processes.directory / "theirs_conf.py").write_text("")
    port = free_port()
    options = ["--preload", "-w", "3", "-k", worker_class, "--threads", "4", "-c", "theirs_conf.py"]
    server = processes.start("gunicorn", *options, "-b", f"127.0.0.1:{port}", "theirs:app")
    server.wait_for(r"(?s)(Booting worker.*){3}")
    body = payload("lead_merged")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: post(f"http://127.0.0.1:{port}", body, number), range(300)))

    taken = answers.count(200)
    assert set(answers) <= {200, 503}, "503 is for a machine that is too busy"
    assert taken >= 290, server.output
    assert "internal_error" not in server.output
    assert "Traceback" not in server.output
    database = connect(database_url)
    with database.read() as connection:
        assert connection.execute(text("select count(*) from webhooks_events")).scalar_one() == taken
    database.dispose()


def stored(database_url: str) -> int:
    database = connect(database_url)
    with database.read() as connection:
        count = int(connection.execute(text("select count(*) from webhooks_events")).scalar_one())
    database.dispose()
    return count


@pytest.mark.parametrize("hooks", [[], ["--py-call-uwsgi-fork-hooks"]], ids=["untold", "told"])
def test_uwsgi_answers_each_post_with_its_own_outcome(
    database_url: str, processes: Processes, payload: Any, hooks: list[str]
) -> None:
    """uWSGI forks without a word to Python unless it is asked to."""
    if not (SCRIPTS / "uwsgi").exists():
        pytest.skip("uWSGI is not installed; .ci/run installs it where it can be built")
    (processes.directory / "theirs.py").write_text(APP.format(url=database_url, key=KEY))
    port = free_port()
    options = ["--master", "--processes", "3", "--threads", "4", "--enable-threads", "--die-on-term", *hooks]
    server = processes.start("uwsgi", *options, "--http-socket", f"127.0.0.1:{port}", "--module", "theirs:app")
    server.wait_for(r"(?s)(spawned uWSGI worker.*){3}")
    body = payload("lead_merged")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: post(f"http://127.0.0.1:{port}", body, number), range(100)))
    assert set(answers) <= {200, 503}, "503 is for a machine that is too busy"
    assert answers.count(200) >= 95, server.output
    assert "Traceback" not in server.output
    assert stored(database_url) == answers.count(200)


#: Tasks of a Celery application whose parent has asked the database before its children are forked.
TASKS = """
from celery import Celery

from theirs import app as flask_app

queue = "queue"
app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={"data_folder_in": queue, "data_folder_out": queue, "control_folder": "control"},
    worker_hijack_root_logger=False,
)

@app.task(ignore_result=True)
def take(body, headers):
    answer = flask_app.test_client().post("/webhooks/close", data=body.encode(), headers=headers)
    assert answer.status_code == 200, answer.data
"""


@pytest.mark.thorough
@either_database
def test_children_of_celery_store_what_their_tasks_take(database_url: str, processes: Processes, payload: Any) -> None:
    pytest.importorskip("celery", reason="Celery is not installed; it is part of the extra test")
    (processes.directory / "theirs.py").write_text(APP.format(url=database_url, key=KEY))
    (processes.directory / "tasks.py").write_text(TASKS)
    (processes.directory / "queue").mkdir()
    found = json.loads(payload("lead_merged"))
    calls = []
    for number in range(30):
        found["event"]["id"] = f"ev_fork_{number}"
        body = json.dumps(found)
        calls.append([body, dict(SOURCE.sign(body.encode(), datetime.now(UTC)))])
    (processes.directory / "calls.json").write_text(json.dumps(calls))
    sender = "import json, tasks\nfor call in json.load(open('calls.json')): tasks.take.delay(*call)\n"
    (processes.directory / "send.py").write_text(sender)
    worker = processes.start(
        "celery",
        "-A",
        "tasks",
        "worker",
        "-P",
        "prefork",
        "-c",
        "3",
        "-l",
        "INFO",
        "--without-gossip",
        "--without-mingle",
    )
    worker.wait_for("ready")
    sending = processes.start("python", "send.py")
    assert sending.wait(timedelta(seconds=60)) == 0, sending.output
    wait_until(lambda: stored(database_url) == 30, timedelta(seconds=30), "thirty events")
    assert "Traceback" not in worker.output
