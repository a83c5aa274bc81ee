"""What rows of counts add up to: who would get how many deliveries, and how that differs from then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import each
from webhooks.operations import Options
from webhooks.operations.replay.plan import HandlerCount, HandlerPlan, KindCount, fold

TODAY = Options()
THEN = Options(original=True)
ONLY_A = Options(handler="a")


def row(
    now: int | None, then: int, matching: int | None = None, *, handler: str = "a", known: bool = True
) -> HandlerCount:
    return HandlerCount(handler, now, then, matching, known)


@each(
    ("options", "counted", "plan"),
    [
        # a handler that gets the same as then
        (TODAY, row(5, 5), HandlerPlan("a", 5)),
        (THEN, row(5, 5), HandlerPlan("a", 5)),
        # one that is new, or gets more than then
        (TODAY, row(5, 0), HandlerPlan("a", 5, added=5)),
        (TODAY, row(5, 2), HandlerPlan("a", 5, added=3)),
        (THEN, row(5, 2), HandlerPlan("a", 2)),
        (THEN, row(5, 0), None),
        # one that got them then, and would not now
        (TODAY, row(None, 5), HandlerPlan("a", 0, left_out=5)),
        (THEN, row(None, 5), HandlerPlan("a", 5)),
        # one that this process does not know
        (TODAY, row(None, 5, known=False), HandlerPlan("a", 0, left_out=5)),
        (THEN, row(None, 5, known=False), None),
        # where the selection speaks of deliveries, only what matches
        (TODAY, row(5, 5, 3), HandlerPlan("a", 3)),
        (TODAY, row(5, 5, 0), None),
        (TODAY, row(2, 2, 3), HandlerPlan("a", 2)),
        (TODAY, row(None, 5, 3), None),
        (THEN, row(5, 4, 3), HandlerPlan("a", 3)),
        # for one handler only
        (ONLY_A, row(5, 5), HandlerPlan("a", 5)),
        (Options(handler="b"), row(5, 5), None),
    ],
)
def test_a_handlers_row_comes_to(options: Options, counted: HandlerCount, plan: HandlerPlan | None) -> None:
    totals = fold([KindCount(5, 5, [counted])], options)
    assert totals.handlers() == ([] if plan is None else [plan])
    assert totals.without == 5 - (plan.deliveries if plan is not None else 0)


def test_what_a_handler_of_then_that_is_gone_got_is_told_with_original_only() -> None:
    gone = KindCount(5, 5, [row(None, 5, known=False)])
    assert fold([gone], THEN).gone == {"a": 5}
    assert fold([gone], TODAY).gone == {}
    assert fold([gone], Options(original=True, handler="b")).gone == {}


def test_what_was_added_is_told_of_those_compared() -> None:
    (plan,) = fold([KindCount(1000, 100, [row(1000, 40)])], TODAY).handlers()
    assert (plan.deliveries, plan.added) == (1000, 60)


def test_kinds_add_up_by_handler_and_each_counts_those_without() -> None:
    kinds = [
        KindCount(10, 10, [row(10, 10), row(10, 0, handler="b")]),
        KindCount(3, 3, [row(3, 3)]),
        KindCount(4, 2),
    ]
    totals = fold(kinds, TODAY)
    assert totals.handlers() == [HandlerPlan("a", 13), HandlerPlan("b", 10, added=10)]
    assert (totals.events, totals.compared, totals.without) == (17, 15, 4)


@pytest.mark.parametrize("options", [TODAY, THEN])
def test_deliveries_of_more_events_than_are_counted_leave_none_without(options: Any) -> None:
    """Those that were never delivered are no events of the plan, but may have a delivery of then."""
    assert fold([KindCount(2, 2, [row(3, 3)])], options).without == 0
