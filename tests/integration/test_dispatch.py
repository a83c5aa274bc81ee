"""One attempt through its steps: filters, arguments, outcomes. Without a worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rig import Rig, rig
from webhooks import signals
from webhooks.delivery.attempt import Cause
from webhooks.delivery.dispatcher import own_change
from webhooks.errors import Discard, LeaseLost, Retry, StorageUnavailable
from webhooks.model import AttemptOutcome, Content, DeliveryCause, DeliveryState
from webhooks.routing import RetryPolicy, field

pytestmark = pytest.mark.one_database

OURS = "api_ours"


def read(raw: bytes, type: str) -> Content:
    """Every event of these tests was made with our own API key."""
    return Content(data={"n": 1}, changed_fields=("n",), object_id="lead_1", meta={"api_key_id": OURS})


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url, own={"close": [OURS]}, content=read) as made:
        yield made


def state_of(made: Rig, id: int) -> tuple[str, str | None]:
    row = made.row(id)
    return DeliveryState(row.state).label, row.reason


# -- filters -----------------------------------------------------------------------------------------------


def test_a_condition_that_is_false_cancels_without_an_attempt_and_says_which(made: Rig) -> None:
    @made.on(where=field("data.n") == 2)
    def h() -> None:
        raise AssertionError

    (id,) = made.put()
    made.run_one()
    state, reason = state_of(made, id)
    assert state == "cancelled"
    assert reason is not None
    assert reason.startswith("filtered: ")
    assert "value 1" in reason
    assert made.outcomes(id) == []
    assert made.row(id).attempts == 0


def test_a_condition_that_raises_fails_loudly_and_is_tried_again(made: Rig) -> None:
    def broken(event: Any) -> bool:
        raise LookupError("gone")

    @made.on(where=broken)
    def h() -> None:
        raise AssertionError

    (id,) = made.put()
    made.run_one()
    assert state_of(made, id) == ("pending", "LookupError: gone")
    assert made.row(id).failures == 1


def test_our_own_changes_are_cancelled_with_that_reason(made: Rig) -> None:
    @made.on(ignore_own=True)
    def h() -> None:
        raise AssertionError

    (id,) = made.put()
    made.run_one()
    assert state_of(made, id) == ("cancelled", f"own change: made with api_key_id {OURS}")


@pytest.mark.parametrize(
    ("meta", "whose"),
    [
        ({"api_key_id": OURS}, f"api_key_id {OURS}"),
        ({"oauth_client_id": OURS}, f"oauth_client_id {OURS}"),
        ({"api_key_id": "api_theirs"}, None),
        ({"api_key_id": None}, None),
        ({"api_key_id": [OURS]}, None),
        ({}, None),
    ],
    ids=["key", "client", "theirs", "null", "a list", "nothing"],
)
def test_whose_change_it_was_is_what_the_envelope_says(made: Rig, meta: dict[str, Any], whose: str | None) -> None:
    made.on()(lambda: None)
    made.put()
    event = made.claim().event
    assert event is not None
    assert own_change(replace(event, reader=lambda raw, type: Content(meta=meta)), frozenset({OURS})) == whose


def test_a_stale_delivery_is_skipped_where_its_handler_says_so(made: Rig) -> None:
    ran: list[int] = []

    @made.on(ordered_by="object_id", stale="skip")
    def h(event: Any) -> None:
        ran.append(event.id)

    made.put(lane="l", at=5)
    made.run_one()
    (older,) = made.put(lane="l", at=1)
    made.run_one()
    assert state_of(made, older) == ("cancelled", "stale: a newer event of its lane ran before")
    assert len(ran) == 1


def test_a_stale_delivery_runs_otherwise_and_is_told(made: Rig) -> None:
    seen: list[bool] = []

    @made.on(ordered_by="object_id")
    def h(delivery: Any) -> None:
        seen.append(delivery.stale)

    made.put(lane="l", at=5)
    made.run_one()
    made.put(lane="l", at=1)
    made.run_one()
    assert seen == [False, True]


def test_a_delivery_whose_event_was_pruned_is_cancelled(made: Rig) -> None:
    made.on()(lambda: None)
    (id,) = made.put()
    with made.database.write() as connection:
        connection.exec_driver_sql("delete from webhooks_events")
    made.run_one()
    assert state_of(made, id) == ("cancelled", "the event's payload was pruned")


# -- running -----------------------------------------------------------------------------------------------


def test_a_handler_gets_what_it_asks_for_by_name(made: Rig) -> None:
    got: dict[str, Any] = {}

    @made.on()
    def h(event: Any, session: Any, delivery: Any, data: Any, previous: Any, changed: Any, raw: Any, headers: Any,
          log: Any) -> None:  # fmt: skip
        got.update(locals())

    (id,) = made.put(body=b'{"a": 1}')
    made.run_one()
    assert (got["data"], got["changed"], got["raw"]) == ({"n": 1}, ("n",), b'{"a": 1}')
    assert (got["delivery"].id, got["delivery"].number) == (id, 1)
    assert got["delivery"].idempotency_key == f"{got['event'].id}:h"
    assert got["log"].extra == {"event_id": got["event"].id, "delivery_id": id, "handler": "h"}


def test_the_idempotency_key_is_the_same_over_attempts(made: Rig) -> None:
    keys: list[str] = []

    @made.on()
    def h(delivery: Any) -> None:
        keys.append(delivery.idempotency_key)
        raise LookupError

    made.put()
    for _ in range(3):
        made.run_one()
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("error", "state", "outcome", "counted"),
    [
        (Retry("busy", after=timedelta(hours=1)), "pending", "retry", 1),
        (Discard("spam"), "cancelled", "cancelled", 0),
        (SystemExit(3), "pending", "failed", 1),
        (KeyboardInterrupt(), "pending", "failed", 1),
        (GeneratorExit(), "pending", "failed", 1),
        (StorageUnavailable("away"), "pending", "lost", 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
@pytest.mark.parametrize("wants_session", [True, False])
def test_what_a_handler_raises_decides(
    made: Rig, error: BaseException, state: str, outcome: str, counted: int, wants_session: bool
) -> None:
    if wants_session:

        @made.on()
        def h(session: Any) -> None:
            raise error

    else:

        @made.on()
        def g() -> None:
            raise error

    (id,) = made.put()
    made.run_one()
    assert state_of(made, id)[0] == state
    assert made.outcomes(id) == [outcome]
    assert made.row(id).failures == counted


def test_a_handler_that_starts_threads_and_subprocesses_of_its_own_is_fine(made: Rig) -> None:
    @made.on()
    def h() -> None:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()

    (id,) = made.put()
    made.run_one()
    assert state_of(made, id)[0] == "succeeded"


def test_a_database_that_goes_away_again_and_again_counts_in_the_end(made: Rig) -> None:
    made.on()(lambda: None)
    (id,) = made.put()
    delivery = made.claim().delivery
    spared = [
        made.dispatcher.outcomes.interrupted(made.registry.get("h"), replace(delivery, number=n), "gone").counts
        for n in (1, 2, 30, 31)
    ]
    assert spared == [False, False, False, True]
    waits = [made.dispatcher.outcomes.interrupted(None, replace(delivery, number=n), "gone").wait for n in range(1, 30)]
    assert max(waits) <= timedelta(seconds=5)
    del id


# -- leases that ran out -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alone", "cause", "failures", "state", "outcome", "counts", "next_alone"),
    [
        (False, None, 0, "pending", "lost", False, True),
        (True, None, 0, "pending", "lost", False, True),
        (False, DeliveryCause.TIME_WAS_UP, 0, "pending", "timed-out", True, False),
        (False, DeliveryCause.TIME_WAS_UP, 2, "dead", "timed-out", True, False),
        (False, DeliveryCause.WAS_STOPPED, 0, "pending", "released", False, False),
    ],
    ids=["first death", "with its worker while alone", "time was up", "time was up too often", "was stopped"],
)
def test_what_becomes_of_a_delivery_whose_worker_is_gone(
    made: Rig,
    alone: bool,
    cause: DeliveryCause | None,
    failures: int,
    state: str,
    outcome: str,
    counts: bool,
    next_alone: bool,
) -> None:
    made.on(retry=RetryPolicy(max_attempts=3))(lambda: None)
    made.put()
    delivery = replace(made.claim().delivery, alone=alone, cause=cause, failures=failures)
    finished = made.dispatcher.lost(delivery)
    verdict = finished.verdict
    assert (verdict.state.label, verdict.outcome, verdict.counts) == (state, AttemptOutcome(outcome), counts)
    assert finished.alone is next_alone


@pytest.mark.parametrize(("failures", "state"), [(0, "pending"), (2, "dead")])
def test_a_death_while_alone_counts(made: Rig, failures: int, state: str) -> None:
    made.on(retry=RetryPolicy(max_attempts=3))(lambda: None)
    made.put()
    delivery = replace(made.claim().delivery, alone=True, failures=failures)
    finished = made.dispatcher.outcomes.died_isolated(delivery)
    assert (finished.verdict.state.label, finished.verdict.outcome, finished.verdict.counts) == (state, "lost", True)
    assert finished.alone


def test_who_takes_its_worker_along_each_time_counts_in_the_end(made: Rig) -> None:
    made.on(retry=RetryPolicy(max_attempts=3))(lambda: None)
    made.put()
    delivery = replace(made.claim().delivery, alone=True)
    counts = [made.dispatcher.lost(replace(delivery, number=n)).verdict.counts for n in (1, 2, 10, 11)]
    assert counts == [False, False, False, True]


def test_a_delivery_for_a_handler_that_is_not_known_here_is_never_declared_dead_here(made: Rig) -> None:
    made.put(1, "elsewhere")
    delivery = made.claim("elsewhere").delivery
    assert made.dispatcher.outcomes.died_isolated(replace(delivery, failures=99)).verdict.state is DeliveryState.PENDING


# -- the signal of what a handler raised -------------------------------------------------------------------


@pytest.fixture
def raised(made: Rig) -> Iterator[list[Any]]:
    """What observers of `handler_raised` are told, with the state of the delivery at that moment."""
    seen: list[Any] = []

    def observe(handler: str, *, delivery: Any, event: Any, exception: Any, verdict: Any) -> None:
        state = DeliveryState(made.row(delivery.id).state)
        seen.append((handler, event.id, exception, verdict.outcome, state, threading.current_thread()))

    signals.connect(signals.handler_raised, observe)
    yield seen
    signals.handler_raised.disconnect(observe)


@pytest.mark.parametrize("wants_session", [True, False])
def test_what_a_handler_raises_is_signalled_with_its_exception_before_it_is_recorded(
    made: Rig, raised: list[Any], wants_session: bool
) -> None:
    error = LookupError("gone")

    def with_session(session: Any) -> None:
        raise error

    def without() -> None:
        raise error

    made.on()(with_session if wants_session else without)
    (id,) = made.put()
    made.run_one()
    claimed = made.store.deliveries.load(id)
    assert claimed is not None
    assert raised == [
        (
            "h",
            claimed.delivery.event_id,
            error,
            AttemptOutcome.FAILED,
            DeliveryState.RUNNING,
            threading.current_thread(),
        )
    ]
    assert state_of(made, id)[0] == "pending"


@pytest.mark.parametrize(
    "error",
    [Retry("busy"), Discard("spam"), StorageUnavailable("away"), LeaseLost("late")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_error_of_the_handler_is_not_signalled(made: Rig, raised: list[Any], error: BaseException) -> None:
    @made.on()
    def h() -> None:
        raise error

    made.put()
    made.dispatcher.run(made.attempt())
    assert raised == []


def test_a_condition_that_raises_is_not_signalled_as_the_handlers_error(made: Rig, raised: list[Any]) -> None:
    def broken(event: Any) -> bool:
        raise LookupError

    made.on(where=broken)(lambda: None)
    made.put()
    made.run_one()
    assert raised == []


def test_what_a_handler_raises_after_its_time_was_up_is_not_signalled(made: Rig, raised: list[Any]) -> None:
    made.on()(lambda: attempts[0].revoke(Cause.TIME_UP) and 1 / 0)
    made.put()
    attempts = [made.attempt()]
    made.dispatcher.run(attempts[0])
    assert raised == []


@pytest.mark.parametrize("error", [LookupError, SystemExit], ids=lambda error: error.__name__)
def test_an_observer_that_fails_changes_nothing_for_the_delivery(made: Rig, error: type[BaseException]) -> None:
    def fail(handler: str, **_: Any) -> None:
        raise error

    @made.on()
    def h() -> None:
        raise ValueError("no")

    (id,) = made.put()
    signals.connect(signals.handler_raised, fail)
    made.run_one()
    signals.handler_raised.disconnect(fail)
    assert state_of(made, id) == ("pending", "ValueError: no")
