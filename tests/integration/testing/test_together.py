"""`drain(together=True)`: deliveries of a handler without effects outside its session, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from webhooks import Discard, signals
from webhooks.routing import Registry
from webhooks.testing import Kit

pytestmark = pytest.mark.one_database


@pytest.fixture(params=["sqlite", "postgresql"])
def kit(request: pytest.FixtureRequest, make: Callable[..., Kit]) -> Kit:
    registry = Registry()

    @registry.on("lead.updated", name="mirror", effects="session")
    def mirror(event: Any, session: Any) -> None:
        name = event.data["name"]
        if name == "unwanted":
            raise Discard("not this one")
        session.execute(text("insert into names values (:name)"), {"name": name})
        if name == "broken":
            raise LookupError(name)

    registry.on("lead.updated", name="calls")(lambda event: None)
    on_server = request.param == "postgresql"
    made = make(registry=registry, **({"database_url": request.getfixturevalue("postgresql_url")} if on_server else {}))
    with made.webhooks.database.write() as connection:
        connection.execute(text("create table names (name text)"))
    return made


def post(kit: Kit, *names: str) -> None:
    for name in names:
        kit.post("lead.updated", set={"data.name": name})


def stored(kit: Kit) -> list[str]:
    with kit.session() as session:
        return sorted(session.scalars(text("select name from names")))


def test_what_waits_commits_together_and_is_told_one_by_one(kit: Kit) -> None:
    told = kit.capture(signals.delivery_succeeded)
    post(kit, "one", "two", "three")
    runs = kit.drain(handlers=["mirror"], together=True)
    assert [(run.outcome, run.attempt, run.event.data["name"]) for run in runs if run.event] == [
        ("succeeded", 1, "one"), ("succeeded", 1, "two"), ("succeeded", 1, "three"),
    ]  # fmt: skip
    assert [each["sender"] for each in told] == ["mirror"] * 3
    assert stored(kit) == ["one", "three", "two"]
    kit.assert_delivered("mirror", times=3)


def test_where_one_fails_each_runs_alone(kit: Kit) -> None:
    post(kit, "one", "broken", "two", "unwanted")
    runs = kit.drain(handlers=["mirror"], together=True, raises=False)
    assert [run.outcome for run in runs] == ["succeeded", "failed", "succeeded", "cancelled"]
    assert isinstance(runs[1].error, LookupError)
    assert stored(kit) == ["one", "two"]
    kit.advance()
    with pytest.raises(LookupError):
        kit.drain(together=True)


def test_what_ends_before_it_writes_ends_by_itself(kit: Kit) -> None:
    post(kit, "one", "unwanted")
    runs = kit.drain(handlers=["mirror"], together=True)
    assert [(run.outcome, run.reason) for run in runs] == [
        ("succeeded", None),
        ("cancelled", "discarded: not this one"),
    ]
    assert stored(kit) == ["one"]


def test_others_run_alone_and_the_limit_holds(kit: Kit) -> None:
    from webhooks.testing import StillBusy

    post(kit, "one", "two", "three")
    with pytest.raises(StillBusy):
        kit.drain(limit=2, handlers=["mirror"], together=True)
    assert len(stored(kit)) == 2
    assert len(kit.drain(together=True)) == 4
