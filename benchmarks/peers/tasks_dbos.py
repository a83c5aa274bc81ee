"""A DBOS workflow with one step that writes a row, exactly once by its SQLAlchemy datasource; `enqueue` queues some.

The program itself works. The step's transaction and its checkpoint commit together, as ours do with `session`; beginning and
end of the workflow are transactions of their own.
"""

from __future__ import annotations

import os
import threading

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, SQLAlchemyDatasource

URL = os.environ["DATABASE_URL"]
OURS = URL.replace("postgresql://", "postgresql+psycopg://", 1)
VERSION = "benchmark"
INSERT = sa.text("insert into benchmark_effects (event_id) values (:id)")


def enqueue(count: int) -> None:
    engine = sa.create_engine(OURS)
    with engine.begin() as connection:
        connection.execute(sa.text("create table benchmark_effects (event_id bigint)"))
    engine.dispose()
    SQLAlchemyDatasource.migrate(OURS)
    _launch(works=False)
    client = DBOSClient(system_database_url=URL)
    body = os.environ["BENCHMARK_BODY"]
    for number in range(count):
        client.enqueue({"queue_name": "q", "workflow_name": "effect", "app_version": VERSION}, number, body)
    DBOS.destroy()


def _launch(*, works: bool) -> None:
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": URL,
            "application_version": VERSION,
            "executor_id": str(os.getpid()),
        }
    )
    if not works:
        DBOS.listen_queues([])
        DBOS.launch()
        return
    datasource = SQLAlchemyDatasource.create(OURS, run_migrations=False)

    @datasource.transaction()
    def write(number: int) -> None:
        datasource.sql_session().execute(INSERT, {"id": number})

    @DBOS.workflow(name="effect")
    def effect(number: int, body: str) -> None:
        write(number)

    DBOS.launch()
    DBOS.register_queue("q", worker_concurrency=50, polling_interval_sec=0.1)


if __name__ == "__main__":
    _launch(works=True)
    threading.Event().wait()
