"""A Dramatiq actor that does nothing; `enqueue` queues some."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCHMARK_REDIS"]))


@dramatiq.actor
def nothing(payload: str) -> None:
    pass


def enqueue(count: int) -> None:
    for _ in range(count):
        nothing.send(os.environ["BENCHMARK_BODY"])
