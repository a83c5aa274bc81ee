"""`@on(batch=N)`: what is due already comes by one call, in one transaction, and one bad event ends dead alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from tests.integration.hand import Hand
from tests.integration.rig import Rig, effects, rig
from tests.support import examples, wait_until
from webhooks import signals
from webhooks.delivery.attempt import Cause
from webhooks.errors import Discard, Retry
from webhooks.model import DeliveryState
from webhooks.routing import RetryPolicy
from webhooks.session import HandlerSession

PENDING, SUCCEEDED, DEAD, CANCELLED = (
    DeliveryState.PENDING,
    DeliveryState.SUCCEEDED,
    DeliveryState.DEAD,
    DeliveryState.CANCELLED,
)
ONCE = RetryPolicy(max_attempts=1)
PATIENT = RetryPolicy(max_attempts=100, base=timedelta(0), cap=timedelta(0))


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        yield made


def write(session: Any, events: Any) -> None:
    session.execute(insert(effects), [{"what": event.raw.decode()} for event in events])


def written(made: Rig) -> list[str]:
    with made.database.read() as connection:
        return sorted(row.what for row in connection.execute(effects.select()))


def bodies(made: Rig, *texts: str) -> list[int]:
    return [made.put(1, body=text.encode())[0] for text in texts]


def states(made: Rig, ids: list[int]) -> list[DeliveryState]:
    return [DeliveryState(made.row(id).state) for id in ids]


def test_what_is_due_comes_by_one_call_and_commits_together(made: Rig) -> None:
    calls: list[tuple[list[int], list[int]]] = []

    @made.on("h", batch=3)
    def h(events: Any, deliveries: Any, session: Any, log: Any) -> None:
        calls.append(([event.id for event in events], [delivery.id for delivery in deliveries]))
        write(session, events)
        log.info("%d rows", len(events))

    ids = bodies(made, *"abcdefg")
    Hand(made).run_due()
    assert [len(events) for events, _ in calls] == [3, 3, 1]
    assert [id for _, deliveries in calls for id in deliveries] == ids
    assert states(made, ids) == [SUCCEEDED] * 7
    assert [made.outcomes(id) for id in ids] == [["succeeded"]] * 7
    assert written(made) == [*"abcdefg"]


@pytest.mark.parametrize("takes", ["session", "nothing", "async"])
def test_one_bad_event_ends_dead_alone(made: Rig, takes: str) -> None:
    sizes: list[int] = []
    seen: list[str] = []

    def act(events: Any) -> None:
        sizes.append(len(events))
        if any(event.raw == b"bad" for event in events):
            raise LookupError("gone")
        seen.extend(event.raw.decode() for event in events)

    def with_session(events: Any, session: Any) -> None:
        write(session, events)
        act(events)

    async def in_loop(events: Any) -> None:
        act(events)

    functions: dict[str, Any] = {"session": with_session, "nothing": lambda events: act(events), "async": in_loop}
    made.on("h", batch=8, retry=ONCE)(functions[takes])
    ids = bodies(made, *"abcde", "bad", *"gh")
    Hand(made).run_due()
    assert states(made, ids) == [*[SUCCEEDED] * 5, DEAD, *[SUCCEEDED] * 2]
    assert [made.outcomes(id) for id in ids] == [*[["succeeded"]] * 5, ["failed"], *[["succeeded"]] * 2]
    assert sorted(seen) == [*"abcdegh"]
    assert sizes == [8, 4, 4, 2, 1, 1, 2]
    if takes == "session":
        assert written(made) == [*"abcdegh"]


def test_retry_and_discard_may_name_events(made: Rig) -> None:
    @made.on("h", batch=8)
    def h(events: Any, session: Any) -> None:
        by = {event.raw.decode(): event for event in events}
        good = [event for name, event in by.items() if name not in ("later", "never")]
        if good:
            write(session, good)
        words = [
            word
            for name, word in (
                ("later", Retry("not yet", after=3600, events=[by["later"]] if "later" in by else [])),
                ("never", Discard("not ours", events=[by["never"]] if "never" in by else [])),
            )
            if name in by
        ]
        raise ExceptionGroup("some", words) if len(words) > 1 else Discard(events=[])

    ids = bodies(made, "a", "later", "never", "b")
    (alone,) = made.put(1, body=b"c")
    Hand(made).run_due()
    assert states(made, ids) == [SUCCEEDED, PENDING, CANCELLED, SUCCEEDED]
    assert [made.row(id).reason for id in ids[1:3]] == ["Retry: not yet", "discarded: not ours"]
    assert states(made, [alone]) == [SUCCEEDED]
    assert written(made) == [*"abc"]


def test_a_word_without_events_counts_for_all(made: Rig) -> None:
    @made.on("h", batch=8)
    def h(events: Any, session: Any) -> None:
        write(session, events)
        raise Discard("the table is closed")

    ids = bodies(made, *"abc")
    Hand(made).run_due()
    assert states(made, ids) == [CANCELLED] * 3
    assert written(made) == []


def test_a_word_on_an_event_of_another_batch_is_a_mistake(made: Rig) -> None:
    kept: list[Any] = []

    @made.on("h", batch=2, retry=ONCE)
    def h(events: Any) -> None:
        kept.extend(events)
        raise Discard(events=kept[:1])

    ids = bodies(made, *"abc")
    Hand(made).run_due()
    assert states(made, ids) == [CANCELLED, SUCCEEDED, DEAD]
    assert "is not in this batch; name some of `events`" in str(made.row(ids[2]).reason)


def test_conditions_filter_before(made: Rig) -> None:
    seen: list[bytes] = []
    made.on("h", batch=8, where=lambda event: event.raw != b"no")(
        lambda events: seen.extend(event.raw for event in events)
    )
    ids = bodies(made, "a", "no", "b")
    Hand(made).run_due()
    assert states(made, ids) == [SUCCEEDED, CANCELLED, SUCCEEDED]
    assert seen == [b"a", b"b"]


def test_at_most_one_of_a_lane_is_in_a_batch(made: Rig) -> None:
    calls: list[list[int]] = []

    @made.on("h", batch=8, ordered_by=lambda event: "any")
    def h(deliveries: Any, events: Any, session: Any) -> None:
        calls.append([delivery.id for delivery in deliveries])

    lanes = {lane: [made.put(1, lane=lane, at=at)[0] for at in range(3)] for lane in ("a", "b")}
    Hand(made).run_due()
    assert [sorted(call) for call in calls] == [sorted(pair) for pair in zip(*lanes.values(), strict=True)]


def test_the_token_of_each_is_checked_in_the_transaction(made: Rig) -> None:
    @made.on("h", batch=8)
    def h(events: Any, session: Any) -> None:
        write(session, events)

    ids = bodies(made, *"abcd")
    hand = Hand(made)
    attempts = hand.claim()
    made.store.deliveries.fence(attempts[1].delivery)
    hand.serve()
    assert states(made, ids) == [SUCCEEDED, DeliveryState.RUNNING, SUCCEEDED, SUCCEEDED]
    assert written(made) == [*"acd"]


def test_a_lease_that_is_lost_during_the_call_takes_back_the_batch(made: Rig) -> None:
    attempts: list[Any] = []

    @made.on("h", batch=8)
    def h(events: Any, session: Any) -> None:
        write(session, events)
        attempts[1].revoke(Cause.LEASE_LOST, keeps_thread=True)

    ids = bodies(made, *"abcd")
    hand = Hand(made)
    attempts += hand.claim()
    hand.serve()
    assert [made.row(id).attempts for id in ids] == [1] * 4
    assert written(made) == [*"acd"]


def test_after_a_commit_without_an_answer_it_is_not_called_again(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = HandlerSession.finish

    def finish(self: Any, mark: Any) -> bool:
        assert real(self, mark)
        raise ConnectionError("no answer")

    monkeypatch.setattr(HandlerSession, "finish", finish)

    @made.on("h", batch=8)
    def h(events: Any, session: Any) -> None:
        calls.append(len(events))
        write(session, events)

    ids = bodies(made, *"abcd")
    hand = Hand(made)
    hand.claim()
    hand.serve()
    assert calls[0] == 4
    assert states(made, ids) == [SUCCEEDED] * 4
    assert written(made) == [*"abcd"]


def test_signals_tell_of_the_run_that_counts(made: Rig) -> None:
    told: list[tuple[str, int]] = []
    observers = {
        signal: (lambda handler, *, delivery, name=name, **_: told.append((name, delivery.id)))
        for name, signal in (
            ("started", signals.delivery_started),
            ("succeeded", signals.delivery_succeeded),
            ("failed", signals.delivery_failed),
        )
    }
    for signal, observer in observers.items():
        signals.connect(signal, observer)

    @made.on("h", batch=8, retry=ONCE)
    def h(events: Any) -> None:
        if any(event.raw == b"bad" for event in events):
            raise LookupError("gone")

    ids = bodies(made, "a", "b", "bad", "c")
    Hand(made).run_due()
    for signal, observer in observers.items():
        signal.disconnect(observer)
    assert sorted(told) == sorted(
        [("started", id) for id in ids] + [("failed" if id == ids[2] else "succeeded", id) for id in ids]
    )


def test_a_batch_whose_time_is_up_runs_in_halves(made: Rig) -> None:
    made.dispatcher.outcomes.default_timeout = timedelta(seconds=0.5)
    go_on = threading.Event()

    @made.on("h", batch=4, retry=PATIENT)
    def h(events: Any, session: Any) -> None:
        write(session, events)
        if any(event.raw == b"hang" for event in events):
            go_on.wait(60)

    ids = bodies(made, "a", "b", "hang", "c")
    with made.running(slots=2):
        wait_until(lambda: "timed-out" in made.outcomes(ids[2]), timedelta(seconds=15), "it ran alone")
        go_on.set()
        made.wait_for(SUCCEEDED, 4)
    assert written(made) == ["a", "b", "c", "hang"]


def test_a_worker_claims_enough_for_a_batch(made: Rig) -> None:
    sizes: list[int] = []
    first, go_on = threading.Event(), threading.Event()

    @made.on("h", batch=20)
    def h(events: Any) -> None:
        sizes.append(len(events))
        first.set()
        go_on.wait(60)

    made.put(60)
    with made.running(slots=1) as worker:
        assert first.wait(30)
        assert worker.runner.buffer.capacity().fast.get("h", 0) <= 21
        go_on.set()
        made.wait_for(SUCCEEDED, 60)
    assert max(sizes) == 20


def test_a_replay_comes_in_batches_too(made: Rig) -> None:
    sizes: list[int] = []
    made.on("h", batch=8)(lambda events: sizes.append(len(events)))
    ids = bodies(made, *"abcd")
    Hand(made).run_due()
    made.store.deliveries.cancel(ids, "no")
    with made.database.write() as connection:
        connection.exec_driver_sql("update webhooks_deliveries set state = 4")
    made.store.deliveries.requeue(ids)
    Hand(made).run_due()
    assert sizes == [4, 4]


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=st.lists(st.sampled_from(["good", "good", "good", "bad", "retry", "discard"]), min_size=1, max_size=12))
def test_each_event_ends_as_it_would_alone(made: Rig, plan: list[str]) -> None:
    made.clear_effects()
    made.registry._handlers.clear()
    made.registry._names.clear()
    made.registry._signals.clear()

    @made.on("h", batch=5, retry=RetryPolicy(max_attempts=2, base=timedelta(0), cap=timedelta(0)))
    def h(events: Any, session: Any) -> None:
        kinds = {kind: [event for event in events if event.raw == kind.encode()] for kind in plan}
        if kinds.get("bad"):
            raise LookupError("gone")
        if kinds.get("good"):
            write(session, kinds["good"])
        words = [
            word("by name", events=kinds[kind])
            for kind, word in (("retry", Retry), ("discard", Discard))
            if kinds.get(kind)
        ]
        if words:
            raise ExceptionGroup("some", words)

    ids = bodies(made, *plan)
    Hand(made).run_due()
    ends = {"good": SUCCEEDED, "bad": DEAD, "retry": DEAD, "discard": CANCELLED}
    assert states(made, ids) == [ends[kind] for kind in plan]
    assert [len(made.outcomes(id)) for id in ids] == [{"bad": 2, "retry": 2}.get(kind, 1) for kind in plan]
    assert written(made) == ["good"] * plan.count("good")
