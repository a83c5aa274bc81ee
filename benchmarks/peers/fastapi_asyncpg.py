"""FastAPI with asyncpg: an event with a unique id and a row of work to do (plain.sql).

BENCHMARK_STATEMENTS=two: a transaction with two inserts, as one would write it first. one: both inserts in one
statement, in autocommit, which is as fast as it gets for one request at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator

import asyncpg
from fastapi import FastAPI, Request, Response

from benchmarks.peers.signatures import is_signed

EVENT = "insert into plain_events (event_id, type, payload) values ($1, $2, $3) on conflict do nothing returning id"
DELIVERY = "insert into plain_deliveries (event_id, handler) values ($1, 'nothing')"
BOTH = f"""with e as ({EVENT}),
    d as (insert into plain_deliveries (event_id, handler) select id, 'nothing' from e) select id from e"""
IN_ONE = os.environ.get("BENCHMARK_STATEMENTS") == "one"


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/close")
async def receive(request: Request) -> Response:
    body = await request.body()
    if not is_signed(request.headers, body):
        return Response(status_code=401)
    entry = json.loads(body)["event"]
    row = (entry["id"], f"{entry['object_type']}.{entry['action']}", body.decode())
    async with app.state.pool.acquire() as connection:
        if IN_ONE:
            id = await connection.fetchval(BOTH, *row)
        else:
            async with connection.transaction():
                id = await connection.fetchval(EVENT, *row)
                if id is not None:
                    await connection.execute(DELIVERY, id)
    return Response(json.dumps({"status": "stored" if id else "duplicate", "id": id}), media_type="application/json")
