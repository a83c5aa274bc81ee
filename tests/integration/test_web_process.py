"""What a web process loads: there is one for each core, so what it does not need is paid for several times."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support import PAYLOADS, ROOT
from webhooks.sources.close import signature

pytestmark = pytest.mark.one_database

SECRET = hashlib.sha256(b"a key of this test").hexdigest()

#: Of ours, with what is below it, and of others.
NOT_NEEDED = (
    *("alembic", "celery", "mako", "prometheus_client", "pygments", "rich", "sqlalchemy.orm"),
    *("webhooks.contrib", "webhooks.dashboard", "webhooks.delivery", "webhooks.sandbox", "webhooks.session"),
    *("webhooks.database.migrations.run", "webhooks.operations.actions", "webhooks.operations.replay"),
    *("webhooks.sources.declared.proof", "webhooks.sources.declared.rows", "webhooks.testing"),
    *("webhooks.store.actions", "webhooks.store.clocks", "webhooks.store.deliveries", "webhooks.store.gauges"),
    *("webhooks.store.health", "webhooks.store.listings", "webhooks.store.replays", "webhooks.store.retention"),
)

CODE = """
import json, sys
from webhooks.app import create_app
client = create_app().test_client()
headers, body = json.load(open("headers")), open("body", "rb").read()
answers = [client.post("/webhooks/close", data=body, headers=headers).status_code for _ in range(2)]
answers.append(client.get("/readyz").status_code)
print(json.dumps([answers, sorted(sys.modules)]))
"""


def test_a_web_process_that_has_stored_an_event_has_loaded_nothing_else(database_url: str, tmp_path: Path) -> None:
    body = (PAYLOADS / "lead_merged.json").read_bytes()
    (tmp_path / "body").write_bytes(body)
    (tmp_path / "headers").write_text(json.dumps(signature.sign(signature.decode_key(SECRET), body, datetime.now(UTC))))
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": database_url,
            "WEBHOOKS_SOURCES__close__SECRET": SECRET,
        },
    )
    assert done.returncode == 0, done.stderr
    answers, modules = json.loads(done.stdout.splitlines()[-1])
    assert answers == [200, 200, 200], done.stderr
    loaded = [
        name for name in modules if name.startswith(tuple(f"{each}." for each in NOT_NEEDED)) or name in NOT_NEEDED
    ]
    assert loaded == [], "import it where it is used, or say here why a web process needs it"
