"""Which keys of a source are held, which may go, and what comes next in a rotation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from webhooks.operations.keys import REST, KeyChange, KeyStep, KeyView, look, step

NOW = datetime(2026, 3, 10, 14, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def seen(**used: datetime | None) -> list[KeyView]:
    """The keys of a file that hold these labels, each with its last use."""
    known = {label: at for label, at in used.items() if at is not None}
    return look(list(used), list(used), NOW, known)


def test_labels_of_file_and_settings_are_told_apart_and_those_that_are_gone_stay_visible() -> None:
    views = look(["configured", "filed"], ["filed"], NOW, {"filed": NOW, "gone": NOW - HOUR})
    assert [(each.label, each.is_held, each.is_in_file, each.held_since) for each in views] == [
        ("configured", True, False, None),
        ("filed", True, True, NOW),
        ("gone", False, False, None),
    ]
    assert [each.last_used_at for each in views] == [None, NOW, NOW - HOUR]


@pytest.mark.parametrize(
    ("used", "may_go"),
    [
        ({"a": NOW}, []),
        ({"a": NOW - REST, "b": NOW}, ["a"]),
        ({"a": NOW - REST + HOUR, "b": NOW}, []),
        ({"a": None, "b": NOW}, []),
        ({"a": None, "b": None}, []),
        ({"a": NOW - 3 * REST, "b": NOW - REST, "c": NOW}, ["a", "b"]),
    ],
)
def test_a_key_may_go_once_another_was_used_long_after_it(used: dict[str, datetime | None], may_go: list[str]) -> None:
    """One that was never used is perhaps the new one."""
    assert [each.label for each in seen(**used) if each.may_go] == may_go


def test_a_key_that_is_gone_lets_none_go() -> None:
    assert not any(each.may_go for each in look(["a"], ["a"], NOW, {"a": NOW - 2 * REST, "gone": NOW}))


@pytest.mark.parametrize(
    ("used", "found"),
    [
        ({"a": NOW}, KeyChange(KeyStep.ADD, "a")),
        ({"a": NOW, "b": None}, KeyChange(KeyStep.WAIT, "a", "b")),
        ({"a": None, "b": None}, KeyChange(KeyStep.WAIT, "a", "b")),
        ({"a": NOW - HOUR, "b": NOW}, KeyChange(KeyStep.REST, "a", "b")),
        ({"b": NOW, "a": NOW - HOUR}, KeyChange(KeyStep.REST, "a", "b")),
        ({"a": NOW - REST, "b": NOW}, KeyChange(KeyStep.REMOVE, "a", "b")),
        ({"a": NOW - REST, "b": NOW, "c": None}, KeyChange(KeyStep.WAIT, "b", "c")),
    ],
)
def test_what_comes_next_follows_from_what_was_used(used: dict[str, datetime | None], found: KeyChange) -> None:
    assert step(seen(**used)) == found
