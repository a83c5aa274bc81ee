"""What subscriptions must ask for, which are ours, and the file of their keys."""

from __future__ import annotations

import json
import os
import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from webhooks.errors import ConfigurationError
from webhooks.operations import SubscriptionChange, Wanted, subscriptions_of_this_endpoint, wanted_types
from webhooks.operations.subscriptions import difference
from webhooks.routing import Pattern, Registry
from webhooks.settings import Secret
from webhooks.sources import KeyFile, Subscription, Topic, read_secret_file
from webhooks.sources.close.catalogue import known_types, published_types
from webhooks.sources.keys import keyfile

URL = "https://x.example/webhooks/close"
KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"


def handle(event: object) -> None: ...


def subscription(id: str = "whsub_1", *types: str, url: str = URL, **more: object) -> Subscription:
    return Subscription(id, url, "active", tuple(Topic(type) for type in types), **more)  # type: ignore[arg-type]


# -- which types --------------------------------------------------------------------------------------------


def test_patterns_are_expanded_by_what_close_publishes() -> None:
    registry = Registry()
    registry.add(handle, "lead.*", "activity.call.created", source="close", name="a")
    registry.add(handle, "**.deleted", name="b")
    registry.add(handle, "invoice.paid", source="stripe", name="c")
    wanted = wanted_types(registry.handlers(), "close", published_types(), known_types())
    assert {"lead.created", "lead.merged", "activity.call.created", "contact.deleted"} <= wanted.types
    assert wanted.types <= published_types()
    assert wanted.unknown == ()


def test_a_spelling_that_is_not_published_is_taken_when_asked_for_exactly_and_never_by_a_wildcard() -> None:
    registry = Registry()
    registry.add(handle, "lead_merge.created", source="close", name="a")
    registry.add(handle, "outcome.*", "outcome.created", source="close", name="b")
    wanted = wanted_types(registry.handlers(), "close", published_types(), known_types())
    assert wanted == Wanted(frozenset({"lead_merge.created"}), ("outcome.*", "outcome.created"))


def test_a_subscription_is_ours_by_its_key_or_its_address_and_never_by_a_similar_address() -> None:
    mine, staging = subscription("whsub_1"), subscription("whsub_2", url="https://staging.example/webhooks/close")
    assert subscriptions_of_this_endpoint([mine, staging], ["whsub_2"]) == [staging]
    assert subscriptions_of_this_endpoint([mine, staging], [], public_url=URL + "/") == [mine]
    assert subscriptions_of_this_endpoint([mine, staging], ["1"]) == []
    assert subscriptions_of_this_endpoint([mine, staging], ["1"], path="/webhooks/close") == [mine, staging]
    assert subscriptions_of_this_endpoint([mine, staging], ["whsub_1"], path="/webhooks/close") == [mine]


def test_the_difference_names_what_lacks_and_what_is_too_much() -> None:
    wanted = Wanted(frozenset({"lead.created", "contact.created"}))
    found = subscription("whsub_1", "lead.created", "task.lead.created")
    (change,) = difference([found], wanted, labels=["whsub_1"])
    assert change == SubscriptionChange(found, ("contact.created",), ("task.lead.created",))
    assert [topic.type for topic in change.topics()] == ["lead.created", "contact.created"]
    (kept,) = difference([found], wanted, labels=["whsub_1"], keep=True)
    assert kept.remove == ()


def test_topics_that_stay_keep_their_filters() -> None:
    topic = Topic("lead.created", {"type": "non_null"})
    found = Subscription("whsub_1", URL, "active", (topic, Topic("lead.deleted")))
    (change,) = difference([found], Wanted(frozenset({"lead.created", "lead.updated"})), labels=["whsub_1"])
    assert change.topics() == [topic, Topic("lead.updated")]


def test_what_is_as_it_should_be_needs_nothing_and_what_is_missing_is_made() -> None:
    wanted = Wanted(frozenset({"lead.created"}))
    (change,) = difference([subscription("whsub_1", "lead.created")], wanted, url=URL + "/", labels=["whsub_1"])
    assert not change.is_needed
    (change,) = difference([subscription("whsub_1", "lead.created")], wanted, labels=[])
    assert change.is_needed
    assert change.needs_key
    (change,) = difference([], wanted, url=URL)
    assert (change.subscription, change.url, change.add) == (None, URL, ("lead.created",))


