"""Subscriptions through the local Close's API: made, compared with the handlers, paused, resumed, rotated."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import stamina
from click.testing import CliRunner

from tests.integration.local_close import URL, Pair
from tests.integration.test_cli import Cli
from tests.support import Clock
from webhooks.cli import group
from webhooks.errors import ConfigurationError, NotFound
from webhooks.operations import Actor, Subscriptions, wanted_types
from webhooks.operations.catch_up import is_due
from webhooks.operations.subscriptions import Rotation, SubscriptionError
from webhooks.routing import Registry
from webhooks.sandbox.accounts import ADMIN, ADMIN_KEY
from webhooks.sandbox.subscriptions import LocalSubscription
from webhooks.selection import Selection
from webhooks.sources import ApiMalformed, ApiRefused, ApiUnavailable, KeyFile, Topic, read_secret_file
from webhooks.sources.close.signature import decode_key

pytestmark = pytest.mark.one_database

INES = Actor("ines")
HOUR = timedelta(hours=1)


def handle(event: Any) -> None: ...


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
def pair(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[Pair]:
    """A subscription to leads, and a handler of leads."""
    registry = Registry()
    registry.add(handle, "lead.*", source="close", name="h")
    pair = Pair(database_url, tmp_path, clock, registry=registry, events=["lead.created", "lead.updated"])
    yield pair
    pair.stop()


class Waiting:
    """A clock that moves when somebody sleeps; `then` happens in the first sleep."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._then = then

    def sleep(self, seconds: float) -> None:
        if not self.slept:
            self._then()
        self.slept.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def make(pair: Pair) -> Iterator[Callable[..., Subscriptions]]:
    clients: list[Any] = []

    def make(waiting: Waiting | None = None, **options: Any) -> Subscriptions:
        clients.append(pair.source.connect())
        waiting = waiting or Waiting()
        given: dict[str, Any] = {"public_url": URL, "check_key": decode_key, "store": pair.webhooks.store}
        given |= {"sleep": waiting.sleep, "monotonic": waiting.monotonic, **options}
        keys = given.pop("keys", KeyFile("close", pair.secret_file))
        return Subscriptions("close", clients[-1], keys, **given)

    yield make
    for client in clients:
        client.close()


Make = Callable[..., Subscriptions]


def keys_in(path: Path) -> dict[str, str]:
    return {secret.label: secret.reveal() for secret in read_secret_file(path)}


def known(pair: Pair) -> list[str]:
    return [each.id for each in pair.world.subscriptions]


def wanted(pair: Pair) -> Any:
    return wanted_types(pair.webhooks.registry.handlers(), "close", pair.source.published_types)


# -- create -------------------------------------------------------------------------------------------------


def test_a_new_subscription_works_at_once_because_its_key_is_in_the_file(pair: Pair, make: Make) -> None:
    made = make().create(URL, [Topic("contact.created")], actor=INES)
    assert keys_in(pair.secret_file)[made.id] == pair.world.subscriptions.find(made.id).signature_key  # type: ignore[union-attr]
    assert stat.S_IMODE(pair.secret_file.stat().st_mode) == 0o600
    pair.world.create("contact", {"name": "Rosa"}, by=ADMIN)
    assert pair.deliver() == 2
    labels = {event.key_label for event in _events(pair)}
    assert labels == {pair.subscription.id, made.id}


def _events(pair: Pair) -> Sequence[Any]:
    return pair.webhooks.store.listings.events(Selection(), limit=100)


def test_without_a_file_that_can_be_written_nothing_is_asked_of_close(pair: Pair, make: Make, tmp_path: Path) -> None:
    for path in (None, tmp_path / "nowhere" / "keys.json"):
        pair.world.faults.clear()
        pair.world.fail_next(500, 1000)
        subscriptions = make(keys=KeyFile("close", path))
        refused = pytest.raises(ConfigurationError, match="WEBHOOKS_SOURCES__close__SECRET_FILE")
        with refused:
            subscriptions.create(URL, [Topic("lead.created")], actor=INES)
        with refused:
            subscriptions.plan_sync(wanted(pair))
        with refused:
            subscriptions.rotate(actor=INES)
        assert pair.world.faults[0].times == 1000


