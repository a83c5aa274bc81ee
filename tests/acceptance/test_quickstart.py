"""What README and the quickstart tell a newcomer to type works as printed, in order."""

from __future__ import annotations

import re
import secrets

import pytest
from sqlalchemy.engine import make_url

from tests.acceptance.reading import Newcomer, part, typed
from tests.acceptance.support import Processes

pytestmark = pytest.mark.release


HELLO = "+33639980177 wrote: Bonjour"


def test_the_example_of_the_readme_runs_as_pasted(processes: Processes) -> None:
    newcomer = Newcomer(processes)
    said = {
        command: newcomer.type(command)
        for command in typed(part("README.md", "A complete example", "Production in ten lines"))
    }

    assert newcomer.dev is not None
    newcomer.dev.wait_for(re.escape(HELLO))
    assert "stored" in said["webhooks events list"]
    assert "handlers.greet.greet" in said["webhooks deliveries list"]


def test_the_ten_lines_about_production_run_as_printed(postgresql_url: str, processes: Processes) -> None:
    """But for two: what is installed is there, and Close is asked by `webhooks subscriptions` only with an account."""
    url = make_url(postgresql_url).set(drivername="postgresql").render_as_string(hide_password=False)
    (processes.directory / "close").write_text(secrets.token_hex(32))
    newcomer = Newcomer(processes)
    newcomer.env["WEBHOOKS_PORT"] = str(newcomer.port)
    text = part("README.md", "Production in ten lines", "Maturity")
    for printed, here in (
        ("postgresql://webhooks:…@db/webhooks", url),
        ("/run/secrets/close", str(processes.directory / "close")),
        ("localhost:8000", f"localhost:{newcomer.port}"),
    ):
        assert printed in text
        text = text.replace(printed, here)
    install, *commands = typed(text)
    assert install.startswith("pip install")
    assert len(commands) == 8
    for command in commands:
        if command in ("webhooks run", "webhooks worker"):
            started = processes.start(*command.split(), env=newcomer.env)
            started.wait_for("Listening at" if command == "webhooks run" else r"worker \S+ started")
        elif command != "webhooks subscriptions sync":
            shown = newcomer.type(command)
            assert '"status":"ready"' in shown or not command.startswith("curl")


def test_the_quickstart_runs_as_printed(processes: Processes) -> None:
    newcomer = Newcomer(processes)
    for command in typed(part("docs/quickstart.md", "A project of your own", "A handler")):
        newcomer.type(command)
    assert newcomer.dev is not None

    section = part("docs/quickstart.md", "A handler", "When a handler fails")
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    handler = newcomer.directory / "handlers" / "greet.py"
    newcomer.save(handler, code)
    said = {command: newcomer.type(command) for command in typed(section)}
    newcomer.dev.wait_for(re.escape(HELLO))
    newcomer.dev.wait_for(r"WhatsApp from .*\n(?s:.*)WhatsApp from ")
    assert "handlers.greet.greet" in said["webhooks deliveries list"]
    cancelled = newcomer.type("webhooks deliveries list --handler handlers.greet.greet --state cancelled")
    assert "filtered: " in cancelled

    section = part("docs/quickstart.md", "When a handler fails", "Run them again")
    newcomer.save(handler, code.replace("remote_phone", "remote_phon"))
    trigger, failed, explain = typed(section)
    newcomer.type(trigger)
    newcomer.dev.wait_for("KeyError")
    assert "KeyError: 'remote_phon'" in newcomer.type(failed)
    assert "KeyError" in newcomer.type(explain.replace("EVENT", newcomer.event_id))
    newcomer.save(handler, code)

    dry, real = typed(part("docs/quickstart.md", "Run them again", "Real events"))
    assert "nothing was changed (--dry-run)" in newcomer.type(dry)
    assert "3 deliveries made" in newcomer.type(real)
    newcomer.dev.wait_for(re.escape(HELLO))
