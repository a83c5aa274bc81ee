"""A copy of production is made harmless: whatever waited or ran there, nothing runs here; what comes later does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.test_cli import DEAD, Cli
from webhooks.app import Webhooks
from webhooks.model import DeliveryClass, Event
from webhooks.routing import Registry

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
LEASE = timedelta(seconds=30)


@pytest.fixture
def cli(database_url: str) -> Iterator[Cli]:
    registry = Registry()

    @registry.on("**", name="free")
    def free(event: Event) -> None:
        """No order."""

    @registry.on("**", name="ordered", ordered_by="lead_id")
    def ordered(event: Event) -> None:
        """One after another."""

    sources = {"close": {"secret": KEY}}
    instance = Webhooks(
        registry=registry, overrides={"database_url": database_url, "sources": sources}, environ={}
    ).assemble(role="cli")
    yield Cli(instance)
    instance.close()


def name_of(cli: Cli) -> str:
    database = cli.instance.database
    return database.path.name if database.path is not None else str(database.url.database)


def states(cli: Cli) -> dict[str, int]:
    found: dict[str, int] = {}
    for delivery in cli.json("deliveries", "list")["deliveries"]:
        found[delivery["state"]] = found.get(delivery["state"], 0) + 1
    return found


def claim(cli: Cli, *handlers: str) -> int:
    quotas = {(name, kind): 100 for name in handlers for kind in DeliveryClass}
    return len(cli.instance.store.deliveries.claim(quotas, lease=LEASE, worker="w"))


def test_nothing_that_waited_or_ran_in_a_copy_runs_there(cli: Cli, payload: Any) -> None:
    for name in ("whatsapp_message_created_incoming", "whatsapp_message_updated", "lead_merged"):
        cli.receive(payload(name))
    cli.run("free", DEAD)
    assert claim(cli, "ordered") >= 1, "ran when the copy was made"

    done = cli.json("db", "quiesce", "--database", name_of(cli))

    assert done["cancelled"] == 3
    assert states(cli) == {"dead": 3, "cancelled": 3}
    assert claim(cli, "free", "ordered") == 0
    assert cli.json("db", "quiesce", "--database", name_of(cli)) == {"cancelled": 0, "replays": 0}
    cli.receive(payload("whatsapp_message_updated_revision"))
    assert claim(cli, "free", "ordered") == 2


def test_another_name_or_a_living_process_stops_it(cli: Cli) -> None:
    assert "not 'other'; nothing was changed" in cli.refused("db", "quiesce", "--database", "other", code=2)
    cli.instance.store.processes.beat("m1:1:a", "worker", "1", [])
    said = cli.refused("db", "quiesce", "--database", name_of(cli), code=1)
    assert "m1:1:a reported to this database within two minutes" in said
