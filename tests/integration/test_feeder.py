"""What a feeder publishes, over a real PostgreSQL and a broker that keeps what it is told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rig import Rig, rig
from tests.support import wait_until
from webhooks.contrib.celery.engine import claim
from webhooks.contrib.celery.feeder import Feeder, FeederSettings
from webhooks.contrib.celery.publisher import BrokerUnavailable, Message, Publisher
from webhooks.delivery import IsolatedPool, Maintenance, Runner, RunnerSettings, handler_rows
from webhooks.routing import SUCCEEDED
from webhooks.store import ENGINE
from webhooks.store.deliveries import Finished

pytestmark = pytest.mark.one_database

LEASE = timedelta(seconds=30)


@pytest.fixture
def made(postgresql_url: str) -> Iterator[Rig]:
    with rig(postgresql_url) as made:
        yield made


class Broker(Publisher):
    """Keeps messages; refuses them while `error` says so."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.error: BrokerUnavailable | None = None

    def publish(self, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.messages.append(message)

    def close(self) -> None: ...

    def ids(self) -> list[int]:
        """Of all messages since the last call."""
        messages, self.messages = self.messages, []
        return [id for _, ids in messages for id in ids]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def feeder(made: Rig, broker: Broker, clock: Clock | None = None, **settings: Any) -> Feeder:
    made.store.handlers.register(handler_rows(made.registry))
    options: dict[str, Any] = {} if clock is None else {"clock": clock}
    return Feeder(
        store=made.store,
        handlers={handler.name: handler for handler in made.registry.handlers()},
        publisher=broker,
        settings=FeederSettings(**{"queues": {"default": "q"}, "poll_interval": timedelta(seconds=0.2), **settings}),
        **options,
    )


def take(made: Rig, ids: Sequence[int], *handlers: str) -> list[int]:
    claimed = made.store.deliveries.claim_ids(ids, handlers or ("h",), lease=LEASE, worker="w")
    made.store.deliveries.finish([Finished(each.delivery, SUCCEEDED) for each in claimed])
    return [each.delivery.id for each in claimed]


def test_what_is_due_is_offered_once_and_the_window_bounds_it(made: Rig, broker: Broker) -> None:
    made.on()(lambda: None)
    fed = feeder(made, broker, window=4)
    put = made.put(10)
    fed.look()
    assert broker.ids() == put[:4]
    fed.look()
    assert broker.ids() == []
    assert take(made, put[:3]) == put[:3]
    fed.look()
    assert broker.ids() == put[4:7], "what was claimed makes room"


def test_queues_of_handlers_go_to_their_queues_and_others_nowhere(
    made: Rig, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    made.on()(lambda: None)
    made.on("v", queue="video")(lambda: None)
    made.on("x", queue="extra")(lambda: None)
    (h,), (v,), _ = made.put(), made.put(1, "v"), made.put(1, "x")
    fed = feeder(made, broker, queues={"default": "q", "video": "gpu"})
    fed.look()
    assert sorted(broker.messages) == [("gpu", [v]), ("q", [h])]
    with caplog.at_level(logging.WARNING):
        fed.stop()
        fed.run()
    assert "handlers in the queues extra are not offered" in caplog.text


def test_what_is_paused_is_not_offered_and_is_once_it_is_resumed(
    made: Rig, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.delivery.breaker.STATES_SECONDS", 0.0)
    made.on()(lambda: None)
    fed = feeder(made, broker)
    made.store.handlers.pause("h", "me")
    put = made.put(2)
    fed._breaker._read_at = 0.0
    fed.look()
    assert broker.ids() == []
    made.store.handlers.resume("h")
    fed._breaker._read_at = 0.0
    fed.look()
    assert broker.ids() == put


def test_of_a_limited_handler_no_more_is_offered_than_may_start(made: Rig, broker: Broker) -> None:
    made.on(concurrency=2)(lambda: None)
    fed = feeder(made, broker)
    put = made.put(5)
    fed.look()
    assert broker.messages == [("q", [put[0]]), ("q", [put[1]])], "one a message"
    broker.ids()
    fed.look()
    assert broker.ids() == []
    assert take(made, put[:1]) == put[:1]
    fed.look()
    assert broker.ids() == [put[2]]


def test_where_a_limit_may_keep_what_waits_it_looks_again_soon(made: Rig, broker: Broker) -> None:
    made.on(concurrency=1)(lambda: None)
    fed = feeder(made, broker)
    (first,) = made.put(1)
    assert fed.look()[1] == float("inf")
    made.put(1)
    assert fed.look()[1] <= 0.2
    assert broker.ids() == [first]


def test_the_end_of_what_others_wait_for_calls_the_feeder(made: Rig, broker: Broker) -> None:
    made.on(ordered_by="object_id")(lambda: None)
    first, second = made.put(1, lane="l") + made.put(1, lane="l", at=1)
    fed = feeder(made, broker, poll_interval=timedelta(seconds=60))
    thread = threading.Thread(target=fed.run)
    thread.start()
    try:
        wait_until(lambda: first in broker.ids(), timedelta(seconds=10))
        assert take(made, [first]) == [first]
        made.store.deliveries.wake()
        wait_until(lambda: second in broker.ids(), timedelta(seconds=10), "the next of the lane")
    finally:
        fed.stop()
        thread.join(30)


def test_what_is_not_claimed_is_offered_again_and_a_retry_anew(made: Rig, broker: Broker, clock: Clock) -> None:
    made.on()(lambda: None)
    fed = feeder(made, broker, clock)
    first, second = made.put(2)
    fed.look()
    broker.ids()
    (claimed,) = made.store.deliveries.claim_ids([second], ["h"], lease=LEASE, worker="w")
    made.store.deliveries.release([claimed.delivery])
    clock.now += 1
    fed.look()
    assert broker.ids() == [second], "it was claimed, and waits anew"
    clock.now += 58
    fed.look()
    assert broker.ids() == []
    clock.now += 1
    fed.look()
    assert broker.ids() == [first]
    clock.now += 119
    fed.look()
    assert broker.ids() == [second]
    clock.now += 1
    fed.look()
    assert broker.ids() == [first]


def test_a_broker_that_refuses_makes_one_line_and_nothing_is_forgotten(
    made: Rig, broker: Broker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    made.on()(lambda: None)
    fed = feeder(made, broker, clock)
    put = made.put(3)
    broker.error = BrokerUnavailable("it cannot be reached")
    with caplog.at_level(logging.INFO):
        pauses = [fed._turn(0.0) for _ in range(12)]
        assert 0 < max(pauses) <= 5.0
        assert len(set(pauses)) == len(pauses), "with jitter"
        clock.now += 5
        assert fed.silent_since == 1000.0
        fed._turn(0.0)
        assert [process.kind for process in made.store.processes.running()] == ["feeder"]
        (process,) = made.store.processes.running()
        assert process.silent_since is not None
        assert not process.is_worker
        broker.error = None
        fed._turn(0.0)
        assert broker.ids() == put
        fed._turn(0.0)
    assert caplog.text.count("the broker takes no messages") == 1
    assert caplog.text.count("the broker takes messages again") == 1
    (process,) = made.store.processes.running()
    assert process.silent_since is None


def test_where_nothing_waits_for_a_broker_that_refused_all_is_well(made: Rig, broker: Broker) -> None:
    made.on()(lambda: None)
    fed = feeder(made, broker)
    put = made.put(1)
    broker.error = BrokerUnavailable("it cannot be reached")
    fed._turn(0.0)
    assert fed.silent_since is not None
    take(made, put)
    fed._turn(0.0)
    assert fed.silent_since is None


def test_an_engine_that_claims_nothing_is_silent_unless_it_is_busy(made: Rig, broker: Broker, clock: Clock) -> None:
    made.on()(lambda: None)
    fed = feeder(made, broker, clock)
    put = made.put(3)
    fed._turn(0.0)
    clock.now += 11
    fed._turn(0.0)
    assert fed.silent_since == 1000.0
    (busy,) = made.store.deliveries.claim_ids(put[:1], ["h"], lease=LEASE, worker="w")
    fed._turn(0.0)
    clock.now += 11
    fed._turn(0.0)
    assert fed.silent_since is None, "it runs what it claimed before"
    made.store.deliveries.finish([Finished(busy.delivery, SUCCEEDED)])
    clock.now += 11
    fed._turn(0.0)
    assert fed.silent_since is not None


def test_one_of_two_offers_and_the_other_takes_over_with_offers_of_its_own(made: Rig, broker: Broker) -> None:
    made.on()(lambda: None)
    first, second = feeder(made, broker), feeder(made, broker)
    put = made.put(2)
    first._turn(0.0)
    second._turn(0.0)
    assert broker.ids() == put
    made.store.processes.resign(ENGINE, first.id)
    second._turn(0.0)
    assert broker.ids() == put, "doubles do no harm"
    first._turn(0.0)
    assert len(first._offers["q"]) == 0


def test_it_is_woken_by_a_commit_and_has_a_workers_duties(made: Rig, broker: Broker) -> None:
    made.on()(lambda: None)
    fed = feeder(made, broker, poll_interval=timedelta(seconds=60))
    fed.maintenance = Maintenance(made.store, made.dispatcher, lease=timedelta(seconds=1))
    (lost,) = made.put()
    made.store.deliveries.claim_ids([lost], ["h"], lease=timedelta(milliseconds=50), worker="gone")
    thread = threading.Thread(target=fed.run)
    thread.start()
    try:
        wait_until(
            lambda: lost in broker.ids(), timedelta(seconds=20), "what its worker lost to be rescued and offered"
        )
        (id,) = made.put()
        wait_until(lambda: id in broker.ids(), timedelta(seconds=10), "the wake-up")
    finally:
        fed.stop()
        thread.join(30)
    assert not thread.is_alive()
    assert made.store.processes.running() == []


# -- the other end -----------------------------------------------------------------------------------------


@pytest.fixture
def runner(made: Rig) -> Runner:
    made.on("open")(lambda: None)
    made.on("limited", concurrency=1)(lambda: None)
    made.on("paused")(lambda: None)
    made.store.handlers.register(handler_rows(made.registry))
    made.store.handlers.pause("paused", "me")
    return Runner(
        store=made.store,
        registry=made.registry,
        dispatcher=made.dispatcher,
        settings=RunnerSettings(slots=2),
        version="test",
        isolated=IsolatedPool(command=None, dispatcher=made.dispatcher, store=made.store),
        kind="celery",
    )


def test_a_message_is_claimed_as_far_as_handlers_may_run_here(made: Rig, runner: Runner) -> None:
    ids = [*made.put(2, "open"), *made.put(2, "limited"), *made.put(1, "paused"), *made.put(1, "unknown")]
    claimed = [each.delivery.id for each in claim(runner, ids)]
    assert claimed == ids[:3]
    assert claim(runner, ids) == []


def test_one_of_a_handler_whose_breaker_is_half_open_is_claimed(made: Rig, runner: Runner) -> None:
    ids = made.put(3, "open")
    made.store.handlers.open_breaker("open", 10, timedelta(microseconds=1))
    wait_until(lambda: len(claim(runner, ids)) == 1)
    assert claim(runner, ids) == []
