"""What a test of handlers holds: posting, running, time, and what became of deliveries."""

from __future__ import annotations

import doctest
import inspect
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.support import PAYLOADS, each
from webhooks import signals
from webhooks.errors import NotFound, SelectionError
from webhooks.operations.explain import of_event
from webhooks.routing import Debounce, Registry
from webhooks.sources.declared.schemes import SCHEMES
from webhooks.sources.samples import samples
from webhooks.testing import Kit, NothingScheduled, StillBusy, make_kit

pytestmark = pytest.mark.one_database

QUIET = timedelta(seconds=5)

# -- posting ---------------------------------------------------------------------------------------------------


def test_a_sample_is_stored_and_run(kit: Kit) -> None:
    posted = kit.post("lead.created")
    assert (posted.http_status, posted.status, len(posted.event_ids)) == (200, "stored", 1)
    [run] = kit.drain()
    assert (run.handler, run.outcome, run.state, run.attempt) == ("welcome", "succeeded", "succeeded", 1)
    assert run.event is not None
    assert run.event.id == posted.event_id
    assert kit.drain() == []


def test_a_sample_is_another_event_each_time_and_copies_are_one(kit: Kit) -> None:
    assert kit.post("lead.created", times=3).status == "stored"
    assert kit.post("lead.created").status == "stored"
    assert len(kit.drain()) == 2


def test_of_a_burst_the_newest_runs_once_it_is_over(make: Callable[..., Kit], registry: Registry) -> None:
    @registry.on("lead.updated", name="mirror", latest="object_id", debounce=Debounce(quiet=QUIET, at_most=12 * QUIET))
    def mirror(event: Any) -> None: ...

    kit = make()
    for name in ("Quay", "Quays", "Quayside"):
        kit.post("lead.updated", set={"event.object_id": "lead_1", "data.name": name})
        kit.advance(timedelta(seconds=1))
    assert kit.drain(handlers=["mirror"]) == []
    assert kit.advance() == timedelta(seconds=4)
    [run] = kit.drain(handlers=["mirror"])
    assert run.event is not None
    assert run.event.data["name"] == "Quayside"
    kit.assert_delivered("mirror", 2, state="cancelled")
    event = kit.deliveries("mirror", state="cancelled")[0].event_id
    found = kit.webhooks.store.events.get(event)
    assert found is not None
    [why] = [one.why for one in of_event(kit.webhooks.store, registry, found) if one.handler == "mirror"]
    assert why == f"superseded by delivery {run.delivery_id}"
    kit.post("lead.updated", set={"event.object_id": "lead_1"})
    [waiting] = kit.deliveries("mirror", state="pending")
    found = kit.webhooks.store.events.get(waiting.event_id)
    assert found is not None
    [why] = [one.why for one in of_event(kit.webhooks.store, registry, found) if one.handler == "mirror"]
    assert why == "it is the newest with the key 'lead_1', and waits until none came for 5 s, or 1 min after its first"


def test_values_are_replaced(kit: Kit) -> None:
    kit.post("opportunity.updated", set={"data.status_type": "won", "event.data.value": 7})
    [run] = kit.drain()
    assert run.outcome == "succeeded"
    assert run.event is not None
    assert run.event.data["value"] == 7


def test_a_path_bytes_and_a_mapping_are_posted_as_they_are(kit: Kit) -> None:
    path = PAYLOADS / "lead_merged.json"
    assert kit.post(path).status == "stored"
    assert kit.post(str(path)).status == "duplicate"
    assert kit.post(path.read_bytes()).status == "duplicate"
    body = {"event": {"id": "ev_1", "object_type": "lead", "action": "created", "object_id": "lead_1", "data": {}}}
    assert kit.post(body).status in ("stored", "quarantined")


@each(
    ("options", "status", "word"),
    [
        ({"signature": "wrong"}, 401, "signature_verification_failed"),
        ({"signature": "missing"}, 401, "signature_verification_failed"),
        ({"age": timedelta(days=40)}, 401, "signature_verification_failed"),
        ({"age": timedelta(minutes=1)}, 200, "stored"),
    ],
)
def test_a_signature_is_what_it_is_said_to_be(kit: Kit, options: dict[str, Any], status: int, word: str) -> None:
    posted = kit.post("lead.created", **options)
    assert (posted.http_status, posted.status) == (status, word)


