"""Buttons: what a press does is shown before, done once, on record, and can be taken back; all without JavaScript."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from tests.integration.dashboard.conftest import SECRET_KEY, Site, shown
from tests.integration.dashboard.stories import body, q
from tests.integration.dashboard.test_reading import MOST_STATEMENTS, statements_of
from tests.support import wait_until
from webhooks.app.actions import make_runners
from webhooks.dashboard import UserRole
from webhooks.dashboard.access.forgery import Signed
from webhooks.dashboard.pages import failures
from webhooks.model import DeliveryState, new_id
from webhooks.operations import Verb
from webhooks.operations.actions import ActionsDuty
from webhooks.routing import Registry, RetryPolicy
from webhooks.selection import Selection
from webhooks.store import Action, ActionState

pytestmark = pytest.mark.one_database

PENDING, RUNNING, SUCCEEDED, DEAD, CANCELLED = DeliveryState


@pytest.fixture
def registry() -> Registry:
    made = Registry()

    @made.on("lead.updated", name="leads.mirror", retry=RetryPolicy(max_attempts=1))
    def mirror(event: Any) -> None:
        raise ConnectionError(f"crm-mirror.internal:5432 refused {event.id} <b>")

    @made.on("lead.updated", name="leads.ordered", ordered_by="lead_id", retry=RetryPolicy(max_attempts=1))
    def ordered(event: Any) -> None:
        raise ValueError("no")

    @made.on("lead.updated", name="leads.rehearsed", rehearsable=True)
    def rehearsed(event: Any, session: Any) -> None:
        pass

    return made


@pytest.fixture
def failed(make_site: Callable[..., Site], registry: Registry) -> Site:
    """Three leads, whose deliveries for two of three handlers are dead; one lane is blocked."""
    site = make_site(registry)
    for number in range(3):
        assert site.send(body(f"ev_{number}"))
    site.work(2)
    return site


def states(site: Site, handler: str) -> list[DeliveryState]:
    return [one.state for one in site.store.listings.deliveries(Selection(handler=handler))]


def follow(site: Site, answer: TestResponse) -> str:
    """What the page says to which an action leads, and what is on it."""
    assert answer.status_code == 303, shown(answer.text)
    cookie = answer.headers.get("Set-Cookie", "").partition(";")[0].partition("=")[2]
    said = (Signed([SECRET_KEY], "note").read(cookie) or "").partition("\n")[2]
    page = site.get(answer.headers["Location"].removeprefix("/dashboard"))
    assert page.status_code == 200, shown(page.text)
    return f"{said} {shown(page.text)}"


def latest(site: Site) -> Action:
    return site.store.actions.page(1)[0]


def fields(page: str) -> dict[str, str]:
    """The hidden fields of the last form of a page that changes something."""
    form = page.rpartition('<form method="post"')[2].partition("</form>")[0]
    found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    return {name: html.unescape(value) for name, value in found if name != "form_token"}


def work_off(site: Site) -> None:
    """What a worker does with what pages asked for."""
    webhooks = site.webhooks
    at = [0.0]
    duty = ActionsDuty(
        webhooks.make_activity().changes, site.store, runners=make_runners(webhooks), monotonic=lambda: at[0]
    )
    at[0] += 10
    duty.tick("worker")
    wait_until(lambda: not duty.is_running, timedelta(seconds=30), "the duty is over")


# -- requeue, cancel -----------------------------------------------------------------------------------------


def test_a_group_of_failures_is_requeued_by_what_it_says(failed: Site) -> None:
    page = failed.get("/failures").text
    assert "crm-mirror.internal:# refused # &lt;b&gt;" in page
    group = next(link for link in re.findall(r'href="(/dashboard/change/requeue\?[^"]+)"', page) if "mirror" in link)
    to_preview = failed.get(group.removeprefix("/dashboard").replace("&amp;", "&"))
    preview = failed.get(to_preview.headers["Location"].removeprefix("/dashboard"))
    text = shown(preview.text)
    assert "Requeue 3 deliveries" in text
    assert "leads.mirror 3" in text
    assert "cancels those that have not run since" in text
    hidden = fields(preview.text)
    done = follow(failed, failed.post("/change/requeue", {**hidden, "why": "fixed it"}))
    assert "requeued leads.mirror: 3 of 3" in done
    assert states(failed, "leads.mirror") == [PENDING] * 3
    assert states(failed, "leads.rehearsed") == [SUCCEEDED] * 3
    again = follow(failed, failed.post("/change/requeue", hidden))
    assert "It was confirmed already, by ada" in again
    action = latest(failed)
    assert (action.by, action.via, action.why, action.changed) == ("ada", "dashboard", "fixed it", 3)
    assert len(failed.store.actions.page()) == 1


def test_an_action_is_taken_back_once(failed: Site) -> None:
    (first, *_) = failed.store.listings.deliveries(Selection(handler="leads.mirror"))
    at = new_id()
    failed.post("/change/requeue", {"delivery": str(first.id), "at": str(at)})
    action = latest(failed)
    page = failed.get(f"/activity/{action.id}").text
    back = fields(page)
    assert "cancelled: 1 of 1" in follow(failed, failed.post(f"/activity/{action.id}/undo", back))
    assert "it was taken back by ada" in follow(failed, failed.post(f"/activity/{action.id}/undo", back))
    assert states(failed, "leads.mirror").count(CANCELLED) == 1
    assert "Taken back" in failed.text(f"/activity/{action.id}")


def test_cancelling_wants_a_reason_and_everything_its_word(failed: Site) -> None:
    at = str(new_id())
    refused = failed.post("/change/cancel", {"q": "state:pending", "at": at})
    assert (refused.status_code, "say why" in refused.text) == (400, True)
    refused = failed.post("/change/requeue", {"q": "", "at": at})
    assert (refused.status_code, "type everything to confirm it" in refused.text) == (400, True)
    assert follow(failed, failed.post("/change/requeue", {"q": "", "at": at, "typed": "everything"}))
    old = failed.post("/change/requeue", {"q": "", "at": "5", "typed": "everything"})
    assert (old.status_code, "more than a day old" in old.text) == (400, True)


def test_much_is_left_to_a_worker_and_can_be_stopped(failed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks.operations.actions.activity.AT_ONCE", 1)
    at = str(new_id())
    page = follow(failed, failed.post("/change/requeue", {"q": "handler:leads.mirror", "at": at}))
    assert "No worker runs now" in page
    assert latest(failed).state is ActionState.WAITING
    assert "It is stopped" in follow(failed, failed.post(f"/activity/{latest(failed).id}/stop"))
    at = str(new_id())
    failed.post("/change/requeue", {"q": "handler:leads.mirror", "at": at})
    work_off(failed)
    assert (latest(failed).state, latest(failed).changed) == (ActionState.DONE, 3)


def test_rows_are_picked_or_all_that_match_are_meant(failed: Site) -> None:
    page = failed.get(f"/deliveries{q('handler:leads.mirror')}").text
    ids = re.findall(r'name="delivery" value="(\d+)"', page)
    assert len(ids) == 3
    assert "/dashboard/change/requeue?q=handler:leads.mirror" in page
    to_preview = failed.get(f"/change/requeue?delivery={ids[0]}&delivery={ids[1]}")
    preview = failed.get(to_preview.headers["Location"].removeprefix("/dashboard"))
    assert "Requeue 2 deliveries" in shown(preview.text)
    assert 'name="delivery"' not in failed.get("/deliveries", UserRole.VIEWER).text


def test_where_more_lanes_are_blocked_than_are_looked_at_pages_say_so(
    failed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "1 blocked lane" in failed.text("/failures")
    assert "that were blocked last" not in failed.text("/failures/blocked")
    monkeypatch.setattr(failures, "LANES_COUNTED", 0)
    monkeypatch.setattr(failures, "LANES_LOOKED_AT", 0)
    monkeypatch.setattr(failures, "PER_PAGE", 1)
    assert "at least 0 blocked lanes" in failed.text("/failures")
    assert "Of about 0 that were blocked last" in failed.text("/failures/blocked")


def test_a_blocked_lane_has_two_ways_out(failed: Site) -> None:
    page = failed.get("/failures/blocked").text
    assert "leads.<wbr>ordered" in page
    assert "lead_1" in page
    link = re.search(r'href="(/dashboard/change/cancel\?delivery=\d+)"', page)
    assert link is not None
    preview = failed.get(failed.get(link[1].removeprefix("/dashboard")).headers["Location"].removeprefix("/dashboard"))
    assert "Cancel 1 delivery" in shown(preview.text)
    failed.post("/change/cancel", {**fields(preview.text), "why": "not needed"})
    assert latest(failed).changed == 1
    assert failed.get("/failures/blocked.json").get_json()["lanes"] == [], "the lane continues"


def test_failures_are_the_command_s_document_and_a_table(failed: Site) -> None:
    found = failed.get("/failures.json").get_json()["failures"]
    assert {(one["handler"], one["count"]) for one in found} == {("leads.mirror", 3), ("leads.ordered", 1)}
    table = failed.get("/failures.csv").text.splitlines()
    assert table[0] == "handler,state,error,count,first_at,last_at,example_id"
    wrong = failed.get(f"/failures{q('state:x')}")
    assert (wrong.status_code, "is not a state" in wrong.text) == (400, True)


# -- handlers ------------------------------------------------------------------------------------------------


def test_a_handler_is_paused_with_a_reason_resumed_and_tried(failed: Site) -> None:
    name = quote("leads.mirror", safe="")
    assert failed.post(f"/handlers/{name}/pause").status_code == 400
    page = follow(failed, failed.post(f"/handlers/{name}/pause", {"why": "it burns", "next": "/dashboard/failures"}))
    assert "leads.mirror is paused; its deliveries wait." in page
    assert failed.store.handlers.states()["leads.mirror"].paused_by == "ada"
    assert (
        failed.post(f"/handlers/{name}/resume", {"next": "//evil.example/"})
        .headers["Location"]
        .startswith("/dashboard/")
    )
    failed.store.handlers.open_breaker("leads.mirror", 10, timedelta(hours=1))
    assert "is tried now" in follow(failed, failed.post(f"/handlers/{name}/try"))
    assert [one.verb for one in failed.store.actions.page()] == ["try_one", "resume", "pause"]


# -- replays -------------------------------------------------------------------------------------------------


def test_a_replay_is_planned_rehearsed_confirmed_and_cancelled(failed: Site) -> None:
    page = failed.get(f"/replays/new{q('type:lead.**')}")
    text = shown(page.text)
    assert "3 events selected" in text
    hidden = fields(page.text)
    rehearsed = failed.post("/replays/rehearse", hidden)
    assert "would succeed" in shown(rehearsed.text)
    assert failed.store.replays.all() == []
    assert failed.post("/replays", hidden).status_code == 400, "without a reason"
    page_of_it = follow(failed, failed.post("/replays", {**hidden, "why": "fixed the mapping"}))
    assert "a worker makes its deliveries" in page_of_it
    (made,) = failed.store.replays.all()
    assert (made.created_by, made.why, made.options["detached"]) == ("ada", "fixed the mapping", True)
    assert "It was confirmed already" in follow(failed, failed.post("/replays", {**hidden, "why": "again"}))
    assert len(failed.store.replays.all()) == 1
    assert failed.get(f"/replays/{made.id}.json").get_json()["state"] == "open"
    assert "lead" in failed.text("/replays")
    cancelled = follow(failed, failed.post(f"/replays/{made.id}/cancel", {"why": "no"}))
    assert "It is cancelled" in cancelled
    assert "was cancelled already" in follow(failed, failed.post(f"/replays/{made.id}/cancel", {"why": "no"}))


def test_an_event_is_rehearsed_from_its_page(failed: Site) -> None:
    (one, *_) = failed.store.listings.deliveries(Selection(handler="leads.rehearsed"))
    page = failed.get(f"/events/{one.event_id}").text
    forms = [form for form in page.split("<form")[1:] if "/replays/rehearse#rehearsal" in form.split(">")[0]]
    assert len(forms) == 2, "all that may be, and the one handler in its row"
    assert 'name="handler" value="leads.rehearsed"' in forms[1]
    rehearsed = failed.post("/replays/rehearse", {"q": str(one.event_id)})
    text = shown(rehearsed.text)
    assert "leads. rehearsed would succeed" in text
    assert "leads.mirror is not rehearsable" in text
    assert f'href="/dashboard/events/{one.event_id}"' in rehearsed.text, "back to it"
    only = failed.post("/replays/rehearse", {"q": str(one.event_id), "handler": "leads.rehearsed"}).text
    assert "is not rehearsable" not in shown(only)
    assert states(failed, "leads.rehearsed") == [SUCCEEDED] * 3, "nothing lasts"
    assert "/replays/rehearse" not in failed.get(f"/events/{one.event_id}", UserRole.VIEWER).text


def test_an_event_whose_handlers_may_not_be_rehearsed_offers_only_its_replay(site: Site) -> None:
    site.send(body("ev_1"))
    (one,) = site.store.listings.events(Selection())
    page = site.get(f"/events/{one.id}").text
    assert "Replay…" in page
    assert "/replays/rehearse" not in page


def test_a_replay_of_everything_wants_its_word(failed: Site) -> None:
    page = failed.get("/replays/new?q=")
    assert "Type everything to confirm" in shown(page.text)
    assert failed.post("/replays", {**fields(page.text), "why": "all"}).status_code == 400
    assert failed.get("/replays/new?q=&limit=x").status_code == 400


# -- quarantine, senders, alarms -----------------------------------------------------------------------------


def held(site: Site) -> int:
    now: Any = site.store.database.now()
    return site.store.quarantine.put(
        "close", b"{", reason="no JSON", kind="unreadable", received_at=now, headers="{}", request_id=f"r{new_id()}"
    )


def test_what_is_quarantined_is_read_again_or_given_up(site: Site) -> None:
    id = held(site)
    assert "0 of 1 could be read" in follow(site, site.post("/quarantine/retry", {"id": str(id)}))
    assert site.post("/quarantine/drop", {"id": str(id)}).status_code == 400
    assert "1 given up" in follow(site, site.post("/quarantine/drop", {"id": str(id), "why": "rubbish"}))
    assert [one.verb for one in site.store.actions.page()] == ["quarantine_drop", "quarantine_retry"]
    assert "Nothing was selected." in follow(site, site.post("/quarantine/retry"))
    assert "Nothing is held." in follow(site, site.post("/quarantine/retry", {"all": "1"}))


def test_what_became_of_what_was_requeued_is_told(failed: Site) -> None:
    assert failed.store.listings.states_of_action(7) == {}
    (dead, *_) = failed.store.listings.deliveries(Selection(handler="leads.mirror"))
    page = follow(failed, failed.post("/change/requeue", {"delivery": str(dead.id), "at": str(new_id())}))
    assert "They are now 1 pending" in page
    (made, *_) = failed.store.actions.page()
    failed.work()
    assert "They are now 1 dead" in failed.text(f"/activity/{made.id}")


def test_what_asks_a_sender_is_put_on_record_for_a_worker(site: Site) -> None:
    page = follow(site, site.post("/sources/close/catch-up"))
    assert "No worker runs now" in page
    assert site.post("/sources/nothing/catch-up").status_code == 404
    site.post("/subscriptions/close/sync", {"keep": "1"})
    site.post("/subscriptions/close/whsub_1/resume")
    site.post("/subscriptions/close/whsub_1/pause", {"why": "loud"})
    site.post("/doctor/fix")
    site.post("/doctor/examine")
    asked = [(one.verb, one.subject, one.state) for one in site.store.actions.page()]
    waiting = ActionState.WAITING
    assert asked == [
        ("examine", "", waiting), ("fix", "", waiting), ("subscription_pause", "whsub_1", waiting),
        ("subscription_resume", "whsub_1", waiting), ("subscription_sync", "close", waiting), ("catch_up", "close", waiting),
    ]  # fmt: skip
    work_off(site)
    done = {one.verb: (one.state, one.error) for one in site.store.actions.page()}
    assert done["fix"][0] is ActionState.DONE
    assert done["catch_up"][0] is ActionState.FAILED
    assert "cannot be asked" in str(done["catch_up"][1])
    assert site.store.snapshots.get(["doctor"])["doctor"].body["findings"] is not None


def test_an_alarm_is_muted_for_a_while_and_told_again(site: Site) -> None:
    assert "dead is muted until" in follow(
        site, site.post("/alarms/mute", {"name": "dead", "subject": "h", "for": "2h"})
    )
    assert "dead is told again" in follow(site, site.post("/alarms/unmute", {"name": "dead", "subject": "h"}))
    assert site.post("/alarms/mute", {"name": "ded"}).status_code == 400


# -- who, and what is seen -----------------------------------------------------------------------------------


def test_viewers_see_what_was_done_and_no_button(failed: Site) -> None:
    failed.post("/handlers/leads.ordered/pause", {"why": "x"})
    action = latest(failed)
    for path in ("/activity", f"/activity/{action.id}", "/failures", "/failures/blocked", "/replays"):
        page = failed.get(path, UserRole.VIEWER)
        assert page.status_code == 200
        forms = re.findall(r'<form method="post" action="([^"]+)"', page.text)
        assert [form for form in forms if "logout" not in form] == [], path
    for path in (f"/activity/{action.id}/undo", "/change/requeue", "/replays", "/handlers/leads.ordered/resume"):
        assert failed.post(path, role=UserRole.VIEWER).status_code == 403
    assert failed.get("/change/requeue", UserRole.VIEWER).status_code == 403
    assert len(failed.store.actions.page()) == 1


def test_activity_is_listed_narrowed_and_exported(site: Site) -> None:
    for name in ("dead", "no-worker"):
        site.post("/alarms/mute", {"name": name})
    found = site.get("/activity.json").get_json()["actions"]
    assert [one["subject"] for one in found] == ["no-worker", "dead"]
    lines = [json.loads(line) for line in site.get("/activity.jsonl").text.splitlines()]
    assert lines == found
    assert "Nothing was done yet" in site.text("/activity?by=bob")
    assert site.get(f"/activity/{found[0]['id']}.json").get_json()["undo"]["is_possible"]
    assert site.get("/activity/5").status_code == 404
    assert Verb.MUTE.label in site.text("/activity?verb=mute")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_pages_ask_the_database_little(failed: Site, timeless: Callable[[Site], Site]) -> None:
    timeless(failed)
    (dead, *_) = failed.store.listings.deliveries(Selection(states=(DEAD,)))
    failed.post("/handlers/leads.ordered/pause", {"why": "x"})
    paths = [
        "/failures", "/failures/blocked", "/activity", f"/activity/{latest(failed).id}", "/replays", "/replays/new",
        f"/replays/new{q('type:lead.**')}", f"/change/requeue?delivery={dead.id}&at={new_id()}",
        f"/change/requeue{q('state:dead')}&at={new_id()}",
    ]  # fmt: skip
    for path in paths:
        sent = statements_of(failed, lambda path=path: failed.text(path))  # type: ignore[misc]
        assert len(sent) <= MOST_STATEMENTS, (path, sent)