def test_every_wildcard_finds_what_it_names_and_nothing_else() -> None:
    for text in ("**", "*.created", "activity.**", "activity.*.sent"):

        class Wants:
            source = None
            patterns = (Pattern(text),)

        wanted = wanted_types([Wants()], "close", published_types())
        assert wanted.types == {type for type in published_types() if Pattern(text).matches(type)}
        assert wanted.types


# -- the file of keys ---------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, str]:
    return {secret.label: secret.reveal() for secret in read_secret_file(path)}


def test_keys_are_written_readable_by_the_owner_alone_and_by_renaming(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    file = KeyFile("close", path)
    assert file.labels() == []
    file.require_writable()
    assert not path.exists()
    file.put("whsub_1", Secret(KEY))
    first = path.stat()
    file.put("whsub_2", Secret("other"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_ino != first.st_ino
    assert read(path) == {"whsub_1": KEY, "whsub_2": "other"}
    assert sorted(os.listdir(tmp_path)) == [".keys.json.lock", "keys.json"]
    assert stat.S_IMODE((tmp_path / ".keys.json.lock").stat().st_mode) == 0o600


def test_a_file_open_to_others_is_closed_with_the_next_change(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"a": KEY}))
    path.chmod(0o644)
    KeyFile("close", path).put("b", Secret(KEY))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (KEY, {"1": KEY}),
        (json.dumps([KEY, "b"]), {"1": KEY, "2": "b"}),
        ("{}", {}),
        ("", {}),
        ('{"x": "y"}', {"x": "y"}),
    ],
)
def test_whatever_form_the_file_had_its_keys_and_their_labels_stay(
    tmp_path: Path, text: str, kept: dict[str, str]
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    KeyFile("close", path).put("whsub_1", Secret("new"))
    assert read(path) == {**kept, "whsub_1": "new"}


def test_a_key_that_gets_its_subscriptions_label_loses_the_one_it_had(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(KEY)
    KeyFile("close", path).put("whsub_1", Secret(KEY))
    assert read(path) == {"whsub_1": KEY}


def test_the_last_key_is_never_taken_away(tmp_path: Path) -> None:
    file = KeyFile("close", tmp_path / "keys.json")
    file.put("a", Secret(KEY))
    assert not file.remove("a")
    file.put("b", Secret("another"))
    assert not file.remove("c")
    assert file.remove("a")
    assert file.labels() == ["b"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "keys.json").symlink_to(tmp_path / "real" / "keys.json")
    KeyFile("close", tmp_path / "keys.json").put("a", Secret(KEY))
    assert (tmp_path / "keys.json").is_symlink()
    assert read(tmp_path / "real" / "keys.json") == {"a": KEY}


def test_where_nothing_can_be_written_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no secret_file.*set WEBHOOKS_SOURCES__close__SECRET_FILE="):
        KeyFile("close", None).require_writable()
    with pytest.raises(
        ConfigurationError, match=r"nothing can be written beside.*WEBHOOKS_SOURCES__close__SECRET_FILE="
    ):
        KeyFile("close", tmp_path / "nowhere" / "keys.json").require_writable()
    (tmp_path / "keys.json").write_text('{"a": [')
    with pytest.raises(ConfigurationError, match="not JSON"):
        KeyFile("close", tmp_path / "keys.json").require_writable()
    assert os.listdir(tmp_path) == ["keys.json"]


def test_changes_at_the_same_time_are_all_there_in_the_end(tmp_path: Path) -> None:
    def put(number: int) -> None:
        KeyFile("close", tmp_path / "keys.json").put(f"whsub_{number}", Secret(f"key {number}"))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(tmp_path / "keys.json")) == 12


def test_a_lock_that_is_never_let_go_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "PATIENCE", timedelta(milliseconds=50))
    file = KeyFile("close", tmp_path / "keys.json")
    with file._lock(), pytest.raises(ConfigurationError, match="another process has held the lock"):
        file.put("a", Secret(KEY))


def test_no_message_of_the_file_holds_a_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(f'{{"a": "{KEY}", "a": "{KEY}"}}')
    with pytest.raises(ConfigurationError) as raised:
        KeyFile("close", path).put("b", Secret(KEY))
    assert KEY not in str(raised.value)
