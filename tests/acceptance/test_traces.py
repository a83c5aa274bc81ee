"""Traces of real processes: gunicorn's workers, a worker, and a process of its own for one attempt, each with its exporter."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.support import Processes, free_port, send
from tests.support import either_database, pairs, wait_until
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SOURCE = make_source(SourceSettings(name="close", scheme="close", secrets=[Secret(KEY)]))
THEIRS = "0af7651916cd43dd8448eb211c80319c"
EVENTS = 24

#: Every process writes its spans into a file of its own.
TRACES = """
import json, os, threading
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased

class Files(SpanExporter):
    def export(self, spans):
        with open(f"spans-{os.getpid()}.jsonl", "a") as file:
            for span in spans:
                file.write(json.dumps({**json.loads(span.to_json()), "pid": os.getpid()}) + chr(10))
        return SpanExportResult.SUCCESS

provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF if os.environ.get("SAMPLES_NOTHING") else ALWAYS_ON))
provider.add_span_processor(SimpleSpanProcessor(Files()))
trace.set_tracer_provider(provider)
"""

HANDLERS = """
from opentelemetry import trace
from webhooks import on

def inside(name):
    with trace.get_tracer("ours").start_as_current_span(f"inside {name}"):
        pass

@on("**", name="plain")
def plain(event):
    inside("plain")

@on("**", name="loop")
async def loop(event):
    inside("loop")

@on("lead.created", name="apart", isolation="process")
def apart(event):
    inside("apart")
"""


def spans(directory: Path) -> list[dict[str, Any]]:
    """What all processes have recorded."""
    files = (file.read_text() for file in directory.glob("spans-*.jsonl"))
    # what a process writes at this moment may be read in half
    return [json.loads(line) for text in files for line in text.splitlines(keepends=True) if line.endswith("\n")]


def named(found: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [span for span in found if span["name"] == name]


def batch_of(span: dict[str, Any]) -> int:
    size: int = span["attributes"]["webhooks.batch.events"]
    return size


class Traced:
    """A server and a worker whose handlers trace, over one database."""

    def __init__(self, processes: Processes, database_url: str, worker_class: str) -> None:
        self.processes = processes
        here = self.directory = processes.directory
        (here / "handlers").mkdir()
        (here / "handlers" / "traces.py").write_text(TRACES)
        (here / "handlers" / "work.py").write_text(HANDLERS)
        self.env = {
            "DATABASE_URL": database_url,
            "WEBHOOKS_TRACING": "true",
            "WEBHOOKS_SOURCES__close__SECRET": KEY,
            "WEBHOOKS_WORKER_CLASS": worker_class,
        }

    def serve(self, **env: str) -> str:
        port = free_port()
        self.server = self.processes.start(
            "webhooks", "run", "--", "--bind", f"127.0.0.1:{port}", "--workers", "2", env={**self.env, **env}
        )
        self.server.wait_for("(?s)(no worker runs in this process.*){2}")
        return f"http://127.0.0.1:{port}"

    def post(self, url: str, action: str) -> int:
        """One event, in a trace of its sender's that says it is sampled; the event's id."""
        event = {"id": f"ev_{secrets.token_hex(8)}", "object_type": "lead", "object_id": "lead_1", "action": action, "date_updated": "2026-03-10T14:05:12.417000", "data": {}}  # fmt: skip
        body = json.dumps({"event": event, "subscription_id": "whsub_1"}).encode()
        headers = {**SOURCE.sign(body, datetime.now(UTC)), "traceparent": f"00-{THEIRS}-b7ad6b7169203331-01"}
        answer = send(f"{url}/webhooks/close", body, headers)
        assert answer.status == 200, answer.body
        return int(json.loads(answer.body)["event_id"])

    def tells(self, *command: str) -> str:
        process = self.processes.run("webhooks", *command, env=self.env)
        assert process.wait() == 0, process.output
        return process.output


@pytest.mark.thorough
@pytest.mark.forks("run")
@pytest.mark.parametrize(("worker_class", "database_url"), pairs("gthread", "gevent"), indirect=["database_url"])
def test_one_trace_goes_through_all_processes(processes: Processes, database_url: str, worker_class: str) -> None:
    traced = Traced(processes, database_url, worker_class)
    url = traced.serve()
    with ThreadPoolExecutor(8) as pool:
        posted = len(list(pool.map(lambda n: traced.post(url, "updated"), range(EVENTS))))

    def both_workers_traced() -> bool:
        nonlocal posted
        if len({span["pid"] for span in named(spans(traced.directory), "receive close")}) < 2:
            traced.post(url, "updated")
            posted += 1
            return False
        return True

    wait_until(both_workers_traced, timedelta(seconds=30), "both of gunicorn's workers to be asked")
    apart = traced.post(url, "created")
    worker = processes.start("webhooks", "worker", env=traced.env)

    def is_done() -> bool:
        found = spans(traced.directory)
        return len(named(found, "process plain")) == len(named(found, "process loop")) == posted + 1 and bool(
            named(found, "process apart")
        )

    wait_until(is_done, timedelta(seconds=60), "every handler's span")
    assert worker.stop() == 0
    found = spans(traced.directory)
    received = {span["context"]["trace_id"]: span for span in named(found, "receive close")}
    assert len(received) == posted + 1, "a root for each request"
    assert all(span["parent_id"] is None for span in received.values())
    assert f"0x{THEIRS}" not in {span["context"]["trace_id"] for span in found}
    assert {span["links"][0]["context"]["trace_id"] for span in received.values()} == {f"0x{THEIRS}"}

    # a request led its commit, or says how large that was
    commits = {span["parent_id"]: span for span in named(found, "commit")}
    assert sum(map(batch_of, commits.values())) == posted + 1
    for span in received.values():
        events = [event for event in span["events"] if event["name"] == "commit"]
        assert (span["context"]["span_id"] in commits) != bool(events)

    for name in ("plain", "loop", "apart"):
        for span in named(found, f"process {name}"):
            parent = received[span["context"]["trace_id"]]
            assert span["parent_id"] == parent["context"]["span_id"]
        for inner in named(found, f"inside {name}"):
            (outer,) = [span for span in found if span["context"]["span_id"] == inner["parent_id"]]
            assert outer["name"] == f"process {name}"
            assert outer["pid"] == inner["pid"]
    (child,), (plain,) = named(found, "process apart"), named(found, "process plain")[:1]
    assert child["pid"] != plain["pid"], "an isolated attempt is traced in its own process"

    traces = {span["attributes"]["messaging.message.id"]: key.removeprefix("0x") for key, span in received.items()}
    for command in (("explain", str(apart)), ("events", "show", str(apart))):
        assert traces[str(apart)] in traced.tells(*command)
    assert traced.server.stop() == 0


@pytest.mark.thorough
@pytest.mark.forks("run")
@either_database
def test_a_sender_that_says_sampled_samples_nothing_of_ours(processes: Processes, database_url: str) -> None:
    traced = Traced(processes, database_url, "gthread")
    url = traced.serve(SAMPLES_NOTHING="1")
    event = traced.post(url, "updated")
    worker = processes.start("webhooks", "worker", env=traced.env)  # it would sample, were it asked
    wait_until(
        lambda: json.loads(traced.tells("deliveries", "list", "--json", "--state", "succeeded"))["deliveries"],
        timedelta(seconds=60),
        "the handlers to run",
    )
    assert worker.stop() == 0
    assert named(spans(traced.directory), "process plain") == []
    assert THEIRS not in traced.tells("explain", str(event))
    assert traced.server.stop() == 0
