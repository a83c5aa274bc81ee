"""A Huey task that does nothing; `python -m benchmarks.peers.tasks_huey N` queues N of them. No results are kept.

SQLite's own default stands (synchronous=FULL), so that a finished task stays finished after power loss, as ours does.
"""

from __future__ import annotations

import os
import sys

from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ["BENCHMARK_FILE"], results=False)


@huey.task()  # type: ignore[untyped-decorator]
def nothing(payload: str) -> None:
    pass


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        nothing(os.environ["BENCHMARK_BODY"])
