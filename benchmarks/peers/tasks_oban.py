"""An Oban worker that does nothing; `enqueue` queues some, the program itself works. Needs Python 3.12.

BENCHMARK_CONCURRENCY: jobs at once in a process; as many as its documentation's figures use.
"""

from __future__ import annotations

import asyncio
import os

import uvloop
from oban import Job, Oban, worker
from oban.schema import install


@worker(queue="default")
class Nothing:
    async def process(self, job: Job) -> None:
        pass


def enqueue(count: int) -> None:
    asyncio.run(_enqueue(count))


async def _enqueue(count: int) -> None:
    pool = await Oban.create_pool(os.environ["DATABASE_URL"])
    await install(pool)
    oban = Oban(pool=pool)
    arguments = {"payload": os.environ["BENCHMARK_BODY"]}
    while count > 0:
        await oban.enqueue_many(Nothing.new(arguments) for _ in range(min(count, 500)))
        count -= 500
    await pool.close()


async def work() -> None:
    pool = await Oban.create_pool(os.environ["DATABASE_URL"])
    async with Oban(pool=pool, queues={"default": int(os.environ.get("BENCHMARK_CONCURRENCY", "100"))}):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(work())
