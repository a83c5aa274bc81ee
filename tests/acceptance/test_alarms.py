"""A drill with real processes: a source falls silent, the worker is gone, a handler fails; each is told once and resolved once."""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.acceptance.support import Processes, free_port, send
from tests.support import wait_until
from webhooks.model import Headers, InboundRequest
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SIGNING = "whsec_" + base64.b64encode(b"0123-a-key-of-many-bytes").decode()
SOURCE = make_source(SourceSettings(name="close", scheme="close", secrets=[Secret(KEY)]))
OPS = make_source(SourceSettings("ops", "standard", (Secret(SIGNING),)))

HANDLER = """
from pathlib import Path
from datetime import timedelta
from webhooks import RetryPolicy, on

@on("**", name="crm.sync", retry=RetryPolicy(max_attempts=1000, base=timedelta(seconds=1), cap=timedelta(seconds=1)))
def sync(event):
    if Path("broken").exists():
        raise ValueError("card 4242")
"""

#: A look each second, and no alarm has to stand for long; silence is what takes ten seconds.
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
expect_within = "10s"
"""


class Receiver:
    """What a pager would be: it verifies signatures, and counts."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.beats: list[str] = []
        receiver = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                OPS.verify(InboundRequest(Headers(dict(self.headers.items())), body, id="r"), datetime.now(UTC))
                receiver.told.append(json.loads(body))
                self._end()

            def do_GET(self) -> None:
                receiver.beats.append(self.path)
                self._end()

            def _end(self) -> None:
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def counts(self) -> Counter[str]:
        """{`raised no-worker`: how often it was told}"""
        return Counter(f"{each['type'].removeprefix('alarm.')} {each['data']['alarm']}" for each in self.told)

    def wait_for(self, what: str) -> None:
        wait_until(lambda: self.counts()[what], timedelta(seconds=60), f"{what!r} among {dict(self.counts())}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def post(url: str, key: str) -> int:
    event = {"id": key, "object_type": "lead", "object_id": "lead_1", "action": "updated", "date_updated": "2026-03-10T14:05:12.417000", "data": {}}  # fmt: skip
    body = json.dumps({"event": event, "subscription_id": "whsub_1"}).encode()
    return send(f"{url}/webhooks/close", body, dict(SOURCE.sign(body, datetime.now(UTC)))).status


@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_each_alarm_of_a_drill_is_told_once_and_resolved_once(
    processes: Processes, receiver: Receiver, worker_class: str
) -> None:
    here = processes.directory
    (here / "handlers").mkdir()
    (here / "handlers" / "sync.py").write_text(HANDLER)
    (here / "webhooks.toml").write_text(SETTINGS.format(url=receiver.url, key=KEY))
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
    assert "/beat" in receiver.beats
