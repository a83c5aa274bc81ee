"""Stored events as files for tests: nothing of a person is left in them, unless that was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import KEY
from tests.integration.dashboard.stories import body
from tests.integration.test_cli import Cli
from webhooks.app import Webhooks
from webhooks.routing import Registry

pytestmark = pytest.mark.one_database

SECRETS = ("Rosa", "Luchs", "+49 170 1234567", "rosa@firma.de", "lead_Ab3dE5gH9kLmN0pQ", "cf_Zz9Yy8Xx7Ww6")


@pytest.fixture
def cli(database_url: str) -> Iterator[Cli]:
    overrides = {"database_url": database_url, "sources": {"close": {"secret": KEY}}}
    instance = Webhooks(registry=Registry(), overrides=overrides, environ={}).assemble(role="cli")
    cli = Cli(instance)
    for number in range(2):
        cli.receive(
            body(
                f"ev_2Gk0pEMM7xAbCdEfG{number}",
                **{
                    "name": "Rosa Luchs", "phone": "+49 170 1234567", "email": "rosa@firma.de", "status": "active",
                    "lead_id": "lead_Ab3dE5gH9kLmN0pQ", "custom.cf_Zz9Yy8Xx7Ww6": "the Luchs account",
                },
            )
        )  # fmt: skip
    yield cli
    instance.close()


def test_files_have_the_shape_of_events_and_nothing_of_a_person(cli: Cli, tmp_path: Path) -> None:
    result = cli("events", "export", "--fixtures", str(tmp_path / "events"))
    assert result.exit_code == 0, result.stderr
    files = sorted((tmp_path / "events").iterdir())
    assert [path.name for path in files] == ["lead.updated-1.json", "lead.updated-2.json"]
    first, second = (json.loads(path.read_text("utf-8")) for path in files)
    assert [secret for path in files for secret in SECRETS if secret in path.read_text("utf-8")] == []
    assert list(first) == ["source", "type", "note", "received_at", "headers", "body"]
    event = first["body"]["event"]
    assert (event["object_type"], event["action"], event["data"]["status"]) == ("lead", "updated", "active")
    assert event["data"]["email"] == "person1@example.com"
    assert event["data"]["lead_id"] == second["body"]["event"]["data"]["lead_id"], "joins go on working"
    assert event["id"] != "ev_2Gk0pEMM7xAbCdEfG0"
    (noted,) = cli.json("activity", "list")["actions"]
    assert (noted["verb"], noted["changed"], noted["options"]) == ("export", 2, {"fixtures": True, "raw": False})
    assert cli("events", "export", "--fixtures", str(tmp_path / "events"), "--limit", "1").exit_code == 0
    assert len(list((tmp_path / "events").iterdir())) == 3, "none is written over"


def test_as_they_came_only_if_that_is_meant(cli: Cli, tmp_path: Path) -> None:
    to = tmp_path / "raw"
    assert "add --yes if you mean it" in cli.refused("events", "export", "--fixtures", str(to), "--raw", code=2)
    assert not to.exists()
    assert cli("events", "export", "--fixtures", str(to), "--raw", "--yes").exit_code == 0
    assert "Rosa Luchs" in (to / "lead.updated-1.json").read_text("utf-8")


def test_rules_are_chosen_by_name(cli: Cli, tmp_path: Path) -> None:
    assert cli("events", "export", "--fixtures", str(tmp_path), "--redact", "strict", "--limit", "1").exit_code == 0
    event = json.loads((tmp_path / "lead.updated-1.json").read_text("utf-8"))["body"]["event"]
    assert event["data"]["status"] != "active"
    assert "no rules named 'clsoe' (did you mean 'close'?)" in cli.refused(
        "events", "export", "--fixtures", str(tmp_path), "--redact", "clsoe", code=2
    )
    assert "are for --fixtures" in cli.refused("events", "export", "--raw", code=2)
