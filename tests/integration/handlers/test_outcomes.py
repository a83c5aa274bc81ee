"""The plugin `outcomes`: learned from calls and meetings, counted per user."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from handlers import outcomes
from tests.integration.handlers.histories import Bench, handlers_of, made, sample
from webhooks.model import Event

pytestmark = pytest.mark.one_database

PLUGINS = ("outcomes",)
CALL, MEETING = "activity.call", "activity.meeting"


def count(bench: Bench) -> list[tuple[str, str, str | None, int, int]]:
    return [
        (row["user_id"], row["outcome_id"], row["name"], row["calls"], row["meetings"])
        for row in bench.ask(outcomes.results)
    ]


def call(action: str, id: str, at: int, outcome: str | None, user: str = "user_1", kind: str = CALL) -> Event:
    return made(kind, action, id, at, {"user_id": user, "outcome_id": outcome})


def test_an_outcome_is_learned_from_the_call_that_has_it(bench: Bench) -> None:
    event = sample("call_updated_outcome_set")

    bench.dispatch(handlers_of(outcomes), event)

    outcome_id = event.data["outcome_id"]
    assert bench.ask(outcomes.known) == [
        {"id": outcome_id, "name": None, "description": None, "type": None, "applies_to": ("calls",)}
    ]
    assert count(bench) == [(event.data["user_id"], outcome_id, None, 1, 0)]


def test_an_outcome_seen_on_a_meeting_is_known_to_apply_to_calls_too(bench: Bench) -> None:
    bench.run(outcomes.count, call("created", "acti_1", 0, "outcome_1", kind=MEETING))

    assert bench.ask(outcomes.known)[0]["applies_to"] == ("calls", "meetings")


@pytest.mark.parametrize("order", range(6))
def test_what_events_tell_of_an_outcome_and_where_it_was_seen_add_up_in_every_order(bench: Bench, order: int) -> None:
    told = [
        made("outcome", "created", "outcome_1", 0, {"name": "Booked", "type": "custom"}),
        made("outcome", "updated", "outcome_1", 2, {"name": "Booked a visit", "type": "custom"}),
        call("created", "acti_1", 1, "outcome_1"),
    ]
    for event in list(itertools.permutations(told))[order]:
        bench.dispatch(handlers_of(outcomes), event)

    assert [(each["name"], each["applies_to"]) for each in bench.ask(outcomes.known)] == [
        ("Booked a visit", ("calls", "meetings"))
    ]
    assert count(bench) == [("user_1", "outcome_1", "Booked a visit", 1, 0)]


@pytest.mark.parametrize(
    ("name", "applies_to"),
    [("outcome_created_custom", ("calls", "meetings")), ("outcome_created_vm_dropped", ("calls",))],
)
def test_where_an_outcome_applies_follows_from_its_type_alone(
    bench: Bench, name: str, applies_to: tuple[str, ...]
) -> None:
    event = sample(name)

    bench.dispatch(handlers_of(outcomes), event)

    assert bench.ask(outcomes.known)[0]["applies_to"] == applies_to == tuple(event.data["applies_to"])


def test_counts_follow_edits_moves_to_another_user_and_deletions(bench: Bench) -> None:
    bench.run(outcomes.count, call("created", "acti_1", 0, "outcome_1"))
    bench.run(outcomes.count, call("created", "acti_2", 0, "outcome_1"))
    bench.run(outcomes.count, call("created", "acti_3", 0, "outcome_1", kind=MEETING))
    assert count(bench) == [("user_1", "outcome_1", None, 2, 1)]

    bench.run(outcomes.count, call("updated", "acti_1", 1, "outcome_2"))
    assert count(bench) == [("user_1", "outcome_1", None, 1, 1), ("user_1", "outcome_2", None, 1, 0)]

    bench.run(outcomes.count, call("updated", "acti_1", 2, "outcome_2", user="user_2"))
    bench.run(outcomes.count, call("deleted", "acti_2", 3, "outcome_1"))
    assert count(bench) == [("user_1", "outcome_1", None, 0, 1), ("user_2", "outcome_2", None, 1, 0)]

    bench.run(outcomes.count, call("updated", "acti_1", 4, None, user="user_2"))
    assert count(bench) == [("user_1", "outcome_1", None, 0, 1)]


def test_a_duplicate_counts_once(bench: Bench) -> None:
    for _ in range(3):
        bench.run(outcomes.count, call("created", "acti_1", 0, "outcome_1"))

    assert count(bench) == [("user_1", "outcome_1", None, 1, 0)]


def test_a_deleted_outcome_keeps_its_name_for_the_results_that_have_it(bench: Bench) -> None:
    known = {"name": "Booked", "type": "custom"}
    bench.run(outcomes.count, call("created", "acti_1", 0, "outcome_1"))
    bench.run(outcomes.describe, made("outcome", "created", "outcome_1", 0, known))
    bench.run(outcomes.describe, made("outcome", "deleted", "outcome_1", 1, known))

    assert count(bench) == [("user_1", "outcome_1", "Booked", 1, 0)]
    assert bench.ask(outcomes.known) == []


@pytest.mark.parametrize(
    ("previous", "runs"),
    [
        ({"note": "old"}, False),
        ({"duration": 0, "date_updated": "2026-03-10T12:00:00+00:00"}, False),
        ({"outcome_id": None}, True),
        ({"user_id": "user_0"}, True),
        ({"lead_id": "lead_0", "note": "old"}, True),
    ],
)
def test_only_an_update_that_touches_a_result_runs(previous: dict[str, Any], runs: bool) -> None:
    (handler,) = [each for each in handlers_of(outcomes) if each.name == "outcomes.count"]
    data = {"user_id": "user_1", "lead_id": "lead_1", "outcome_id": "outcome_1", "note": "new", "duration": 3}
    assert handler.where is not None

    holds, clause, value = handler.where.explain(made(CALL, "updated", "acti_1", 1, data, previous))

    assert holds is runs
    if not runs:
        assert 'changed("outcome_id")' in clause
        assert value
