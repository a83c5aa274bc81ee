"""`Kit`: what a test holds. It posts, drains, moves the clock, and tells what became of deliveries."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks import signals
from webhooks.model import DeliveryState
from webhooks.testing.adverse import Adverse
from webhooks.testing.calling import Calling
from webhooks.testing.clock import KitClock
from webhooks.testing.fixtures import parsed, read_fixtures
from webhooks.testing.operating import Operating
from webhooks.testing.records import NothingScheduled, Posted, Run, Values, What

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy.orm import Session

    from webhooks.app import Webhooks
    from webhooks.testing.sandbox import Sandbox

#: `drain` runs so many deliveries, and then says that something goes in a circle.
LIMIT = 1000


class Kit(Operating, Calling, Adverse):
    """The consumer of a project over a database of the test's own; made by `make_kit` or by the fixture `webhooks`.

    webhooks: the consumer itself: its settings, sources, store and operations.
    clock: which all of it sees.
    """

    def __init__(self, webhooks: Webhooks, clock: KitClock, sandbox: Sandbox | None = None) -> None:
        super().__init__(webhooks, clock)
        #: what ends with it, besides the consumer
        self.ending = contextlib.ExitStack()
        self._sandbox = sandbox
        if sandbox is not None:
            sandbox.stand_beside(self)
        self._app: Flask | None = None
        self._watched: list[tuple[Any, Any]] = []

    # -- posting -------------------------------------------------------------------------------------------

    def post(
        self,
        what: What,
        *,
        source: str | None = None,
        set: Values | None = None,
        headers: Mapping[str, str] | None = None,
        times: int = 1,
        age: timedelta | None = None,
        signature: str = "right",
    ) -> Posted:
        """Post an event as its sender would, signed; what the first post got.

        what: the type of a sample, a path, bytes, or JSON as a mapping. A sample gets an id and dates of its own.
        source: as whose; None: the only one, or the one that has this sample.
        set: {path: value} to replace in the body: `{"data.direction": "outgoing"}`.
        headers: besides those of the sample and the signature.
        times: so often, the same body each time.
        age: signed as if sent so long ago.
        signature: "right", "wrong" or "missing".

        Raises `NotFound` for a sample, a source or a file that there is not, and `SelectionError` for a path.

        >>> kit.post("lead.created").status
        'stored'
        """
        sender = self.poster.source(source, what)
        signed_at = self._clock() - (age or timedelta(0))
        body, own = self.poster.body(what, sender, set or {}, signed_at)
        given = {name.lower(): value for name, value in (headers or {}).items()}
        first, *_ = [
            self.poster.post(sender, body, {**own, **given}, signed_at, signature) for _ in range(max(1, times))
        ]
        return first

    def store(self, place: Path | str) -> list[int]:
        """Store the events of a directory that `webhooks events export --fixtures` wrote, or of one file; their ids.

        Each is a new event; nothing is signed. Raises `NotFound` and ValueError.

        >>> import json, pathlib
        >>> body = {"event": {"id": "ev_1", "object_type": "lead", "action": "created", "data": {"name": "Quayside"}}}
        >>> file = pathlib.Path("lead.json")
        >>> _ = file.write_text(json.dumps({"source": "close", "type": "lead.created", "body": body}))
        >>> len(kit.store(file)), [run.event.data["name"] for run in kit.drain()]
        (1, ['Quayside'])
        """
        ids: list[int] = []
        for fixture in read_fixtures(Path(place)):
            source = self.poster.source(fixture.source, None)
            (receipt,) = self.webhooks.ingest.record(source, [parsed(fixture, source)], received_at=self._clock())
            ids += [] if receipt.event_id is None else [receipt.event_id]
        return ids

    # -- running -------------------------------------------------------------------------------------------

    def drain(
        self,
        *,
        handlers: Collection[str] | None = None,
        limit: int = LIMIT,
        raises: bool = True,
        twice: bool = False,
        together: bool = False,
    ) -> list[Run]:
        """Run what is due in this thread, and what becomes due by it; the runs in their order.

        handlers: names; only theirs. None: all.
        limit: of runs; over it, `StillBusy` names what runs in a circle.
        raises: raise what a handler raised (not `Retry` or `Discard`), once its attempt is recorded; False: give the run back.
        twice: call what succeeds a second time, with the same idempotency key, unless it has a session: without one a handler
            runs at least once, and its worker may die before that is recorded.
        together: run deliveries of a handler with `effects="session"` in one transaction, as a busy worker does.

        >>> kit.post("lead.created").status
        'stored'
        >>> [run.outcome for run in kit.drain()]
        ['succeeded']
        """
        try:
            return self._drainer.drain(handlers, limit, raises=raises, twice=twice, together=together)
        except BaseException:
            self._note_dead()  # the test sees why
            raise

    # -- time ----------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The kit's time, aware UTC.

        >>> kit.now().isoformat()
        '2026-03-10T14:05:00+00:00'
        """
        return self._clock()

    def freeze(self, at: datetime) -> None:
        """Set the clock to an instant, which is aware; it may lie back. Raises ValueError on PostgreSQL, whose clock cannot be held.

        >>> from datetime import datetime, timezone
        >>> kit.freeze(datetime(2027, 1, 1, tzinfo=timezone.utc))
        >>> kit.now().year
        2027
        """
        self._clock.freeze(at)

    def advance(self, by: timedelta | None = None) -> timedelta:
        """Move the clock, and say how far. by: None: to the next due time.

        A wait has jitter, so that a given time may miss what is due by a moment; without `by` it is met. On PostgreSQL the server's
        clock cannot be moved: what waits is moved back instead, and `now` follows the wall.

        Raises `NothingScheduled` where no delivery waits for its time.

        >>> from datetime import timedelta
        >>> kit.advance(timedelta(hours=1))
        datetime.timedelta(seconds=3600)
        """
        by = self._until_next() if by is None else by
        self._clock.move(by)
        return by

    def _until_next(self) -> timedelta:
        now = self.webhooks.database.now()
        waiting = [each for each in self._listed() if each.state is DeliveryState.PENDING and each.is_head]
        ahead = [each.due_at - now for each in waiting if each.due_at > now]
        if not ahead:
            due = f"; {len(waiting)} are due now, and drain() runs them" if waiting else ""
            raise NothingScheduled(f"no delivery waits for a later time{due}")
        return min(ahead)

    # -- beside it -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """An SQLAlchemy session on the same database, to look at what handlers wrote; each statement sees what is committed.

        >>> from sqlalchemy import text
        >>> with kit.session() as session:
        ...     session.scalar(text("select count(*) from webhooks_events"))
        0
        """
        from sqlalchemy.orm import Session

        with self.webhooks.database.read() as connection, Session(connection) as session:
            yield session

    def capture(self, signal: Any) -> list[dict[str, Any]]:
        """A list that gets what a life-cycle signal says from here on: its arguments, and `sender`.

        >>> from webhooks import signals
        >>> told = kit.capture(signals.delivery_succeeded)
        >>> kit.post("lead.created").status
        'stored'
        >>> len(kit.drain())
        1
        >>> [each["sender"] for each in told]
        ['welcome']
        """
        told: list[dict[str, Any]] = []

        def note(sender: Any, **arguments: Any) -> None:
            told.append({"sender": sender, **arguments})

        self._watched.append((signal, signals.connect(signal, note)))
        return told

    def client(self) -> Any:
        """Flask's test client over the same consumer.

        >>> kit.client().get("/webhooks/unknown").status_code
        404
        """
        from flask import Flask

        if self._app is None:
            self._app = Flask("webhooks.testing")
            self.webhooks.init_app(self._app)
        return self._app.test_client()

    # -- life ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every connection and thread of the kit; a database on a server is dropped, a file goes with its directory."""
        for signal, note in self._watched:
            signal.disconnect(note)
        self.webhooks.dispatcher.loop.stop()
        self.webhooks.close()
        self.ending.close()

    def __enter__(self) -> Kit:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


__all__ = ["LIMIT", "Kit"]
