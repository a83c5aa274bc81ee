"""`flask --app … webhooks dev`: server, worker and isolated attempts of somebody's application, by its own config."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.support import Processes, free_port, send
from tests.support import some, wait_until
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SOURCE = make_source(SourceSettings("crm", "close", secrets=[Secret(KEY)]))

APP = """
from pathlib import Path
from flask import Flask
from webhooks import Webhooks, on


@on("lead.*", source="crm", name="theirs.note", isolation="process")
def note(event):
    Path({seen!r}).write_text(event.type)


app = Flask(__name__)
app.config["WEBHOOKS_DATABASE_URL"] = {url!r}
app.config["WEBHOOKS_SOURCES"] = {{"crm": {{"scheme": "close", "secret": {key!r}}}}}
app.config["WEBHOOKS_URL_PREFIX"] = "/hooks"
app.config["WEBHOOKS_PORT"] = {port}
Webhooks(app)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("empty_database_url", some("postgresql", "sqlite"), indirect=True)
def test_everything_that_dev_starts_reads_the_applications_config(
    empty_database_url: str, processes: Processes, payload: Any, tmp_path: Path
) -> None:
    port, seen = free_port(), tmp_path / "seen"
    (tmp_path / "theirs.py").write_text(APP.format(url=empty_database_url, key=KEY, port=port, seen=str(seen)))
    dev = processes.start("flask", "--app", "theirs", "webhooks", "dev")
    dev.wait_for(rf"serving at http://127\.0\.0\.1:{port}")
    body = payload("lead_merged")

    answer = send(f"http://127.0.0.1:{port}/hooks/crm", body, dict(SOURCE.sign(body, datetime.now(UTC))))

    assert answer.status == 200, answer
    assert json.loads(answer.body)["status"] == "stored"
    wait_until(seen.exists)
    assert seen.read_text().startswith("lead.")
    if "webhooks.db" not in empty_database_url:
        assert not list(tmp_path.glob("*.db"))
    dev.stop()
