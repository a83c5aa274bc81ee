"""What `doctor` says of alarms: who is not told, and what nothing watches."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support import START
from webhooks.operations.doctor.alarm_checks import expect_within
from webhooks.operations.doctor.checks import diagnose
from webhooks.operations.doctor.facts import Facts, SourceFacts
from webhooks.store import TargetState

HOUR = timedelta(hours=1)
FAILING = TargetState("ops", START, 3, START - HOUR, "it answered 500")


def source(gaps: list[float], **options: object) -> SourceFacts:
    """A source whose arrivals lie so many hours apart, the last one now."""
    arrivals = [START]
    for gap in reversed(gaps):
        arrivals.append(arrivals[-1] - HOUR * gap)
    return SourceFacts("shop", START, START, arrivals=arrivals[::-1], **options)  # type: ignore[arg-type]


def codes(facts: Facts) -> list[str]:
    ours = {"alarm-target-failing", "no-heartbeat", "silence-not-watched"}
    return [finding.code for finding in diagnose(facts) if finding.code in ours]


def test_a_target_that_takes_nothing_is_found_with_the_command_that_tries_it() -> None:
    (finding,) = [each for each in diagnose(Facts(START, alarm_targets=["ops"], told=[FAILING], has_heartbeat=True)) if each.code == "alarm-target-failing"]  # fmt: skip
    assert finding.command == "webhooks alarms test ops"
    assert "it answered 500" in finding.text


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (Facts(START), []),
        (Facts(START, told=[FAILING]), []),
        (Facts(START, alarm_targets=["ops"]), ["no-heartbeat"]),
        (Facts(START, alarm_targets=["ops"], has_heartbeat=True), []),
        (Facts(START, [source([1] * 20)]), []),
        (Facts(START, [source([1] * 20)], alarm_targets=["ops"], has_heartbeat=True), ["silence-not-watched"]),
        (Facts(START, [source([1] * 20, expect_within=HOUR)], alarm_targets=["ops"], has_heartbeat=True), []),
        (
            Facts(START, told=[TargetState(":heartbeat", START, 1, START, "it answered 500")], has_heartbeat=True),
            ["alarm-target-failing"],
        ),
    ],
)
def test_what_is_said_of_alarms(facts: Facts, found: list[str]) -> None:
    assert codes(facts) == found


@pytest.mark.parametrize(
    ("gaps", "hours"),
    [
        ([1.0] * 5, None),
        ([20.0] * 30, 80),
        ([20.0] * 20 + [30.2], 121),
        ([0.01] * 400, 24),
        ([200.0] + [1.0] * 3, None),
    ],
    ids=["too few", "beyond two weeks", "the longest counts", "less than two weeks", "too few lately"],
)
def test_four_times_the_longest_silence_of_two_weeks_is_proposed(gaps: list[float], hours: int | None) -> None:
    assert expect_within(source(gaps)) == (None if hours is None else HOUR * hours)