def test_a_subscription_whose_key_cannot_be_kept_is_removed_again(
    pair: Pair, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    before = known(pair)
    monkeypatch.setattr(KeyFile, "put", full)
    with pytest.raises(OSError, match="No space left"):
        make().create(URL, [Topic("lead.created")], actor=INES)
    assert known(pair) == before


def test_a_key_that_close_does_not_show_is_asked_for_and_then_the_subscription_given_up(
    pair: Pair, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalSubscription.as_json
    monkeypatch.setattr(LocalSubscription, "as_json", lambda self, now, with_key: real(self, now, with_key=False))
    before = known(pair)
    with pytest.raises(ApiMalformed, match=r"the signature key of subscription whsub_\w+ cannot be had"):
        make().create(URL, [Topic("lead.created")], actor=INES)
    assert known(pair) == before


def test_a_type_that_close_does_not_know_is_refused_in_its_words(pair: Pair, make: Make) -> None:
    with pytest.raises(ApiRefused, match="no event has object_type 'outcome' and action 'created'"):
        make().create(URL, [Topic("outcome.created")], actor=INES)


# -- sync ---------------------------------------------------------------------------------------------------


def test_sync_makes_the_subscription_ask_for_exactly_what_handlers_want(pair: Pair, make: Make) -> None:
    subscriptions = make()
    (change,) = subscriptions.plan_sync(wanted(pair))
    assert change.add == ("lead.deleted", "lead.merged")
    assert change.remove == ()
    pair.world.subscriptions.find(pair.subscription.id).events.append(  # type: ignore[union-attr]
        {"object_type": "contact", "action": "created"}
    )
    changes = subscriptions.plan_sync(wanted(pair))
    assert changes[0].remove == ("contact.created",)
    subscriptions.apply(changes, actor=INES)
    assert subscriptions.of_this_endpoint()[0].types == wanted(pair).types
    assert not subscriptions.plan_sync(wanted(pair))[0].is_needed


def test_sync_makes_the_subscription_when_there_is_none(pair: Pair, make: Make) -> None:
    pair.world.subscriptions.delete(pair.subscription.id, ADMIN)
    subscriptions = make()
    changes = subscriptions.plan_sync(wanted(pair))
    (made,) = subscriptions.apply(changes, actor=INES)
    assert (made.url, made.types) == (URL, wanted(pair).types)
    assert made.id in keys_in(pair.secret_file)


def test_sync_without_an_address_says_how_to_give_one(pair: Pair, make: Make) -> None:
    pair.world.subscriptions.delete(pair.subscription.id, ADMIN)
    with pytest.raises(SubscriptionError, match="--url https://…/webhooks/close"):
        make(public_url="").plan_sync(wanted(pair))


def test_sync_fetches_a_key_that_we_do_not_hold(pair: Pair, make: Make) -> None:
    pair.secret_file.write_text(json.dumps({"other": "ab" * 32}))
    subscriptions = make()
    changes = subscriptions.plan_sync(wanted(pair))
    assert changes[0].needs_key
    subscriptions.apply(changes, actor=INES)
    assert keys_in(pair.secret_file)[pair.subscription.id] == pair.subscription.signature_key


def test_sync_moves_the_subscription_to_a_new_address_and_leaves_others_alone(pair: Pair, make: Make) -> None:
    staging = pair.world.subscribe(
        "https://staging.example/webhooks/close", [{"object_type": "lead", "action": "created"}]
    )
    moved = "https://new.example/webhooks/close"
    subscriptions = make(public_url=moved)
    subscriptions.apply(subscriptions.plan_sync(wanted(pair)), actor=INES)
    assert pair.world.subscriptions.find(pair.subscription.id).url == moved  # type: ignore[union-attr]
    assert pair.world.subscriptions.find(staging.id) == staging
    assert staging.url == "https://staging.example/webhooks/close"


def test_sync_without_handlers_touches_nothing(pair: Pair, make: Make) -> None:
    with pytest.raises(SubscriptionError, match="is this the directory with the handlers"):
        make().plan_sync(wanted_types([], "close", pair.source.published_types))


# -- pause and resume ---------------------------------------------------------------------------------------


def test_resuming_makes_a_catch_up_due_at_once(pair: Pair, make: Make) -> None:
    store, subscriptions = pair.webhooks.store, make()
    subscriptions.pause(None, actor=INES)
    assert not pair.world.subscriptions.find(pair.subscription.id).is_active  # type: ignore[union-attr]
    pair.catch_up(since=HOUR)
    now = store.database.now()
    assert not is_due(store.marks.get("close"), now - HOUR, now)
    subscriptions.resume(pair.subscription.id, actor=INES)
    assert pair.world.subscriptions.find(pair.subscription.id).is_active  # type: ignore[union-attr]
    assert is_due(store.marks.get("close"), now - HOUR, now)


def test_an_unknown_subscription_is_answered_with_those_that_are_known(make: Make, pair: Pair) -> None:
    with pytest.raises(NotFound, match=f"no subscription 'whsub_x'.*there are: {pair.subscription.id}"):
        make().pause("whsub_x", actor=INES)


# -- rotation -----------------------------------------------------------------------------------------------


def test_rotation_hands_over_and_ends_with_the_new_key_alone(pair: Pair, make: Make) -> None:
    pair.webhooks.background.write_soon = lambda write: write()

    def traffic() -> None:
        pair.world.create("lead", {"name": "x"}, by=ADMIN)
        pair.deliver()

    told: list[str] = []
    traffic()
    done = make(Waiting(traffic)).rotate(tell=told.append, actor=INES)
    assert done.old == pair.subscription.id
    assert known(pair) == [done.new]
    assert list(keys_in(pair.secret_file)) == [done.new]
    assert done.old_key == "removed"
    assert list(pair.webhooks.store.key_uses.of("close")) == [done.new]
    assert pair.mark.requested_at is not None
    traffic()
    assert pair.stored() == pair.log()
    assert not any(pair.world.subscriptions.find(done.new).signature_key in line for line in told)  # type: ignore[union-attr]


def test_during_a_rotation_both_keys_are_taken_and_each_event_is_stored_once(pair: Pair, make: Make) -> None:
    pair.webhooks.background.write_soon = lambda write: None
    taken: list[int] = []

    def traffic() -> None:
        pair.world.create("lead", {"name": "x"}, by=ADMIN)
        taken.append(pair.deliver())

    with pytest.raises(SubscriptionError, match=r"within 5 s; both subscriptions stay.*rotate whsub_"):
        make(Waiting(traffic)).rotate(wait=timedelta(seconds=5), actor=INES)
    assert taken == [2]
    assert len(_events(pair)) == 1


def test_a_rotation_without_traffic_keeps_both_and_goes_on_when_called_again(pair: Pair, make: Make) -> None:
    pair.webhooks.background.write_soon = lambda write: write()
    waiting = Waiting()
    with pytest.raises(SubscriptionError, match="no delivery under the new key was seen within 15 min"):
        make(waiting).rotate(actor=INES)
    assert waiting.now >= 900
    assert len(known(pair)) == len(keys_in(pair.secret_file)) == 2
    pair.world.create("lead", {"name": "x"}, by=ADMIN)
    pair.deliver()
    done = make().rotate(actor=INES)
    assert len(known(pair)) == 1
    assert done.old == pair.subscription.id


@pytest.mark.parametrize("step", ["create", "delete"])
def test_a_rotation_that_close_breaks_off_goes_on_when_called_again(pair: Pair, make: Make, step: str) -> None:
    pair.webhooks.background.write_soon = lambda write: write()

    def traffic() -> None:
        pair.world.create("lead", {"name": "x"}, by=ADMIN)
        pair.deliver()

    def breaks() -> None:
        traffic()
        pair.world.fail_next(500, 1000)

    if step == "create":
        # the list is read, the answer to the create is lost after it was done
        subscriptions = make(Waiting(traffic))
        create = subscriptions._api.create

        def lost(*arguments: Any, **options: Any) -> Any:
            create(*arguments, **options)
            raise ApiUnavailable("the answer got lost")

        subscriptions._api.create = lost  # type: ignore[method-assign]
    else:
        subscriptions = make(Waiting(breaks))
    with pytest.raises(ApiUnavailable):
        subscriptions.rotate(actor=INES)
    pair.world.faults.clear()
    if step == "create":
        # whose key we never got cannot be gone on with: it is one more that waits to be removed by hand
        assert len(keys_in(pair.secret_file)) == 1
    done = make(Waiting(traffic)).rotate(pair.subscription.id, actor=INES)
    assert done.old not in known(pair)
    assert list(keys_in(pair.secret_file)) == [done.new]


def test_of_several_subscriptions_the_one_to_rotate_must_be_named(pair: Pair, make: Make) -> None:
    other = make().create(URL, [Topic("contact.created")], actor=INES)
    with pytest.raises(SubscriptionError, match=f"several subscriptions are ours; name one of .*{other.id}"):
        make().rotate(actor=INES)


def test_an_old_key_under_another_label_is_left_and_said(pair: Pair, make: Make) -> None:
    pair.webhooks.background.write_soon = lambda write: write()
    pair.secret_file.write_text(pair.subscription.signature_key)

    def traffic() -> None:
        pair.world.create("lead", {"name": "x"}, by=ADMIN)
        pair.deliver()

    done = make(Waiting(traffic)).rotate(actor=INES)
    assert "take it out of the settings by hand" in done.old_key
    assert set(keys_in(pair.secret_file)) == {"1", done.new}


# -- the commands -------------------------------------------------------------------------------------------


def test_commands_show_and_do_and_never_print_a_key(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    cli = Cli(pair.webhooks)
    listed = cli("subscriptions", "list")
    assert listed.exit_code == 0
    assert pair.subscription.id in listed.stdout
    assert "held" in listed.stdout
    dry = cli("subscriptions", "sync", "--dry-run")
    assert dry.exit_code == 1
    assert dry.stdout.splitlines() == [pair.subscription.id, "  + lead.deleted", "  + lead.merged"]
    assert "nothing was changed" in dry.stderr
    done = cli("subscriptions", "sync")
    assert done.exit_code == 0
    assert "done" in done.stderr
    assert cli("subscriptions", "sync", "--dry-run").exit_code == 0
    made = cli("subscriptions", "create", "--type", "contact.*")
    assert made.exit_code == 0, made.output
    assert f"event types to {URL}; its key is in the secret_file" in made.stderr
    paused, resumed = (
        cli("subscriptions", "pause", pair.subscription.id),
        cli("subscriptions", "resume", pair.subscription.id),
    )
    assert "queue emptied" in paused.stderr
    assert "a running worker now catches up" in resumed.stderr
    found = cli.json("subscriptions", "list")["subscriptions"]
    assert {each["is_key_held"] for each in found} == {True}
    said = caplog.text + "".join(each.output for each in (listed, dry, done, made, paused, resumed)) + json.dumps(found)
    for each in pair.world.subscriptions:
        assert each.signature_key not in said
    assert ADMIN_KEY not in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["create", "--type", "laed.*"], 2, "no event type matches 'laed.*'; did you mean 'lead.*'?"),
        (
            ["list", "--source", "clsoe"],
            2,
            "no source of Close's is named 'clsoe' (did you mean 'close'?); there are: close",
        ),
        (["rotate", "--wait", "soon"], 2, "wait: "),
        (["resume", "whsub_nobody"], 1, "no subscription 'whsub_nobody'"),
    ],
)
def test_a_command_typed_wrongly_is_told_how(pair: Pair, arguments: list[str], code: int, words: str) -> None:
    assert words in Cli(pair.webhooks).refused("subscriptions", *arguments, code=code)


