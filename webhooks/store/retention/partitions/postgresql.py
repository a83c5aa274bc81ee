"""The statements on partitions. Each runs in the caller's transaction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from webhooks.database import tables as schema
from webhooks.model import DeliveryState
from webhooks.store.dialect import Dialect
from webhooks.store.retention.needed import may_go, named_by_open_replays
from webhooks.store.retention.partitions.records import DEFAULT, FIRST, TABLE, Holders, Partition, PartitionError

#: The promise about its ids by which the existing table is attached without a scan. It would refuse events from its
#: bound on, so it never outlives a run for long: `convert` drops it, and `keep` when that was killed.
PROOF = f"ck_{TABLE}_until"
#: States in which a delivery alone keeps its event, by the rule for single rows.
HOLDING = tuple(state for state in DeliveryState if not may_go([(state, False)]))

_BOUND = re.compile(r"FROM \('?(MINVALUE|-?\d+)'?\) TO \('?(MAXVALUE|-?\d+)'?\)")


def wait_at_most(lock: timedelta, statement: timedelta = timedelta(0)) -> str:
    """Settings of one transaction: how long a lock, and how long one statement may take. 0: no limit."""
    return (
        f"set local lock_timeout = '{lock / timedelta(milliseconds=1):.0f}ms'; "
        f"set local statement_timeout = '{statement / timedelta(milliseconds=1):.0f}ms'"
    )


def read_partitions(connection: Connection) -> list[Partition] | None:
    """Every partition by its bounds, the default last; None when the table is not partitioned."""
    kind = connection.exec_driver_sql(f"select relkind from pg_class where oid = '{TABLE}'::regclass").scalar_one()
    if kind not in ("p", b"p"):
        return None
    rows = connection.exec_driver_sql(
        f"""select c.relname, pg_get_expr(c.relpartbound, c.oid), greatest(c.reltuples, 0)::bigint,
                   pg_total_relation_size(c.oid)
              from pg_inherits i join pg_class c on c.oid = i.inhrelid
             where i.inhparent = '{TABLE}'::regclass"""
    ).fetchall()
    found = []
    for name, bound, estimate, size in rows:
        match = _BOUND.search(bound)
        lower, upper = (int(text) if text.lstrip("-").isdigit() else None for text in match.groups()) if match else (None, None)  # fmt: skip
        found.append(Partition(name, lower, upper, estimate, size))
    return sorted(found, key=lambda each: (each.is_default, each.lower or 0))


def first_partition(connection: Connection, bound: int) -> Partition:
    """What the table that is there will be: everything below `bound`."""
    rows, size = connection.exec_driver_sql(
        f"select greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) from pg_class where oid = '{TABLE}'::regclass"
    ).one()
    return Partition(FIRST, None, bound, rows, size)


def has_proof(connection: Connection) -> bool:
    """Whether the table has the constraint `PROOF`."""
    query = f"select 1 from pg_constraint where conrelid = '{TABLE}'::regclass and conname = '{PROOF}'"
    return connection.exec_driver_sql(query).first() is not None


def require_proof(connection: Connection, bound: int, valid: bool = False) -> None:
    """Raise `PartitionError` unless the proof is there, and ours: without it, ATTACH would read the whole table."""
    query = f"""select convalidated, pg_get_constraintdef(oid) from pg_constraint
                 where conrelid = '{TABLE}'::regclass and conname = '{PROOF}'"""
    found = connection.exec_driver_sql(query).first()
    if found is None or (valid and not found[0]) or str(bound) not in found[1]:
        raise PartitionError(
            "another run of `webhooks db partition` was at work at the same time; nothing was changed; run it again"
        )


def refuse_dependents(connection: Connection) -> None:
    """Refuse while anything refers to the table that would continue to refer to the first partition alone."""
    rows = connection.exec_driver_sql(
        f"""select 'view ' || r.ev_class::regclass from pg_depend d join pg_rewrite r on r.oid = d.objid
             where d.classid = 'pg_rewrite'::regclass and d.refobjid = '{TABLE}'::regclass
               and r.ev_class <> d.refobjid
            union select 'foreign key ' || conname || ' of ' || conrelid::regclass from pg_constraint
             where contype = 'f' and confrelid = '{TABLE}'::regclass
            union select 'trigger ' || tgname from pg_trigger where tgrelid = '{TABLE}'::regclass and not tgisinternal
            union select 'policy ' || polname from pg_policy where polrelid = '{TABLE}'::regclass
            union select 'publication ' || p.pubname from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
             where r.prrelid = '{TABLE}'::regclass
            order by 1"""
    )
    found = [str(name) for (name,) in rows]
    if found:
        raise PartitionError(
            f"{TABLE} cannot be partitioned while something refers to it that would go on seeing the first partition "
            f"alone: {', '.join(found)}; drop it, run `webhooks db partition`, and create it again"
        )


def swap(connection: Connection, bound: int, made: Sequence[Partition]) -> None:
    """Give the table's name to a partitioned one that has it as first partition.

    bound: of the ids of the first partition, proven by `PROOF`.
    made: further partitions to make.
    """
    connection.exec_driver_sql(f"lock table {TABLE} in access exclusive mode")
    refuse_dependents(connection)
    require_proof(connection, bound, valid=True)
    owner, grants, indexes = _owner(connection), _grants(connection), _indexes(connection)
    connection.exec_driver_sql(f"alter table {TABLE} rename to {FIRST}")
    for name, _, _ in indexes:
        there, other = quoted(connection, name), quoted(connection, f"{name[:57]}_first")
        connection.exec_driver_sql(f"alter index {there} rename to {other}")
    connection.exec_driver_sql(
        f"""create table {TABLE} (like {FIRST} including defaults including comments including storage
            including compression including statistics) partition by range (id)"""
    )
    for name, definition, is_primary in indexes:
        key = f"alter table {TABLE} add constraint {quoted(connection, name)} primary key (id)"
        connection.exec_driver_sql(key if is_primary else definition)
    for privilege, grantee, is_grantable in grants:
        option = " with grant option" if is_grantable else ""
        connection.exec_driver_sql(f"grant {privilege} on {TABLE} to {grantee}{option}")
    connection.exec_driver_sql(f"alter table {TABLE} owner to {quoted(connection, owner)}")
    bounds = f"for values from (minvalue) to ({bound:d})"
    connection.exec_driver_sql(f"alter table {TABLE} attach partition {FIRST} {bounds}")
    connection.exec_driver_sql(f"alter table {FIRST} drop constraint {PROOF}")
    connection.exec_driver_sql(f"create table {DEFAULT} partition of {TABLE} default")
    for each in made:
        make(connection, each)


def _owner(connection: Connection) -> str:
    query = f"select pg_get_userbyid(relowner) from pg_class where oid = '{TABLE}'::regclass"
    return str(connection.exec_driver_sql(query).scalar_one())


def _grants(connection: Connection) -> Sequence[Any]:
    """(privilege, role, with grant option) of others than the owner."""
    return connection.exec_driver_sql(
        f"""select a.privilege_type, case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                   a.is_grantable
              from pg_class c, aclexplode(c.relacl) a where c.oid = '{TABLE}'::regclass and a.grantee <> c.relowner"""
    ).fetchall()


def _indexes(connection: Connection) -> Sequence[Any]:
    """(name, definition, is it the primary key), the primary key first."""
    return connection.exec_driver_sql(
        f"""select c.relname, pg_get_indexdef(c.oid), i.indisprimary from pg_index i join pg_class c on c.oid = i.indexrelid
             where i.indrelid = '{TABLE}'::regclass order by i.indisprimary desc, c.relname"""
    ).fetchall()


def make(connection: Connection, partition: Partition) -> None:
    """Make a partition."""
    # attached rather than made as a partition: that would lock the parent against every reader and writer
    name = quoted(connection, partition.name)
    connection.exec_driver_sql(f"create table {name} (like {TABLE} including all)")
    connection.exec_driver_sql(
        f"alter table {TABLE} attach partition {name} for values from ({partition.lower}) to ({partition.upper})"
    )


def holders_of(connection: Connection, partition: Partition, dialect: Dialect) -> Holders:
    """What a partition is still needed for."""
    events = schema.events.c
    lower, upper = partition.lower or 0, partition.upper
    deliveries: dict[DeliveryState, int] = {}
    examples: list[int] = []
    for state in HOLDING:
        # the number in the text, so that the partial indexes on states are found
        count, example = connection.exec_driver_sql(
            f"""select count(*), min(event_id) from webhooks_deliveries
                 where state = {int(state)} and event_id >= {lower} and event_id < {upper}"""
        ).one()
        if count:
            deliveries[state] = count
            examples.append(example)
    replays = []
    for id, by_replay in named_by_open_replays(connection, dialect):
        named = select(events.id).where(events.id >= lower, events.id < upper, *by_replay).limit(1)
        if connection.execute(named).first() is not None:
            replays.append(id)
    return Holders(deliveries, min(examples, default=None), replays)


def quoted(connection: Connection, name: str) -> str:
    """A name as a statement wants it."""
    return connection.dialect.identifier_preparer.quote(name)


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE that lies at the bottom of an error; None where there is none."""
    found: Any = error
    while found is not None:
        state = getattr(getattr(found, "orig", found), "sqlstate", None)
        if state is not None:
            return str(state)
        found = found.__cause__
    return None


__all__ = [
    "HOLDING", "PROOF", "first_partition", "has_proof", "holders_of", "make", "quoted", "read_partitions",
    "refuse_dependents", "require_proof", "sqlstate_of", "swap", "wait_at_most",
]  # fmt: skip
