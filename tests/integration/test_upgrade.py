"""A database that an older commit filled is upgraded, and everything in it continues.

The dumps are in `dumps/`, made by `dumps/make.py`; what the older commit did is in `dumps/fill-051ad9b.py.txt`.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select

from tests import postgresql
from tests.integration.rig import Rig, effects, rig
from tests.integration.test_migrations import catalogue
from webhooks.app import Webhooks
from webhooks.database import MigrationChange
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.database.migrations import run as migrate
from webhooks.formats import json as jsonio
from webhooks.model import Content, DeliveryState, Disposition, Event, Headers, InboundRequest
from webhooks.operations import Actor, Replayer, Requeuer
from webhooks.selection import Selection
from webhooks.store import Store
from webhooks.store.replays import ReplayState
from webhooks.store.retention.partitions import Period

DUMPS = Path(__file__).parent / "dumps"
COMMIT = "051ad9b"
KINDS = ("sqlite", "postgresql", "partitioned")
KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
#: Handlers of the older commit: pattern and options.
HANDLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "record": ("lead.created", {}),
    "later": ("contact.created", {}),
    "flaky": ("contact.updated", {}),
    "fussy": ("contact.deleted", {}),
    "ordered": ("opportunity.updated", {"ordered_by": "object_id", "on_failure": "block"}),
    "slow": ("task.lead.created", {}),
}


@contextlib.contextmanager
def two_databases(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> Iterator[tuple[str, str]]:
    """URLs of two databases without tables."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'old.db'}", f"sqlite:///{tmp_path / 'fresh.db'}"
        return
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "master")
    with server.database(f"{worker}_old") as old, server.database(f"{worker}_fresh") as fresh:
        yield old, fresh


def restore(kind: str, url: str) -> None:
    """Run the statements of a dump, without psql."""
    statements = gzip.decompress((DUMPS / f"{COMMIT}-{kind}.sql.gz").read_bytes()).decode()
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            file.executescript(statements)
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statements.encode())


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """How the older commit's database is kept."""
    made: str = request.param
    request.node.user_properties.append(("database", "SQLite" if made == "sqlite" else "PostgreSQL"))
    if made != "sqlite":
        server: postgresql.Server = request.getfixturevalue("postgresql_server")
        request.node.user_properties[-1] = ("database", server.label)
    return made


