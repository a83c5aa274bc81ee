"""Keep a row equal to what a sender last said of one object, in whatever order its events come.

Every event of Close carries the whole object, so one rule is enough: the state with the latest `date_updated` stays,
and a deletion stays for ever. `put` and `bury` are one statement each, `INSERT … ON CONFLICT DO UPDATE … WHERE`:

* an older state, a duplicate or a replay changes nothing;
* `updated` before `created` makes the row, and `created` then finds it newer;
* a deletion leaves a tombstone (`deleted_at`), so that nothing that comes late brings the object back.

Why one statement: "select, then insert or update" asks at one moment and writes at another. On PostgreSQL two handlers
can both find nothing and both insert, or both find the older row and the older state be written last. The upsert takes
the row's lock before it compares, on SQLite the write lock, so the comparison is with what is really there.

A table that is kept this way has the columns of `mirrored`. Not here: what the other columns are (each plugin).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, DateTime, MetaData, Table, Text, TypeDecorator, and_, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session
from sqlalchemy.schema import SchemaItem


class Words(TypeDecorator[str]):
    """Text of a sender that any database takes: without NUL and halves of surrogate pairs, which PostgreSQL refuses."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if not isinstance(value, str):
            return value
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant; SQLite keeps no offset, so it is put back when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)


def mirrored(name: str, metadata: MetaData, *columns: SchemaItem) -> Table:
    """A table for `put` and `bury`.

    id: the object's id at the sender. shown_at: `date_updated` of the event that the row shows; None while the row
    holds only what other events told of the object. deleted_at: makes it a tombstone.
    """
    return Table(
        name,
        metadata,
        Column("id", Words, primary_key=True),
        Column("shown_at", Instant),
        Column("deleted_at", Instant),
        *columns,
    )


def put(session: Session, table: Table, id: str, at: datetime, values: Mapping[str, Any]) -> bool:
    """Make the row show `values`, unless it shows a later state or is a tombstone; says whether it did.

    Columns that are not in `values` keep what they have.
    """
    statement = _insert(session, table).values(id=id, shown_at=at, **values)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.id],
        set_={"shown_at": new.shown_at, **{name: new[name] for name in values}},
        where=and_(table.c.deleted_at.is_(None), or_(table.c.shown_at.is_(None), table.c.shown_at <= new.shown_at)),
    )
    return session.execute(statement.returning(table.c.id)).first() is not None


def bury(session: Session, table: Table, id: str, at: datetime, **kept: Any) -> bool:
    """Make the row a tombstone that holds nothing but `kept`; says whether it was none before.

    kept: as the deletion shows them; where it shows None, what the row has. A tombstone stays as it is: objects come
    back under new ids only.
    """
    statement = _insert(session, table).values(id=id, shown_at=at, deleted_at=at, **kept)
    new = statement.excluded
    empty = {column.name: None for column in table.columns if column.nullable}
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.id],
        set_={
            **empty,
            **{name: func.coalesce(new[name], table.c[name]) for name in kept},
            "shown_at": new.shown_at,
            "deleted_at": new.deleted_at,
        },
        where=table.c.deleted_at.is_(None),
    )
    return session.execute(statement.returning(table.c.id)).first() is not None


def note(session: Session, table: Table, id: str, **facts: Any) -> None:
    """Set columns that `put` never sets, whatever the row shows: for facts that no later event takes back.

    Looks first, because a fact that is there stays: most events tell nothing new, and would wait for each other's lock
    on a row that many of them name.
    """
    known = select(table.c.id).where(table.c.id == id, *(table.c[name] == value for name, value in facts.items()))
    if session.execute(known).first() is not None:
        return
    statement = _insert(session, table).values(id=id, **facts)
    new = statement.excluded
    session.execute(
        statement.on_conflict_do_update(index_elements=[table.c.id], set_={name: new[name] for name in facts})
    )


def add(session: Session, table: Table, **values: Any) -> bool:
    """Insert a row unless one of its primary key is there; says whether it did. Right for two who ask at once."""
    statement = _insert(session, table).values(**values).on_conflict_do_nothing()
    return session.execute(statement.returning(*table.primary_key.columns)).first() is not None


def _insert(session: Session, table: Table) -> Any:
    """INSERT in the dialect of the session's database: ON CONFLICT is not in SQLAlchemy's general one."""
    return (sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert)(table)
