"""Who of the connections is late, who gives way, and how much they hold."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from webhooks.http.gunicorn.connections import (
    BODY_GRACE_SECONDS,
    BODY_SECONDS,
    HEAD_SECONDS,
    Connection,
    Connections,
    TooSlow,
    body_seconds,
    close_where_asked,
)


class Closed:
    """A socket that is gone already."""

    def shutdown(self, how: int) -> None:
        raise OSError("not connected")


def connection(begun: float, now: float = 0.0) -> Connection:
    made = Connection(Closed(), now)
    made.begun = begun
    return made


@pytest.mark.parametrize(
    ("received", "seconds"),
    [(0, BODY_GRACE_SECONDS), (1000, BODY_GRACE_SECONDS + 1), (20_000, BODY_SECONDS), (10**9, BODY_SECONDS)],
)
def test_a_body_of_ours_has_time_by_its_rate_and_half_a_minute_at_most(received: int, seconds: float) -> None:
    assert body_seconds(received) == seconds


def test_another_upload_goes_on_as_long_as_it_comes() -> None:
    assert body_seconds(0, is_ours=False) == BODY_SECONDS
    assert body_seconds(10**7, is_ours=False) == BODY_SECONDS + 10_000


def test_whoever_is_late_is_ended_and_told_so_if_something_came() -> None:
    table = Connections(limit=10)
    idle, partial, patient = connection(0), connection(1), connection(1, now=5)
    for one in (idle, partial, patient):
        table.waiting[one] = None
    assert not table.end_late_ones(HEAD_SECONDS, 2)
    assert not any(one.is_ended for one in (idle, partial, patient))
    assert not table.end_late_ones(HEAD_SECONDS + 1, 2)
    assert [(one.is_ended, one.ended_with) for one in (idle, partial, patient)] == [(True, 0), (True, 408), (False, 0)]
    assert list(table.waiting) == [patient]


def test_many_late_ones_are_ended_in_portions() -> None:
    table = Connections(limit=10)
    for _ in range(5):
        table.waiting[connection(1)] = None
    assert [table.end_late_ones(HEAD_SECONDS + 1, 2) for _ in range(4)] == [True, True, False, False]
    assert not table.waiting


def test_room_is_made_by_the_one_longest_without_a_request_and_else_by_one_that_reads_no_answer() -> None:
    table = Connections(limit=2)
    with contextlib.ExitStack() as stack:
        first, second = connection(1), connection(2)
        for one in (first, second):
            stack.enter_context(table.serving(one))
        table.answering[first] = None
        table.waiting[second] = None
        stack.enter_context(table.serving(connection(3)))
        assert (first.is_ended, second.is_ended) == (False, True)
        stack.enter_context(table.serving(connection(4)))
        assert first.is_ended
        assert table.count == 4
        stack.enter_context(table.serving(connection(5)))  # all are being answered: accepted all the same
    assert (table.count, table.waiting, table.answering) == (0, {}, {})


def test_over_the_budget_the_lowest_rate_gives_way_until_it_fits() -> None:
    table = Connections(limit=10, budget=1000)
    fast, slow, slower = connection(8), connection(1), connection(1)
    for one, size in ((fast, 400), (slow, 300), (slower, 200)):
        table.waiting[one] = None
        assert table.hold(one, size, 9.0)
    assert table.hold(fast, 500, 10.0)
    assert [(one.is_ended, one.ended_with) for one in (fast, slow, slower)] == [(False, 0), (True, 408), (True, 408)]
    assert table.held == fast.held == 900


def test_the_one_that_brings_too_much_may_be_the_slowest() -> None:
    table = Connections(limit=10, budget=100)
    one = connection(1)
    table.waiting[one] = None
    assert table.hold(one, 101, 10.0)
    assert one.is_ended
    assert table.held == 0


def test_where_all_are_young_nobody_gives_way() -> None:
    table = Connections(limit=10, budget=100)
    one, other = connection(9.5), connection(9.6)
    for each in (one, other):
        table.waiting[each] = None
    assert table.hold(one, 60, 10.0)
    assert not table.hold(other, 60, 10.0)
    table.complete(other)
    assert (table.held, one.is_ended) == (60, False)


def test_too_slow_is_a_reset_connection_for_gunicorn_and_a_time_out_for_us() -> None:
    error = TooSlow("a request")
    assert isinstance(error, TimeoutError)
    assert isinstance(error, ConnectionResetError)
    assert str(error).endswith("a request took too long")


@pytest.mark.parametrize(
    ("headers", "closes"), [([], False), ([("Connection", "close")], True), ([("connection", "Keep-Alive")], False)]
)
def test_an_answer_that_says_so_closes_its_connection(headers: list[tuple[str, str]], closes: bool) -> None:
    class Response:
        closed = False

        def start_response(self, *arguments: Any) -> None:
            assert arguments == ("200 OK", headers)

        def force_close(self) -> None:
            self.closed = True

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", headers)
        return [b"body"]

    response = Response()
    assert close_where_asked(application)({}, response.start_response) == [b"body"]
    assert response.closed is closes
