"""Connections: what a transaction is must not depend on what the connection was used for before."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from webhooks import schema
from webhooks.database import connect


def test_a_transaction_on_a_connection_that_was_raw_before_is_rolled_back_whole(database_url: str) -> None:
    """`raw` leaves autocommit on; the one connection of this pool then serves `write`."""
    database = connect(database_url, pool_size=1)
    with database.raw() as connection:
        connection.execute("select 1")

    def fail() -> None:
        with database.write() as transaction:
            values = {"name": "duty", "holder": "w", "until": database.now(transaction)}
            transaction.execute(schema.leases.insert().values(**values))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with database.read() as reader:
        count = reader.execute(select(func.count()).select_from(schema.leases)).scalar_one()
    database.dispose()
    assert count == 0
