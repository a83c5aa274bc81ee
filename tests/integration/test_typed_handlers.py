"""Handlers that say what their data looks like, through the consumer: what they get, and what a mismatch becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pytest
from sqlalchemy import text

from tests.support import each
from webhooks.errors import PayloadMismatch
from webhooks.model import Event
from webhooks.operations import Options
from webhooks.operations.handlers import options_in_words
from webhooks.routing import Registry, RetryPolicy, field
from webhooks.selection import Selection
from webhooks.sources.close.views import Lead as LeadView
from webhooks.testing import make_kit

pytestmark = pytest.mark.one_database


class Lead(msgspec.Struct):
    name: str


class AsDict(TypedDict):
    name: str


seen: list[Any] = []


def plain(event: Event[Lead]) -> str:
    seen.append(event.data.name)
    return event.data.name


async def later(data: Lead) -> None:
    seen.append(data.name)


def writes(event: Event[Lead], session: Any) -> None:
    session.execute(text("create table if not exists names (name text)"))
    session.execute(text("insert into names values (:name)"), {"name": event.data.name})
    seen.append(event.data.name)


def by_option(event: Any) -> None:
    seen.append(event.data["name"])


@pytest.fixture
def registry() -> Registry:
    seen.clear()
    made = Registry()
    made.add(plain, "lead.*", name="plain")
    made.add(later, "lead.*", name="later")
    made.add(writes, "lead.*", name="writes", rehearsable=True)
    made.add(by_option, "lead.*", name="by_option", data=AsDict)
    return made


def test_each_gets_its_data_as_it_asks_for_it(registry: Registry, tmp_path: Path) -> None:
    with make_kit(directory=tmp_path, registry=registry) as kit:
        kit.post("lead.updated", set={"data.name": "Quayside"})
        assert {run.outcome for run in kit.drain()} == {"succeeded"}
        assert seen == ["Quayside"] * 4
        assert kit.call("plain", kit.event("lead.updated", set={"data.name": "Quay"})) == "Quay"


@each("name", ["plain", "later", "writes", "by_option"])
def test_a_mismatch_is_a_failed_attempt_that_names_the_place(registry: Registry, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with make_kit(directory=tmp_path / name, registry=registry, handlers=[name]) as kit:
        kit.post("lead.updated", set={"data.name": 3})
        [run] = kit.drain(raises=False)
        assert (run.outcome, run.state) == ("failed", "pending")
        assert run.reason == "PayloadMismatch: data.name: expected str, got int"
        assert seen == []
        with pytest.raises(PayloadMismatch, match=r"data\.name: expected str, got int"):
            kit.call(name, kit.event("lead.updated", set={"data.name": 3}))


def test_what_is_filtered_is_not_looked_at(tmp_path: Path) -> None:
    registry = Registry()
    registry.add(plain, "lead.*", name="plain", retry=RetryPolicy(max_attempts=1), where=field("data.name") == "x")
    with make_kit(directory=tmp_path, registry=registry) as kit:
        kit.post("lead.updated", set={"data.name": 3})
        assert [run.outcome for run in kit.drain()] == ["filtered"]


def test_a_rehearsal_says_it_too(registry: Registry, tmp_path: Path) -> None:
    with make_kit(directory=tmp_path, registry=registry, handlers=["writes"]) as kit:
        kit.post("lead.updated", set={"data.name": "Quayside"})
        kit.post("lead.updated", set={"data.name": 3})
        rehearser = kit.webhooks.make_rehearser()
        plan = rehearser.replayer.plan(Selection(), Options(handler="writes"))
        told = [(each.outcome, each.reason) for each in rehearser.run(plan)]
        assert told == [("would succeed", None), ("would fail", "PayloadMismatch: data.name: expected str, got int")]


def test_of_several_events_those_of_another_type_fail_alone(tmp_path: Path) -> None:
    registry, names = Registry(), list[str]()

    def takes(events: list[Event[Lead]], session: Any) -> None:
        names.extend(event.data.name for event in events)

    registry.add(takes, "lead.*", name="takes", batch=10, data=Lead)
    with make_kit(directory=tmp_path, registry=registry) as kit:
        for name in ("one", 3, "two"):
            kit.post("lead.updated", set={"data.name": name})
        runs = kit.drain(raises=False)
        assert sorted(run.outcome for run in runs) == ["failed", "succeeded", "succeeded"]
        assert sorted(names) == ["one", "two"]
        [failed] = [run for run in runs if run.outcome == "failed"]
        assert failed.reason == "PayloadMismatch: data.name: expected str, got int"


def test_a_view_of_close_is_never_a_gate(tmp_path: Path) -> None:
    registry, names = Registry(), list[Any]()
    registry.on("lead.*", name="view", data=LeadView)(lambda data: names.append(data.name))
    with make_kit(directory=tmp_path, registry=registry) as kit:
        kit.post("lead.updated", set={"data.name": "Quayside"})
        kit.post("lead.updated", set={"data.name": 3})
        assert [run.outcome for run in kit.drain()] == ["succeeded", "succeeded"]
    assert names == ["Quayside", None]


def test_the_list_of_handlers_says_it(registry: Registry) -> None:
    handler = registry.get("plain")
    assert handler is not None
    assert "data Lead" in options_in_words(handler)
