"""What is remembered of each source: how far its event log was read, which of its keys were used, what it has paused.

The row of a source has two halves. `mark_at` says up to where the log was read without a gap; it never goes back. The
window is a catch-up that was begun: `window_at` is how far it came, so that one that was interrupted continues there. A
window is closed in the statement that moves the mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import func, or_, select, tuple_, update

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.store.dialect import dialect_of
from webhooks.store.processes import MARGIN

#: Keys in one question; SQLite takes 32,766 parameters.
STEP = 500
#: Ids in one question; each takes two parameters and a range of the index.
SOME = 50


@dataclass(frozen=True, slots=True)
class LogPosition:
    """What is remembered of one source's log; None where nothing is."""

    source: str
    mark_at: datetime | None = None
    window_since: datetime | None = None
    window_until: datetime | None = None
    window_at: datetime | None = None
    requested_at: datetime | None = None
    ran_at: datetime | None = None
    error: str | None = None
    repaired: int | None = None
    stripped_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KnownRevision:
    """An event as the dedup log knows it. older: revisions that are kept but not the newest."""

    revision: int
    older: frozenset[int] = frozenset()

    def has(self, revision: int) -> bool:
        """Whether this revision is stored, as the newest or as an older one."""
        return revision == self.revision or revision in self.older


class LogPositions:
    """The rows of `webhooks_marks`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)

    def get(self, source: str) -> LogPosition:
        """What is known of `source`; an empty position when it was never caught up."""
        table = schema.marks
        with self.database.read() as connection:
            row = connection.execute(select(table).where(table.c.source == source)).fetchone()
        return LogPosition(source) if row is None else LogPosition(**row._mapping)

    def begin(self, source: str, since: datetime, until: datetime, at: datetime) -> None:
        """Open a window, or reopen one that was interrupted. at: how far it is read already."""
        self._put(source, {"window_since": since, "window_until": until, "window_at": at})

    def advance(self, source: str, at: datetime) -> None:
        """Remember that the open window is read up to `at`."""
        table = schema.marks
        with self.database.write() as connection:
            connection.execute(
                update(table).where(table.c.source == source, table.c.window_at < at).values(window_at=at)
            )

    def complete(
        self,
        source: str,
        mark_at: datetime | None,
        *,
        asked_at: datetime,
        repaired: int,
        stripped_at: datetime | None,
        latest: datetime | None = None,
    ) -> None:
        """End the window; move the position forward to `mark_at`, unless that is None or behind it.

        source: whose log.
        asked_at: when the run began; a request made since then stays open.
        repaired: events that the run added.
        stripped_at: the oldest entry that it could only see without content; None: there was none.
        latest: a position beyond it was set by a wrong clock, and is moved back; None: there is none such.
        """
        table = schema.marks
        ended = {
            "window_since": None,
            "window_until": None,
            "window_at": None,
            "error": None,
            "repaired": repaired,
            "stripped_at": stripped_at,
        }
        with self.database.write() as connection:
            now = self.database.now(connection)
            self._upsert(connection, source, {**ended, "ran_at": now})
            if mark_at is not None:
                moves = [table.c.mark_at.is_(None), table.c.mark_at < mark_at]
                if latest is not None:
                    moves.append(table.c.mark_at > latest)
                connection.execute(update(table).where(table.c.source == source, or_(*moves)).values(mark_at=mark_at))
            connection.execute(
                update(table)
                # asked for later than now: by a wrong clock
                .where(
                    table.c.source == source, or_(table.c.requested_at <= asked_at, table.c.requested_at > now + MARGIN)
                )
                .values(requested_at=None)
            )

    def fail(self, source: str, error: str) -> None:
        """Remember why a run ended before its window was complete; position and window stay."""
        self._put(source, {"error": error, "ran_at": ...})

    def request(self, source: str) -> None:
        """Ask for a catch-up soon; whichever worker is elected sees it."""
        self._put(source, {"requested_at": ...})

    def _put(self, source: str, values: Mapping[str, Any]) -> None:
        with self.database.write() as connection:
            now = self.database.now(connection)
            self._upsert(connection, source, {k: now if v is ... else v for k, v in values.items()})

    def _upsert(self, connection: Any, source: str, values: Mapping[str, Any]) -> None:
        statement = self.dialect.insert(schema.marks).values(source=source, **values)
        connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=dict(values)))

    # -- what is stored already -----------------------------------------------------------------------------

    def seen(self, source: str, keys: Iterable[str]) -> dict[str, KnownRevision]:
        """{dedup key: what is stored of it} for those of `keys` that are known."""
        table = schema.dedup_log.c
        wanted = list(dict.fromkeys(keys))
        found: dict[str, KnownRevision] = {}
        for start in range(0, len(wanted), STEP):
            query = select(table.dedup_key, table.revision, table.older).where(
                table.source == source, table.dedup_key.in_(wanted[start : start + STEP])
            )
            with self.database.read() as connection:
                for key, revision, older in connection.execute(query):
                    found[key] = KnownRevision(revision, _revisions(older))
        return found

    def seen_ids(self, source: str, ids: Iterable[str]) -> dict[str, KnownRevision]:
        """The same by the sender's ids alone, of keys that are an id, or begin with it and a colon (id and digest)."""
        table = schema.dedup_log.c
        found: dict[str, KnownRevision] = {}
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), SOME):
            some = wanted[start : start + SOME]
            # keys compare as bytes, and ";" comes right after ":"
            ranges = [(table.dedup_key >= f"{id}:") & (table.dedup_key < f"{id};") for id in some]
            query = select(table.dedup_key).where(table.source == source, or_(*ranges))
            with self.database.read() as connection:
                keys = connection.execute(query).scalars().all()
            found |= {id: KnownRevision(0) for id in some if any(key.startswith(f"{id}:") for key in keys)}
        return found | self.seen(source, wanted)

    def first_webhook_at(self, source: str) -> datetime | None:
        """When the first stored event of `source` arrived; None when there is none."""
        events = schema.events.c
        with self.database.read() as connection:
            found: datetime | None = connection.execute(
                select(func.min(events.received_at, type_=schema.Instant())).where(events.source == source)
            ).scalar()
        return found

    def quiet_between(self, source: str, since: datetime, until: datetime) -> bool:
        """Whether no webhook of `source` was stored from `since` to `until`."""
        events = schema.events.c
        query = (
            select(events.id)
            .where(events.source == source, events.origin == 0)
            .where(events.received_at >= since, events.received_at <= until)
            .limit(1)
        )
        with self.database.read() as connection:
            return connection.execute(query).first() is None


