"""The one database that `DATABASE_URL` names: the only place where SQLite or PostgreSQL is chosen.

Not here: what both have in common (`base`), each of them (`sqlite`, `postgresql`), what their errors mean (`errors`),
tables (`tables`), statements (`store`), handler sessions (`session`), migrations (`migrations`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine import make_url

from webhooks.database.base import Database, Pooler
from webhooks.database.postgresql import PostgreSQLDatabase
from webhooks.database.postgresql_url import in_schema, with_single_hosts
from webhooks.database.sqlite import SQLiteDatabase
from webhooks.errors import ConfigurationError
from webhooks.settings import read_database_url

#: {name of the backend in a URL: its class}
_DATABASES: dict[str, type[Database]] = {"sqlite": SQLiteDatabase, "postgresql": PostgreSQLDatabase}


def connect(url: str, *, schema: str | None = None, **options: Any) -> Database:
    """Make a `Database`; opens no connection yet.

    schema: PostgreSQL: where tables are, if not where the server's search_path leads.
    options: those of `Database`; `pooler` and `listen_url` as the settings have them.

    Raises `ConfigurationError`.
    """
    options["pooler"] = Pooler(options.get("pooler", Pooler.NONE))
    if options.get("listen_url") is not None:
        options["listen_url"] = make_url(with_single_hosts(read_database_url(options["listen_url"])))
    try:
        read = make_url(with_single_hosts(read_database_url(url)))
    except (exc.ArgumentError, ValueError) as error:
        raise ConfigurationError(
            "DATABASE_URL cannot be read; use sqlite:///webhooks.db or postgresql://user:password@host/name"
        ) from error
    if "@" in (read.host or ""):
        # the driver would ask for a host of that name, and show it
        raise ConfigurationError("DATABASE_URL holds an @ in its password; write it as %40, and / as %2F")
    backend = read.get_backend_name()
    if backend not in _DATABASES:
        raise ConfigurationError(f"DATABASE_URL names {backend!r}; use sqlite:///… or postgresql://…")
    if schema is not None:
        if backend != "postgresql":
            raise ConfigurationError("database_schema is for PostgreSQL; take it out, or name such a database")
        if options["pooler"] is not Pooler.NONE:
            raise ConfigurationError(
                "database_schema is said when a connection begins, which a pooler refuses; take it out, and say it of the role: "
                "alter role … set search_path = …"
            )
        read = in_schema(read, schema)
    return _DATABASES[backend](read, **options)


__all__ = ["connect"]
