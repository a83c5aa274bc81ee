"""Which alarms stand, by figures alone: a table of figures and names."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import START
from webhooks.operations.alarms.conditions import AlarmFacts, Bounds, HandlerFacts, SourceStanding, Standing, standing
from webhooks.operations.alarms.table import ALARMS, Severity

LONG_AGO = START - timedelta(hours=7)
LATELY = START - timedelta(minutes=1)
BOUNDS = Bounds({"shop": timedelta(hours=6)}, timedelta(minutes=5), {"slow": timedelta(hours=1)})


def of_handler(facts: HandlerFacts, name: str = "crm.sync") -> list[Standing]:
    return standing(AlarmFacts(START, handlers={name: facts}), BOUNDS)


def of_source(facts: SourceStanding, name: str = "shop") -> list[Standing]:
    return standing(AlarmFacts(START, sources={name: facts}), BOUNDS)


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (HandlerFacts(), []),
        (HandlerFacts(due=3), []),
        (HandlerFacts(due=3, has_worker=False), ["no-worker"]),
        (HandlerFacts(due=0, has_worker=False), []),
        (HandlerFacts(due=3, has_worker=False, is_paused=True), ["paused-long"]),
        (HandlerFacts(due=3, fresh_since=LATELY), []),
        (HandlerFacts(due=3, fresh_since=START - timedelta(minutes=6)), ["backlog-old"]),
        (HandlerFacts(due=3, fresh_since=START - timedelta(minutes=6), is_paused=True), ["paused-long"]),
        (HandlerFacts(died=1, example=7), ["dead"]),
        (HandlerFacts(runs=10, failed=1), []),
        (HandlerFacts(runs=10, failed=2), ["failing"]),
        (HandlerFacts(runs=1, failed=1), ["failing"]),
        (HandlerFacts(retrying=3, failing_since=LONG_AGO), ["failing"]),
        (HandlerFacts(retrying=0, failing_since=LONG_AGO), []),
        (HandlerFacts(is_held_back=True), ["circuit-open"]),
        (HandlerFacts(lanes=2), ["lane-blocked"]),
        (
            HandlerFacts(due=1, has_worker=False, died=2, lanes=1, is_held_back=True, runs=4, failed=4),
            ["no-worker", "dead", "failing", "circuit-open", "lane-blocked"],
        ),
    ],
)
def test_a_handlers_figures_raise(facts: HandlerFacts, names: list[str]) -> None:
    assert [each.name for each in of_handler(facts)] == names


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (SourceStanding(), []),
        (SourceStanding(received_at=LATELY), []),
        (SourceStanding(received_at=LONG_AGO), ["source-silent"]),
        (SourceStanding(refused=19), []),
        (SourceStanding(refused=20), ["refusing"]),
        (SourceStanding(refused=20, received_at=LATELY), []),
        (SourceStanding(unavailable=20), ["not-accepting"]),
        (SourceStanding(paused=1), ["subscription-unhealthy"]),
        (SourceStanding(quarantined=1), ["quarantine"]),
        (SourceStanding(LONG_AGO, 20, 20, 1, 1), [
            "not-accepting", "source-silent", "subscription-unhealthy", "refusing", "quarantine",
        ]),
    ],
)  # fmt: skip
def test_a_sources_figures_raise(facts: SourceStanding, names: list[str]) -> None:
    assert [each.name for each in of_source(facts)] == names


def test_a_source_without_expect_within_is_never_silent() -> None:
    assert of_source(SourceStanding(received_at=LONG_AGO), "other") == []


def test_a_handler_has_its_own_max_wait() -> None:
    facts = HandlerFacts(due=1, fresh_since=START - timedelta(minutes=6))
    assert of_handler(facts, "slow") == []


@pytest.mark.parametrize(("days", "names"), [(1, ["partition-ending"]), (7, [])])
def test_the_last_partition_ends_soon(days: int, names: list[str]) -> None:
    facts = AlarmFacts(START, partitions_end_at=START + timedelta(days=days))
    assert [each.name for each in standing(facts, BOUNDS)] == names


def test_the_worst_comes_first_and_every_product_alarm_can_be_raised() -> None:
    everything = AlarmFacts(
        START,
        {
            "a": HandlerFacts(1, LONG_AGO, False, 1, 1, None, 1, 1, 0, None, 1, False, True),
            "b": HandlerFacts(is_paused=True),
        },
        {"shop": SourceStanding(LONG_AGO, 20, 20, 1, 1)},
        START,
    )
    found = standing(everything, BOUNDS)
    assert [each.severity for each in found] == sorted((each.severity for each in found), reverse=True)
    assert {each.name for each in found} == {alarm.name for alarm in ALARMS.values() if alarm.is_in_product}


def test_a_command_names_its_subject() -> None:
    (each,) = of_handler(HandlerFacts(died=2, example=7, error="KeyError: 'token'"))
    assert each.command == "webhooks deliveries list --state dead --handler crm.sync"
    assert (each.severity, each.count, each.example) == (Severity.WARNING, 2, 7)
    assert "KeyError" not in each.text
