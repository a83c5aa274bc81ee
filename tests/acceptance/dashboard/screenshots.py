"""Make the pictures of docs/dashboard.md: an installation with faults in it, seen in Debian's Chromium, light and dark.

    .venv/bin/python -m tests.acceptance.dashboard.screenshots [DIRECTORY]

The story: a mirror whose database is down (dead deliveries, an open breaker, a blocked lane), a handler that is paused, a sender that is
silent, one with a wrong key, and requests that could not be read. Figures of the hour before are written as a busy hour's.
"""

from __future__ import annotations

import math
import random
import shutil
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.serving import make_server

from tests.integration.conftest import KEY
from tests.integration.dashboard.conftest import SECRET_KEY, Site, make_settings
from tests.integration.dashboard.stories import body
from tests.support import ROOT
from webhooks.app import Webhooks
from webhooks.app.dashboard import register, services_of
from webhooks.dashboard import Console, UserRole
from webhooks.dashboard.access.sessions import NAME
from webhooks.database.migrations import run as migrate
from webhooks.model import Disposition
from webhooks.operations.figures import COUNTS
from webhooks.routing import Registry, RetryPolicy, changed
from webhooks.store.tallies import UNTIMED, Counts, Kind, LevelSample, Ran

#: The largest picture that a page may load.
MOST_BYTES = 150_000
SOURCES = {
    "close": {"secret": KEY, "expect_within": "30m"},
    "stripe": {"secret": "whsec_" + KEY[:32], "expect_within": "40m"},
}


def make_registry() -> Registry:
    """Six handlers; the mirror's database is down."""
    registry = Registry()

    @registry.on(
        "activity.whatsapp_message.**",
        name="whatsapp.mirror",
        ordered_by="object_id",
        retry=RetryPolicy(max_attempts=1),
    )
    def mirror(event: Any) -> None:
        raise ConnectionError("crm-mirror.internal:5432, connection refused")

    @registry.on("activity.**", name="audit.trail")
    def audit(event: Any) -> None: ...

    @registry.on("activity.email.**", name="emails.state")
    def emails(event: Any) -> None: ...

    @registry.on("activity.call.**", name="outcomes.count", where=changed("outcome_id"))
    def outcomes(event: Any) -> None: ...

    @registry.on("contact.**", "opportunity.**", name="leads.link", retry=RetryPolicy(max_attempts=1))
    def link(event: Any) -> None:
        if event.type.startswith("opportunity"):
            raise KeyError("contact_ids")

    @registry.on("invoice.**", name="forward.billing", source="stripe")
    def billing(event: Any) -> None: ...

    return registry


def tell(site: Site) -> None:
    """The story, as events and what became of them."""
    chance = random.Random(7)
    registry, store = site.webhooks.registry, site.store
    for number in range(90):
        type, action = chance.choice(
            [("activity.whatsapp_message", "created"), ("activity.email", "updated"), ("contact", "created"),
             ("activity.email", "created"), ("opportunity", "updated"), ("activity.call", "updated")]
        )  # fmt: skip
        site.send(message(f"ev_{number:03}{chance.randrange(16**14):014x}", type, action, f"acti_{number % 9}"))
    key, when = "ev_7Qm2xB0dPZk3VtYcR1uJ", datetime.now(UTC)
    for text, before in (
        ("Can we move the demo?", 9),
        ("Can we move the demo to *Friday*? <img src=x onerror=alert(1)>", 1),
    ):
        at = when - timedelta(seconds=before)
        site.send(message(key, "activity.whatsapp_message", "updated", f"acti_{before}", text, at))
    site.work(2)
    store.handlers.open_breaker("whatsapp.mirror", 20, timedelta(minutes=30))
    store.handlers.pause("outcomes.count", by="grace")
    for number in range(5):
        site.send(message(f"ev_late{number}", "activity.whatsapp_message", "created", "acti_0bM7yQ"))
    for _ in range(6):
        site.send(body("ev_wrong"), **{"close-sig-hash": "0" * 64})
    store.key_uses.note("stripe", "1", store.database.now() - timedelta(hours=3, minutes=12))
    site.send(b'{"event": {"id": "ev_broken", "object_type": 5}}')
    store.processes.beat(
        "hooks-1:4410", "worker", "0.9.0", [handler.name for handler in registry.handlers()], lease=timedelta(hours=1)
    )
    figures(site, chance)
    store.snapshots.put(COUNTS, {"dead": 22, "refused": 44, "quarantined": 1})


