"""The transaction around a handler's session, as both databases have it: what may end it, and what proves that it is open."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from sqlalchemy import exc

from webhooks.errors import AttemptOver

#: An abort waits so long for the end of a commit that is on its way.
COMMIT_PATIENCE_SECONDS = 2.0

NOT_YOURS = (
    "the transaction belongs to the delivery: it commits when the handler returns and rolls back when it raises; "
    "use session.commit(), session.rollback() or session.begin_nested(), which act on savepoints"
)
ENDED_BELOW = (
    "the transaction of this delivery ended before its handler returned (a statement's error rolled it back, or it was "
    "ended below the session), so nothing more of it may commit; use session.begin_nested() around what may fail"
)
OVER = (
    "this session, or something that came from it, belonged to a delivery whose handler has returned; it works only until "
    "then. Work that goes on afterwards needs a session of its own: Session(create_engine(…)), or a handler of its own"
)


def not_yours() -> exc.InvalidRequestError:
    """What a handler reads that would end the transaction."""
    return exc.InvalidRequestError(NOT_YOURS)


def ended_below() -> exc.InvalidRequestError:
    """What a handler reads whose transaction is gone."""
    return exc.InvalidRequestError(ENDED_BELOW)


def below_the_transaction(name: str) -> exc.InvalidRequestError:
    """What a handler reads that would get past whatever keeps its writes and its delivery's done-mark together."""
    return exc.InvalidRequestError(
        f"{name} of the driver's connection would lead past the transaction of this delivery; "
        "use execute() or cursor() of session.connection().connection.driver_connection"
    )


class NeedsOwnTransaction(BaseException):
    """A run that shares its transaction with others did what only a run with a transaction of its own may do.

    No `Exception`, so that no handler takes it for an error of its own; the handler runs again, alone.
    """


class Ended:
    """Stands where something of an attempt stood that is over, and says so when it is used."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttemptOver(OVER)


class EndedCursor(Ended):
    """The same for a cursor. SQLAlchemy wraps what is raised before it has one, and closes it."""

    def close(self) -> None:
        """There is nothing to close."""


#: One serves all.
ENDED: Any = Ended()


class Cursors:
    """The cursors of one attempt that are still there; the handler may drop them. A WeakSet would cost ten times as much."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Any]] = []
        self._look_at = 64

    def add(self, cursor: Any) -> None:
        """Know of one more."""
        self._references.append(weakref.ref(cursor))
        if len(self._references) >= self._look_at:
            self._references = [reference for reference in self._references if reference() is not None]
            self._look_at = max(64, 2 * len(self._references))

    def all(self) -> list[Any]:
        """Those that are still there."""
        return [cursor for reference in self._references if (cursor := reference()) is not None]

    def clear(self) -> None:
        """Know of none."""
        self._references.clear()


class OpenTransaction:
    """Proof that the transaction with a handler's writes is open. Made in `OuterTransaction.finish`, nowhere else.

    cursor: the driver's own, of the connection that has the transaction.
    """

    __slots__ = ("_is_open", "cursor")

    def __init__(self, cursor: Any, is_open: Callable[[], bool]) -> None:
        self.cursor = cursor
        self._is_open = is_open

    def require_open(self) -> None:
        """Raise unless the transaction is still the one that holds the handler's writes."""
        if not self._is_open():
            raise ended_below()


_PARAMETER = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class PreparedStatement:
    """A statement for PostgreSQL that returns one row with one number.

    text: with $1, $2, …, each cast.
    values: numbers, or sequences of numbers for arrays.
    """

    name: str
    text: str
    values: tuple[int | Sequence[int], ...]

    def arguments(self) -> list[str]:
        """The values as SQL."""
        return [str(value) if isinstance(value, int) else f"'{{{','.join(map(str, value))}}}'" for value in self.values]

    def written_out(self) -> str:
        """The statement with its numbers in it, where none can be prepared."""
        arguments = self.arguments()
        return _PARAMETER.sub(lambda match: arguments[int(match[1]) - 1], self.text)


@dataclass(frozen=True, slots=True)
class DoneMark:
    """How deliveries are marked as done inside the transaction of their handler: all of them, or none.

    write: marks them; False when a lease was lost. statement: the same as one statement that divides by zero when a
    lease was lost; None where it takes more than one.
    """

    write: Callable[[OpenTransaction], bool]
    statement: PreparedStatement | None = None


