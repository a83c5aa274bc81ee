"""The broker is not in the way of a request: a process that accepts events does not even import its library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from webhooks import Webhooks
from webhooks.app import create_app

application = create_app()
client = application.test_client()
assert client.post("/webhooks/close", data=b"{}").status_code == 401
assert client.get("/readyz").status_code in (200, 503)
found = [name for name in sys.modules if name.partition(".")[0] in ("celery", "kombu", "amqp", "redis", "billiard")]
found += [name for name in sys.modules if name.startswith("webhooks.contrib.celery")]
sys.exit(", ".join(found) or 0)
"""


def test_a_web_process_imports_no_broker(tmp_path: Path) -> None:
    (tmp_path / "webhooks.toml").write_text(
        'celery_app = "theirs:app"\ncelery_broker_url = "amqp://127.0.0.1:1//"\n[sources.close]\n'
        'secret = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"\n'
    )
    (tmp_path / "theirs.py").write_text("raise AssertionError('it is not for web processes')\n")
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
