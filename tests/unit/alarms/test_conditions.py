"""Which alarms stand, by figures alone: a table of figures and names."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import START, each
from webhooks.operations.alarms.conditions import (
    AlarmBounds,
    AlarmFacts,
    ArrivalFigures,
    HandlerFigures,
    StandingAlarm,
    standing,
)
from webhooks.operations.alarms.table import ALARMS, Severity
from webhooks.operations.engine import EngineTrouble

LONG_AGO = START - timedelta(hours=7)
LATELY = START - timedelta(minutes=1)
BOUNDS = AlarmBounds({"shop": timedelta(hours=6)}, timedelta(minutes=5), {"slow": timedelta(hours=1)})


def of_handler(facts: HandlerFigures, name: str = "crm.sync") -> list[StandingAlarm]:
    return standing(AlarmFacts(START, handlers={name: facts}), BOUNDS)


def of_source(facts: ArrivalFigures, name: str = "shop") -> list[StandingAlarm]:
    return standing(AlarmFacts(START, sources={name: facts}), BOUNDS)


@pytest.mark.parametrize(
    ("ends", "oldest", "names"),
    [
        (None, None, []),
        (timedelta(days=7), timedelta(0), []),
        (timedelta(days=1), timedelta(0), ["partition-ending"]),
        (timedelta(days=7), timedelta(days=-30, minutes=-10), []),
        (timedelta(days=7), timedelta(days=-30, minutes=-20), ["partition-held"]),
    ],
)
def test_partitions_raise(ends: timedelta | None, oldest: timedelta | None, names: list[str]) -> None:
    at = [None if each is None else START + each for each in (ends, oldest)]
    found = standing(AlarmFacts(START, partitions_end_at=at[0], oldest_partition_at=at[1]), BOUNDS)
    assert [each.name for each in found] == names


@each(
    ("facts", "names"),
    [
        (HandlerFigures(), []),
        (HandlerFigures(due=3), []),
        (HandlerFigures(due=3, has_worker=False), ["no-worker"]),
        (HandlerFigures(due=0, has_worker=False), []),
        (HandlerFigures(due=3, has_worker=False, is_paused=True), ["paused-long"]),
        (HandlerFigures(due=3, has_worker=False, unserved_queue="video"), ["queue-without-worker"]),
        (HandlerFigures(due=3, has_worker=True, unserved_queue="video"), []),
        (HandlerFigures(due=0, has_worker=False, unserved_queue="video"), []),
        (HandlerFigures(due=3, has_worker=False, unserved_queue="video", is_paused=True), ["paused-long"]),
        (HandlerFigures(due=3, fresh_since=LATELY), []),
        (HandlerFigures(due=3, fresh_since=START - timedelta(minutes=6)), ["backlog-old"]),
        (HandlerFigures(due=3, fresh_since=START - timedelta(minutes=6), is_paused=True), ["paused-long"]),
        (HandlerFigures(died=1, example=7), ["dead"]),
        (HandlerFigures(runs=10, failed=1), []),
        (HandlerFigures(runs=10, failed=2), ["failing"]),
        (HandlerFigures(runs=1, failed=1), ["failing"]),
        (HandlerFigures(retrying=3, failing_since=LONG_AGO), ["failing"]),
        (HandlerFigures(retrying=0, failing_since=LONG_AGO), []),
        (HandlerFigures(is_held_back=True), ["circuit-open"]),
        (HandlerFigures(lanes=2), ["lane-blocked"]),
        (
            HandlerFigures(due=1, has_worker=False, died=2, lanes=1, is_held_back=True, runs=4, failed=4),
            ["no-worker", "dead", "failing", "circuit-open", "lane-blocked"],
        ),
    ],
)
def test_a_handlers_figures_raise(facts: HandlerFigures, names: list[str]) -> None:
    assert [each.name for each in of_handler(facts)] == names


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (ArrivalFigures(), []),
        (ArrivalFigures(received_at=LATELY), []),
        (ArrivalFigures(received_at=LONG_AGO), ["source-silent"]),
        (ArrivalFigures(refused=19), []),
        (ArrivalFigures(refused=20), ["refusing"]),
        (ArrivalFigures(refused=20, received_at=LATELY), []),
        (ArrivalFigures(unavailable=20), ["not-accepting"]),
        (ArrivalFigures(paused=1), ["subscription-unhealthy"]),
        (ArrivalFigures(quarantined=1), ["quarantine"]),
        (ArrivalFigures(LONG_AGO, 20, 20, 1, 1), [
            "not-accepting", "source-silent", "subscription-unhealthy", "refusing", "quarantine",
        ]),
    ],
)  # fmt: skip
def test_a_sources_figures_raise(facts: ArrivalFigures, names: list[str]) -> None:
    assert [each.name for each in of_source(facts)] == names


def test_handlers_of_a_queue_without_a_worker_are_one_alarm_with_its_command() -> None:
    waiting = HandlerFigures(due=3, has_worker=False, unserved_queue="video")
    (each,) = standing(AlarmFacts(START, handlers={"a": waiting, "b": waiting}), BOUNDS)
    assert (each.name, each.subject, each.count, each.command) == (
        "queue-without-worker",
        "video",
        6,
        "webhooks worker --queues video",
    )


def test_an_engine_that_is_silent_raises_with_the_time_since_when() -> None:
    (each,) = standing(AlarmFacts(START, engine=EngineTrouble("nothing has come of it", LONG_AGO)), BOUNDS)
    assert (each.name, each.subject, each.began_at) == ("engine-silent", "", LONG_AGO)
    assert each.command == "webhooks worker"


def test_a_source_without_expect_within_is_never_silent() -> None:
    assert of_source(ArrivalFigures(received_at=LONG_AGO), "other") == []


def test_a_source_that_is_not_configured_any_more_has_no_subscriptions() -> None:
    facts = AlarmFacts(START, sources={"shop": ArrivalFigures(paused=1), "gone": ArrivalFigures(paused=1)})
    found = standing(facts, AlarmBounds(sources=frozenset({"shop"})))
    assert [(each.name, each.subject) for each in found] == [("subscription-unhealthy", "shop")]


def test_a_handler_has_its_own_max_wait() -> None:
    facts = HandlerFigures(due=1, fresh_since=START - timedelta(minutes=6))
    assert of_handler(facts, "slow") == []


def test_the_worst_comes_first_and_every_product_alarm_can_be_raised() -> None:
    everything = AlarmFacts(
        START,
        {
            "a": HandlerFigures(1, LONG_AGO, False, 1, 1, None, 1, 1, 0, None, 1, False, True),
            "b": HandlerFigures(is_paused=True),
            "c": HandlerFigures(due=1, has_worker=False, unserved_queue="video"),
        },
        {"shop": ArrivalFigures(LONG_AGO, 20, 20, 1, 1)},
        START,
        START - timedelta(days=40),
        EngineTrouble("nothing comes of it"),
    )
    found = standing(everything, BOUNDS)
    assert [each.severity for each in found] == sorted((each.severity for each in found), reverse=True)
    assert {each.name for each in found} == {alarm.name for alarm in ALARMS.values() if alarm.is_in_product}


def test_a_command_names_its_subject() -> None:
    (each,) = of_handler(HandlerFigures(died=2, example=7, error="KeyError: 'token'"))
    assert each.command == "webhooks deliveries list --state dead --handler crm.sync"
    assert (each.severity, each.count, each.example) == (Severity.WARNING, 2, 7)
    assert "KeyError" not in each.text
