"""Catch-up over the local Close's API: what is in the log and never came is stored once, whatever goes wrong on the way."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.local_close import URL, Pair
from tests.integration.test_cli import Cli
from tests.support import Clock, examples, wait_until
from webhooks import signals
from webhooks.errors import Malformed, StorageUnavailable
from webhooks.operations import CatchUpDuty, Report
from webhooks.operations.catch_up import Busy, Window, is_due, likely_cause, log_report, moved_mark, plan
from webhooks.routing import Registry
from webhooks.sandbox.accounts import ADMIN, ADMIN_KEY, MEMBER_KEY
from webhooks.sandbox.histories import play_seed
from webhooks.settings import Secret
from webhooks.sources import ApiMalformed, ApiRefused, ApiUnavailable, LogKind, LogPage, Subscription, Topic
from webhooks.sources.close.source import words
from webhooks.store.positions import LogPosition

pytestmark = pytest.mark.one_database

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import stamina

    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
def make_pair(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def make(**options: Any) -> Pair:
        made.append(Pair(database_url, tmp_path, clock, **options))
        return made[-1]

    yield make
    for pair in made:
        pair.stop()


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    return make_pair()


def lead(pair: Pair, name: str = "Quayside") -> str:
    return str(pair.world.create("lead", {"name": name}, by=ADMIN)["id"])


# -- the drills ---------------------------------------------------------------------------------------------


def test_after_a_day_away_and_an_emptied_queue_one_catch_up_makes_the_store_equal_the_log(pair: Pair) -> None:
    play_seed(pair.world, 3, 30)
    assert pair.deliver() > 10
    assert pair.stored() == pair.log()
    pair.catch_up(since=DAY)
    pair.world.subscriptions.find(pair.subscription.id).pause("failing")  # type: ignore[union-attr]
    play_seed(pair.world, 4, 60)
    pair.clock.move(DAY)
    assert pair.deliver() == 0
    missing = pair.log().keys() - pair.stored().keys()
    assert len(missing) > 10
    report = pair.catch_up()
    assert pair.stored() == pair.log()
    assert report.repaired >= len(missing)
    assert report.cause is not None
    assert f"webhooks subscriptions resume {pair.subscription.id}" in report.cause
    assert pair.catch_up(since=DAY * 3).repaired == 0


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), lost=st.integers(0, 3), disorder=st.booleans())
def test_whatever_was_lost_of_a_history_the_store_ends_as_the_log(
    sqlite_url: str, tmp_path_factory: pytest.TempPathFactory, seed: int, lost: int, disorder: bool
) -> None:
    """Some webhooks get through, in disorder and doubled; the rest only the log has."""
    directory = tmp_path_factory.mktemp("history")
    shutil.copyfile(sqlite_url.removeprefix("sqlite:///"), directory / "webhooks.db")
    pair = Pair(f"sqlite:///{directory / 'webhooks.db'}", directory, Clock())
    try:
        if disorder:
            pair.world.set_rules(disorder=20, duplicates=0.3)
        play_seed(pair.world, seed, 25)
        count = iter(range(10**6))
        pair.world.drain(
            lambda url, headers, body: 500 if lost and next(count) % 4 < lost else pair.post(url, headers, body),
            timedelta(minutes=1),
        )
        pair.clock.move(timedelta(minutes=5))
        pair.catch_up(since=DAY * 29)
        assert pair.stored() == pair.log()
    finally:
        pair.stop()


def test_a_run_repeated_adds_nothing_and_makes_no_second_delivery(make_pair: Callable[..., Pair]) -> None:
    registry = Registry()
    registry.add(handle, "lead.*", source="close", name="h")
    pair = make_pair(registry=registry)
    lead(pair)
    pair.clock.move(HOUR)
    first, second = pair.catch_up(since=DAY), pair.catch_up(since=DAY)
    assert (first.repaired, second.repaired, second.duplicates) == (1, 0, 1)
    assert pair.deliveries() == 1


def handle(event: Any) -> None: ...


def test_events_are_taken_in_oldest_first_and_say_where_they_came_from(pair: Pair) -> None:
    names = [f"lead {number}" for number in range(120)]
    for name in names:
        lead(pair, name)
    pair.clock.move(HOUR)
    report = pair.catch_up(since=DAY)
    assert report.fetched == 120
    events = pair.webhooks.store.listings.events(_everything(), limit=200, newest_first=False, with_event=True)
    assert [each.event.data["name"] for each in events if each.event is not None] == names
    assert {each.origin for each in events} == {"catch-up"}


def _everything() -> Any:
    from webhooks.selection import Selection

    return Selection()


# -- growing entries ----------------------------------------------------------------------------------------


def test_an_entry_that_may_still_grow_is_held_back_and_comes_with_the_next_run_whole(pair: Pair) -> None:
    id = lead(pair)
    pair.clock.move(HOUR)
    pair.world.update("lead", id, {"name": "first"})
    updated_at = pair.clock()
    pair.clock.move(timedelta(seconds=2))
    report = pair.catch_up(since=DAY)
    assert (report.held, report.added) == (1, {"lead.created": 1})
    assert report.mark_at == updated_at
    pair.clock.move(timedelta(seconds=2))
    pair.world.update("lead", id, {"name": "second"})
    pair.clock.move(timedelta(minutes=10))
    report = pair.catch_up()
    assert (report.held, report.added) == (0, {"lead.updated": 1})
    assert pair.stored() == pair.log()


def test_a_created_entry_is_not_held_back(pair: Pair) -> None:
    lead(pair)
    assert pair.catch_up(since=DAY).added == {"lead.created": 1}


def test_an_entry_that_grew_after_its_webhook_came_is_a_revision(pair: Pair) -> None:
    id = lead(pair)
    pair.world.update("lead", id, {"name": "first"})
    pair.world.set_rules(delivery_delay=0)
    pair.world.deliver(pair.post)
    pair.world.update("lead", id, {"name": "second"})
    pair.clock.move(HOUR)
    report = pair.catch_up(since=DAY)
    assert report.added == {"lead.updated": 1}
    assert pair.stored() == pair.log()


def test_an_entry_that_stands_on_two_pages_because_it_grew_is_taken_in_once_as_it_is_now(pair: Pair) -> None:
    def entry(second: int, name: str) -> bytes:
        return json.dumps(
            {
                "id": "ev_1",
                "object_type": "lead",
                "action": "updated",
                "date_updated": f"2026-03-10T14:00:0{second}",
                "data": {"name": name},
            }
        ).encode()

    class HasItTwice(Interfering):
        def page(self, since: datetime, until: datetime, cursor: str | None = None) -> LogPage:
            return LogPage((entry(1, "old"),)) if cursor else LogPage((entry(2, "new"),), "older")

    pair.clock.move(HOUR)
    report = pair.make(HasItTwice(pair)).run(pair.clock() - HOUR * 2)
    assert report.added == {"lead.updated": 1}
    assert [event["data"]["name"] for event in pair.stored().values()] == ["new"]
    with pair.webhooks.database.read() as connection:
        assert connection.exec_driver_sql("select count(*) from webhooks_events").scalar_one() == 1


# -- stripped copies ----------------------------------------------------------------------------------------


def test_a_stripped_copy_never_replaces_a_full_one(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(key=MEMBER_KEY)
    lead(pair)
    pair.deliver()
    before = pair.stored()
    pair.clock.move(HOUR * 2)
    report = pair.catch_up(since=DAY)
    assert (report.fetched, report.stripped, report.repaired) == (1, 0, 0)
    assert pair.stored() == before == pair.log()


def test_stripped_copies_of_unknown_events_are_reported_and_wait_for_an_admins_key(
    make_pair: Callable[..., Pair], caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    registry.add(handle, "lead.*", source="close", name="h")
    pair = make_pair(key=MEMBER_KEY, registry=registry)
    lead(pair)
    first_at = pair.world.now()
    pair.clock.move(HOUR * 2)
    report = pair.catch_up(since=DAY)
    assert (report.stripped, report.repaired, pair.deliveries()) == (1, 0, 0)
    log_report(report)
    assert "the API key is not an admin's" in caplog.text
    assert pair.mark.mark_at == first_at == pair.mark.stripped_at
    pair.source.api = replace(pair.source.api, key=Secret(ADMIN_KEY))
    pair.clock.move(DAY)
    report = pair.catch_up()
    assert (report.stripped, report.added, pair.deliveries()) == (0, {"lead.created": 1}, 1)
    assert pair.mark.stripped_at is None
    assert pair.stored() == pair.log()


def test_a_full_copy_after_a_stripped_one_tells_what_changed_as_if_it_were_the_first(
    make_pair: Callable[..., Pair],
) -> None:
    pair = make_pair(key=MEMBER_KEY)
    id = lead(pair, "before")
    pair.clock.move(HOUR)
    pair.world.update("lead", id, {"name": "after"})
    pair.clock.move(HOUR * 2)
    pair.catch_up(since=DAY)
    pair.source.api = replace(pair.source.api, key=Secret(ADMIN_KEY))
    assert pair.catch_up().added == {"lead.created": 1, "lead.updated": 1}
    reader = pair.webhooks.store.events
    found = pair.webhooks.store.listings.events(_everything(), limit=1, with_event=True)[0].event
    assert found is not None
    assert found.previous_id is not None
    assert reader.with_superseded(found).did_change("name", was="before", to="after")


# -- which entries ------------------------------------------------------------------------------------------


def test_only_what_a_subscription_or_a_handler_asks_for_is_taken_in(make_pair: Callable[..., Pair]) -> None:
    registry = Registry()
    registry.add(handle, "contact.created", source="close", name="h")
    pair = make_pair(registry=registry, events=["lead.created"])
    made = pair.world.create("contact", {"name": "Rosa"}, by=ADMIN)
    pair.world.create("activity.note", {"lead_id": made["lead_id"], "note": "x"}, by=ADMIN)
    pair.clock.move(HOUR)
    report = pair.catch_up(since=DAY)
    assert report.added == {"lead.created": 1, "contact.created": 1}
    assert report.fetched > report.chosen == 2


def test_what_the_filter_of_the_subscription_keeps_away_is_not_brought_by_catch_up(pair: Pair) -> None:
    narrowed = {"type": "field_accessor", "field": "data", "filter": {"type": "field_accessor", "field": "name", "filter": {"type": "equals", "value": "wanted"}}}  # fmt: skip
    events = [{"object_type": "lead", "action": "created", "extra_filter": narrowed}]
    pair.world.subscriptions.find(pair.subscription.id).events = events  # type: ignore[union-attr]
    lead(pair, "wanted")
    lead(pair, "other")
    pair.clock.move(HOUR)
    report = pair.catch_up(since=DAY)
    assert report.added == {"lead.created": 1}
    assert [event["data"]["name"] for event in pair.stored().values()] == ["wanted"]


def test_a_key_that_may_not_see_subscriptions_leaves_the_choice_to_handlers(pair: Pair) -> None:
    pair.world.fail_next(403, path="webhook/")
    lead(pair)
    pair.clock.move(HOUR)
    assert pair.catch_up(since=DAY).repaired == 1


# -- a sender that is asked again ---------------------------------------------------------------------------


class AsksAgain:
    """A client of a sender whose log says what it sent; what is asked for again comes as a webhook."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._client = pair.source.connect()
        self.clock_ahead = None
        self.asked: list[str] = []

    def page(self, since: datetime, until: datetime, cursor: str | None = None) -> Any:
        return self._client.page(since, until, cursor)

    def subscriptions(self) -> Any:
        return self._client.subscriptions()

    def ask_again(self, entry: Any) -> None:
        self.asked.append(entry.dedup_key)
        body = json.dumps({"event": self._pair.log()[entry.dedup_key]}).encode()
        self._pair.post(URL, self._pair.source.sign(body, self._pair.clock()), body)


