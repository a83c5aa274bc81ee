"""A PgQueuer entrypoint that does nothing; `enqueue` queues some, the program itself works.

BENCHMARK_CLAIM: how many jobs it takes at once; its own default is 10.
"""

from __future__ import annotations

import asyncio
import os

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries


def enqueue(count: int) -> None:
    asyncio.run(_enqueue(count))


async def _enqueue(count: int) -> None:
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    payload = os.environ["BENCHMARK_BODY"].encode()
    while count > 0:
        n = min(count, 500)
        await queries.enqueue(["nothing"] * n, [payload] * n, [0] * n)
        count -= n
    await connection.close()


async def work() -> None:
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"])))

    @pgq.entrypoint("nothing")
    async def nothing(job: Job) -> None:
        pass

    await pgq.run(batch_size=int(os.environ.get("BENCHMARK_CLAIM", "10")))


if __name__ == "__main__":
    asyncio.run(work())