@pytest.fixture
def urls(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> Iterator[tuple[str, str]]:
    """URLs of the older commit's database, and of one without tables."""
    with two_databases(request, tmp_path, kind) as (old, fresh):
        restore(kind, old)
        yield old, fresh


@pytest.fixture
def upgraded(urls: tuple[str, str]) -> Iterator[Rig]:
    """The older commit's database after the upgrade, with handlers of the same names that succeed now."""
    database = connect(urls[0])
    assert migrate.upgrade(database) == [MigrationChange("core", "0007", migrate.core().head)]
    database.dispose()
    with rig(urls[0], content=read) as made:

        def note(event: Event, session: Any, delivery: Any) -> None:
            session.execute(effects.insert().values(what=f"{delivery.handler} {event.dedup_key}"))

        for name, (pattern, options) in HANDLERS.items():
            made.registry.add(note, pattern, name=name, **options)
        yield made


def read(raw: bytes, type: str) -> Content:
    return Content(data=jsonio.load(raw)["event"]["data"])


def states(made: Rig) -> dict[str, Counter[DeliveryState]]:
    """{handler: how many of its deliveries are in each state}."""
    table = schema.deliveries
    found: dict[str, Counter[DeliveryState]] = {}
    with made.database.read() as connection:
        for handler, state in connection.execute(select(table.c.handler, table.c.state)):
            found.setdefault(handler, Counter())[DeliveryState(state)] += 1
    return found


def done(made: Rig) -> Counter[str]:
    """What handlers wrote, in the transactions of their deliveries."""
    with made.database.read() as connection:
        return Counter(connection.execute(select(effects.c.what)).scalars())


def run_until(made: Rig, n: int) -> None:
    """Let a worker run until n deliveries have succeeded in all."""
    with made.running(maintenance=True):
        made.wait_for(DeliveryState.SUCCEEDED, n, seconds=30)


#: Of the older commit: 5 that had succeeded.
THEN = 5
#: … and what can run: 3 never tried, 2 waiting for a retry, 2 of a free lane, 1 whose worker died, 2 of the replay.
WAITING = 10


def test_the_tables_of_an_upgraded_database_are_those_of_a_new_one(urls: tuple[str, str], kind: str) -> None:
    catalogues: list[dict[str, Any]] = []
    for url in urls:
        database = connect(url)
        migrate.upgrade(database)
        store = Store(database, {})
        if kind == "partitioned":
            store.partitions.partition(Period.WEEK)  # on the older one: makes what is missing of those ahead
        assert migrate.check(database) == []
        catalogues.append(catalogue(database))
        database.dispose()

    # what differs for other reasons: a server with lz4 compresses bodies by it from the start; partitions are named by the
    # day on which they are made, and their NOT NULL (PostgreSQL 18) by pg_dump
    other = re.compile(r"^compression |webhooks_events_p\d|^constraint webhooks_events_(default|first)_\w+_not_null$")
    older, new = ({name: text for name, text in each.items() if not other.search(name)} for each in catalogues)
    assert older == new


def test_everything_that_waited_runs_once_after_the_upgrade(upgraded: Rig) -> None:
    run_until(upgraded, THEN + WAITING)

    found = done(upgraded)
    assert set(found.values()) == {1}
    assert set(found) == {
        *(f"later ev_contact_created_{n}" for n in (1, 2, 3)),
        *(f"flaky ev_contact_updated_{n}" for n in (1, 2)),
        *(f"ordered ev_opportunity_updated_{n}" for n in (4, 5)),
        "slow ev_task.lead_created_1",
        *(f"record ev_lead_created_{n}" for n in (1, 2)),
    }


def test_what_was_dead_stays_dead_and_holds_its_lane_after_the_upgrade(upgraded: Rig) -> None:
    run_until(upgraded, THEN + WAITING)

    found = states(upgraded)
    assert found["fussy"] == {DeliveryState.DEAD: 2}
    assert found["ordered"] == {DeliveryState.DEAD: 1, DeliveryState.PENDING: 2, DeliveryState.SUCCEEDED: 2}
    requeuer = Requeuer(store=upgraded.store, registry=upgraded.registry)
    assert len(requeuer.requeue(Selection(handler="ordered"), actor=Actor("ines")).ids) == 1

    run_until(upgraded, THEN + WAITING + 3)

    assert states(upgraded)["ordered"] == {DeliveryState.SUCCEEDED: 5}
    assert states(upgraded)["fussy"] == {DeliveryState.DEAD: 2}
    with upgraded.database.read() as connection:
        order = connection.execute(select(effects.c.what).order_by(effects.c.id)).scalars()
        lane = [what for what in order if what.startswith("ordered ") and what[-1] in "123"]
    assert lane == [f"ordered ev_opportunity_updated_{n}" for n in (1, 2, 3)]


def test_an_open_replay_continues_after_the_upgrade_and_makes_nothing_twice(upgraded: Rig) -> None:
    (replay,) = upgraded.store.replays.under_way()
    assert (replay.state, replay.events, replay.deliveries) == (ReplayState.OPEN, 2, 2)

    ended = Replayer(store=upgraded.store, registry=upgraded.registry).resume(replay.id)
    run_until(upgraded, THEN + WAITING + 3)

    assert (ended.state, ended.events, ended.deliveries) == (ReplayState.DONE, 5, 5)
    replayed = {what: n for what, n in done(upgraded).items() if what.startswith("record ")}
    assert replayed == {f"record ev_lead_created_{n}": 1 for n in range(1, 6)}


def test_an_event_of_before_the_upgrade_is_a_duplicate_and_a_new_one_is_stored(
    upgraded: Rig, urls: tuple[str, str]
) -> None:
    instance = Webhooks(
        registry=upgraded.registry,
        overrides={"database_url": urls[0], "sources": {"close": {"secret": KEY}}},
        environ={},
    ).assemble(role="cli")
    source = instance.sources["close"]
    with upgraded.database.read() as connection:
        query = select(schema.events.c.body).where(schema.events.c.dedup_key == "ev_lead_created_1")
        body: bytes = connection.execute(query).scalar_one()

    def post(body: bytes) -> tuple[Disposition, int]:
        """The receipt, and the number of deliveries."""
        headers = Headers(dict(source.sign(body, instance.clock())))
        (receipt,) = instance.ingest.accept(source, InboundRequest(headers, body, id="r")).receipts
        return receipt.status, len(receipt.delivery_ids)

    try:
        assert post(body) == (Disposition.DUPLICATE, 0)
        assert post(body.replace(b"ev_lead_created_1", b"ev_lead_created_new")) == (Disposition.STORED, 1)
    finally:
        instance.close()
