"""Long lists on a page: what is folded, and what of it is said once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from webhooks.dashboard.folding import MOST, Fold, fold, same_errors, split
from webhooks.model import Attempt, AttemptOutcome
from webhooks.operations.events import Moment, MomentKind

AT = datetime(2026, 3, 10, tzinfo=UTC)


def attempts(count: int, delivery: int = 1, error: str = "no") -> list[Attempt]:
    return [
        Attempt(
            delivery_id=delivery, number=number, outcome=AttemptOutcome.FAILED, started_at=AT + timedelta(seconds=number),
            finished_at=AT + timedelta(seconds=number), worker="w", error=error,
        )
        for number in range(1, count + 1)
    ]  # fmt: skip


def timeline(*every: list[Attempt]) -> list[Moment]:
    moments = [Moment(AT, "received", MomentKind.RECEIVED)]
    moments += [Moment(one.started_at, "attempt", MomentKind.ATTEMPT, None, one) for of in every for one in of]
    return sorted(moments, key=lambda moment: moment.at)


def test_a_short_list_is_shown_whole_and_of_a_long_one_both_ends() -> None:
    assert split([1, 2, 3, 4, 5, 6, 7, 8]) == ((), [2, 3, 4, 5, 6, 7, 8])
    assert split([1, 2, 3, 4, 5, 6, 7, 8, 9]) == ([2, 3, 4], [5, 6, 7, 8, 9])
    assert split([]) == ((), [])


def test_attempts_in_the_middle_are_one_line_where_the_first_of_them_was() -> None:
    many, few = attempts(12), attempts(2, delivery=2)
    found = list(fold(timeline(many, few), {1: many, 2: few}))
    (folded,) = [each for each in found if isinstance(each, Fold)]
    assert [each.attempt.number for each in folded.folded if each.attempt is not None] == [2, 3, 4, 5, 6, 7]
    assert (folded.stands_for, folded.left_out, folded.delivery_id) == (6, 0, 1)
    shown = [each.attempt.number for each in found if isinstance(each, Moment) and each.attempt is not None]
    assert shown == [1, 1, 2, 8, 9, 10, 11, 12]
    assert found.index(folded) == 3, "after what came, and both first attempts"


def test_of_very_many_the_latest_are_written() -> None:
    every = attempts(100)
    (folded,) = [each for each in fold(timeline(every), {1: every}) if isinstance(each, Fold)]
    assert (len(folded.folded), folded.left_out, folded.stands_for) == (MOST, 94 - MOST, 94)


def test_an_error_is_said_once_and_again_behind_a_fold() -> None:
    assert same_errors({1: attempts(3)}) == {(1, 2), (1, 3)}
    said_again = 12 - 5 + 1
    assert same_errors({1: attempts(12)}) == {(1, number) for number in range(2, 13) if number != said_again}
