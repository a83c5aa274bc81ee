"""A drill with real processes: a source falls silent, the worker is gone, a handler fails; each is told once and resolved once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.acceptance.pager import SIGNING, Pager
from tests.acceptance.support import Processes, free_port, send
from tests.support import allowed, some
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SOURCE = make_source(SourceSettings(name="close", scheme="close", secrets=[Secret(KEY)]))

HANDLER = """
from pathlib import Path
from datetime import timedelta
from webhooks import RetryPolicy, on

@on("**", name="crm.sync", retry=RetryPolicy(max_attempts=1000, base=timedelta(seconds=1), cap=timedelta(seconds=1)))
def sync(event):
    if Path("broken").exists():
        raise ValueError("card 4242")
"""

#: A look each second, and no alarm has to stand for long; silence is what takes ten seconds, and more where the machine is
#: busy: a web process must have begun to look before the source is silent again.
SETTINGS = """
alarm_interval = "1s"
heartbeat_url = "{url}/beat"

[alarm_after]
no-worker = "0s"
failing = "0s"

[alarms.ops]
kind = "webhook"
url_file = "url.txt"
secret_file = "key.txt"
only = ["no-worker", "failing", "source-silent"]

[sources.close]
secret = "{key}"
expect_within = "{silence}s"
"""


@pytest.fixture
def receiver() -> Iterator[Pager]:
    made = Pager()
    yield made
    made.close()


def post(url: str, key: str) -> int:
    event = {"id": key, "object_type": "lead", "object_id": "lead_1", "action": "updated", "date_updated": "2026-03-10T14:05:12.417000", "data": {}}  # fmt: skip
    body = json.dumps({"event": event, "subscription_id": "whsub_1"}).encode()
    return send(f"{url}/webhooks/close", body, dict(SOURCE.sign(body, datetime.now(UTC)))).status


@pytest.mark.thorough
@pytest.mark.parametrize("worker_class", some("gevent", "gthread"))
def test_each_alarm_of_a_drill_is_told_once_and_resolved_once(
    processes: Processes, receiver: Pager, worker_class: str
) -> None:
    here = processes.directory
    (here / "handlers").mkdir()
    (here / "handlers" / "sync.py").write_text(HANDLER)
    (here / "webhooks.toml").write_text(SETTINGS.format(url=receiver.url, key=KEY, silence=round(min(allowed(10), 30))))
    (here / "url.txt").write_text(f"{receiver.url}/alarms\n")
    (here / "key.txt").write_text(SIGNING)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = {"WEBHOOKS_WORKER_CLASS": worker_class}

    def serve() -> Any:
        process = processes.start("webhooks", "run", "--", "--bind", f"127.0.0.1:{port}", env=env)
        process.wait_for("(?s)(no worker runs in this process.*){2}")
        return process

    server = serve()
    worker = processes.start("webhooks", "worker")
    worker.wait_for("started with 1 handlers")
    assert processes.run("webhooks", "alarms", "test", "ops").wait() == 0
    receiver.wait_for("test test")

    (here / "broken").touch()
    assert post(url, "ev_1") == 200
    receiver.wait_for("raised failing")
    (here / "broken").unlink()
    receiver.wait_for("resolved failing")

    receiver.wait_for("raised source-silent")
    assert server.stop() == 0  # a key's use is noted once a minute by each process: a new one notes the next at once
    server = serve()

    assert worker.stop() == 0
    assert post(url, "ev_2") == 200
    receiver.wait_for("resolved source-silent")  # by a web process: no worker looks
    receiver.wait_for("raised no-worker")
    worker = processes.start("webhooks", "worker")
    receiver.wait_for("resolved no-worker")

    assert worker.stop() == 0
    assert server.stop() == 0
    counts = receiver.counts()
    for name in ("failing", "no-worker"):
        assert (counts[f"raised {name}"], counts[f"resolved {name}"]) == (1, 1), counts
    assert counts["again failing"] == counts["again no-worker"] == 0
    assert "4242" not in json.dumps(receiver.told)
    assert any(is_well for _, is_well in receiver.beats)