def test_what_was_done_to_a_subscription_is_told_in_json(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    cli, at = Cli(pair.webhooks), pair.clock()
    paused = cli.json("subscriptions", "pause")["subscription"]
    resumed = cli.json("subscriptions", "resume")["subscription"]
    assert (paused["id"], paused["status"], paused["is_key_held"]) == (pair.subscription.id, "paused", True)
    assert resumed["status"] == "active"
    monkeypatch.setattr(Subscriptions, "rotate", lambda *_, **__: Rotation("whsub_1", "whsub_2", at, "removed"))
    rotated = cli.json("subscriptions", "rotate")
    assert rotated == {
        "old": "whsub_1",
        "new": "whsub_2",
        "seen_at": at.isoformat().replace("+00:00", "Z"),
        "old_key": "removed",
    }


def test_a_type_that_is_not_in_the_catalogue_is_asked_for_and_said(pair: Pair) -> None:
    """Close may have added it."""
    refused = Cli(pair.webhooks).refused("subscriptions", "create", "--type", "lead.craeted", code=1)
    assert (
        "'lead.craeted' is none of the types that Close is known to publish (did you mean 'lead.created'?)" in refused
    )
    assert "no event has object_type 'lead' and action 'craeted'" in refused


def test_the_first_subscription_is_made_before_the_source_has_any_key(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Flask, as on a fresh server: the secret_file does not exist yet, so the source itself could not start."""
    directory = tmp_path / "fresh"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setenv("DATABASE_URL", pair.webhooks.settings.database_url)
    (directory / "webhooks.toml").write_text(
        f'[sources.close]\nsecret_file = "keys.json"\napi_key = "{ADMIN_KEY}"\napi_url = "{pair.close.url}"\n'
    )
    result = CliRunner().invoke(group, ["subscriptions", "create", "--url", URL, "--type", "lead.*"])
    assert result.exit_code == 0, result.output
    id = result.stdout.strip()
    assert list(keys_in(directory / "keys.json")) == [id]
    assert stat.S_IMODE((directory / "keys.json").stat().st_mode) == 0o600
    listed = CliRunner().invoke(group, ["subscriptions", "list", "--json"])
    assert {each["id"]: each["is_key_held"] for each in json.loads(listed.stdout)["subscriptions"]} == {
        pair.subscription.id: False,
        id: True,
    }
