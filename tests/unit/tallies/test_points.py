"""Buckets, percentiles and spans: the numbers of a chart are about right, and there are never many."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import each, examples
from webhooks.model import AttemptOutcome, Disposition
from webhooks.store.tallies import BOUNDS_MS, SPANS, UNTIMED, WINDOWS, Ran, bucket_of, quantile_ms, receipt_of
from webhooks.store.tallies.points import LONGER, ran_of


def test_buckets_go_from_a_millisecond_to_a_day_by_1_2_5() -> None:
    assert BOUNDS_MS[:7] == (1, 2, 5, 10, 20, 50, 100)
    assert (len(BOUNDS_MS), BOUNDS_MS[-1]) == (25, 86_400_000)
    assert list(BOUNDS_MS) == sorted(BOUNDS_MS)


@each(
    ("seconds", "bucket"),
    [(-3.0, 0), (0.0, 0), (0.001, 0), (0.0011, 1), (0.002, 1), (0.42, 8), (86_400.0, 24), (86_400.1, LONGER)],
)
def test_a_time_falls_into_the_first_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    assert bucket_of(seconds) == bucket


@given(st.lists(st.floats(min_value=0.0005, max_value=80_000), min_size=1), st.sampled_from((0.5, 0.95, 0.99, 1.0)))
@settings(max_examples=examples(100))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    buckets = Counter(bucket_of(each) for each in seconds)
    ordered = sorted(seconds)
    wanted = share * len(ordered)
    true = next(value for number, value in enumerate(ordered, 1) if number >= wanted - 1e-9)
    found = quantile_ms(buckets, share)
    assert found is not None
    high = BOUNDS_MS[bucket_of(true)]
    assert (BOUNDS_MS[bucket_of(true) - 1] if bucket_of(true) else 0) * 0.999 <= found <= high * 1.001


def test_what_was_not_timed_is_in_no_percentile() -> None:
    assert quantile_ms({}, 0.5) is None
    assert quantile_ms({UNTIMED: 9}, 0.5) is None
    assert quantile_ms({UNTIMED: 9, 3: 1}, 0.99) == quantile_ms({3: 1}, 0.99)
    assert quantile_ms({LONGER: 1}, 0.5) == BOUNDS_MS[-1]


def test_a_window_has_at_most_72_points_and_its_span_is_kept_for_twice_as_long_as_it_is_compared() -> None:
    kept = {span.minutes: span.keep for span in SPANS}
    for window in WINDOWS.values():
        assert window.minutes % window.span == 0
        assert window.minutes // window.span <= 72
        assert kept[window.span] >= window.minutes + window.span
    assert kept[30] >= 2 * 24 * 60 + 30, "yesterday is told by half hours"


def test_each_span_is_made_of_whole_points_of_the_finer_one() -> None:
    for fine, coarse in itertools.pairwise(SPANS):
        assert coarse.minutes % fine.minutes == 0
        assert fine.keep >= 2 * coarse.minutes


@each(
    ("outcome", "is_dead", "ran"),
    [
        (AttemptOutcome.SUCCEEDED, False, Ran.SUCCEEDED),
        (AttemptOutcome.FAILED, False, Ran.RETRIED),
        (AttemptOutcome.TIMED_OUT, False, Ran.RETRIED),
        (AttemptOutcome.RETRY, False, Ran.RETRIED),
        (AttemptOutcome.LOST, False, Ran.RETRIED),
        (AttemptOutcome.FAILED, True, Ran.DEAD),
        (AttemptOutcome.LOST, True, Ran.DEAD),
        (AttemptOutcome.CANCELLED, False, Ran.CANCELLED),
        (AttemptOutcome.RELEASED, False, Ran.RELEASED),
    ],
)
def test_every_outcome_has_its_number(outcome: AttemptOutcome, is_dead: bool, ran: Ran) -> None:
    assert ran_of(outcome, is_dead=is_dead) is ran


def test_statuses_are_no_receipts() -> None:
    assert receipt_of(Disposition.REVISION.code) is Disposition.REVISION
    assert receipt_of(401) is None
