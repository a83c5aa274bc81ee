"""Servers that load the application first and fork afterwards, none of which reads our settings."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from tests.acceptance.support import Processes, free_port, send
from tests.support import pairs
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


@pytest.mark.parametrize(("worker_class", "database_url"), pairs("gthread", "gevent"), indirect=["database_url"])
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
