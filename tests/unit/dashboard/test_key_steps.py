"""How far the change of a key is, as the page of a source says it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from webhooks.dashboard.pages.sources import key_steps
from webhooks.operations.sources import SourceView

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def view(**secrets: datetime | None) -> SourceView:
    return SourceView("stripe", "stripe", "/webhooks/stripe", secrets, timedelta(minutes=5), True, None, None)


def done(view: SourceView, subscriptions: list[Mapping[str, Any]] | None = None) -> list[bool]:
    return [step.is_done for step in key_steps(view, "/run/secrets/keys", subscriptions or [])]


def test_without_subscriptions_a_second_key_stands_beside_the_first_until_it_is_used() -> None:
    assert done(view(old=NOW)) == [False, False, False]
    assert done(view(old=NOW, new=None)) == [True, False, False]
    assert done(view(old=NOW, new=NOW)) == [True, True, False]
    assert "/run/secrets/keys" in key_steps(view(old=NOW), "/run/secrets/keys", [])[0].text
    assert "restart" in key_steps(view(old=NOW), "", [])[0].text


def test_with_subscriptions_the_command_is_named_and_its_steps_are_told() -> None:
    old = {"id": "whsub_1", "created_at": "2026-01-01", "is_key_held": True, "key_last_used_at": "2026-03-10"}
    new = {**old, "id": "whsub_2", "created_at": "2026-03-10"}
    (first, *_) = key_steps(view(whsub_1=NOW), "keys.json", [old])
    assert (first.is_done, first.command) == (False, "subscriptions rotate whsub_1")
    assert done(view(), [old]) == [False, False, False, False]
    assert done(view(), [new | {"is_key_held": False, "key_last_used_at": None}, old]) == [True, False, False, False]
    assert done(view(), [old, new | {"key_last_used_at": None}]) == [True, True, False, False]
    assert done(view(), [old, new]) == [True, True, True, False]