def test_a_sender_that_is_asked_again_delivers_what_is_missing_through_the_front_door(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(pair.source), "log_kind", LogKind.ASK_AGAIN)
    lead(pair, "arrived")
    pair.deliver()
    lead(pair, "missed")
    pair.clock.move(HOUR)
    client = AsksAgain(pair)
    assert pair.make(client).run(pair.clock() - DAY, dry_run=True).repaired == 1
    assert client.asked == []
    report = pair.make(client).run(pair.clock() - DAY)
    assert (len(client.asked), report.added, report.duplicates) == (1, {"lead.created": 1}, 1)
    assert {each.origin for each in pair.webhooks.store.listings.events(_everything(), limit=9)} == {"webhook"}
    assert pair.stored() == pair.log()
    assert pair.make(client).run(pair.clock() - DAY).repaired == 0
    assert len(client.asked) == 1


def test_what_a_sender_that_is_asked_again_says_unreadably_is_counted_and_not_kept(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(pair.source), "log_kind", LogKind.ASK_AGAIN)
    pair.clock.move(HOUR)
    pair.world.fail_next(200, 1, '{"data": [{"id": 3}], "cursor_next": null}', "event/")
    assert pair.make(AsksAgain(pair)).run(pair.clock() - timedelta(minutes=61)).unreadable == 1
    assert pair.webhooks.store.quarantine.list(5) == []


