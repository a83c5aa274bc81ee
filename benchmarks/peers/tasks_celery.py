"""A Celery task that does nothing; `enqueue` queues some. No results are kept.

Set up as its documentation wants it for work that must not be lost with its worker: acknowledged when done, one reserved
per process. BENCHMARK_EARLY=1 leaves its defaults: acknowledged when taken, so a crash loses what was in hand.
"""

from __future__ import annotations

import os

from celery import Celery

celery = Celery("benchmark", broker=os.environ["BENCHMARK_REDIS"])
celery.conf.update(task_ignore_result=True)
if not os.environ.get("BENCHMARK_EARLY"):
    celery.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)


@celery.task(name="nothing")  # type: ignore[untyped-decorator]
def nothing(payload: str) -> None:
    pass


def enqueue(count: int) -> None:
    for _ in range(count):
        nothing.delay(os.environ["BENCHMARK_BODY"])