def test_what_cannot_be_posted_is_said(kit: Kit) -> None:
    with pytest.raises(NotFound, match=r"no sample of type 'lead\.creatd'.*did you mean 'lead\.created'"):
        kit.post("lead.creatd")
    with pytest.raises(NotFound, match=r"no source named 'clsoe' \(did you mean 'close'\?\)"):
        kit.post("lead.created", source="clsoe")
    with pytest.raises(SelectionError, match=r"set=: there is no 'dat' here \(did you mean 'data'\?\)"):
        kit.post("lead.created", set={"dat.x": 1})
    with pytest.raises(ValueError, match="signature='bad': one of right, wrong, missing"):
        kit.post("lead.created", signature="bad")
    with pytest.raises(
        ValueError, match="0 events are stored for this post, which got 'signature_verification_failed'"
    ):
        _ = kit.post("lead.created", signature="wrong").event_id
    with pytest.raises(ValueError, match=r"answers 413 to more than 1048576"):
        kit.post(b" " * (2**20 + 1))


#: One for each kind of key: text, base64, a pair of keys, a user with a password.
SIGNED = [
    "stripe",
    "github",
    "shopify",
    "slack",
    "standard",
    "svix",
    "discord",
    "sendgrid",
    "twilio",
    "mailgun",
    "basic",
]


def test_each_sender_gets_a_key_of_the_run_and_signs(make: Callable[..., Kit]) -> None:
    sources = {name: {"accept_unsigned_body": True} for name in SIGNED}
    registry = Registry()
    registry.on("**", name="all")(lambda event: None)
    kit = make(registry=registry, overrides={"sources": sources})
    for name in SIGNED:
        posted = kit.post(samples(name)[0].type, source=name)
        assert (name, posted.http_status, posted.status) == (name, 200, "stored")
        assert len(posted.event_ids) >= 1
    assert {run.outcome for run in kit.drain()} == {"succeeded"}


#: Nobody but these senders can sign, or a source needs settings of its own.
LEFT_OUT = {"custom", "hmac", *(name for name, row in SCHEMES.items() if row.needs or row.certificate or row.jwt.jwks)}


def test_every_sample_of_every_sender_is_another_event_each_time(make: Callable[..., Kit]) -> None:
    names = [name for name in SCHEMES if samples(name) and name not in LEFT_OUT]
    options = {"meta": {"verify_token": "a-token-of-ours"}}
    kit = make(overrides={"sources": {name: {"accept_unsigned_body": True, **options.get(name, {})} for name in names}})
    again = [
        (name, sample.type, status)
        for name in names
        for sample in samples(name)
        for status in (kit.post(sample.type, source=name).status, kit.post(sample.type, source=name).status)
        if status != "stored"
    ]
    assert len(names) > 20
    assert again == []


def test_a_source_that_only_a_handler_names_is_there(make: Callable[..., Kit]) -> None:
    registry = Registry()
    registry.on("**", name="paid", source="stripe")(lambda event: None)
    kit = make(registry=registry)
    assert list(kit.webhooks.sources) == ["stripe"]
    assert kit.post(samples("stripe")[0].type).status == "stored"


# -- running ---------------------------------------------------------------------------------------------------


def test_everything_runs_in_the_thread_of_the_test(make: Callable[..., Kit]) -> None:
    registry, seen = Registry(), []
    registry.on("lead.created", name="plain")(lambda event: seen.append(threading.current_thread()))
    registry.on("lead.created", name="writes")(lambda event, session: seen.append(threading.current_thread()))
    kit = make(registry=registry)
    kit.post("lead.created")
    assert len(kit.drain()) == 2
    assert set(seen) == {threading.current_thread()}


def test_a_coroutine_is_awaited(make: Callable[..., Kit]) -> None:
    registry, seen = Registry(), []

    @registry.on("lead.created", name="later")
    async def later(event: Any) -> None:
        seen.append(event.type)

    kit = make(registry=registry)
    kit.post("lead.created")
    assert kit.drain()[0].outcome == "succeeded"
    assert seen == ["lead.created"]


def test_what_a_handler_raised_is_raised_once_it_is_recorded(kit: Kit) -> None:
    kit.post("contact.created")
    with pytest.raises(LookupError, match="no such person") as caught:
        kit.drain()
    [note] = caught.value.__notes__
    assert note.startswith("raised by handler 'broken' in attempt 1, which is recorded; it is due again in ")
    assert [each.state.label for each in kit.deliveries("broken")] == ["pending"]
    kit.advance()
    with pytest.raises(LookupError) as caught:
        kit.drain()
    assert "the delivery is dead" in caught.value.__notes__[0]


def test_a_failed_run_is_given_back_on_request(kit: Kit) -> None:
    kit.post("contact.created")
    [run] = kit.drain(raises=False)
    assert (run.outcome, run.state, run.reason) == ("failed", "pending", "LookupError: no such person")
    assert isinstance(run.error, LookupError)
    assert run.due_in is not None


