"""A Huey task that does nothing; `enqueue` queues some. No results are kept.

SQLite's own default stands (synchronous=FULL), so that a finished task stays finished after power loss, as ours does.
"""

from __future__ import annotations

import os

from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ["BENCHMARK_FILE"], results=False)


@huey.task(name="nothing")  # type: ignore[untyped-decorator]
def nothing(payload: str) -> None:
    pass


def enqueue(count: int) -> None:
    for _ in range(count):
        nothing(os.environ["BENCHMARK_BODY"])
