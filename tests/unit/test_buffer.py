"""Who gets a thread next, and how much more may be claimed."""

from __future__ import annotations

import pytest

from tests.unit.attempts import attempt_of
from webhooks.delivery import RunningAttempt, buffer
from webhooks.delivery.attempt import Cause
from webhooks.delivery.buffer import ISOLATED_AT_ONCE, Buffer


class Time:
    """Stands where it is put."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(buffer, "time", made)
    monkeypatch.setattr("webhooks.delivery.attempt.time", made)
    return made


def again(attempt: RunningAttempt) -> RunningAttempt:
    return RunningAttempt(attempt.claimed, attempt.handler)


def test_a_late_end_of_an_abandoned_attempt_frees_no_other_place() -> None:
    waiting = Buffer(["h"], 2)
    old = attempt_of()
    waiting.add([old])
    assert waiting.next() is old
    waiting.finished(old)  # timed out
    new = again(old)
    waiting.add([new])
    assert waiting.next() is new
    waiting.finished(old)  # the abandoned thread ends
    assert waiting.running() == [new]


def test_slow_handlers_together_leave_threads_and_places_to_others() -> None:
    waiting = Buffer(["slow", "slower", "new"], 8)
    waiting.note_run("slow", 5.0)
    waiting.note_run("slower", 9.0)
    capacity = waiting.capacity()
    assert capacity.slow_places == 6
    assert set(capacity.slow) == {"slow", "slower", "new"}, "unknown ones count as slow until they are known"
    waiting.note_run("new", 0.001)
    capacity = waiting.capacity()
    assert set(capacity.fast) == {"new"}
    assert capacity.fast["new"] > 6


def test_a_buffer_is_filled_again_when_it_is_half_empty_and_not_place_by_place(time: Time) -> None:
    waiting = Buffer(["h"], 2)
    waiting.note_run("h", 0.038)  # ten of them in the time that may be claimed ahead
    waiting.add([attempt_of() for _ in range(waiting.capacity().fast["h"])])
    assert [attempt.delivery.handler for attempt in waiting.unstarted()] == ["h"] * 12, "two at once and ten ahead"
    waiting.add([attempt_of() for _ in range(8)])
    told = []
    while not waiting.capacity().fast:
        attempt = waiting.next()
        assert attempt is not None
        time.now += 0.038
        told.append(waiting.finished(attempt))
    assert told == [False, False, True], "the thread that leaves half of it tells the worker to claim"


def test_those_that_run_isolated_leave_threads_to_the_others() -> None:
    waiting = Buffer(["h"], 2 * ISOLATED_AT_ONCE)
    crowd = [attempt_of(died=True) for _ in range(ISOLATED_AT_ONCE + 2)]
    healthy = attempt_of()
    waiting.add([*crowd, healthy])
    taken = [waiting.next() for _ in range(ISOLATED_AT_ONCE + 1)]
    assert taken == [*crowd[:ISOLATED_AT_ONCE], healthy]
    waiting.finished(crowd[0])
    assert waiting.next() is crowd[ISOLATED_AT_ONCE]


def test_what_died_with_its_worker_begins_one_after_the_other(time: Time) -> None:
    waiting = Buffer(["h"], 8)
    first, second, third = (attempt_of(died=True, single=True) for _ in range(3))
    other = attempt_of()
    waiting.add([first, second, other])
    assert [waiting.next(), waiting.next()] == [first, other], "what is no suspect goes past it"
    assert waiting.next_now() is None
    waiting.finished(first)
    assert waiting.next() is second
    waiting.add([third])
    assert waiting.next_now() is None
    time.now += 0.02
    assert waiting.next() is third, "and one that runs on holds nothing up"


def test_where_connections_are_short_no_more_is_claimed_than_can_run(time: Time) -> None:
    waiting = Buffer(["s", "other"], 4, sessions=["s"])
    assert waiting.capacity().session_places is None
    attempts = [attempt_of("s") for _ in range(3)]
    waiting.add(attempts)
    assert [waiting.next() for _ in range(3)] == attempts
    assert waiting.short(attempts[2]) == 2, "two have a connection"
    put_back = again(attempts[2])
    waiting.put_back(attempts[2], put_back)
    assert waiting.capacity().session_places == 0
    assert waiting.next_now() is None
    waiting.finished(attempts[0])
    assert waiting.next() is put_back
    time.now += 60
    assert waiting.capacity().session_places is None, "after a while as many as before are let try"


def test_what_was_revoked_while_it_waited_still_comes_to_a_thread_which_looks() -> None:
    waiting = Buffer(["h"], 2)
    attempt = attempt_of()
    waiting.add([attempt])
    attempt.revoke(Cause.LEASE_LOST, keeps_thread=True)
    assert waiting.next() is attempt
    assert waiting.is_busy


def test_a_closed_buffer_lets_threads_end() -> None:
    waiting = Buffer(["h"], 2)
    waiting.add([attempt_of()])
    waiting.close()
    assert waiting.next() is None


def test_how_long_a_handler_takes_is_known_before_its_first_run_has_ended(time: Time) -> None:
    waiting = Buffer(["h"], 2)
    assert waiting.means() == {}
    first, second = attempt_of(), attempt_of()
    waiting.add([first, second])
    assert waiting.next() is first
    time.now += 20
    assert waiting.next() is second
    time.now += 5
    assert waiting.means() == {"h": 25.0}
    waiting.finished(second)
    assert waiting.means() == {"h": 5.0}


@pytest.mark.parametrize(
    ("others", "mean", "sessions", "marks", "calls"),
    [
        (0, 0.001, [], {}, 0),
        (6, 0.001, [], {}, 0),
        (7, 0.001, [], {}, 1),  # all the threads it may have
        (0, 5.0, [], {}, 1),  # slow ones share their places
        (0, None, [], {}, 1),
        (0, 0.001, ["h"], {}, 1),  # another waits for the connection
        (0, 0.001, [], {"single": True}, 1),
        (0, 0.001, [], {"isolated": True}, 1),
    ],
)
def test_an_end_calls_another_thread_only_where_it_lets_more_begin_than_its_own_can_take(
    others: int, mean: float | None, sessions: list[str], marks: dict[str, bool], calls: int
) -> None:
    waiting = Buffer(["h"], 8, sessions)
    if mean is not None:
        waiting.note_run("h", mean)
    first = attempt_of()
    for name, value in marks.items():
        setattr(first, name, value)
    waiting.add([first, *(attempt_of() for _ in range(others))])
    taken = [waiting.next() for _ in range(others + 1)]
    called: list[int] = []
    waiting._work.notify = lambda n=1: called.append(n)  # type: ignore[method-assign]
    waiting._idle = 1
    (ended,) = (attempt for attempt in taken if attempt is first)
    waiting.finished(ended)
    assert len(called) == calls