def test_what_a_handler_asked_for_is_an_outcome(kit: Kit) -> None:
    kit.post("lead.updated")
    kit.post("contact.updated")
    kit.post("opportunity.updated", set={"data.status_type": "lost"})
    runs = {run.handler: run for run in kit.drain()}
    assert {name: (run.outcome, run.state) for name, run in runs.items()} == {
        "limited": ("retry", "pending"),
        "declines": ("cancelled", "cancelled"),
        "won": ("filtered", "cancelled"),
    }
    assert runs["declines"].reason == "discarded: nothing to do"
    assert str(runs["won"].reason).startswith("filtered: ")


def test_only_the_handlers_that_are_named_run(make: Callable[..., Kit], registry: Registry) -> None:
    registry.on("lead.created", name="also")(lambda event: None)
    kit = make()
    kit.post("lead.created")
    assert [run.handler for run in kit.drain(handlers=["also"])] == ["also"]
    assert [run.handler for run in kit.drain()] == ["welcome"]
    with pytest.raises(NotFound, match=r"no handler named 'welcom' \(did you mean 'welcome'\?\)"):
        kit.drain(handlers=["welcom"])


def test_what_goes_in_a_circle_is_named(make: Callable[..., Kit]) -> None:
    registry = Registry()
    kits: list[Kit] = []
    registry.on("lead.created", name="feeds")(lambda event: kits[0].post("lead.created"))
    kits.append(make(registry=registry))
    kits[0].post("lead.created")
    with pytest.raises(StillBusy) as caught:
        kits[0].drain(limit=5)
    assert str(caught.value).splitlines() == [
        "5 deliveries were run and more are due; a handler makes events that it gets itself, or one that is due again at once. "
        "What ran:",
        "  5 × feeds for lead.created",
        "drain(limit=…) runs more.",
    ]
    assert [each.state.label for each in kits[0].deliveries()].count("pending") == 1


def test_a_paused_handler_is_held(kit: Kit) -> None:
    kit.webhooks.store.handlers.pause("welcome", "a test")
    kit.post("lead.created")
    assert kit.drain() == []


def test_a_lane_holds(make: Callable[..., Kit]) -> None:
    registry, order = Registry(), []

    @registry.on("lead.updated", name="mirror", ordered_by="object_id")
    def mirror(event: Any, delivery: Any) -> None:
        order.append((event.data["name"], delivery.number))
        if order == [("first", 1)]:
            raise LookupError

    kit = make(registry=registry)
    for name in ("first", "second"):
        kit.post("lead.updated", set={"data.name": name})
    kit.drain(raises=False)
    kit.advance()
    kit.drain()
    assert order == [("first", 1), ("first", 2), ("second", 1)]


def test_observers_are_told(kit: Kit) -> None:
    seen: list[str] = []

    def note(sender: str, **_: Any) -> None:
        seen.append(sender)

    with signals.delivery_succeeded.connected_to(note):
        kit.post("lead.created")
        kit.drain()
    assert seen == ["welcome"]


# -- time ------------------------------------------------------------------------------------------------------


def test_what_is_scheduled_runs_after_the_clock_went_there(kit: Kit) -> None:
    kit.post("lead.updated")
    [run] = kit.drain()
    assert run.outcome == "retry"
    assert kit.drain() == []
    moved = kit.advance()
    assert moved >= timedelta(seconds=60)
    assert moved == run.due_in
    [again] = kit.drain()
    assert (again.outcome, again.attempt) == ("succeeded", 2)


def test_the_clock_stands_still_until_it_is_moved(kit: Kit) -> None:
    assert kit.now() == datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
    assert kit.advance(timedelta(days=1)) == timedelta(days=1)
    assert kit.now().day == 11
    kit.freeze(datetime(2027, 1, 1, tzinfo=UTC))
    kit.post("lead.created")
    [run] = kit.drain()
    assert run.event is not None
    assert run.event.received_at == kit.now() == datetime(2027, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="time goes forward only"):
        kit.advance(timedelta(seconds=-1))
    with pytest.raises(ValueError, match="has no time zone"):
        kit.freeze(datetime(2027, 1, 1))


def test_where_nothing_waits_the_clock_does_not_move(kit: Kit) -> None:
    with pytest.raises(NothingScheduled, match=r"^no delivery waits for a later time$"):
        kit.advance()
    kit.post("lead.created")
    with pytest.raises(NothingScheduled, match=r"1 are due now, and drain\(\) runs them"):
        kit.advance()