class OuterTransaction(Protocol):
    """The transaction around a handler's session, on one database."""

    #: Why it can no longer commit, if it cannot.
    failed: BaseException | None
    #: The handler's own way to the driver's connection (`proxy.DriverProxy`).
    proxy: Any
    #: Whether several runs share it (`shared`).
    is_shared: bool
    #: How many statements were sent.
    sent: int
    #: Writes what earlier runs left unwritten; called before a statement is sent. None: nothing is left.
    write_left: Callable[[], None] | None

    @property
    def is_reusable(self) -> bool:
        """Whether its connection may serve another attempt; asked when this one is over."""

    def ready(self) -> None:
        """The handler is about to get its session; raises what kept the transaction from beginning."""

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """A cursor of the driver's, for the handler. Raises `AttemptOver`."""

    def notice(self, name: str) -> None:
        """The handler asks the driver's connection for `name`, which may change it. Raises `AttemptOver`."""

    def savepoint(self, name: str) -> None:
        """Make a savepoint, now or as soon as there is something that it protects."""

    def release(self, name: str) -> None:
        """Keep what was done since; the savepoint is gone."""

    def rollback_to(self, name: str) -> None:
        """Undo what was done since."""

    def check(self) -> None:
        """Raise why this attempt can no longer commit, if it cannot."""

    def refuse_end(self) -> NoReturn:
        """The handler would end the transaction."""

    def need_own(self, why: str) -> None:
        """A run that shares the transaction did what shows to the others: nothing of it may commit."""

    def refuse(self, why: str) -> None:
        """The same, and raise that."""

    def end_run(self) -> None:
        """One of several runs has ended: leave nothing open of it. Only where the transaction is shared."""

    def share_used(self) -> float:
        """How much of the time that it may take has passed, from 0 on; 1 is all of it."""

    def ready_to_finish(self) -> None:
        """Do what may take time before `finish`: close open results, take SQLite's write lock."""

    def finish(self, mark: DoneMark) -> bool:
        """Write the mark and commit, in one critical section. False: the lease was lost, and nothing is committed."""

    def abort(self, reason: BaseException) -> None:
        """Any thread: from here on nothing commits. Waits for a commit on its way; nothing happens when it is over."""

    def end(self) -> None:
        """Roll back whatever is still open, and let nothing that the handler kept work any more."""

    def is_outage(self, error: BaseException) -> bool:
        """Whether `error` came from a database that could not be reached, rather than from the handler."""


class AttemptLife:
    """Whether the attempt still goes on, and what it left behind; both databases share this."""

    def __init__(self) -> None:
        self.failed: BaseException | None = None
        self.is_over = False
        #: What the handler did that a reset does not undo; None as long as there is nothing.
        self.traces: str | None = None
        self.saw_error = False
        self.cursors = Cursors()
        #: The handler's own way to the driver's connection (`proxy.DriverProxy`).
        self.proxy: Any = None
        self.is_shared = False
        self.sent = 0
        self.write_left: Callable[[], None] | None = None
        self._needs_own: NeedsOwnTransaction | None = None

    def check(self) -> None:
        if self.is_over:
            raise AttemptOver(OVER)
        if self.failed is not None:
            raise self.failed
        if self._needs_own is not None:
            raise self._needs_own

    def announce(self) -> None:
        """A statement of the handler's is about to be made: first comes what earlier runs left unwritten."""
        self.sent += 1
        if self.write_left is not None:
            self.write_left()

    def refuse_end(self) -> NoReturn:
        self.refuse("it would end the transaction")
        raise not_yours()

    def refuse(self, why: str) -> None:
        self.need_own(why)
        self.check()

    def need_own(self, why: str) -> None:
        if self.is_shared and self._needs_own is None:
            self._needs_own = NeedsOwnTransaction(why)

    def be_over(self) -> None:
        """Let nothing work any more, and hold nothing that holds this: what has ended is freed at once, not by the collector."""
        self.is_over = True
        self.proxy = ENDED
        self.write_left = None

    def leave_traces(self, what: str) -> None:
        """Note that the connection is not to serve another attempt."""
        self.traces = self.traces or what
        self.need_own(what)
