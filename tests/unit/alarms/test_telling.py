"""Who is told what, and when: looks at a clock that moves, without a database or a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from tests.support import START, Clock
from webhooks.operations.alarms import telling
from webhooks.operations.alarms.conditions import StandingAlarm
from webhooks.operations.alarms.table import ALARMS, Severity
from webhooks.operations.alarms.telling import MOST_AN_HOUR, REPEAT, Audience, Tell, TellKind
from webhooks.store import EVERY, AlarmRow, TargetState, Told

OPS = Audience("ops", Severity.INFO)
NO_WORKER = StandingAlarm("no-worker", "crm", "handler crm: 3 deliveries are due", 3)
DEAD = StandingAlarm("dead", "crm", "handler crm: 1 died", 1)
SECOND = timedelta(seconds=1)


def wait_of(name: str) -> timedelta:
    return ALARMS[name].lasting


class Desk:
    """What is on record, and what targets heard that always answer."""

    def __init__(self, clock: Clock, *audiences: Audience) -> None:
        self.clock = clock
        self.audiences = audiences or (OPS,)
        self.rows: dict[tuple[str, str], AlarmRow] = {}

    def look(self, *standing: StandingAlarm, answers: bool = True) -> list[tuple[str, str, str]]:
        """One look; (target, kind, alarm) of what was told."""
        now = self.clock()
        self.rows = dict(telling.look(self.rows, standing, now, self.audiences).rows)
        told = []
        for audience in self.audiences:
            for tell in telling.tells(self.rows, audience, now, wait_of):
                told.append((audience.name, tell.kind.value, tell.row.name))
                if answers:
                    row = self.rows[tell.row.key]
                    self.rows[row.key] = telling.heard(row, audience.name, tell, now)
        return told


def test_an_alarm_is_told_once_it_has_stood_for_its_time(clock: Clock) -> None:
    desk = Desk(clock)
    assert desk.look(NO_WORKER) == []
    clock.move(timedelta(minutes=2) - SECOND)
    assert desk.look(NO_WORKER) == []
    clock.move(SECOND)
    assert desk.look(NO_WORKER) == [("ops", "raised", "no-worker")]
    assert desk.look(NO_WORKER) == []


def test_an_alarm_without_a_time_is_told_at_once(clock: Clock) -> None:
    assert Desk(clock).look(DEAD) == [("ops", "raised", "dead")]


def test_what_the_figures_say_of_the_beginning_counts(clock: Clock) -> None:
    failing = StandingAlarm("failing", "crm", "…", 3, began_at=clock() - timedelta(minutes=10))
    assert Desk(clock).look(failing) == [("ops", "raised", "failing")]


def test_an_alarm_that_ends_before_its_time_is_not_told(clock: Clock) -> None:
    desk = Desk(clock)
    desk.look(NO_WORKER)
    clock.move(timedelta(minutes=1))
    assert desk.look() == []
    assert desk.rows == {}
    clock.move(timedelta(minutes=1))
    assert desk.look(NO_WORKER) == []  # it begins anew


def test_it_is_repeated_every_four_hours_and_resolved_once(clock: Clock) -> None:
    desk = Desk(clock)
    assert desk.look(DEAD) == [("ops", "raised", "dead")]
    clock.move(REPEAT - SECOND)
    assert desk.look(DEAD) == []
    clock.move(SECOND)
    assert desk.look(DEAD) == [("ops", "again", "dead")]
    clock.move(REPEAT)
    assert desk.look(DEAD) == [("ops", "again", "dead")]
    assert desk.look() == [("ops", "resolved", "dead")]
    assert desk.look() == []
    assert desk.rows == {}


def test_it_is_told_again_when_it_gets_worse(clock: Clock) -> None:
    desk = Desk(clock)
    desk.look(DEAD)
    row = desk.rows[DEAD.key]
    heard = Told(clock(), int(Severity.INFO), clock())
    desk.rows[DEAD.key] = dataclasses.replace(row, told={"ops": heard})
    assert desk.look(DEAD) == [("ops", "worse", "dead")]
    assert desk.look(DEAD) == []


def test_what_was_not_answered_is_told_again(clock: Clock) -> None:
    desk = Desk(clock)
    assert desk.look(DEAD, answers=False) == [("ops", "raised", "dead")]
    assert desk.look(DEAD) == [("ops", "raised", "dead")]
    assert desk.look(answers=False) == [("ops", "resolved", "dead")]
    assert desk.look() == [("ops", "resolved", "dead")]


def test_an_alarm_that_ends_before_a_target_heard_of_it_is_not_resolved(clock: Clock) -> None:
    desk = Desk(clock)
    desk.look(DEAD, answers=False)
    assert desk.look() == []


def test_an_end_that_was_not_told_and_a_new_beginning_are_one_alarm(clock: Clock) -> None:
    desk = Desk(clock)
    desk.look(DEAD)
    desk.look(answers=False)
    assert desk.look(DEAD) == []
    assert desk.look() == [("ops", "resolved", "dead")]


def test_targets_hear_what_they_want(clock: Clock) -> None:
    everything, critical = Audience("all", Severity.INFO), Audience("night", Severity.CRITICAL)
    some = Audience("some", Severity.INFO, frozenset({"dead"}))
    desk = Desk(clock, everything, critical, some)
    clock.move(-timedelta(minutes=2))
    desk.look(NO_WORKER)
    clock.move(timedelta(minutes=2))
    assert desk.look(NO_WORKER, DEAD) == [
        ("all", "raised", "no-worker"),
        ("all", "raised", "dead"),
        ("night", "raised", "no-worker"),
        ("some", "raised", "dead"),
    ]


def test_what_a_target_heard_that_is_gone_holds_no_row(clock: Clock) -> None:
    desk = Desk(clock, OPS)
    desk.look(DEAD)
    desk.audiences = (Audience("other", Severity.INFO),)
    assert desk.look() == []
    assert desk.rows == {}


@pytest.mark.parametrize("subject", ["crm", EVERY])
def test_a_muted_alarm_is_told_after_its_mute(clock: Clock, subject: str) -> None:
    desk = Desk(clock)
    until = clock() + timedelta(hours=2)
    desk.rows["dead", subject] = AlarmRow("dead", subject, muted_until=until)
    assert desk.look(DEAD) == []
    clock.move(timedelta(hours=2))
    assert desk.look(DEAD) == [("ops", "raised", "dead")]


def test_a_mute_is_kept_while_nothing_stands_and_ends_by_itself(clock: Clock) -> None:
    desk = Desk(clock)
    desk.rows["dead", "crm"] = AlarmRow("dead", "crm", muted_until=clock() + timedelta(hours=2))
    desk.look()
    assert ("dead", "crm") in desk.rows
    clock.move(timedelta(hours=2))
    desk.look()
    assert desk.rows == {}


def test_the_end_of_a_muted_alarm_is_told_to_those_that_heard_of_it(clock: Clock) -> None:
    desk = Desk(clock)
    desk.look(DEAD)
    desk.rows[DEAD.key] = dataclasses.replace(desk.rows[DEAD.key], muted_until=clock() + timedelta(hours=9))
    clock.move(REPEAT)
    assert desk.look(DEAD) == []
    assert desk.look() == [("ops", "resolved", "dead")]


# -- how much, and how often ------------------------------------------------------------------------------------


def tells(number: int) -> list[Tell]:
    return [Tell(TellKind.RAISED, AlarmRow("dead", f"h{n}", START, 2)) for n in range(number)]


def sent(number: int, at: datetime) -> tuple[datetime, ...]:
    return tuple(at for _ in range(number))


@pytest.mark.parametrize(
    ("waiting", "before", "sizes"),
    [
        (0, 0, []),
        (3, 0, [1, 1, 1]),
        (MOST_AN_HOUR, 0, [1] * MOST_AN_HOUR),
        (MOST_AN_HOUR + 5, 0, [1] * (MOST_AN_HOUR - 1) + [6]),
        (5, MOST_AN_HOUR - 1, [5]),
        (1, MOST_AN_HOUR - 1, [1]),
        (5, MOST_AN_HOUR, []),
    ],
)
def test_at_most_twenty_messages_an_hour_the_last_one_a_summary(
    waiting: int, before: int, sizes: Sequence[int]
) -> None:
    state = TargetState("ops", sent=sent(before, START))
    groups = telling.packed(tells(waiting), state, START)
    assert [len(group) for group in groups] == sizes
    assert telling.packed(tells(1), state, START + timedelta(hours=1)) == [tells(1)]


def test_a_target_that_does_not_answer_is_tried_less_and_less(clock: Clock) -> None:
    state, pauses = TargetState("ops"), []
    began = clock()
    while clock() - began < timedelta(hours=4):
        if telling.may_try(state, clock()):
            if state.tried_at is not None:
                pauses.append((clock() - state.tried_at).total_seconds())
            state = telling.after(state, clock(), "it answered 500")
        clock.move(timedelta(seconds=30))
    assert pauses[:7] == [30, 60, 120, 240, 480, 600, 600]
    assert pauses[-2:] == [3600, 3600]
    assert state.failing_since == began
    state = telling.after(state, clock(), None)
    assert (state.failing_since, state.failures, state.error, len(state.sent)) == (None, 0, None, 1)
