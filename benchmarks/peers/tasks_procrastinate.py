"""A Procrastinate task that does nothing; `enqueue` queues some."""

from __future__ import annotations

import os

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))


@app.task(name="nothing")
async def nothing(payload: str) -> None:
    pass


def enqueue(count: int) -> None:
    with app.replace_connector(SyncPsycopgConnector(conninfo=os.environ["DATABASE_URL"])) as sync, sync.open():
        sync.schema_manager.apply_schema()
        payload = {"payload": os.environ["BENCHMARK_BODY"]}
        while count > 0:
            nothing.batch_defer(*[payload] * min(count, 500))
            count -= 500
