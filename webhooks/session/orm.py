"""The ORM's session, as a handler has it. Imported only where handlers run: the ORM takes 4 MB and a fifth of a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from webhooks.errors import AttemptOver
from webhooks.session.outer import OVER

#: What may be called on an ended session: it undoes nothing, and `with` blocks do it by themselves.
_ENDS = frozenset(("close", "reset", "rollback", "expunge_all", "invalidate"))


class AttemptSession(Session):
    """A session that survives its own `close()` until the attempt is over; then it is closed for good."""

    def close(self) -> None:
        self.reset()

    def end(self) -> None:
        """End it for good; a late use of it raises `AttemptOver`."""
        try:
            super().close()
        finally:
            self.__class__ = EndedSession


class SharingSession(AttemptSession):
    """The session of one of several runs in one transaction: what would undo its statements is noted, and refused."""

    #: Called with what the run did that it may do only in a transaction of its own; raises.
    undoes: Callable[[str], None]

    def rollback(self) -> None:
        self._undo("rollback()")
        super().rollback()

    def reset(self) -> None:
        self._undo("close()")
        super().reset()

    def invalidate(self) -> None:
        self._undo("invalidate()")
        super().invalidate()

    def _undo(self, how: str) -> None:
        transaction: Any = self.get_transaction()
        if transaction is not None and transaction._connections:
            self.undoes(how)


class EndedSession(AttemptSession):
    """An `AttemptSession` whose attempt is over."""

    def __getattribute__(self, name: str) -> Any:
        if name in _ENDS:
            return lambda *arguments, **options: None
        if not name.startswith("_"):
            raise AttemptOver(OVER)
        return super().__getattribute__(name)
