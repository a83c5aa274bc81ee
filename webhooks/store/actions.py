"""What people did: the audit log, and where a process that carries a long action out keeps how far it is.

An action is on record before its change, or in the same transaction. One that changes many deliveries does it in steps:
each step is one transaction that changes deliveries, gives them its id and moves its cursor, so after a `kill -9` another
process continues from there and no delivery is changed twice. Only the process that holds the lease of an action works
on it; should two try all the same, the cursor lets one continue (`Overtaken`).

Rows are appended; nothing takes one back but age.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.errors import WebhooksError
from webhooks.model import id_at, new_id
from webhooks.store.dialect import dialect_of

#: Rows that a count looks at.
LOOKED_AT = 1_000
#: No action is held for longer without a word.
LONGEST_LEASE = timedelta(minutes=10)


class ActionState(enum.IntEnum):
    """How far an action is."""

    WAITING = 0  #: put there by who asks for what a worker does; taken out by that worker
    RUNNING = 1  #: put there by the process that does it; taken out by it, or by Stop
    DONE = 2  #: final
    STOPPED = 3  #: put there by Stop, or by a command that was interrupted; final
    FAILED = 4  #: final; `error` says why

    @property
    def label(self) -> str:
        """As people write it: `running`."""
        return self.name.lower()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self >= ActionState.DONE


class Overtaken(WebhooksError):
    """Another process carries the action out, or it was stopped; this one changed nothing more."""


class AlreadyConfirmed(WebhooksError):
    """A preview that was confirmed before. action: what came of it."""

    def __init__(self, action: Action) -> None:
        super().__init__(f"this was confirmed already, by {action.by}: webhooks activity show {action.id}")
        self.action = action


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a person did.

    via: by which door (`operations.Via`); address: of the client, where there is one.
    verb: `operations.Verb`; subject: the handler, source, replay, alarm or id; "" for many.
    selection: what was selected, {condition: value}; None where nothing was.
    options, result: {name: value}, as the verb defines them.
    cursor: the last delivery that was looked at.
    matched: how many the preview counted; None: not counted.
    skipped: looked at, and left as they were; why is in `result["skipped"]`.
    undoes: the action that this one takes back.
    """

    id: int
    at: datetime
    by: str
    via: str
    verb: str
    state: ActionState
    subject: str = ""
    address: str | None = None
    selection: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    why: str | None = None
    preview_id: int | None = None
    cursor: int | None = None
    matched: int | None = None
    changed: int = 0
    skipped: int = 0
    error: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    undoes: int | None = None
    finished_at: datetime | None = None
    holder: str | None = None
    lease_until: datetime | None = None


class ActionStep:
    """One step of an action, noted in the transaction that changes its deliveries.

    action: as it was read last.
    looked_at: how many deliveries the step has.
    cursor: where it stands after it; None: where it stood.
    left: {reason: how many are left as they are}; the rest of those that do not change counts as `meanwhile`.
    holder, lease: who carries it out, and for how long it is held from now on.
    """

    def __init__(
        self,
        action: Action,
        *,
        looked_at: int,
        cursor: int | None = None,
        left: Mapping[str, int] | None = None,
        holder: str = "",
        lease: timedelta = timedelta(seconds=30),
    ) -> None:
        self.action = action
        self.looked_at = looked_at
        self.cursor = action.cursor if cursor is None else cursor
        self.left = dict(left or {})
        self.holder = holder
        self.lease = lease
        #: the action after this step, once its transaction is committed
        self.after = action

    def note(self, database: Database, connection: Connection, changed: int) -> None:
        """Count, and move the cursor. Raises `Overtaken`, which takes the transaction back."""
        table, before = schema.actions, self.action
        left = dict(self.left)
        if meanwhile := self.looked_at - changed - sum(left.values()):
            left["meanwhile"] = left.get("meanwhile", 0) + meanwhile
        so_far = dict(before.result.get("skipped", {}))
        for reason, number in left.items():
            so_far[reason] = so_far.get(reason, 0) + number
        result = {**before.result, "skipped": so_far} if so_far else dict(before.result)
        until = database.now(connection) + self.lease
        place = table.c.cursor.is_(None) if before.cursor is None else table.c.cursor == before.cursor
        moved = connection.execute(
            update(table)
            .where(table.c.id == before.id, table.c.state == ActionState.RUNNING, place, table.c.holder == self.holder)
            .values(
                cursor=self.cursor,
                changed=table.c.changed + changed,
                skipped=table.c.skipped + sum(left.values()),
                result=_dump(result),
                lease_until=until,
            )
        )
        if not moved.rowcount:
            raise Overtaken(f"action {before.id} was stopped, or another process carries it out")
        self.after = replace(
            before,
            cursor=self.cursor,
            changed=before.changed + changed,
            skipped=before.skipped + sum(left.values()),
            result=result,
            lease_until=until,
        )


