"""A thread that is given up: a broker that hangs holds no caller for longer than the patience."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.support import allowed, wait_until
from webhooks.contrib.celery.publisher import MOST_ABANDONED, BrokerUnavailable, Publisher

PASSWORD = "hunter2"


class Senders:
    """Makes senders that keep what they send, hang while `gate` is shut, or raise."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Sequence[int]]] = []
        self.made = 0
        self.closed = 0
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self) -> Senders:
        self.made += 1
        return self

    def send(self, queue: str, ids: Sequence[int]) -> None:
        self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.sent.append((queue, ids))

    def close(self) -> None:
        self.closed += 1
        raise OSError("closing fails as well")


@pytest.fixture
def senders() -> Senders:
    return Senders()


@pytest.fixture
def publisher(senders: Senders) -> Iterator[Publisher]:
    publisher = Publisher(senders, patience=0.05)
    yield publisher
    senders.gate.set()
    publisher.close()
    wait_until(lambda: not [each for each in threading.enumerate() if each.name == "webhooks-publish"])


def test_messages_go_out_in_order_over_one_connection(publisher: Publisher, senders: Senders) -> None:
    publisher._patience = 5.0
    for n in range(5):
        publisher.publish(("q", [n]))
    assert senders.sent == [("q", [n]) for n in range(5)]
    assert senders.made == 1


def test_what_it_raises_is_a_reason_without_its_text_and_a_new_connection_follows(
    publisher: Publisher, senders: Senders
) -> None:
    publisher._patience = 5.0
    senders.error = ConnectionError(f"amqp://guest:{PASSWORD}@broker is no broker")
    with pytest.raises(BrokerUnavailable) as raised:
        publisher.publish(("q", [1]))
    assert PASSWORD not in str(raised.value)
    senders.error = None
    publisher.publish(("q", [1]))
    assert (senders.made, senders.closed) == (2, 1)


def test_a_broker_that_hangs_is_given_up_and_another_connection_takes_over(
    publisher: Publisher, senders: Senders
) -> None:
    senders.gate.clear()
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="did not answer"):
        publisher.publish(("q", [1]))
    assert time.monotonic() - began < allowed(2.0)
    shut, senders.gate = senders.gate, threading.Event()
    senders.gate.set()
    publisher._patience = 5.0
    publisher.publish(("q", [2]))
    assert senders.sent == [("q", [2])]
    assert senders.made == 2
    shut.set()


def test_no_more_than_a_few_threads_are_left_behind(publisher: Publisher, senders: Senders) -> None:
    senders.gate.clear()
    for _ in range(MOST_ABANDONED + 2):
        with pytest.raises(BrokerUnavailable):
            publisher.publish(("q", [1]))
    assert senders.made == MOST_ABANDONED
    senders.gate.set()
    publisher._patience = 5.0

    def goes_out() -> bool:
        try:
            publisher.publish(("q", [7]))
        except BrokerUnavailable:
            return False
        return True

    wait_until(goes_out)
    assert ("q", [7]) in senders.sent
