"""A Dramatiq actor that does nothing; `python -m benchmarks.peers.tasks_dramatiq N` queues N of them."""

from __future__ import annotations

import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCHMARK_REDIS"]))


@dramatiq.actor
def nothing(payload: str) -> None:
    pass


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        nothing.send(os.environ["BENCHMARK_BODY"])
