"""What a commit rests on with PostgreSQL: the server's settings, our tables and our rights.

Source: https://www.postgresql.org/docs/current/runtime-config-wal.html
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from webhooks.database import Database
from webhooks.store.durability.records import Doubt


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """PostgreSQL's settings for our connections.

    source: where synchronous_commit was set, in the words of pg_settings.
    unlogged: our tables that a crash empties.
    lacking: rights on our tables that our role does not have, as "UPDATE on t".
    """

    fsync: bool = True
    full_page_writes: bool = True
    synchronous_commit: str = "on"
    source: str = "default"
    role: str = ""
    database: str = ""
    unlogged: Sequence[str] = ()
    lacking: Sequence[str] = ()


def of_server(facts: ServerFacts) -> list[Doubt]:
    """What is doubtful about a server's settings.

    Source: https://www.postgresql.org/docs/current/runtime-config-wal.html
    """
    doubts = []
    if facts.unlogged:
        doubts.append(
            Doubt(
                "unlogged-tables",
                f"the tables {', '.join(facts.unlogged)} are UNLOGGED: a crash of the server empties them; make each LOGGED",
                _psql(*(f"alter table {name} set logged" for name in facts.unlogged)),
            )
        )
    if facts.lacking:
        more = f" and {len(facts.lacking) - 3} more" if len(facts.lacking) > 3 else ""
        doubts.append(
            Doubt(
                "grants-missing",
                f"the role {facts.role} has no right to {', '.join(facts.lacking[:3])}{more}: what needs it fails until it is granted",
                _psql(*(f"grant {right} to {_quoted(facts.role)}" for right in facts.lacking)),
            )
        )
    if not facts.fsync:
        doubts.append(
            Doubt(
                "fsync-off",
                "the server runs with fsync = off: after a crash of its machine, events that were answered 200 are gone, or the "
                "database cannot be read at all; set it on",
                _psql("alter system reset fsync", "select pg_reload_conf()"),
            )
        )
    if facts.synchronous_commit == "off":
        where, statement = _where_set(facts)
        doubts.append(
            Doubt(
                "synchronous-commit-off",
                f"synchronous_commit is off ({where}): a crash of the server loses the last events that were answered 200; set it on",
                _psql(*statement) if statement else None,
            )
        )
    if facts.fsync and not facts.full_page_writes:
        doubts.append(
            Doubt(
                "full-page-writes-off",
                "the server runs with full_page_writes = off: a crash in the midst of a write damages the database, unless its file "
                "system never tears a page; set it on",
                _psql("alter system reset full_page_writes", "select pg_reload_conf()"),
            )
        )
    return doubts


def _where_set(facts: ServerFacts) -> tuple[str, Sequence[str]]:
    role, database = _quoted(facts.role), _quoted(facts.database)
    if facts.source == "user":
        return f"set for the role {facts.role}", [f"alter role {role} reset synchronous_commit"]
    if facts.source == "database":
        return f"set for the database {facts.database}", [f"alter database {database} reset synchronous_commit"]
    if facts.source == "database user":
        return f"set for the role {facts.role} in the database {facts.database}", [
            f"alter role {role} in database {database} reset synchronous_commit"
        ]
    if facts.source in ("client", "environment variable", "session"):
        return "set by the client: take it out of DATABASE_URL's options and of PGOPTIONS", ()
    return "set in the server's configuration", ["alter system set synchronous_commit = on", "select pg_reload_conf()"]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _psql(*statements: str) -> str:
    return "psql " + " ".join(f"-c {shlex.quote(statement)}" for statement in statements)


class ServerDurability:
    """See `durability.DurabilityLook`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def doubts(self) -> list[Doubt]:
        """Asks the server."""
        return of_server(self._facts())

    def _facts(self) -> ServerFacts:
        with self.database.read() as connection:
            row: Any = connection.exec_driver_sql(
                "select current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),"
                " (select source from pg_settings where name = 'synchronous_commit'), current_user, current_database(),"
                " array(select c.relname::text from pg_class c where c.relkind in ('r', 'p') and c.relpersistence = 'u'"
                " and starts_with(c.relname::text, 'webhooks_') and pg_table_is_visible(c.oid) order by 1),"
                " array(select p || ' on ' || c.relname from pg_class c, unnest('{select,insert,update,delete}'::text[]) p"
                " where c.relkind in ('r', 'p') and not c.relispartition and starts_with(c.relname::text, 'webhooks_')"
                " and pg_table_is_visible(c.oid) and not has_table_privilege(c.oid, p) order by 1)"
            ).one()
        fsync, pages, commit, source, role, database, unlogged, lacking = row
        return ServerFacts(
            fsync == "on", pages == "on", commit, source or "default", role, database, tuple(unlogged), tuple(lacking)
        )


__all__ = ["ServerDurability", "ServerFacts", "of_server"]
