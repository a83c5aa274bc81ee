"""Make a database on a server of PostgreSQL, as a copy of another, and drop it; for tests of those who use us."""

from __future__ import annotations

from webhooks.database.base import Database
from webhooks.errors import ConfigurationError, DatabaseRefused
from webhooks.formats import one_line


def create(database: Database, name: str, template: str = "template0") -> None:
    """Make a database.

    database: any one on the same server.
    name, template: identifiers of our own making; to the template no client is connected.

    Raises `ConfigurationError` where the user may not.
    """
    try:
        with database.read() as connection:
            connection.exec_driver_sql(f'create database "{name}" template "{template}"')
    except DatabaseRefused as error:
        said = getattr(error.__cause__, "orig", error)
        raise ConfigurationError(
            f"a database for tests cannot be made there ({one_line(str(said), 200)}); its user needs CREATEDB"
        ) from error


def drop(database: Database, name: str) -> None:
    """Drop a database, with the connections that are left to it."""
    with database.read() as connection:
        connection.exec_driver_sql(f'drop database if exists "{name}" with (force)')


__all__ = ["create", "drop"]
