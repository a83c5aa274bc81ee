"""What a process counts is handed over once, a turn at a time, and is bounded while it cannot be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from webhooks.errors import StorageUnavailable
from webhooks.model import AttemptOutcome, Delivery, DeliveryState, Disposition
from webhooks.store.tallies import FLUSH_SECONDS, MOST_KEYS, OTHER, UNTIMED, Counts, Kind, Ran, TallyCounter, bucket_of
from webhooks.store.tallies.counter import MOST_TURNS

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)


class Ledger:
    """Where a counter under test writes; `away` refuses."""

    def __init__(self) -> None:
        self.written: list[Sequence[tuple[float, Counts]]] = []
        self.woken = 0
        self.at = 100.0
        self.error: Exception | None = None
        self.counter = TallyCounter(self.write, wake=self.wake, clock=lambda: NOW, monotonic=lambda: self.at)

    def write(self, turns: Sequence[tuple[float, Counts]]) -> None:
        if self.error is not None:
            raise self.error
        self.written.append([(age, dict(counts)) for age, counts in turns])

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def delivery(age: timedelta = timedelta(seconds=0.4)) -> Delivery:
    return Delivery(1, 2, "h", DeliveryState.RUNNING, NOW, NOW - age)


def test_requests_and_runs_are_counted_by_name_outcome_and_time(ledger: Ledger) -> None:
    counter = ledger.counter
    for receipt in (Disposition.STORED, Disposition.DUPLICATE, Disposition.STORED):
        counter.accepted("close", receipt, 0.004)
    counter.refused("close", 401)
    counter.refused("", 404)
    counter.ran(delivery(), DeliveryState.SUCCEEDED, AttemptOutcome.SUCCEEDED)
    counter.ran(delivery(), DeliveryState.PENDING, AttemptOutcome.FAILED)
    counter.ran(delivery(), DeliveryState.DEAD, AttemptOutcome.FAILED)
    counter.flush()
    ((_, counts),) = ledger.written[0]
    assert counts == {
        (Kind.REQUESTS, "close", Disposition.STORED.code, bucket_of(0.004)): 2,
        (Kind.REQUESTS, "close", Disposition.DUPLICATE.code, bucket_of(0.004)): 1,
        (Kind.REQUESTS, "close", 401, UNTIMED): 1,
        (Kind.REQUESTS, "", 404, UNTIMED): 1,
        (Kind.RUNS, "h", Ran.SUCCEEDED, bucket_of(0.4)): 1,
        (Kind.RUNS, "h", Ran.RETRIED, UNTIMED): 1,
        (Kind.RUNS, "h", Ran.DEAD, bucket_of(0.4)): 1,
    }


def test_a_turn_is_written_once_it_is_ten_seconds_old_and_the_thread_is_woken_once(ledger: Ledger) -> None:
    counter = ledger.counter
    assert not counter.turn(), "nothing is counted, so no thread need wait"
    counter.refused("close", 401)
    counter.refused("close", 401)
    assert ledger.woken == 1
    ledger.at += FLUSH_SECONDS - 1
    assert counter.turn()
    assert not ledger.written
    ledger.at += 1
    assert not counter.turn()
    assert ledger.written == [[(FLUSH_SECONDS / 2, {(Kind.REQUESTS, "close", 401, UNTIMED): 2})]]
    counter.flush()
    assert len(ledger.written) == 1, "what was written is not written again"
    counter.refused("close", 401)
    assert ledger.woken == 2


def test_what_cannot_be_written_waits_with_its_age_and_no_longer_than_an_hour(ledger: Ledger) -> None:
    counter = ledger.counter
    ledger.error = StorageUnavailable("it is away")
    for _ in range(MOST_TURNS + 5):
        counter.refused("close", 503)
        ledger.at += FLUSH_SECONDS
        assert counter.turn(), "it is tried again"
    ledger.error = None
    counter.turn()
    (turns,) = ledger.written
    assert len(turns) == MOST_TURNS
    ages = [age for age, _ in turns]
    assert ages == sorted(ages, reverse=True)
    assert ages[0] - ages[-1] == (MOST_TURNS - 1) * FLUSH_SECONDS


def test_what_waited_is_written_in_parts_and_each_once(ledger: Ledger) -> None:
    ledger.error = StorageUnavailable("it is away")
    for _ in range(10):
        for number in range(MOST_KEYS):
            ledger.counter.refused(f"s{number}", 503)
        ledger.at += FLUSH_SECONDS
        ledger.counter.turn()
    ledger.error = None
    assert not ledger.counter.turn()
    assert [len(turns) for turns in ledger.written] == [4, 4, 2]
    assert sum(sum(counts.values()) for turns in ledger.written for _, counts in turns) == 10 * MOST_KEYS


def test_a_fault_in_writing_loses_figures_and_nothing_else(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    ledger.error = RuntimeError("a fault")
    ledger.counter.refused("close", 401)
    ledger.counter.flush()
    assert "are given up" in caplog.text
    assert not ledger.written
    assert not ledger.counter.turn()


def test_beyond_a_bound_names_are_counted_together(ledger: Ledger) -> None:
    for number in range(MOST_KEYS + 50):
        ledger.counter.refused(f"s{number}", 401)
    ledger.counter.flush()
    ((_, counts),) = ledger.written[0]
    assert len(counts) == MOST_KEYS + 1
    assert counts[Kind.REQUESTS, OTHER, 401, UNTIMED] == 50


def test_a_forked_process_counts_its_own(ledger: Ledger) -> None:
    ledger.counter.refused("close", 401)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"waits" if ledger.counter.turn() else b"empty")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        assert stream.read() == b"empty"
    os.waitpid(child, 0)