class Actions:
    """The rows of `webhooks_actions`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)

    # -- writing -------------------------------------------------------------------------------------------

    def add(self, draft: Action, *, lease: timedelta = timedelta(0)) -> Action:
        """Put an action on record, under its id, at the database's time. Raises `AlreadyConfirmed`.

        lease: for how long its `holder` works on it before others may.
        """
        table = schema.actions
        with self.database.write() as connection:
            now = self.database.now(connection)
            until = now + lease if draft.holder is not None else None
            over = now if draft.state.is_over else None
            made = replace(draft, at=now, lease_until=until, finished_at=over)
            statement = self.dialect.insert(table).values(_values(made)).on_conflict_do_nothing()
            if not connection.execute(statement.returning(table.c.id)).fetchall():
                same = table.c.preview_id == draft.preview_id
                found = connection.execute(select(table).where(same)).fetchone()
                if found is not None:
                    raise AlreadyConfirmed(_action(found))
                raise ValueError(f"an action {draft.id} is on record already")
        return made

    def take(self, id: int, holder: str, lease: timedelta) -> Action | None:
        """Carry an action out, or continue what another process left; None when there is nothing to do for us.

        A hold that ends much later than now is the work of a wrong clock, and is over.
        """
        table = schema.actions
        with self.database.write() as connection:
            now = self.database.now(connection)
            free = or_(
                table.c.lease_until.is_(None),
                table.c.lease_until <= now,
                table.c.lease_until > now + LONGEST_LEASE,
                table.c.holder == holder,
            )
            statement = (
                update(table)
                .where(table.c.id == id, table.c.state < ActionState.DONE, free)
                .values(state=ActionState.RUNNING, holder=holder, lease_until=now + lease)
                .returning(*table.c)
            )
            found = connection.execute(statement).fetchone()
        return None if found is None else _action(found)

    def release(self, id: int, holder: str) -> None:
        """Leave an action that is not done to the next process."""
        table = schema.actions
        with self.database.write() as connection:
            ours = (table.c.id == id) & (table.c.holder == holder) & (table.c.state < ActionState.DONE)
            connection.execute(update(table).where(ours).values(holder=None, lease_until=None))

    def advance(self, step: ActionStep) -> Action:
        """Note a step that changes no delivery. Raises `Overtaken`."""
        with self.database.write() as connection:
            step.note(self.database, connection, 0)
        return step.after

    def finish(
        self,
        id: int,
        state: ActionState = ActionState.DONE,
        *,
        subject: str | None = None,
        changed: int | None = None,
        skipped: int | None = None,
        error: str | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> bool:
        """End an action; False when it was over. What is None stays as it is."""
        table = schema.actions
        given: dict[str, Any] = {"subject": subject, "changed": changed, "skipped": skipped, "error": error}
        if result is not None:
            given["result"] = _dump(result)
        values = {name: value for name, value in given.items() if value is not None}
        with self.database.write() as connection:
            statement = (
                update(table)
                .where(table.c.id == id, table.c.state < ActionState.DONE)
                .values(state=state, finished_at=self.database.now(connection), lease_until=None, **values)
            )
            return bool(connection.execute(statement).rowcount)

    # -- looking -------------------------------------------------------------------------------------------

    def get(self, id: int) -> Action | None:
        """The action under `id`."""
        return self._one(schema.actions.c.id == id)

    def of_preview(self, preview_id: int) -> Action | None:
        """What a preview led to, once it was confirmed."""
        return self._one(schema.actions.c.preview_id == preview_id)

    def undone_by(self, id: int) -> Action | None:
        """The latest action that took this one back."""
        return self._one(schema.actions.c.undoes == id)

    def latest(self, verb: str, subject: str) -> Action | None:
        """The latest of a verb on a subject, among the newest thousand of all."""
        table = schema.actions
        newest = select(table).order_by(table.c.id.desc()).limit(LOOKED_AT).subquery()
        query = select(newest).where(newest.c.verb == verb, newest.c.subject == subject)
        with self.database.read() as connection:
            found = connection.execute(query.order_by(newest.c.id.desc()).limit(1)).fetchone()
        return None if found is None else _action(found)

    def page(
        self,
        limit: int = 50,
        *,
        before: int | None = None,
        verbs: Collection[str] = (),
        by: str | None = None,
        since: datetime | None = None,
    ) -> list[Action]:
        """The latest actions, the latest first.

        before: an id; only older ones.
        verbs: of these; none for all.
        by: of this user.
        since: from then on.
        """
        table = schema.actions.c
        query = select(schema.actions).order_by(table.id.desc()).limit(limit)
        if before is not None:
            query = query.where(table.id < before)
        if since is not None:
            query = query.where(table.id >= id_at(since))
        if verbs:
            query = query.where(table.verb.in_(verbs))
        if by is not None:
            query = query.where(table.by == by)
        with self.database.read() as connection:
            return [_action(row) for row in connection.execute(query)]

    def unfinished(self, limit: int = 100) -> list[Action]:
        """Actions that wait or run, the oldest first."""
        table = schema.actions
        query = select(table).where(_unfinished()).order_by(table.c.id).limit(limit)
        with self.database.read() as connection:
            return [_action(row) for row in connection.execute(query)]

    def newest_id(self) -> int:
        """The id of the newest action; 0 where there is none."""
        table = schema.actions.c
        with self.database.read() as connection:
            return connection.execute(select(table.id).order_by(table.id.desc()).limit(1)).scalar() or 0

    def count(self, verb: str, since: datetime, *, subject: str | None = None, address: str | None = None) -> int:
        """How many of a verb there were since then, counted up to `LOOKED_AT`; of one subject or address where given."""
        table = schema.actions.c
        query = select(table.id).where(table.id >= id_at(since), table.verb == verb)
        if subject is not None:
            query = query.where(table.subject == subject)
        if address is not None:
            query = query.where(table.address == address)
        with self.database.read() as connection:
            return len(connection.execute(query.limit(LOOKED_AT)).fetchall())

    def _one(self, condition: ColumnElement[bool]) -> Action | None:
        table = schema.actions
        with self.database.read() as connection:
            found = connection.execute(select(table).where(condition).order_by(table.c.id.desc()).limit(1)).fetchone()
        return None if found is None else _action(found)

    # -- age -----------------------------------------------------------------------------------------------

    def prune(self, before: datetime, limit: int = 1_000) -> int:
        """Delete actions that are over and were asked for before `before`, at most `limit`; how many."""
        table = schema.actions
        with self.database.write() as connection:
            old = select(table.c.id).where(table.c.id < id_at(before), table.c.state >= ActionState.DONE)
            ids = connection.execute(old.order_by(table.c.id).limit(limit)).scalars().all()
            return connection.execute(delete(table).where(table.c.id.in_(ids))).rowcount if ids else 0

    def close_abandoned(self, verbs: Sequence[str], before: datetime) -> int:
        """End what a process began before then, and never said how it went. verbs: of these no worker takes over."""
        table = schema.actions
        with self.database.write() as connection:
            statement = (
                update(table)
                .where(_unfinished(), table.c.id < id_at(before), table.c.verb.in_(verbs))
                .values(
                    state=ActionState.FAILED,
                    finished_at=self.database.now(connection),
                    error="its process ended before it said how it went",
                )
            )
            return connection.execute(statement).rowcount


def is_free(action: Action, now: datetime) -> bool:
    """Whether no process holds an action; as `Actions.take` judges."""
    until = action.lease_until
    return until is None or until <= now or until > now + LONGEST_LEASE


def draft(verb: str, *, by: str, via: str, at: datetime, state: ActionState, **given: Any) -> Action:
    """An action that is not on record yet, with an id."""
    return Action(id=new_id(), at=at, by=by, via=via, verb=verb, state=state, **given)


def _unfinished() -> ColumnElement[bool]:
    """`state < 2` with the number in the text: partial indexes are not found by a parameter."""
    from sqlalchemy import text

    return text("webhooks_actions.state < 2")  # type: ignore[return-value]


def _dump(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _values(action: Action) -> dict[str, Any]:
    given = {column.name: getattr(action, column.name) for column in schema.actions.c}
    given["selection"] = None if action.selection is None else _dump(action.selection)
    return {**given, "state": int(action.state), "options": _dump(action.options), "result": _dump(action.result)}


def _action(row: Any) -> Action:
    given = dict(row._mapping)
    given["state"] = ActionState(given["state"])
    for name in ("selection", "options", "result"):
        given[name] = None if given[name] is None else msgspec.json.decode(given[name])
    return Action(**given)


__all__ = ["Action", "ActionState", "ActionStep", "Actions", "AlreadyConfirmed", "Overtaken", "draft", "is_free"]