class KeyUses:
    """The rows of `webhooks_key_uses`: which keys have verified anything, and when last."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)

    def note(self, source: str, label: str, at: datetime) -> None:
        """Remember that `label` verified a request at `at`."""
        table = schema.key_uses
        statement = self.dialect.insert(table).values(source=source, label=label, last_used_at=at)
        with self.database.write() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["source", "label"],
                    set_={"last_used_at": statement.excluded.last_used_at},
                    where=table.c.last_used_at < statement.excluded.last_used_at,
                )
            )

    def of(self, source: str) -> dict[str, datetime]:
        """{label: when it last verified a request}."""
        return self.every([source])[source]

    def every(self, sources: Iterable[str]) -> dict[str, dict[str, datetime]]:
        """{source: {label: when it last verified a request}}, in one statement."""
        found: dict[str, dict[str, datetime]] = {source: {} for source in sources}
        table = schema.key_uses
        with self.database.read() as connection:
            for row in connection.execute(select(table).where(table.c.source.in_(list(found)))):
                found[row.source][row.label] = row.last_used_at
        return found

    def forget(self, source: str, labels: Sequence[str]) -> None:
        """Drop what is known of keys that are gone."""
        table = schema.key_uses
        with self.database.write() as connection:
            connection.execute(
                table.delete().where(tuple_(table.c.source, table.c.label).in_([(source, label) for label in labels]))
            )


class PausedSubscriptions:
    """The rows of `webhooks_paused_subscriptions`: what senders said last, for those who cannot ask them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)

    def note(self, paused: Mapping[str, int]) -> None:
        """Remember how many of each source's subscriptions its sender has paused; other sources keep what they have."""
        table = schema.paused_subscriptions
        with self.database.write() as connection:
            now = self.database.now(connection)
            for source, number in sorted(paused.items()):
                values = {"paused": number, "asked_at": now}
                statement = self.dialect.insert(table).values(source=source, **values)
                connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=values))


def _revisions(older: Any) -> frozenset[int]:
    """The revisions in `older`; digests of sources without revisions begin with a `d`."""
    if older is None:
        return frozenset()
    found = msgspec.json.decode(older, type=dict[str, Any]) if isinstance(older, str | bytes) else older
    return frozenset(int(token) for token in found if token.lstrip("-").isdigit())


__all__ = ["KeyUses", "KnownRevision", "LogPosition", "LogPositions", "PausedSubscriptions"]
