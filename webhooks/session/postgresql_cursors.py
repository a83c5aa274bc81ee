"""psycopg's cursors as a handler has them: every statement by the extended protocol, and none that ends the transaction.

The extended protocol takes one statement at a time (psycopg uses the simple one where there are no parameters), so the
first word says what a statement is (`statements`). `ServerTransaction` is asked before each and told after it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import psycopg

from webhooks.session.outer import not_yours
from webhooks.session.statements import controls_transaction

if TYPE_CHECKING:
    from webhooks.session.postgresql import ServerTransaction


class _Guarded:
    """What our cursors have in common. changed: whether its last statement changed anything in a table."""

    outer: ServerTransaction
    changed = False

    # these run inside psycopg's lock of the connection, right before something is sent

    def _start_query(self, query: Any = None) -> Generator[Any, Any, None]:
        self.outer.before()
        yield from super()._start_query(query)  # type: ignore[misc]

    def _execute_send(self, query: Any, *, force_extended: bool = False, binary: bool | None = None) -> None:
        if controls_transaction(query.query):
            raise not_yours()
        super()._execute_send(query, force_extended=True, binary=binary)  # type: ignore[misc]

    def _send_prepare(self, name: bytes, query: Any) -> None:
        if controls_transaction(query.query):
            raise not_yours()
        super()._send_prepare(name, query)  # type: ignore[misc]

    # these see what came of it

    def execute(self, *arguments: Any, **options: Any) -> Any:
        self.outer.about_to_send(*arguments[:1])
        try:
            super().execute(*arguments, **options)  # type: ignore[misc]
        except psycopg.Error as error:
            self.outer.failed_with(error)
            raise
        self.outer.after(self, *arguments[:1])
        return self

    def executemany(self, *arguments: Any, **options: Any) -> None:
        self.outer.about_to_send(*arguments[:1])
        try:
            super().executemany(*arguments, **options)  # type: ignore[misc]
        except psycopg.Error as error:
            self.outer.failed_with(error)
            raise
        self.outer.after(self)

    def copy(self, *arguments: Any, **options: Any) -> Any:
        self.outer.about_to_send(*arguments[:1])
        return super().copy(*arguments, **options)  # type: ignore[misc]

    def stream(self, *arguments: Any, **options: Any) -> Any:
        self.outer.about_to_send(*arguments[:1])
        try:
            yield from super().stream(*arguments, **options)  # type: ignore[misc]
        except psycopg.Error as error:
            self.outer.failed_with(error)
            raise
        self.outer.after(self)

    def fetchone(self) -> Any:
        self.outer.check()
        return super().fetchone()  # type: ignore[misc]

    def fetchmany(self, *arguments: Any, **options: Any) -> Any:
        self.outer.check()
        return super().fetchmany(*arguments, **options)  # type: ignore[misc]

    def fetchall(self) -> Any:
        self.outer.check()
        return super().fetchall()  # type: ignore[misc]

    def __iter__(self) -> Any:
        self.outer.check()
        return super().__iter__()  # type: ignore[misc]

    def __next__(self) -> Any:
        self.outer.check()
        return super().__next__()  # type: ignore[misc]

    def scroll(self, *arguments: Any, **options: Any) -> None:
        self.outer.check()
        super().scroll(*arguments, **options)  # type: ignore[misc]


class GuardedCursor(_Guarded, psycopg.Cursor[Any]):
    """A cursor of the client's, as a handler has it."""

    def execute(self, *arguments: Any, **options: Any) -> Any:
        if self.outer.is_shared and not options and self.outer.hold_back(*arguments):
            self._reset()
            self._last_query = arguments[0]
            _become(self, HeldCursor)
            return self
        return super().execute(*arguments, **options)

    def send(self, *arguments: Any) -> None:
        """Execute a statement that was held back."""
        super().execute(*arguments)


class HeldCursor(GuardedCursor):
    """A cursor whose statement waits for others (`postgresql_held`), until it executes another."""

    is_held = True

    def execute(self, *arguments: Any, **options: Any) -> Any:
        _become(self, GuardedCursor)
        return self.execute(*arguments, **options)

    def executemany(self, *arguments: Any, **options: Any) -> None:
        _become(self, GuardedCursor)
        self.executemany(*arguments, **options)

    def copy(self, *arguments: Any, **options: Any) -> Any:
        _become(self, GuardedCursor)
        return self.copy(*arguments, **options)

    def stream(self, *arguments: Any, **options: Any) -> Any:
        _become(self, GuardedCursor)
        return self.stream(*arguments, **options)

    def close(self) -> None:
        _become(self, GuardedCursor)
        self.close()

    @property
    def rowcount(self) -> int:
        self.outer.asked(str(self._last_query), is_held=True)
        return super().rowcount

    @property
    def statusmessage(self) -> str | None:
        self.outer.asked(str(self._last_query), is_held=True)
        return super().statusmessage


def _become(cursor: GuardedCursor, kind: type[GuardedCursor]) -> None:
    cursor.__class__ = kind


class GuardedServerCursor(_Guarded, psycopg.ServerCursor[Any]):
    """A cursor with a name, which the server keeps."""

    def __del__(self, *arguments: Any) -> None:
        """What the handler leaves open is closed with its attempt; psycopg would warn."""

    def close(self) -> None:
        if not self.outer.is_over:
            super().close()
