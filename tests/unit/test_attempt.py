"""The attempt in hand: every event in every state, and the ledger that holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import each
from tests.unit.attempts import attempt_of
from webhooks.delivery import RunningAttempt
from webhooks.delivery.attempt import Cause, Ledger, Phase
from webhooks.errors import AttemptTimeout, LeaseLost

CLAIMED, RUNNING, ENDED, REVOKED, RECORDED = Phase

#: {event: what it does to an attempt, and answers}
EVENTS: dict[str, Callable[[RunningAttempt], Any]] = {
    "begin": lambda attempt: attempt.begin(),
    "end": lambda attempt: attempt.end(),
    "settle": lambda attempt: attempt.settle(),
    "time up": lambda attempt: attempt.revoke(Cause.TIME_UP),
    "stopped": lambda attempt: attempt.revoke(Cause.STOPPED),
    "lease lost": lambda attempt: attempt.revoke(Cause.LEASE_LOST, keeps_thread=True),
    "its process's time up": lambda attempt: attempt.revoke(Cause.TIME_UP, keeps_thread=True),
    "died": lambda attempt: attempt.revoke(Cause.DIED, keeps_thread=True),
}

#: {state: the events that lead there}
STATES: dict[str, tuple[str, ...]] = {
    "claimed": (),
    "running": ("begin",),
    "ended": ("begin", "end"),
    "taken": ("begin", "time up"),
    "taken, its thread ended": ("begin", "time up", "end"),
    "lease lost": ("begin", "lease lost"),
    "lease lost, its thread ended": ("begin", "lease lost", "end"),
    "died": ("begin", "died"),
    "taken while claimed": ("stopped",),
    "recorded": ("begin", "end", "settle"),
    "recorded, its thread runs": ("begin", "time up", "settle"),
}

TAKE = ("time up", "stopped")
LEAVE = ("lease lost", "its process's time up", "died")
#: {state: {event: (answer, phase after it)}}; what is not named changes nothing and is answered by False
TABLE: dict[str, dict[str, tuple[Any, Phase]]] = {
    "claimed": {
        "begin": (True, RUNNING),
        "end": (True, ENDED),
        "settle": (None, RECORDED),
        **dict.fromkeys(TAKE + LEAVE, (True, REVOKED)),
    },
    "running": {
        "begin": (False, RUNNING),
        "end": (True, ENDED),
        "settle": (None, RECORDED),
        **dict.fromkeys(TAKE + LEAVE, (True, REVOKED)),
    },
    "ended": {"end": (True, ENDED), "settle": (None, RECORDED)},
    "taken": {"end": (False, REVOKED), "settle": (None, RECORDED)},
    "taken, its thread ended": {"settle": (None, RECORDED)},
    "lease lost": {
        "end": (True, REVOKED),
        "settle": (None, RECORDED),
        **dict.fromkeys(TAKE, (True, REVOKED)),
    },
    "lease lost, its thread ended": {"end": (True, REVOKED), "settle": (None, RECORDED)},
    "died": {"end": (True, REVOKED), "settle": (None, RECORDED), **dict.fromkeys(TAKE, (True, REVOKED))},
    "taken while claimed": {"settle": (None, RECORDED)},
    "recorded": {"end": (True, RECORDED), "settle": (None, RECORDED)},
    "recorded, its thread runs": {"settle": (None, RECORDED)},
}


@each("event", EVENTS)
@each("state", STATES)
def test_what_an_event_does_in_a_state(state: str, event: str) -> None:
    attempt = attempt_of()
    for earlier in STATES[state]:
        EVENTS[earlier](attempt)
    before = attempt.phase
    answer, phase = TABLE[state].get(event, (False, before))
    assert (EVENTS[event](attempt), attempt.phase) == (answer, phase)


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        (("begin", "time up", "stopped"), Cause.TIME_UP),
        (("begin", "stopped", "time up"), Cause.STOPPED),
        (("begin", "lease lost", "time up"), Cause.TIME_UP),
        (("begin", "time up", "lease lost"), Cause.TIME_UP),
        (("begin", "died", "stopped"), Cause.STOPPED),
        (("begin", "end", "stopped"), None),
    ],
)
def test_the_first_that_takes_it_says_why(events: tuple[str, ...], cause: Cause | None) -> None:
    attempt = attempt_of()
    for event in events:
        EVENTS[event](attempt)
    assert attempt.cause is cause


class Ends:
    """A session, a coroutine and a process that note how they were ended."""

    def __init__(self) -> None:
        self.ended: list[Any] = []

    def abort(self, error: BaseException) -> None:
        self.ended.append(type(error))

    def cancel(self) -> None:
        self.ended.append("cancelled")

    def kill(self) -> None:
        self.ended.append("killed")


@pytest.mark.parametrize(
    ("cause", "error"),
    [
        (Cause.TIME_UP, AttemptTimeout),
        (Cause.STOPPED, AttemptTimeout),
        (Cause.LEASE_LOST, LeaseLost),
        (Cause.DIED, LeaseLost),
    ],
)
@pytest.mark.parametrize("is_late", [False, True], ids=["held before", "held too late"])
def test_a_revoked_attempt_ends_whatever_runs_for_it(cause: Cause, error: type[Exception], is_late: bool) -> None:
    attempt, ends = attempt_of(), Ends()
    attempt.begin()
    what: dict[str, Any] = {"session": ends, "job": ends, "kill": ends.kill}
    if not is_late:
        attempt.hold(**what)
        assert ends.ended == []
    attempt.revoke(cause)
    if is_late:
        attempt.hold(**what)
    assert ends.ended == ["killed", error, "cancelled"]


def test_what_comes_after_an_outcome_was_recorded_is_ended_too() -> None:
    """A process that starts, or a connection that opens, while its attempt is given back."""
    attempt, ends = attempt_of(), Ends()
    attempt.begin()
    attempt.revoke(Cause.STOPPED)
    attempt.settle()
    attempt.hold(kill=ends.kill)
    assert ends.ended == ["killed"]


def test_what_cannot_be_ended_keeps_the_rest_from_nothing(caplog: pytest.LogCaptureFixture) -> None:
    attempt, ends = attempt_of(), Ends()

    def fail() -> None:
        raise OSError

    attempt.hold(kill=fail, job=ends)  # type: ignore[arg-type]
    assert attempt.revoke(Cause.TIME_UP)
    assert ends.ended == ["cancelled"]
    assert "could not be ended" in caplog.text


def test_a_process_that_serves_others_by_now_is_not_killed() -> None:
    attempt, ends = attempt_of(), Ends()
    attempt.hold(kill=ends.kill)
    attempt.let_process_live()
    attempt.revoke(Cause.STOPPED)
    assert ends.ended == []


# -- the ledger ----------------------------------------------------------------------------------------------

#: {state: in which of its lists the ledger has the attempt}
LISTS = {
    "claimed": {"held"},
    "running": {"held"},
    "ended": {"held"},
    "taken": {"held", "taken", "unsettled", "abandoned"},
    "taken, its thread ended": {"held", "taken", "unsettled"},
    "lease lost": set(),
    "lease lost, its thread ended": set(),
    "died": {"held"},
    "recorded": set(),
    "recorded, its thread runs": {"taken", "abandoned"},
}


@pytest.mark.parametrize("state", LISTS)
def test_the_ledger_knows_what_is_to_be_done_for_each(state: str) -> None:
    ledger, attempt = Ledger(), attempt_of()
    ledger.add([attempt])
    for event in STATES[state]:
        EVENTS[event](attempt)
    assert {name for name in ("held", "taken", "unsettled", "abandoned") if getattr(ledger, name)()} == LISTS[state]


def test_the_ledger_forgets_what_is_recorded_once_no_thread_is_left() -> None:
    ledger, attempt = Ledger(), attempt_of()
    ledger.add([attempt])
    attempt.begin()
    attempt.revoke(Cause.TIME_UP)
    ledger.settle(attempt)
    assert ledger.abandoned() == [attempt]
    attempt.end()
    ledger.look_at(attempt)
    assert len(ledger) == 0


def test_an_attempt_that_did_not_begin_is_held_as_another() -> None:
    ledger, attempt, again = Ledger(), attempt_of(), attempt_of()
    ledger.add([attempt])
    ledger.replace(attempt, again)
    assert ledger.held() == [again]
    assert ledger.unrecorded() == {(again.delivery.id, again.delivery.token)}
    ledger.replace(attempt, attempt)
    assert ledger.held() == [again], "only in place of what is held"
