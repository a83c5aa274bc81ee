"""A socket on which nothing waits past a deadline, as gunicorn's threads use it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from webhooks.http.gunicorn import thread_worker as gunicorn_threads
from webhooks.http.gunicorn.connections import TooSlow
from webhooks.http.gunicorn.thread_worker import TimedSocket


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gunicorn_threads, "time", clock)
    return clock


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_what_came_is_read_although_the_deadline_has_passed(
    pair: tuple[socket.socket, socket.socket], clock: Clock
) -> None:
    """It waited for a thread, not for its sender."""
    client = TimedSocket(pair[0])
    pair[1].sendall(b"GET / HTTP")
    clock.now += 1000
    client.begin_head()
    assert client.recv(100) == b"GET / HTTP"
    with pytest.raises(TooSlow):
        client.recv(100)


@pytest.mark.parametrize(("is_body", "at_most"), [(False, 10.0), (True, 30.0)], ids=["head", "body"])
def test_a_sender_that_always_has_something_more_ends_at_its_deadline_too(
    is_body: bool, at_most: float, clock: Clock
) -> None:
    """Each byte comes before the shortest wait is over: no time-out of a socket would end this."""
    timed = TimedSocket(Fake(most=1))
    begin = clock.now
    timed.begin_head()
    if is_body:
        timed.begin_body()

    def read_for(seconds: float) -> None:
        while clock.now - begin < seconds:
            timed.recv(8192)
            clock.now += 0.0009

    with pytest.raises(TooSlow):
        read_for(1000)
    assert clock.now - begin == pytest.approx(at_most, abs=0.01)


@pytest.mark.parametrize("seconds", [0.0, 5.0, 1000.0])
def test_one_that_waited_for_a_thread_has_a_moment_to_be_read(seconds: float, clock: Clock) -> None:
    timed = TimedSocket(Fake())
    clock.now += seconds
    timed.begin_head()
    for _ in range(20):
        clock.now += 0.01
        timed.recv(10)
    timed.begin_body()
    for _ in range(20):
        clock.now += 0.01
        timed.recv(8192)


@pytest.mark.parametrize(("passed", "limit"), [(0.0, 10.0), (4.0, 6.0), (9.5, 0.5), (10.0, 0.001), (99.0, 0.001)])
def test_a_head_has_what_is_left_of_its_time(passed: float, limit: float, clock: Clock) -> None:
    client = Fake()
    timed = TimedSocket(client)
    clock.now += passed
    timed.begin_head()
    timed.recv(1)
    assert client.timeouts == [pytest.approx(limit)]


def test_a_body_has_time_by_its_rate_less_what_was_spent_in_the_queue(clock: Clock) -> None:
    client = Fake()
    timed = TimedSocket(client)
    clock.now += 3
    timed.begin_head()
    clock.now += 2  # spent on the head
    timed.begin_body()
    for _ in range(2):
        timed.recv(1000)
        clock.now += 1
    assert client.timeouts == [pytest.approx(10 - 3), pytest.approx(11 - 3 - 1)]


def test_the_next_request_has_time_of_its_own(clock: Clock) -> None:
    client = Fake()
    timed = TimedSocket(client)
    timed.begin_body()
    timed.recv(1000)
    clock.now += 100
    timed.begin()
    timed.begin_head()
    timed.recv(1)
    assert client.timeouts == [10.0, 10.0]


def test_a_shorter_time_out_of_gunicorns_holds_and_is_its_own(pair: tuple[socket.socket, socket.socket]) -> None:
    client = TimedSocket(pair[0])
    client.settimeout(0.001)
    with pytest.raises(TimeoutError) as caught:
        client.recv(1)
    assert not isinstance(caught.value, TooSlow)
    assert client.gettimeout() == 0.001
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_an_answer_that_is_not_read_ends_in_time(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gunicorn_threads, "ANSWER_SECONDS", 0.001)
    waits: list[int] = []
    client = TimedSocket(pair[0], lambda: waits.append(1))
    with pytest.raises(TooSlow):
        client.sendall(b"x" * 10_000_000)
    assert waits == [1]


class Fake:
    """A socket that remembers its time-outs, and always has something. most: bytes that it gives at a time."""

    def __init__(self, most: int = 10**6) -> None:
        self.most = most
        self.timeouts: list[float] = []

    def settimeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def recv(self, size: int, flags: int = 0) -> bytes:
        return b"x" * min(size, self.most)


def test_a_worker_that_ends_leaves_nothing_for_a_last_collection() -> None:
    """Collecting would write to every object that it shares with the master, and so copy all of their memory."""
    code = (
        "import gc, types; from webhooks.http.gunicorn import settings;"
        "app = types.SimpleNamespace(callable=object()); gc.collect();"
        "settings.worker_exit(None, types.SimpleNamespace(app=app)); print(len(gc.get_objects()))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(said) < 1000
