"""docs/flask.md as printed: each file is written, each command typed, in its order, on both databases."""

from __future__ import annotations

import base64
import os
import re
import secrets

import pytest

from tests.acceptance.support import SCRIPTS, Processes
from tests.support import ROOT

pytestmark = pytest.mark.release

PAGE = (ROOT / "docs" / "flask.md").read_text("utf-8")
BLOCK = re.compile(r"^```(?:console|python title=(\S+))\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: After the page: what it says about a second instance, and about hooks that ask for a login.
BESIDES = """
from shop import create_app
from shop.login import require_login
from shop.second import add_partners

app = create_app()
add_partners(app, "sqlite:///partners.db")
app.before_request(require_login)
client = app.test_client()
assert client.get("/leads").status_code == 302
for path in ("/webhooks/close", "/partners/acme"):
    assert client.head(path).status_code == 200, path
assert client.get("/healthz").status_code == 200
"""


def test_the_page_about_flask_works_as_printed(empty_database_url: str, processes: Processes) -> None:
    env = {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "DATABASE_URL": empty_database_url.replace("postgresql://", "postgresql+psycopg://", 1),
        "CLOSE_SECRET": secrets.token_hex(32),
        "ACME_SECRET": "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    typed = 0
    for name, text in BLOCK.findall(PAGE):
        if name:
            path = processes.directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            continue
        for command in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
            if command.startswith(("pip ", "export ")):
                continue
            run = processes.run("sh", "-ec", command, env=env, cwd=processes.directory)
            assert run.wait() == 0, f"{command}:\n{run.output}"
            typed += 1
    assert typed >= 7
    run = processes.run("python", "-c", BESIDES, env=env, cwd=processes.directory)
    assert run.wait() == 0, run.output
