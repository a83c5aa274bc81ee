"""Partitions meet without a gap, whatever day it is, and ids tell their time."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.model import DeliveryState, id_at, instant_of
from webhooks.store.retention.partitions import (
    AHEAD,
    HOLDING,
    Partition,
    Period,
    boundary_after,
    gaps,
    period_of,
    ranges,
)

INSTANTS = st.datetimes(datetime(2020, 1, 2), datetime(2080, 1, 1), timezones=st.just(UTC))
PERIODS = st.sampled_from(Period)


@pytest.mark.parametrize(
    ("period", "at", "boundary"),
    [
        (Period.WEEK, "2026-11-23T00:00:00", "2026-11-30"),  # a Monday is not after itself
        (Period.WEEK, "2026-11-29T23:59:59", "2026-11-30"),
        (Period.WEEK, "2026-12-31T12:00:00", "2027-01-04"),
        (Period.MONTH, "2026-11-01T00:00:00", "2026-12-01"),
        (Period.MONTH, "2026-12-31T23:59:59", "2027-01-01"),
        (Period.MONTH, "2027-01-31T00:00:00", "2027-02-01"),
    ],
)
def test_partitions_begin_on_mondays_or_on_the_first(period: Period, at: str, boundary: str) -> None:
    found = boundary_after(datetime.fromisoformat(at).replace(tzinfo=UTC), period)

    assert found == datetime.fromisoformat(boundary).replace(tzinfo=UTC)


@given(at=INSTANTS, period=PERIODS)
def test_partitions_follow_one_another_until_enough_lie_ahead(at: datetime, period: Period) -> None:
    start = boundary_after(at, period)

    found = ranges(start, at, period)

    assert found[0][0] == start
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found))
    assert len(found) == AHEAD
    assert ranges(found[-1][1], at, period) == []


@given(at=INSTANTS, period=PERIODS)
def test_the_period_is_read_off_the_last_partition(at: datetime, period: Period) -> None:
    start = boundary_after(at, period)
    last = Partition("p", id_at(start), id_at(boundary_after(start, period)))

    assert period_of([last]) is period


@given(at=INSTANTS)
def test_an_id_tells_when_it_was_made(at: datetime) -> None:
    assert instant_of(id_at(at)) == at
    assert instant_of(id_at(at) + 4095) == at
    assert instant_of(id_at(at) + 4096) == at + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        ([(None, 10), (10, 20)], [(20, 30)]),
        ([(None, 10), (10, 30)], []),
        ([(10, 20), (20, 40)], [(0, 10)]),
        ([(10, 20)], [(0, 10), (20, 30)]),
        ([(None, 5), (10, 20), (25, None)], [(5, 10), (20, 25)]),
        ([(40, 50)], [(0, 30)]),
        ([], [(0, 30)]),
    ],
)
def test_what_no_partition_has_lies_in_the_gaps(
    bounds: list[tuple[int | None, int | None]], found: list[tuple[int, int]]
) -> None:
    assert gaps([Partition("p", lower, upper) for lower, upper in bounds], 30) == found


def test_the_rule_for_rows_says_which_deliveries_hold_a_partition() -> None:
    assert HOLDING == (DeliveryState.PENDING, DeliveryState.RUNNING, DeliveryState.DEAD)
