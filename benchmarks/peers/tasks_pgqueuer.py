"""A PgQueuer entrypoint that does nothing; `python -m benchmarks.peers.tasks_pgqueuer N` queues N of them."""

from __future__ import annotations

import asyncio
import os
import sys

import asyncpg
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries


async def main() -> PgQueuer:
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"])))

    @pgq.entrypoint("nothing")
    async def nothing(job: Job) -> None:
        pass

    return pgq


async def enqueue(count: int) -> None:
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    payload = os.environ["BENCHMARK_BODY"].encode()
    while count > 0:
        n = min(count, 500)
        await queries.enqueue(["nothing"] * n, [payload] * n, [0] * n)
        count -= n
    await connection.close()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[1])))