# -- failures: the mark stays, nothing is lost --------------------------------------------------------------


def _refuse(status: int, text: str | None = None, **headers: str) -> Callable[[Pair], None]:
    return lambda pair: void(pair.world.fail_next(status, 100, text, "event/", headers))


def void(value: Any) -> None: ...


@pytest.mark.parametrize(
    ("break_", "error", "words"),
    [
        pytest.param(
            _refuse(401),
            ApiRefused,
            "does not know the API key of source 'close' (401); check api_key in [sources.close]",
            id="401",
        ),
        pytest.param(_refuse(403), ApiRefused, "may not do this (403", id="403"),
        pytest.param(
            _refuse(429, RateLimit="limit=1, remaining=0, reset=900"),
            ApiUnavailable,
            "asks for 900 s; try again later",
            id="429",
        ),
        pytest.param(_refuse(500), ApiUnavailable, "answered 500; try again later", id="500"),
        pytest.param(_refuse(200, "<html>"), ApiMalformed, "are no page of the event log; is api_url", id="html"),
        pytest.param(_refuse(200, '{"data": "x"}'), ApiMalformed, "are no page of the event log", id="no list"),
        pytest.param(
            _refuse(302, Location="https://elsewhere.example"),
            ApiMalformed,
            "redirect (302), which is not followed",
            id="redirect",
        ),
        pytest.param(None, ApiUnavailable, "cannot be reached", id="away"),
    ],
)
def test_when_the_log_cannot_be_read_the_reason_is_clear_the_mark_stays_and_nothing_is_lost(
    pair: Pair, break_: Callable[[Pair], None] | None, error: type[Exception], words: str
) -> None:
    lead(pair)
    pair.clock.move(HOUR)
    pair.catch_up(since=DAY)
    mark = pair.mark.mark_at
    lead(pair, "later")
    pair.clock.move(HOUR)
    api = pair.source.api
    if break_ is None:
        pair.source.api = replace(api, url="http://127.0.0.1:9/api/v1")
    else:
        break_(pair)
    with pytest.raises(error) as raised:
        pair.catch_up()
    assert words in str(raised.value)
    assert pair.mark.mark_at == mark
    assert pair.mark.error is not None
    assert words[:30] in pair.mark.error
    pair.world.faults.clear()
    pair.source.api = api
    assert pair.catch_up().repaired == 1
    assert pair.stored() == pair.log()
    assert pair.mark.error is None


