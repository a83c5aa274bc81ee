"""A Procrastinate task that does nothing; `python -m benchmarks.peers.tasks_procrastinate N` queues N of them."""

from __future__ import annotations

import os
import sys

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))


@app.task(name="nothing")
async def nothing(payload: str) -> None:
    pass


if __name__ == "__main__":
    with app.replace_connector(SyncPsycopgConnector(conninfo=os.environ["DATABASE_URL"])) as sync, sync.open():
        sync.schema_manager.apply_schema()
        payload = {"payload": os.environ["BENCHMARK_BODY"]}
        left = int(sys.argv[1])
        while left > 0:
            nothing.batch_defer(*[payload] * min(left, 500))
            left -= 500
