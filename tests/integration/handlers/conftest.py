"""Fixtures for plugins: their tables on both databases."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.integration.handlers.histories import Bench
from webhooks.database import Database
from webhooks.session import Sessions


@pytest.fixture
def bench(request: pytest.FixtureRequest, database: Database) -> Iterator[Bench]:
    """A database with the tables of the plugins that the test's module names in PLUGINS.

    From the tables of their code, which takes a tenth of the time of their migrations; `test_migrations` holds both equal.
    """
    with database.write() as connection:
        for name in request.module.PLUGINS:
            importlib.import_module(f"handlers.{name}").metadata.create_all(connection)
    # the limit on holding the write lock is for handlers beside ingest; here whole histories are written in one go
    sessions = Sessions(database, write_limit=timedelta(minutes=1))
    yield Bench(database, sessions)
    sessions.dispose()