def message(
    key: str, type: str, action: str, object_id: str, text: str = "Bonjour !", at: datetime | None = None
) -> bytes:
    """A body of Close's; the same key later is a revision."""
    import json

    raw = json.loads(body(key, type, action, (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f")))
    raw["event"] |= {
        "date_created": (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f"),
        "object_id": object_id,
        "user_id": "user_Lk2Pz9",
        "data": {
            "id": object_id, "direction": "incoming", "status": "received", "remote_phone": "+15555550123",
            "message_markdown": text, "response_to_id": None, "is_bot": False,
            "attachments": [{"filename": "floor plan.pdf", "size": 482113, "url": "https://files.example/att/91"}],
        },
    }  # fmt: skip
    return json.dumps(raw).encode()


def figures(site: Site, chance: random.Random) -> None:
    """The hour before, as a busy installation counts it, and the same hour of yesterday."""
    turns: list[tuple[float, Counts]] = []
    for age in range(60):
        busy = 1 + 0.3 * math.sin(age / 9) + chance.random() * 0.2
        is_broken = age < 26
        requests: Counts = {
            (Kind.REQUESTS, "close", Disposition.STORED.code, 2): int(110 * busy),
            (Kind.REQUESTS, "close", Disposition.STORED.code, 3): int(30 * busy),
            (Kind.REQUESTS, "close", Disposition.REVISION.code, 2): int(22 * busy),
            (Kind.REQUESTS, "close", Disposition.DUPLICATE.code, 2): int(9 * busy),
            (Kind.REQUESTS, "close", 401, UNTIMED): 1 if is_broken else 0,
        }
        runs: Counts = {
            (Kind.RUNS, "emails.state", Ran.SUCCEEDED, 4): int(150 * busy),
            (Kind.RUNS, "leads.link", Ran.SUCCEEDED, 7): int(60 * busy),
            (Kind.RUNS, "whatsapp.mirror", Ran.SUCCEEDED, 8): 0 if is_broken else int(60 * busy),
            (Kind.RUNS, "whatsapp.mirror", Ran.RETRIED, UNTIMED): int(18 * busy) if is_broken else 0,
            (Kind.RUNS, "whatsapp.mirror", Ran.DEAD, 11): 1 if is_broken else 0,
        }
        waiting = (26 - age) * 8 if is_broken else chance.randrange(6)
        levels: Counts = {
            (Kind.LEVELS, "", LevelSample.SAMPLED, UNTIMED): 1,
            (Kind.LEVELS, "whatsapp.mirror", LevelSample.DUE, UNTIMED): waiting,
            (Kind.LEVELS, "emails.state", LevelSample.RUNNING, UNTIMED): chance.randrange(1, 8),
        }
        counts = {key: n for part in (requests, runs, levels) for key, n in part.items() if n}
        turns.append((60.0 * age, counts))
        turns.append((86_400.0 + 60.0 * age, {key: int(n * 0.88) for key, n in requests.items() if n}))
    site.store.tallies.add(turns)
    site.store.tallies.fold()


def make_story(directory: Path) -> tuple[Site, Flask]:
    """(an installation with its dashboard, the same as a console)."""
    overrides = {
        "database_url": f"sqlite:///{directory}/webhooks.db",
        "sources": SOURCES,
        "secret_key": SECRET_KEY,
        "sample_rejected": "0",
        "dashboard": make_settings(),
    }
    app = Flask("story")
    webhooks = Webhooks(registry=make_registry(), overrides=overrides, environ={})
    webhooks.assemble()
    migrate.upgrade(webhooks.database)
    webhooks.init_app(app)
    webhooks.prefix_of_commands = "webhooks"
    site = Site(app, webhooks)
    tell(site)
    console = Flask("console")
    note = Console(directory, "key-of-this-start", "http://127.0.0.1:8000", "ada")
    register(console, services_of(webhooks, note), [])
    return site, console


def shoot(page: Any, url: str, file: Path, *, whole: bool = False) -> None:
    """A picture of one page."""
    page.goto(url)
    page.wait_for_timeout(300)
    page.screenshot(path=str(file), full_page=whole)
    if file.stat().st_size > MOST_BYTES:
        print(f"{file.name}: {file.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


def main(target: Path) -> None:
    """Make every picture anew."""
    from playwright.sync_api import sync_playwright

    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        site, console = make_story(Path(temporary))
        servers = [make_server("127.0.0.1", 0, app, threaded=True) for app in (site.app, console)]
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        url, console_url = (f"http://127.0.0.1:{server.server_port}/dashboard" for server in servers)
        event = site.store.listings.ids_of_key("ev_7Qm2xB0dPZk3VtYcR1uJ")[-1]
        pages = {
            "overview": (f"{url}/", 850), "event": (f"{url}/events/{event}", 610), "failures": (f"{url}/failures", 700),
            "replay": (f"{url}/replays/new?q=type:activity.whatsapp_message.**%20since:1d", 900),
            "console": (f"{console_url}/console?key=key-of-this-start", 760),
        }  # fmt: skip
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            )
            for theme in ("light", "dark"):
                context = chromium.new_context(color_scheme=theme, viewport={"width": 1180, "height": 900})
                cookie: Any = {"name": NAME, "value": site.cookie(UserRole.OPERATOR), "url": f"{url}"}
                context.add_cookies([cookie])
                page = context.new_page()
                for name, (address, height) in pages.items():
                    page.set_viewport_size({"width": 1250 if name == "event" else 1180, "height": height})
                    shoot(page, address, target / f"dashboard-{name}-{theme}.png")
                context.close()
            phone = chromium.new_context(viewport={"width": 390, "height": 844})
            phone.add_cookies([{"name": NAME, "value": site.cookie(UserRole.OPERATOR), "url": f"{url}"}])
            shoot(phone.new_page(), f"{url}/", target / "dashboard-phone.png")
            chromium.close()
        for server in servers:
            server.shutdown()
        site.webhooks.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