# -- looking ---------------------------------------------------------------------------------------------------


def test_deliveries_are_found_by_handler_state_and_event(kit: Kit) -> None:
    first, second = kit.post("lead.created"), kit.post("contact.updated")
    kit.drain(handlers=["welcome"])
    assert [each.handler for each in kit.deliveries()] == ["welcome", "declines"]
    assert [each.handler for each in kit.deliveries(state="pending")] == ["declines"]
    assert [each.event_id for each in kit.deliveries("welcome")] == [first.event_id]
    assert [each.handler for each in kit.deliveries(event=second)] == ["declines"]
    assert [each.handler for each in kit.deliveries(event=first.event_id)] == ["welcome"]
    with pytest.raises(ValueError, match=r"no state 'succeded' \(did you mean 'succeeded'\?\)"):
        kit.deliveries(state="succeded")


def test_dead_deliveries_are_unseen_until_the_test_looks(kit: Kit) -> None:
    kit.post("contact.created")
    kit.drain(raises=False)
    kit.advance()
    kit.drain(raises=False)
    assert [each.handler for each in kit.unseen_dead()] == ["broken"]
    kit.deliveries(state="dead")
    assert kit.unseen_dead() == []


def test_a_session_sees_what_is_committed(kit: Kit) -> None:
    with kit.session() as session:
        count = text("select count(*) from webhooks_events")
        assert session.scalar(count) == 0
        kit.post("lead.created")
        assert session.scalar(count) == 1


def test_flask_s_client_posts_to_the_same_consumer(kit: Kit) -> None:
    client = kit.client()
    assert client.post("/webhooks/close", data=b"{}").status_code == 401
    assert kit.client().application is client.application


def examples() -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(recurse=False)
    return [
        test
        for name, member in inspect.getmembers(Kit, inspect.isfunction)
        if not name.startswith("_")
        for test in found.find(member, name, globs={})
    ]


def test_every_example_of_a_docstring_is_true(make: Callable[..., Kit]) -> None:
    for example in examples():
        example.globs["kit"] = make(handlers=["welcome", "won"])
        lines: list[str] = []
        doctest.DocTestRunner().run(example, out=lines.append)
        assert not lines, "".join(lines)


def test_everything_public_has_an_example() -> None:
    without = {"close", "unseen_dead"}
    assert {test.name for test in examples() if not test.examples} == without


# -- making ----------------------------------------------------------------------------------------------------


def test_nothing_of_yours_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    """No secret, no environment, no database of the project, and none that is told of alarms."""
    monkeypatch.setenv("WEBHOOKS_DATABASE_URL", "postgresql://us@nowhere/production")
    monkeypatch.setenv("WEBHOOKS_MAX_ATTEMPTS", "7")
    (tmp_path / "webhooks.toml").write_text(
        'database_url = "postgresql://us@nowhere/production"\nmax_attempts = 3\nsecret_key_file = "/nowhere"\n'
        'heartbeat_url = "https://hooks.example.com/beat"\nmetrics_port = 9\n'
        '[sources.close]\nsecret_file = "/nowhere/close"\napi_key = "api_1.2"\n'
        '[alarms.ops]\nkind = "slack"\nurl = "https://hooks.example.com"\n'
    )
    with make_kit(directory=tmp_path, registry=registry) as kit:
        settings = kit.webhooks.settings
        assert (settings.max_attempts, settings.alarms, settings.heartbeat_url) == (3, {}, "")
        assert settings.sources["close"].secret_file is None
        assert not settings.sources["close"].options
        assert settings.database_url == f"sqlite:///{tmp_path}/webhooks.db"
        assert kit.post("lead.created").status == "stored"


def test_settings_and_keys_of_a_test_win(make: Callable[..., Kit]) -> None:
    key = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
    kit = make(overrides={"max_attempts": 2}, secrets={"close": key})
    assert kit.webhooks.settings.max_attempts == 2
    assert [secret.reveal() for secret in kit.webhooks.settings.sources["close"].secrets] == [key]


def test_only_some_handlers_get_events(make: Callable[..., Kit]) -> None:
    kit = make(handlers=["welcome"])
    kit.post("contact.created")
    assert kit.deliveries() == []
    with pytest.raises(NotFound, match=r"no handler named 'welcom' \(did you mean 'welcome'\?\)"):
        make(handlers=["welcom"])


def test_two_kits_share_handlers_and_nothing_else(make: Callable[..., Kit]) -> None:
    one, other = make(), make()
    one.post("lead.created")
    assert other.deliveries() == []
    assert other.drain() == []