def test_one_malformed_page_in_the_middle_leaves_the_mark_and_a_later_run_gets_everything(pair: Pair) -> None:
    for number in range(120):
        lead(pair, str(number))
    pair.clock.move(HOUR)

    class SecondPageIsBroken(Interfering):
        def before(self, number: int, cursor: str | None) -> None:
            if cursor is not None:
                pair.world.fail_next(200, 1, '{"data": [{"id": ', "event/")

    with pytest.raises(ApiMalformed):
        pair.make(SecondPageIsBroken(pair)).run(pair.clock() - DAY)
    assert pair.mark.mark_at is None
    assert pair.stored() == {}
    assert pair.catch_up(since=DAY).repaired == 120


def test_a_stale_cursor_begins_the_window_again(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(120):
        lead(pair, str(number))
    pair.clock.move(HOUR)

    class GoesStaleOnce(Interfering):
        def before(self, number: int, cursor: str | None) -> None:
            if cursor is not None and not self.has_happened:
                self.has_happened = True
                pair.world.advance(timedelta(hours=1))  # longer than a cursor lives

    with caplog.at_level(logging.INFO):
        report = pair.make(GoesStaleOnce(pair)).run(pair.clock() - DAY)
    assert "went stale; the window begins again" in caplog.text
    assert (report.repaired, report.fetched) == (120, 120)
    assert pair.stored() == pair.log()


def test_a_cursor_that_is_always_stale_ends_the_run_with_the_mark_in_its_place(pair: Pair) -> None:
    for number in range(60):
        lead(pair, str(number))
    pair.clock.move(HOUR)

    class IsAlwaysStale(Interfering):
        def before(self, number: int, cursor: str | None) -> None:
            if cursor is not None:
                pair.world.advance(timedelta(hours=1))

    with pytest.raises(ApiUnavailable, match=r"went stale 4 times in the window from .* run the same again later"):
        pair.make(IsAlwaysStale(pair)).run(pair.clock() - DAY)
    assert pair.mark.mark_at is None
    assert pair.catch_up(since=DAY).repaired == 60


class Interfering:
    """A client of the log that has something happen before its pages."""

    has_happened: bool = False

    def __init__(self, pair: Pair) -> None:
        self._client = pair.source.connect()
        self.pages = 0

    def before(self, number: int, cursor: str | None) -> None: ...

    @property
    def clock_ahead(self) -> Any:
        return self._client.clock_ahead

    def page(self, since: datetime, until: datetime, cursor: str | None = None) -> Any:
        self.before(self.pages, cursor)
        self.pages += 1
        return self._client.page(since, until, cursor)

    def subscriptions(self) -> Any:
        return self._client.subscriptions()


def test_an_entry_that_cannot_be_read_is_quarantined_and_the_others_are_taken_in(pair: Pair) -> None:
    lead(pair)
    entry = json.dumps({"id": 3, "object_type": "lead", "action": "created"})
    good = json.dumps(next(iter(pair.log().values())))
    pair.clock.move(HOUR)
    pair.world.fail_next(200, 1, f'{{"data": [{entry}, {good}], "cursor_next": null}}', "event/")
    report = pair.make(pair.source.connect()).run(pair.clock() - timedelta(minutes=61))
    assert (report.unreadable, report.repaired) == (1, 1)


@pytest.fixture
def unreadable(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """With one entry of the log in quarantine, which can be read by now."""
    lead(pair)
    pair.clock.move(HOUR)

    def parse(body: bytes) -> Any:
        raise Malformed("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(pair.source, "parse_log_body", parse)
        assert pair.catch_up(since=DAY).unreadable == 1
    assert pair.stored() == {}
    return pair


def test_a_quarantined_entry_is_admitted_without_the_signature_that_it_never_had(unreadable: Pair) -> None:
    cli = Cli(unreadable.webhooks)
    (kept,) = cli.json("quarantine", "list")["quarantine"]
    assert (kept["origin"], kept["reason"]) == ("catch-up", "a fault of ours")

    (result,) = cli.json("quarantine", "retry", kept["id"])["results"]

    assert (result["reason"], [receipt["status"] for receipt in result["receipts"]]) == (None, ["stored"])
    assert unreadable.stored() == unreadable.log()
    event = unreadable.webhooks.store.events.get(int(result["receipts"][0]["event_id"]))
    assert event is not None
    assert (event.origin, event.received_at.isoformat()) == ("quarantine", kept["received_at"].replace("Z", "+00:00"))
    assert unreadable.catch_up(since=DAY).repaired == 0


def test_a_quarantined_entry_that_came_by_webhook_meanwhile_is_a_duplicate(unreadable: Pair) -> None:
    unreadable.deliver()
    cli = Cli(unreadable.webhooks)
    (result,) = cli.json("quarantine", "retry", "--all")["results"]
    assert [receipt["status"] for receipt in result["receipts"]] == ["duplicate"]


def test_a_quarantined_entry_without_its_content_is_admitted_undelivered(make_pair: Callable[..., Pair]) -> None:
    registry = Registry()
    registry.add(handle, "lead.created", source="close", name="h")
    pair = make_pair(registry=registry)
    lead(pair)
    (entry,) = pair.log().values()
    stripped = json.dumps({name: value for name, value in entry.items() if name not in ("data", "previous_data")})
    body = pair.source.log_body(stripped.encode())
    store = pair.webhooks.store
    id = store.quarantine.put("close", body, reason="r", kind="k", received_at=pair.clock(), headers=None)
    (result,) = Cli(pair.webhooks).json("quarantine", "retry", str(id))["results"]
    assert result["reason"] is None
    assert pair.deliveries() == 0
    pair.clock.move(HOUR)
    assert pair.catch_up(since=DAY).repaired == 1
    assert pair.deliveries() == 1


def test_a_quarantined_entry_of_a_source_that_has_no_log_any_more_stays(
    unreadable: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(unreadable.source), "log_kind", None)
        result = Cli(unreadable.webhooks)("quarantine", "retry", "--all", "--json")
    assert result.exit_code == 1
    (told,) = json.loads(result.stdout)["results"]
    assert told["reason"] == "it was read in an event log, and source 'close' has none now"
    assert [kept.state for kept in unreadable.webhooks.store.quarantine.list(5)] == ["held"]


def test_the_database_away_leaves_the_mark_and_nothing_half_done(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    lead(pair)
    pair.clock.move(HOUR)

    def away(*arguments: Any, **options: Any) -> Any:
        raise StorageUnavailable("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(pair.webhooks.ingest.commit, "append", away)
        with pytest.raises(StorageUnavailable):
            pair.catch_up(since=DAY)
    assert pair.mark.mark_at is None
    assert pair.catch_up(since=DAY).repaired == 1


# -- interrupted runs ---------------------------------------------------------------------------------------


def test_an_interrupted_run_goes_on_where_it_was(pair: Pair) -> None:
    for number in range(10):
        lead(pair, str(number))
        pair.clock.move(HOUR)

    class IsInterrupted(Interfering):
        def before(self, number: int, cursor: str | None) -> None:
            if number == 4:
                raise KeyboardInterrupt

    since = pair.clock() - timedelta(hours=11)
    with pytest.raises(KeyboardInterrupt):
        pair.make(IsInterrupted(pair), most_entries=2).run(since)
    kept = len(pair.stored())
    assert 0 < kept < 10
    mark = pair.mark
    assert mark.mark_at is None
    assert mark.window_since == since
    report = pair.catch_up(since=timedelta(hours=11))
    assert report.is_resumed
    assert report.since > since
    assert report.fetched < 10
    assert pair.stored() == pair.log()
    assert pair.mark.mark_at is not None
    assert pair.mark.window_since is None


def test_a_slice_with_too_many_entries_is_cut_until_it_fits(pair: Pair) -> None:
    for number in range(30):
        lead(pair, str(number))
        pair.clock.move(timedelta(minutes=1))
    report = pair.catch_up(since=DAY, most_entries=5)
    assert report.repaired == 30
    assert report.fetched >= 30
    assert pair.stored() == pair.log()


def test_two_processes_do_not_catch_up_with_one_source_at_once(pair: Pair) -> None:
    pair.webhooks.store.processes.acquire("catch-up:close", "another", timedelta(minutes=5))
    with pytest.raises(Busy, match="another process is catching up with 'close'"):
        pair.catch_up(since=HOUR)
    pair.webhooks.store.processes.resign("catch-up:close", "another")
    pair.catch_up(since=HOUR)
    pair.catch_up(since=HOUR)


def test_a_dry_run_counts_the_same_and_changes_nothing(pair: Pair) -> None:
    play_seed(pair.world, 5, 30)
    pair.clock.move(HOUR)
    would = pair.catch_up(since=DAY, dry_run=True)
    assert pair.stored() == {}
    assert pair.mark == LogPosition("close")
    does = pair.catch_up(since=DAY)
    assert would.added == does.added
    assert does.repaired == would.repaired > 0
    assert pair.catch_up(since=DAY, dry_run=True).repaired == 0


# -- the mark -----------------------------------------------------------------------------------------------


def at(hour: float) -> datetime:
    return datetime(2026, 3, 10, tzinfo=UTC) + timedelta(hours=hour)


@pytest.mark.parametrize(
    ("mark", "window", "limits", "moved"),
    [
        (None, (1, 2, 1), (), 2),
        (1.5, (1, 2, 1), (), 2),
        (1, (1, 2, 1), (), 2),
        (3, (1, 2, 1), (), None),
        (0.5, (1, 2, 1), (), None),
        (0.5, (1, 2, 0.2), (), 2),
        (1, (1, 2, 1), (None, 1.7, 1.8), 1.7),
        (1.8, (1, 2, 1), (1.7,), None),
    ],
)
def test_the_mark_moves_forward_over_complete_windows_without_a_gap(
    mark: float | None, window: tuple[float, float, float], limits: tuple[float | None, ...], moved: float | None
) -> None:
    start, until, covers = map(at, window)
    found = moved_mark(
        LogPosition("close", None if mark is None else at(mark)),
        Window(start, until, covers),
        *(None if limit is None else at(limit) for limit in limits),
    )
    assert found == (None if moved is None else at(moved))


@given(
    mark=st.none() | st.floats(0, 24),
    since=st.floats(0, 23),
    length=st.floats(0, 10),
    begun=st.none() | st.tuples(st.floats(0, 24), st.floats(0, 10)),
)
def test_no_moment_between_the_old_mark_and_the_new_is_left_unread(
    mark: float | None, since: float, length: float, begun: tuple[float, float] | None
) -> None:
    known = LogPosition("close", None if mark is None else at(mark))
    read_before: list[tuple[datetime, datetime]] = []
    if begun is not None:
        known = LogPosition("close", known.mark_at, at(begun[0]), at(48), at(begun[0] + begun[1]))
        read_before = [(at(begun[0]), at(begun[0] + begun[1]))]
    window = plan(known, at(since), at(since + length))
    moved = moved_mark(known, window)
    if moved is None or known.mark_at is None:
        return
    reads = [*read_before, (window.start, window.until)]
    moment = known.mark_at
    while moment < moved:
        assert any(begin <= moment <= end for begin, end in reads), (moment, reads)
        moment += timedelta(minutes=7)


def test_a_window_after_the_mark_leaves_it_and_says_so(pair: Pair) -> None:
    lead(pair)
    pair.clock.move(HOUR)
    pair.catch_up(since=HOUR)
    mark = pair.mark.mark_at
    lead(pair, "in the gap")
    pair.clock.move(HOUR * 6)
    report = pair.catch_up(since=HOUR)
    assert report.gap_from == mark == pair.mark.mark_at
    assert pair.catch_up().repaired == 1


def test_a_mark_that_a_clock_ahead_left_in_the_future_is_not_believed(pair: Pair) -> None:
    """It would hide what happens until then, for good: the mark never looks back."""
    lead(pair)
    pair.clock.move(HOUR)
    pair.catch_up(since=HOUR * 2)
    marks = pair.webhooks.store.marks
    wrong = pair.clock() + 3 * HOUR
    marks.complete("close", wrong, asked_at=wrong, repaired=0, stripped_at=None)
    marks.begin("close", pair.clock() - DAY, wrong, wrong)
    assert pair.mark.mark_at == wrong
    lead(pair, "while the mark is ahead")
    pair.clock.move(HOUR)

    assert pair.catch_up().repaired == 1
    assert pair.mark.mark_at is not None
    assert pair.mark.mark_at <= pair.clock()
    lead(pair, "later")
    pair.clock.move(HOUR * 4)
    assert pair.catch_up().repaired == 1


def test_the_first_run_begins_with_our_first_webhook_and_never_with_a_month_of_the_past(pair: Pair) -> None:
    lead(pair, "long ago")
    pair.clock.move(DAY)
    assert pair.catch_up().fetched == 0
    lead(pair, "before the mark was")
    pair.webhooks.store.marks.complete("close", None, asked_at=pair.clock(), repaired=0, stripped_at=None)
    with pair.webhooks.database.write() as connection:
        connection.exec_driver_sql("delete from webhooks_marks")
    pair.deliver()
    pair.world.subscriptions.find(pair.subscription.id).pause("failing")  # type: ignore[union-attr]
    lead(pair, "missed")
    pair.clock.move(DAY)
    assert pair.catch_up().repaired == 1


def test_what_the_log_no_longer_has_is_said_to_be_lost_and_does_not_hold_the_mark_for_ever(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    lead(pair)
    pair.clock.move(HOUR)
    pair.catch_up(since=HOUR * 2)
    before = pair.mark.mark_at
    pair.clock.move(DAY * 40)
    report = pair.catch_up()
    log_report(report)
    assert report.lost_before == before
    assert "no longer reaches back" in caplog.text
    assert pair.mark.mark_at == pair.clock()
    assert pair.catch_up().lost_before is None


def test_the_mark_is_never_in_the_senders_future(pair: Pair) -> None:
    class OursIsAhead(Interfering):
        clock_ahead = timedelta(minutes=20)

    lead(pair)
    pair.clock.move(HOUR)
    pair.make(OursIsAhead(pair)).run(pair.clock() - DAY)
    assert pair.mark.mark_at == pair.clock() - timedelta(minutes=20)


def test_what_surfaces_late_in_the_last_five_minutes_is_found(pair: Pair) -> None:
    pair.clock.move(HOUR)
    pair.catch_up(since=HOUR)
    pair.clock.move(-timedelta(minutes=4))
    lead(pair, "surfaces late")
    pair.clock.move(timedelta(minutes=4))
    assert pair.catch_up().repaired == 1


# -- the likely cause ---------------------------------------------------------------------------------------


def report_of(*subscriptions: Subscription, none: bool = False, **added: int) -> Report:
    report = Report("close", at(0), at(5), words("close"), subscriptions=None if none else subscriptions)
    report.added.update({type.replace("_", "."): number for type, number in added.items()})
    report.first_at, report.last_at = at(1), at(2)
    return report


LEADS = Subscription("whsub_1", "https://x.example/", "active", (Topic("lead.created"),))


@pytest.mark.parametrize(
    ("report", "quiet", "cause"),
    [
        (report_of(lead_created=1), False, "no subscription posts to us; make one with: webhooks subscriptions sync"),
        (
            report_of(Subscription("whsub_1", "u", "paused", pause_reason="backlog"), lead_created=1),
            False,
            "subscription whsub_1 is paused (backlog), and its queue was emptied",
        ),
        (
            report_of(LEADS, contact_created=3),
            True,
            "no subscription asks for contact.created; see webhooks subscriptions",
        ),
        (
            report_of(Subscription("whsub_1", "u", "active", LEADS.topics, latest_error="HTTP 500"), lead_created=1),
            True,
            "Close reports for subscription whsub_1: HTTP 500",
        ),
        (report_of(LEADS, lead_created=1), True, "nothing arrived from 2026-03-10T01:00:00Z to 2026-03-10T02:00:00Z"),
        (report_of(LEADS, lead_created=1), False, "unknown: its subscriptions look well; see webhooks doctor"),
        (report_of(none=True, lead_created=1), False, "unknown: its subscriptions cannot be seen with this API key"),
    ],
)
def test_the_likely_cause_names_what_to_do(report: Report, quiet: bool, cause: str) -> None:
    assert likely_cause(report, quiet).startswith(cause)


# -- by itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "is_it"),
    [
        (LogPosition("close"), True),
        (LogPosition("close", ran_at=at(9.99)), False),
        (LogPosition("close", ran_at=at(9.9)), True),  # the process started since
        (LogPosition("close", ran_at=at(10.2)), False),
        (LogPosition("close", ran_at=at(10.2), requested_at=at(10.4)), True),
        (LogPosition("close", ran_at=at(10.2), error="away"), True),
        (LogPosition("close", ran_at=at(10.45), error="away"), False),
        (LogPosition("close", ran_at=at(10.45), error="away", requested_at=at(10.4)), False),
        (LogPosition("close", ran_at=at(10.45), error="away", requested_at=at(10.46)), True),
    ],
)
def test_a_run_is_due_after_a_start_when_asked_for_and_every_hour(mark: LogPosition, is_it: bool) -> None:
    assert is_due(mark, at(10) + timedelta(seconds=1), at(10.5) if mark.ran_at != at(9.99) else at(10.005)) is is_it
    assert is_due(mark, at(8), at(20)) is True


def test_a_run_that_ended_in_the_future_puts_off_none() -> None:
    assert is_due(LogPosition("close", ran_at=at(12.5)), at(8), at(10.5))
    assert is_due(LogPosition("close", ran_at=at(12.5), error="away"), at(8), at(10.5))


def make_duty(pair: Pair) -> CatchUpDuty:
    return CatchUpDuty([pair.source], pair.webhooks.make_catch_up, pair.webhooks.store, pair.clock)


def test_workers_catch_up_by_themselves_once_among_them_and_warn_of_what_they_repaired(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[dict[str, Any]] = []

    def observer(source: str, **arguments: Any) -> None:
        seen.append(arguments)

    pair.webhooks.store.marks.begin("close", pair.clock(), pair.clock(), pair.clock())
    pair.webhooks.store.marks.complete("close", pair.clock(), asked_at=pair.clock(), repaired=0, stripped_at=None)
    with pair.webhooks.database.write() as connection:
        connection.exec_driver_sql("update webhooks_marks set ran_at = null")
    lead(pair)
    pair.clock.move(HOUR)
    signals.connect(signals.caught_up, observer)
    try:
        duties = [make_duty(pair), make_duty(pair)]
        for number, duty in enumerate(duties):
            duty.tick(f"worker {number}")
        for duty in duties:
            duty.wait(timedelta(seconds=20))
    finally:
        signals.caught_up.disconnect(observer)
    assert pair.stored() == pair.log()
    assert sum(arguments["stored"] for arguments in seen) == 1
    warnings = [record for record in caplog.records if "repaired" in record.message]
    assert len(warnings) == 1
    assert warnings[0].levelname == "WARNING"
    assert "catch-up repaired 1 events of close (1 lead.created); likely cause: nothing arrived" in warnings[0].message
    assert pair.mark.repaired is not None


def test_a_run_by_itself_leaves_what_is_still_on_its_way_to_its_webhook(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    pair.clock.move(HOUR)
    pair.catch_up(since=HOUR)
    lead(pair)
    pair.clock.move(timedelta(seconds=5))
    pair.webhooks.store.marks.request("close")
    duty = make_duty(pair)
    duty.tick("worker")
    duty.wait(timedelta(seconds=20))
    assert pair.stored() == {}
    assert "repaired" not in caplog.text


def test_a_failed_run_by_itself_is_one_warning_and_is_tried_again(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    pair.world.fail_next(401, 1)
    duty = make_duty(pair)
    duty.tick("worker")
    duty.wait(timedelta(seconds=20))
    assert "catch-up of close failed and is tried again: Close does not know the API key" in caplog.text
    mark = pair.mark
    assert mark.error is not None
    assert mark.ran_at is not None
    assert not is_due(mark, mark.ran_at, mark.ran_at + timedelta(minutes=4))
    assert is_due(mark, mark.ran_at, mark.ran_at + timedelta(minutes=6))


def test_a_worker_of_a_source_with_an_api_key_catches_up_after_its_start(pair: Pair) -> None:
    lead(pair)
    pair.deliver()
    pair.world.subscriptions.find(pair.subscription.id).pause("failing")  # type: ignore[union-attr]
    lead(pair, "missed")
    pair.clock.move(HOUR)
    worker = pair.webhooks.make_worker(slots=1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_until(lambda: pair.stored() == pair.log(), what="the worker to catch up")
    finally:
        worker.stop()
        thread.join()


# -- the command --------------------------------------------------------------------------------------------


def test_the_command_says_what_it_added_and_what_it_would_add(pair: Pair) -> None:
    cli = Cli(pair.webhooks)
    lead(pair)
    pair.clock.move(HOUR)
    dry = cli("catch-up", "close", "--since", "6h", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert dry.stdout.split() == ["N", "TYPE", "1", "lead.created"]
    assert "1 entries read, 1 for us, 1 would be added, 0 known already" in dry.stderr
    assert "likely cause: nothing arrived" in dry.stderr
    found = cli.json("catch-up", "close", "--since", "6h")
    assert (found["repaired"], found["added"], found["is_dry_run"]) == (1, {"lead.created": 1}, False)
    again = cli("catch-up", "close", "--since", "6h")
    assert again.stdout == ""
    assert "nothing was missing" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["clsoe", "--since", "6h"], 2, "no source named 'clsoe' (did you mean 'close'?); configured: close"),
        (["close", "--since", "yesterdayish"], 2, "since: "),
        (["close", "--since", "1h", "--until", "2h"], 2, "is not before until"),
    ],
)
def test_a_command_typed_wrongly_is_told_how(pair: Pair, arguments: list[str], code: int, words: str) -> None:
    assert words in Cli(pair.webhooks).refused("catch-up", *arguments, code=code)


def test_without_an_api_key_the_command_names_the_setting(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    pair.source.api = replace(pair.source.api, key=None)
    said = Cli(pair.webhooks).refused("catch-up", "close", "--since", "1h", code=1)
    assert "set WEBHOOKS_SOURCES__close__API_KEY" in said


def test_stripped_copies_are_told_and_make_the_exit_code_1(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(key=MEMBER_KEY)
    lead(pair)
    pair.clock.move(HOUR * 2)
    result: Result = Cli(pair.webhooks)("catch-up", "close", "--since", "6h")
    assert result.exit_code == 1
    assert "1 entry came without content, because the API key is not an admin's" in result.stderr


def test_the_key_is_in_nothing_that_is_printed_or_logged(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    lead(pair)
    pair.clock.move(HOUR)
    pair.world.fail_next(500, 1, path="event/")
    result = Cli(pair.webhooks)("catch-up", "close", "--since", "6h")
    assert result.exit_code == 0, result.output
    said = result.output + caplog.text
    assert "api_local.admin" not in said
    assert pair.subscription.signature_key not in said
