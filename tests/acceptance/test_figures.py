"""Figures of real processes: two that accept and one that works; a stop writes what was counted, a kill loses a turn of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.support import Process, Processes, free_port, send
from tests.support import either_database, wait_until
from webhooks.database.connect import connect
from webhooks.model import Disposition
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source
from webhooks.store import Store
from webhooks.store.tallies import Kind, Ran

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SOURCE = make_source(SourceSettings(name="close", scheme="close", secrets=[Secret(KEY)]))
HANDLER = "from webhooks import on\n\n@on('**', name='h')\ndef h(event): ...\n"


def post(url: str, key: str) -> int:
    event = {"id": key, "object_type": "lead", "object_id": "lead_1", "action": "updated", "date_updated": "2026-03-10T14:05:12.417000", "data": {}}  # fmt: skip
    body = json.dumps({"event": event, "subscription_id": "whsub_1"}).encode()
    return send(f"{url}/webhooks/close", body, dict(SOURCE.sign(body, datetime.now(UTC)))).status


@pytest.mark.thorough
@pytest.mark.forks
@either_database
def test_figures_are_those_of_all_processes_but_for_what_a_kill_takes(
    processes: Processes, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "h.py").write_text(HANDLER)
    (tmp_path / "webhooks.toml").write_text(f'[sources.close]\nsecret = "{KEY}"\n')
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    webs = [_serve(processes, database_url, port) for port in ports]
    worker = processes.start("webhooks", "worker", env={"DATABASE_URL": database_url})
    for number in range(20):
        assert post(urls[number % 2], f"ev_{number}") == 200
    assert send(f"{urls[0]}/webhooks/close", b"{}", {"close-sig-hash": "0"}).status == 401
    database = connect(database_url, application="test")
    store = Store(database, {})

    def figures(kind: Kind, what: int) -> int:
        return sum(
            n for (each, _, code, _), n in store.tallies.totals(0, 60, 1).items() if (each, code) == (kind, what)
        )

    def succeeded() -> int:
        return sum(handler.succeeded for handler in store.listings.stats(timedelta(hours=1)).handlers)

    try:
        wait_until(lambda: succeeded() == 20, what="twenty runs")
        assert webs[0].stop() == 0
        assert figures(Kind.REQUESTS, Disposition.STORED.code) >= 10
        for number in range(20, 25):
            assert post(urls[1], f"ev_{number}") == 200
        for pid in webs[1].members():  # the master and what serves for it
            with contextlib.suppress(ProcessLookupError):  # without their master they end by themselves
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: succeeded() == 25, what="the others")
        assert worker.stop() == 0
        assert figures(Kind.REQUESTS, 401) == 1
        assert 10 <= figures(Kind.REQUESTS, Disposition.STORED.code) <= 25
        assert figures(Kind.RUNS, Ran.SUCCEEDED) == 25
        assert sum(source.events for source in store.listings.stats(timedelta(hours=1)).sources) == 25
    finally:
        database.dispose()


def _serve(processes: Processes, database_url: str, port: int) -> Process:
    process = processes.start(
        "webhooks", "run", "--", "--bind", f"127.0.0.1:{port}", env={"DATABASE_URL": database_url}
    )
    process.wait_for("no worker runs in this process")
    wait_until(lambda: _answers(port), timedelta(seconds=40), "it to answer")
    return process


def _answers(port: int) -> bool:
    try:
        return send(f"http://127.0.0.1:{port}/readyz").status == 200
    except OSError:
        return False
