"""A Celery task that does nothing; `python -m benchmarks.peers.tasks_celery N` queues N of them. No results are kept."""

from __future__ import annotations

import os
import sys
import time

from celery import Celery

celery = Celery("benchmark", broker=os.environ["BENCHMARK_REDIS"])
celery.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)


@celery.task  # type: ignore[untyped-decorator]
def nothing(payload: str) -> None:
    pass


@celery.task  # type: ignore[untyped-decorator]
def clock(name: str) -> None:
    from benchmarks.peers.clock import tell

    tell(name, time.monotonic_ns())


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        nothing.delay(os.environ["BENCHMARK_BODY"])
