"""A known secret, body, header and password through every failure that we can think of: none of them comes out again.

What is printed (logs in both styles, answers, commands) and what is stored outside the columns that keep payloads is searched
for each of them at the end.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import stamina
from click.testing import CliRunner
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tests.integration.test_cli import Cli
from webhooks.app import Webhooks
from webhooks.cli import group
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.delivery import RunningAttempt
from webhooks.model import DeliveryClass, Event
from webhooks.routing import Registry
from webhooks.settings import set_up_logging

pytestmark = pytest.mark.one_database

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
OTHER_KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f00112358d1321345589144233377610aa"
BODY, HEADER, PASSWORD, TOKEN = "Zq9bodyZq9", "Zq9headerZq9", "Zq9passwordZq9", "Zq9tokenZq9"
SECRETS = (KEY, OTHER_KEY, BODY, HEADER, PASSWORD, TOKEN)
#: Columns that keep what a sender sent, to be shown on request only.
PAYLOADS = frozenset(("body", "headers", "query"))


class Sweep:
    """One installation and everything that it said."""

    def __init__(self, url: str, tmp_path: Path) -> None:
        self.said: list[str] = []
        self.failures = 0
        self.registry = Registry()
        self.url = self.with_password(url)
        self.overrides = {
            "database_url": self.url,
            "sources": {
                "close": {"secret": KEY, "api_url": "http://127.0.0.1:9/api/v1", "api_key": TOKEN},
                "asks": {"scheme": "close", "secret": OTHER_KEY, "secrets_from": ask},
            },
        }
        self.webhooks = Webhooks(registry=self.registry, overrides=self.overrides, environ={})
        self.tmp_path = tmp_path

    @staticmethod
    def with_password(url: str) -> str:
        return re.sub(r"://([^:@/]+)(?::[^@]*)?@", rf"://\1:{PASSWORD}@", url)

    def start(self) -> None:
        from flask import Flask

        app = Flask("sweep")
        self.webhooks.init_app(app)
        self.client: Any = app.test_client()

    @property
    def database(self) -> Database:
        return self.webhooks.database

    def post(self, body: bytes, source: str = "close", status: int | None = None, **headers: str) -> Any:
        signed = dict(self.webhooks.sources[source].sign(body, self.webhooks.clock()))
        signed |= {"X-Trace": HEADER, **headers}
        answer = self.client.post(f"/webhooks/{source}", data=body, headers=signed)
        assert status is None or answer.status_code == status, (answer.status_code, answer.text)
        self.said.append(answer.text)
        self.failures += 1
        return answer

    def command(self, *arguments: str) -> None:
        result = Cli(self.webhooks)(*arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)
        self.said.append(result.output)
        self.failures += 1

    def configured(self, **environ: str) -> None:
        """A command under settings that cannot work."""
        result = CliRunner().invoke(group, ["sources"], env=environ)
        assert result.exit_code != 0, (environ, result.output)
        self.said.append(result.output)
        self.failures += 1

    def run(self, handler: str) -> None:
        """Every waiting delivery of a handler once."""
        store = self.webhooks.store
        quotas = {(handler, kind): 100 for kind in DeliveryClass}
        made = self.registry.get(handler)
        assert made is not None
        claimed = store.deliveries.claim(quotas, lease=timedelta(seconds=30), worker="w")
        assert claimed, handler
        for one in claimed:
            finished = self.webhooks.dispatcher.run(RunningAttempt(one, made))
            if finished is not None:
                store.deliveries.finish([finished])
                self.webhooks.dispatcher.announcements.recorded(finished)
        self.failures += 1

    def do(self, statement: str) -> None:
        with self.database.raw() as connection:
            (connection.executescript if self.database.is_sqlite else connection.execute)(statement)

    def stored(self) -> str:
        """Every value of every table of ours, payload columns left out."""
        rows = []
        with self.database.read() as connection:
            for table in schema.metadata.sorted_tables:
                columns = [column for column in table.columns if column.name not in PAYLOADS]
                rows += [repr(tuple(row)) for row in connection.execute(table.select().with_only_columns(*columns))]
        return "\n".join(rows)


def ask(request: Any) -> Any:
    """The look-up of a tenant's secrets; other sources' refusals are compared with them, too."""
    if "x-tenant" in request.headers:
        raise KeyError(TOKEN)
    return []


def event(key: str, **data: Any) -> bytes:
    at = "2026-03-10T14:05:12.417000"
    return json.dumps(
        {
            "event": {
                "id": key, "object_type": "lead", "action": "updated", "object_id": f"lead_{key[-1]}", "lead_id": f"lead_{key[-1]}",
                "date_created": at, "date_updated": at, "organization_id": "orga_1", "user_id": "user_1", "request_id": None,
                "api_key_id": None, "oauth_client_id": None, "oauth_scope": None, "changed_fields": [], "meta": {}, "previous_data": {},
                "data": {"id": "lead_1", "note": BODY, **data},
            },
            "subscription_id": "whsub_1",
        }
    ).encode()  # fmt: skip


def add_handlers(registry: Registry) -> None:
    """Handlers that fail in the ways in which a database quotes what it was given."""

    def fail(name: str) -> Callable[[Callable[[Event, Any], None]], Callable[[Event, Any], None]]:
        def add(function: Callable[[Event, Any], None]) -> Callable[[Event, Any], None]:
            registry.add(function, "lead.updated", name=name)
            return function

        return add

    @fail("unique")
    def unique(event: Event, session: Any) -> None:
        for _ in range(2):
            session.execute(text("insert into effects (what) values (:what)"), {"what": event.data["note"]})

    @fail("cast")
    def cast(event: Event, session: Any) -> None:
        session.execute(text("insert into numbers (n) values (cast(:n as integer))"), {"n": event.data["note"]})
        session.execute(text("select json_extract('{}', :path)"), {"path": event.data["note"]})

    @fail("literal")
    def literal(event: Event, session: Any) -> None:
        session.execute(text(f"selct '{event.data['note']}'"))

    @fail("check")
    def check(event: Event, session: Any) -> None:
        session.execute(text("insert into numbers (n, what) values (-1, :what)"), {"what": event.data["note"]})

    @fail("wrapped")
    def wrapped(event: Event, session: Any) -> None:
        try:
            (unique if event.data.get("n") else literal)(event, session)
        except SQLAlchemyError as error:
            logging.getLogger("handlers").exception("caught")
            raise RuntimeError(f"it said {error}") from error

    @fail("unbound")
    def unbound(event: Event, session: Any) -> None:
        session.execute(text("insert into effects (what) values (:what)"), {"what": {event.data["note"]: object()}})


@pytest.fixture
def sweep(database_url: str, tmp_path: Path) -> Iterator[Sweep]:
    made = Sweep(database_url, tmp_path)
    add_handlers(made.registry)
    made.start()
    made.do(
        "create table effects (what varchar(200) unique); create table numbers (n integer check (n > 0), what text)"
    )
    yield made
    stamina.set_testing(False)
    made.do("drop table effects; drop table numbers")
    made.webhooks.close()


@pytest.fixture(params=["console", "json"])
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that the service's own set-up of logging writes, at the lowest level."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    written = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", written)
        set_up_logging("info", request.param)
    yield written
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook = hooks


def test_nothing_that_is_secret_or_the_senders_comes_out_again(
    sweep: Sweep, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks, is_sqlite = sweep.webhooks, sweep.database.is_sqlite
    webhooks.background.write_soon = lambda write: write()
    stamina.set_testing(True, attempts=1)
    monkeypatch.setattr("webhooks.store.durability.Durability.doubts", lambda self: [])

    # at the door
    sweep.post(event("ev_1"), **{"close-sig-hash": "0" * 64}, status=401)
    sweep.post(event("ev_1"), **{"close-sig-timestamp": HEADER}, status=401)
    sweep.post(b"{" + BODY.encode(), status=200)
    sweep.post(json.dumps({"event": BODY}).encode(), status=200)
    sweep.post(event("ev_1", pad="x" * 2**20), status=413)
    sweep.post(event("ev_1"), source="asks", status=503, **{"X-Tenant": "1"})
    sweep.client.post("/webhooks/nobody", data=BODY)  # the path itself is shown: it is what explains a 404
    rejected = (
        sweep.webhooks.store.rejections.latest(1)[0].request_id
        if hasattr(webhooks.store.rejections, "latest")
        else None
    )
    if rejected:
        sweep.command("explain", rejected)

    # the database refuses everything
    if is_sqlite:
        trigger = "create trigger t before insert on webhooks_events begin select raise(abort, 'no'); end"
        undo = "drop trigger t"
    else:
        trigger = (
            "create function f() returns trigger as 'begin raise exception ''refused: % %'', convert_from(new.body, ''utf8''), "
            "new.headers; end' language plpgsql; create trigger t before insert on webhooks_events for each row execute function f()"
        )
        undo = "drop function f cascade"
    sweep.do(trigger)
    sweep.post(event("ev_2"), status=503)
    sweep.command("doctor")
    sweep.command("doctor", "--json")
    sweep.command("quarantine", "retry", "--all")
    sweep.said.append(sweep.client.get("/readyz").text)
    sweep.do(undo)
    sweep.do("alter table webhooks_dedup_log rename to gone")
    sweep.post(event("ev_2"), status=503)
    sweep.command("events", "list")
    sweep.do("alter table gone rename to webhooks_dedup_log")
    if not is_sqlite:
        sweep.do("alter table webhooks_events add constraint theirs check (length(headers) < 1) not valid")
        sweep.post(event("ev_2"))
        sweep.do("alter table webhooks_events drop constraint theirs")

    # … or one row
    sweep.post(event("ev_3", n=1), status=200)
    sweep.post(event("ev_4"), status=200)
    sweep.do("create unique index theirs on webhooks_events (object_id)")
    assert sweep.post(event("xx_3", n=2), status=200).json["status"] == "quarantined"
    sweep.command("quarantine", "retry", "--all")
    sweep.command("quarantine", "list")
    sweep.command("quarantine", "list", "--json")
    sweep.do("drop index theirs")

    # handlers
    for name in ("unique", "cast", "literal", "check", "wrapped", "unbound"):
        sweep.run(name)
    sweep.command("deliveries", "list")
    sweep.command("deliveries", "list", "--json")
    with sweep.database.read() as connection:
        ids = connection.execute(schema.deliveries.select().with_only_columns(schema.deliveries.c.id)).scalars().all()
    for id in ids:
        sweep.command("deliveries", "show", str(id))
        sweep.command("deliveries", "show", str(id), "--json")
    sweep.command("stats")
    sweep.command("catch-up", "close", "--since", "1h")
    sweep.command("sources")
    sweep.command("sources", "--json")
    sweep.command("requeue", "--all", "--yes")

    # settings
    good = {"WEBHOOKS_SOURCES__close__SECRET": KEY}
    sweep.configured(DATABASE_URL=f"postgresql://app:{PASSWORD}@x@127.0.0.1:1/d", **good)
    sweep.configured(DATABASE_URL=f"mysql://app:{PASSWORD}@127.0.0.1:1/d", **good)
    sweep.configured(DATABASE_URL_FILE=f"postgresql://app:{PASSWORD}@127.0.0.1:1/d", **good)
    sweep.configured(WEBHOOKS_SOURCES__close__SECRET_FILE=KEY)
    sweep.configured(WEBHOOKS_SOURCES__close__SECRET=KEY + "0")
    sweep.configured(WEBHOOKS_SOURCES__close__SECRET='["' + KEY)
    sweep.configured(WEBHOOKS_SOURCES__close__SCHEME=KEY, **good)
    sweep.configured(WEBHOOKS_SOURCES__close__SECRETS_FROM=f"{KEY}:{TOKEN}", **good)
    sweep.configured(WEBHOOKS_SOURCES__close__API_KEY_FILE=KEY, **good)
    sweep.configured(WEBHOOKS_PORT=KEY, WEBHOOKS_LEASE=f"user:{KEY}", **good)
    away = Webhooks(
        registry=Registry(), overrides={**sweep.overrides, "database_url": unreachable(is_sqlite)}, environ={}
    )
    away.assemble(role="cli")
    away.prepare_database()
    sweep.said.append("\n".join(away.check()[0]))
    sweep.said.append(Cli(away)("doctor").output)
    away.close()

    assert sweep.failures >= 20
    everything = "\n".join((*sweep.said, log.getvalue(), sweep.stored()))
    assert "UNIQUE" in everything or "UniqueViolation" in everything  # what an author needs is there
    for secret in SECRETS:
        places = [line[:300] for line in everything.splitlines() if secret in line]
        assert not places, (secret, places[:5])


def unreachable(is_sqlite: bool) -> str:
    return "sqlite:////nowhere/at/all.db" if is_sqlite else f"postgresql://app:{PASSWORD}@127.0.0.1:1/d"
