"""Single events and single functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.support import ROOT
from webhooks import changed
from webhooks.errors import NotFound
from webhooks.routing import Registry
from webhooks.testing import Filtered, Kit, make_kit

pytestmark = pytest.mark.one_database


def test_an_event_is_as_a_handler_gets_it_and_stored_nowhere(kit: Kit) -> None:
    event = kit.event("lead.updated", set={"data.name": "Quayside"}, previous={"name": "Quay"})
    assert (event.source, event.type, event.data["name"]) == ("close", "lead.updated", "Quayside")
    assert (event.previous, event.changed_fields) == ({"name": "Quay"}, ("name",))
    assert event.did_change("name", to="Quayside")
    assert event.received_at == kit.now()
    with kit.session() as session:
        assert session.scalar(text("select count(*) from webhooks_events")) == 0


def test_a_function_is_called_with_what_it_asks_for(make: Callable[..., Kit]) -> None:
    registry = Registry()

    @registry.on("lead.*", name="plain")
    def plain(event: Any, data: Any, delivery: Any, log: Any, api: str = "real") -> tuple[Any, ...]:
        return event.type, data["name"], delivery.number, delivery.idempotency_key.endswith(":plain"), api

    @registry.on("lead.created", name="later")
    async def later(event: Any) -> str:
        return str(event.type)

    @registry.on("lead.created", name="writes")
    def writes(event: Any, session: Any) -> Any:
        session.execute(text("create table seen (id text)"))
        return session.scalar(text("select count(*) from seen"))

    kit = make(registry=registry)
    event = kit.event("lead.created", set={"data.name": "Quayside"})
    assert kit.call(plain, event, api="of a test") == ("lead.created", "Quayside", 1, True, "of a test")
    assert kit.call("later", "lead.created") == "lead.created"
    assert kit.call(writes, "lead.created") == 0
    assert kit.call(writes, "lead.created") == 0, "what it wrote was rolled back"


def test_filters_have_their_say(make: Callable[..., Kit]) -> None:
    registry = Registry()
    registry.on("lead.updated", name="renamed", where=changed("name"))(lambda event: "ran")
    registry.on("invoice.*", name="paid", source="stripe")(lambda event: "ran")
    kit = make(registry=registry, overrides={"sources": {"close": {}, "stripe": {}}})
    event = kit.event("lead.updated", source="close", previous={"name": "Quay"})
    assert kit.call("renamed", event) == "ran"
    assert kit.routes(event) == ["renamed"]
    assert kit.explain(event) == {"paid": "not subscribed: it asks for invoice.* of source stripe"}
    other = kit.event("lead.updated", source="close", previous={"status_id": "stat_1"})
    with pytest.raises(Filtered, match=r'filtered: changed\("name"\), value unchanged') as caught:
        kit.call("renamed", other)
    assert caught.value.reason == kit.explain(other)["renamed"]
    assert kit.routes(other) == []


def test_what_is_no_handler_is_said(kit: Kit) -> None:
    with pytest.raises(NotFound, match=r"no handler named 'welcom' \(did you mean 'welcome'\?\)"):
        kit.call("welcom", "lead.created")
    with pytest.raises(NotFound, match="is registered with no handler here"):
        kit.call(len, "lead.created")


@pytest.fixture
def booking(tmp_path: Path) -> Registry:
    """The example of docs/handlers.md, as printed."""
    page = (ROOT / "docs" / "handlers.md").read_text("utf-8")
    (code,) = [text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "@reply" in text]
    registry = Registry()
    code = code.replace("from webhooks import on, reply\n", "")
    exec(compile(code, "docs/handlers.md", "exec"), {"__name__": "booking", "on": registry.on, "reply": registry.reply})
    return registry


def test_the_reply_of_the_page_answers_what_it_says(booking: Registry, tmp_path: Path) -> None:
    with make_kit(directory=tmp_path, registry=booking, overrides={"sources": {"slack": {}}}) as kit:
        answer = {"response_action": "errors", "errors": {"people": "Ten at most."}}
        assert kit.reply("view_submission") == answer
        posted = kit.post("view_submission")
        assert (posted.status, posted.http_status, posted.body) == ("stored", 200, answer)
        assert [run.handler for run in kit.drain()] == ["booking.book"]
        with pytest.raises(Filtered, match=r"no reply is asked for 'app_mention' of 'slack'; there are: booking.check"):
            kit.reply("app_mention")


def test_what_could_not_be_sent_fails_the_test(tmp_path: Path) -> None:
    registry = Registry()
    registry.reply("view_submission", source="slack", name="odd")(lambda event: 5)
    with make_kit(directory=tmp_path, registry=registry) as kit, pytest.raises(ValueError, match="it returned int"):
        kit.reply("view_submission")
