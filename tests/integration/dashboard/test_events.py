"""Events, one event, deliveries: what is shown of them, and how they are found."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import pytest

from tests.integration.dashboard.conftest import Site, shown
from tests.integration.dashboard.stories import body, fill, make_lane, make_registry, q, try_often
from tests.integration.dashboard.test_reading import MOST_STATEMENTS, statements_of
from webhooks.dashboard import UserRole
from webhooks.model import new_id
from webhooks.selection import Selection

pytestmark = pytest.mark.one_database


@pytest.fixture
def story(make_site: Callable[..., Site]) -> Site:
    """Three events, handled as far as they could be."""
    site = make_site(make_registry())
    fill(site)
    return site


def id_of(site: Site, key: str) -> int:
    return site.store.listings.ids_of_key(key)[-1]


def test_the_list_shows_what_became_of_each(story: Site) -> None:
    text = story.text("/events")
    assert "3 of 3 events" in text
    assert "lead.updated" in text.replace(" ", "") or "lead. updated" in text
    assert "1 dead" in text
    assert "1 succeeded" in text
    assert "revision" in text
    assert 'title="A later state of a known event: stored and delivered as well."' in story.get("/events").text


def test_an_empty_list_says_how_to_fill_it(site: Site) -> None:
    assert "webhooks trigger" in site.text("/events")


def test_a_line_selects(story: Site) -> None:
    assert "1 of 1 event" in story.text(f"/events{q('key:ev_1')}")
    assert "1 of 1 event" in story.text(f"/events{q('state:dead handler:leads.mirror')}")
    found = story.get("/events.json" + q('where: data.name == "Ada"')).get_json()
    assert [one["key"] for one in found["events"]] == ["ev_2"]
    assert found["is_complete"] is True


def test_a_mistake_is_shown_under_the_box_with_its_character(story: Site) -> None:
    response = story.get(f"/events{q('type:lead.** state:ded')}")
    assert response.status_code == 400
    assert "type:lead.** state:<mark>d</mark>ed" in response.text
    assert 'aria-invalid="true"' in response.text
    assert "did you mean &#39;dead&#39;?" in response.text
    assert story.get(f"/events.json{q('state:ded')}").status_code == 400


def test_conditions_are_chips_with_the_line_without_them(story: Site) -> None:
    page = story.get(f"/events{q('type:lead.** since:1d')}").text
    assert 'href="/dashboard/events?q=since:1d"' in page
    assert 'href="/dashboard/events?q=type:lead.**"' in page


def test_the_form_writes_the_line(story: Site) -> None:
    page = story.get("/events?type=lead.updated&state=dead&where=data.name").text
    assert 'value="type:lead.updated state:dead where: data.name"' in page


def test_pages_go_by_place_in_both_directions(story: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks.dashboard.pages.events.PER_PAGE", 2)
    first = story.get("/events").text
    older = first.split('rel="next" href="')[1].split('"')[0].removeprefix("/dashboard").replace("&amp;", "&")
    second = story.get(older).text
    assert "ev_1" in second
    assert "ev_2" not in second
    newer = second.split('rel="prev" href="')[1].split('"')[0].removeprefix("/dashboard").replace("&amp;", "&")
    third = story.get(newer).text
    assert third.count("ev_2") == first.count("ev_2")


def test_a_search_that_is_over_says_how_far_it_came(story: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    monkeypatch.setattr("webhooks.store.listings.limits.JUDGED_WINDOW", 1)
    monkeypatch.setattr("webhooks.dashboard.pages.events.PATIENCE", timedelta(0))
    page = story.get("/events" + q('where: data.name == "no such"')).text
    assert "Looked at 1 event" in shown(page)
    assert "Look further" in page


def test_a_word_that_names_nothing_gets_an_answer(story: Site) -> None:
    response = story.get(f"/go{q('timeout')}")
    assert response.headers["Location"] == "/dashboard/events?q=timeout"
    text = story.text(f"/events{q('timeout')}")
    assert "No event has this id or key" in text
    assert "error:timeout" in text


def test_go_leads_to_the_one_thing_that_is_named(story: Site) -> None:
    event = id_of(story, "ev_1")
    delivery = story.store.listings.of_event(event)[0]
    request_id = story.store.listings.event(event).request_id  # type: ignore[union-attr]
    for word in ("ev_1", str(event), request_id):
        assert story.get(f"/go?q={word}").headers["Location"] == f"/dashboard/events/{event}"
    assert story.get(f"/go?q={delivery.id}").headers["Location"] == f"/dashboard/deliveries/{delivery.id}"
    assert story.get("/go?q=state:dead").headers["Location"] == "/dashboard/events?q=state:dead"
    assert story.get("/go?q=state:dead&in=deliveries").headers["Location"] == "/dashboard/deliveries?q=state:dead"


def test_one_event_says_what_happened_and_why(story: Site) -> None:
    text = story.text(f"/events/{id_of(story, 'ev_1')}")
    assert "leads.link succeeded" in text
    assert "leads.mirror failed, attempt 1 of 1" in text
    assert "ConnectionError: crm-mirror.internal:5432, &lt;b&gt;refused" in text
    assert "contacts.count not subscribed none of its patterns matches: contact.**" in text


def test_a_payload_is_shown_as_it_was_sent_and_never_run(story: Site) -> None:
    page = story.get(f"/events/{id_of(story, 'ev_1')}").text
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in page
    assert "1.2345678901234567e+19" in page


def test_numbers_and_keys_stay_as_they_were_sent(make_site: Callable[..., Site]) -> None:
    site = make_site()
    raw = body("ev_1", b=1, a=2).replace(b'"b": 1', b'"b": 100000000000000000000000000000000001, "z": 1.10')
    site.send(raw)
    page = shown(site.get(f"/events/{id_of(site, 'ev_1')}").text)
    assert "100000000000000000000000000000000001" in page
    assert "1.10" in page
    assert page.index('"b"'.replace('"', "&#34;")) < page.index("&#34;z&#34;") < page.index("&#34;a&#34;")


def test_a_picked_line_offers_its_path_and_events_with_its_value(story: Site) -> None:
    event = id_of(story, "ev_2")
    page = story.get(f"/events/{event}").text
    line = page.split("&#34;name&#34;")[0].rsplit("at=", 1)[1].split("#")[0]
    picked = story.get(f"/events/{event}?at={line}").text
    assert "event.data.name" in picked
    assert "where: data.name == &#34;Grace&#34;" in picked
    where = picked.split('">Find events with it')[0].rsplit('href="', 1)[1].removeprefix("/dashboard")
    assert "1 event shown" in story.text(where.replace("&amp;", "&"))


def test_a_revision_shows_what_changed(story: Site) -> None:
    event = id_of(story, "ev_2")
    page = story.get(f"/events/{event}").text
    assert '<span class="old">&#34;Ada&#34;</span>' in page
    changes = shown(story.get(f"/events/{event}?view=changes").text)
    assert "- &#34;name&#34;: &#34;Ada&#34;" in changes or "-      &#34;name&#34;" in changes or "Ada" in changes
    first = story.store.listings.ids_of_key("ev_2")[0]
    assert story.get(f"/events/{event}?view=changes&against={first}").status_code == 200
    assert story.get(f"/events/{event}?view=changes&against={id_of(story, 'ev_1')}").status_code == 404


def test_a_viewer_sees_keys_and_types(story: Site) -> None:
    event = id_of(story, "ev_2")
    page = story.get(f"/events/{event}", UserRole.VIEWER).text
    assert "&#34;name&#34;" in page
    assert "Grace" not in page
    assert "Ada" not in page
    assert "Grace" not in story.get(f"/events/{event}?view=raw", UserRole.VIEWER).text
    assert "Grace" not in story.get(f"/events/{event}?view=changes", UserRole.VIEWER).text
    assert "payload" not in story.get(f"/events/{event}.json", UserRole.VIEWER).get_json()
    assert story.get(f"/events/{event}/payload", UserRole.VIEWER).status_code == 403
    assert story.get("/events.jsonl", UserRole.VIEWER).status_code == 403


def test_json_is_what_the_command_prints(story: Site) -> None:
    event = id_of(story, "ev_1")
    document = story.get(f"/events/{event}.json").get_json()
    assert document["id"] == str(event)
    assert [one["handler"] for one in document["delivery_list"]] == ["leads.link", "leads.mirror"]
    assert document["payload"]["event"]["id"] == "ev_1"


def test_a_download_is_no_page(story: Site) -> None:
    response = story.get(f"/events/{id_of(story, 'ev_1')}/payload")
    assert response.mimetype == "application/octet-stream"
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert response.headers["Content-Security-Policy"] == "sandbox"
    assert json.loads(response.data)["event"]["id"] == "ev_1"


def test_exports_are_bounded_and_say_where_to_continue(story: Site) -> None:
    rows = list(csv.reader(io.StringIO(story.get("/events.csv").text)))
    assert rows[0][0] == "id"
    assert [row[5] for row in rows[1:]] == ["ev_1", "ev_2", "ev_2"]
    lines = [json.loads(line) for line in story.get("/events.jsonl?limit=2").text.splitlines()]
    assert [line.get("key") for line in lines] == ["ev_1", "ev_2", None]
    noted = [one for one in story.store.actions.page() if one.verb == "export"]
    assert [one.options["form"] for one in noted] == ["jsonl", "csv"], "on record"
    rest = story.get(f"/events.jsonl?after={quote(lines[2]['continue_after'])}").text.splitlines()
    assert [json.loads(line)["receipt"] for line in rest] == ["revision"]


def test_a_cell_that_looks_like_a_formula_is_defused(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.send(body("=HYPERLINK(1)"))
    assert ",'=HYPERLINK(1)," in site.get("/events.csv").text


def test_a_delivery_shows_its_attempts(story: Site) -> None:
    (dead,) = [one for one in story.store.listings.of_event(id_of(story, "ev_1")) if one.handler == "leads.mirror"]
    text = story.text(f"/deliveries/{dead.id}")
    assert "Attempt 1 failed" in text
    assert "Traceback (most recent call last)" in text
    assert story.get(f"/deliveries/{dead.id}.json").get_json()["attempt_list"][0]["outcome"] == "failed"
    listed = story.text(f"/deliveries{q('state:dead')}")
    assert "leads.mirror" in listed.replace(" ", "") or "leads. mirror" in listed


def test_a_delivery_shows_its_place_in_its_lane(story: Site) -> None:
    first, *_, fifth, last = make_lane(story)
    page = story.text(f"/deliveries/{fifth}")
    assert "Its lane lead_1" in page
    assert "1 more before" in page
    assert page.index("more before") < page.index("this one") < page.index(f"It waits for {first}")
    assert "run that again" in page
    assert "run that again" not in story.text(f"/deliveries/{fifth}", UserRole.VIEWER)
    assert f'href="/dashboard/deliveries/{last}"' in story.get(f"/deliveries/{fifth}").text
    holder = story.text(f"/deliveries/{first}")
    assert "this one holds the lane: what comes after it waits" in holder
    assert "2 more after" in holder
    event = story.store.listings.delivery(last)
    assert event is not None
    why = story.get(f"/events/{event.event_id}")
    assert f"delivery {first} is dead and holds its lane; webhooks requeue {first}" in shown(why.text)
    assert f'href="/dashboard/deliveries/{first}">See it' in why.text
    (free,) = story.store.listings.deliveries(Selection(handler="leads.mirror"), limit=1)
    assert "Its lane" not in story.text(f"/deliveries/{free.id}")


def test_a_delivery_whose_event_was_pruned_says_how_long_what_is_kept(story: Site) -> None:
    (dead,) = story.store.listings.deliveries(Selection(handler="leads.mirror"))
    with story.store.database.write() as connection:
        connection.exec_driver_sql(f"delete from webhooks_events where id = {dead.event_id}")
    text = story.text(f"/deliveries/{dead.id}")
    assert "payloads are kept for 30 d" in text
    assert "key is known for 35 d" in text
    assert f"event {dead.event_id}, pruned" in text


def test_many_attempts_are_folded_and_alike_errors_said_once(story: Site) -> None:
    (dead,) = story.store.listings.deliveries(Selection(handler="leads.mirror"))
    try_often(story, dead.id, 11)
    for path in (f"/deliveries/{dead.id}", f"/events/{dead.event_id}"):
        page = story.get(path)
        assert "6 attempts between" in shown(page.text), path
        assert page.text.count("Traceback (most recent call last)") == 2, (
            "of the first, and of the first behind the fold"
        )
        assert len(page.data) < 80_000


def test_many_copies_of_a_key_are_folded(make_site: Callable[..., Site]) -> None:
    site = make_site()
    for minute in range(12):
        site.send(body("ev_1", updated=f"2026-03-10T15:{minute:02}:00"))
    first, *_, last = sorted(site.store.listings.ids_of_key("ev_1"))
    assert "7 older copies" in site.text(f"/events/{last}")
    page = site.text(f"/events/{first}")
    assert f"{first} this one 6 older copies" in page, "the one that is looked at is shown"


def test_copies_of_a_key_are_folded_together_where_that_is_asked_for(story: Site) -> None:
    assert story.get("/events").text.count("data-row") == 3
    page = story.get("/events?fold=1")
    assert page.text.count("data-row") == 2
    assert "1 older copy" in shown(page.text)
    assert "Show each copy" in shown(page.text)
    first = story.store.listings.ids_of_key("ev_2")[0]
    assert f'href="/dashboard/events/{first}"' in page.text


def test_selected_events_are_replayed_and_all_that_match(story: Site) -> None:
    one, other = id_of(story, "ev_1"), id_of(story, "ev_2")
    plan = story.get(f"/replays/new?event={one}&event={other}")
    assert "2 events selected" in shown(plan.text)
    assert f'name="q" value="{one} {other}"' in plan.text, "what follows means the same"
    assert story.get("/replays/new?event=x").status_code == 400
    found = story.get(f"/events{q('type:lead.created')}").text
    assert 'href="/dashboard/replays/new?q=type:lead.created"' in found
    assert 'name="event"' in found
    assert 'name="event"' not in story.get("/events", UserRole.VIEWER).text


def test_a_page_with_actions_says_that_no_worker_runs(story: Site) -> None:
    (dead,) = story.store.listings.deliveries(Selection(handler="leads.mirror"))
    at = new_id()
    paths = [
        "/deliveries", f"/deliveries/{dead.id}", f"/events/{dead.event_id}", "/failures", "/failures/blocked",
        "/replays/new", f"/change/requeue?delivery={dead.id}&at={at}",
    ]  # fmt: skip
    assert [path for path in paths if "No worker runs" not in story.text(path)] == []
    story.store.processes.beat("host:1", "worker", "1.0", [], lease=timedelta(seconds=30))
    story.post("/logout")  # what is kept for a moment is forgotten
    assert [path for path in paths if "No worker runs" in story.text(path)] == []


@pytest.mark.parametrize(
    "path", ["/events", "/deliveries", "/deliveries/{behind}", "/events/{event}", "/events/{revision}?view=changes",
             "/failures", "/failures/blocked", "/activity", "/replays", "/replays/new?q=type:lead.**", "/complete?q=error:C"],
)  # fmt: skip
def test_a_page_asks_little(story: Site, path: str, timeless: Callable[[Site], Site]) -> None:
    timeless(story)
    *_, behind = make_lane(story)
    delivery = story.store.listings.delivery(behind)
    assert delivery is not None
    names = {"behind": behind, "event": delivery.event_id, "revision": id_of(story, "ev_2")}
    said = statements_of(story, lambda: story.get(path.format_map(names)))
    assert len(said) <= MOST_STATEMENTS, "\n".join(each[:90] for each in said)


def test_completion_knows_names_and_values(story: Site) -> None:
    def offered(line: str, role: UserRole = UserRole.OPERATOR) -> list[str]:
        return [one["text"] for one in story.get(f"/complete{q(line)}&at={len(line)}", role).get_json()]

    assert "state:" in offered("sta")
    assert offered("state:de")[0] == "state:dead"
    assert "handler:leads.mirror" in offered("handler:mir")
    assert "type:lead.updated" in offered("type:lead.u")
    assert offered("error:conn") == ['error:"ConnectionError: crm-mirror.internal:*, <b>refused</b>*"']
    assert "data.name" in offered("where: data.na")
    assert '"Ada"' in offered("where: data.name == ")
    assert '"Ada"' not in offered("where: data.name == ", UserRole.VIEWER)


def test_what_is_not_there_is_a_404_with_its_reason(site: Site) -> None:
    for path in ("/events/123", "/deliveries/123", "/events/123/payload"):
        response = site.get(path)
        assert response.status_code == 404
        assert "has been pruned" in response.text
    assert site.get("/events/abc").status_code == 400


def test_full_tables_are_small(make_site: Callable[..., Site]) -> None:
    site = make_site(make_registry())
    for number in range(50):
        site.send(body(f"ev_of_an_ordinary_length_{number:03}"))
    site.work()
    for path in ("/events", "/deliveries", "/deliveries?q=state:dead"):
        page = site.get(path)
        assert page.text.count("data-row") == 50, path
        assert len(page.data) <= 80_000, (path, len(page.data))
