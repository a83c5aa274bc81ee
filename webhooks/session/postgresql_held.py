"""INSERT, UPDATE and DELETE of runs that share a transaction, held back until something could see them, and sent together.

Mostly a handler does not look at what such a statement answers, but for its failure, and then none of the runs counts. So a
round trip for each buys nothing. Held back is one text at a time, and only where it answered without rows before (`note`) and its
row count was not asked for (`HoldingContext`); whatever else is executed comes after what is held (`ServerTransaction.about_to_send`).
A handler that does ask runs alone, and its statement is not held back again.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Mapping
from typing import Any

from psycopg.pq import ExecStatus

#: Values that are the same when they are sent later; what a handler could change meanwhile is none.
_STAYS = frozenset(
    (
        bool, bytes, datetime.date, datetime.datetime, datetime.time, datetime.timedelta, decimal.Decimal, float, int, str,
        type(None), uuid.UUID,
    )
)  # fmt: skip
#: So many statements are known at most; an application has few, unless it writes values into them.
_KNOWN_AT_MOST = 500
#: Tags of those that are held back.
_WRITES = (b"INSERT", b"UPDATE", b"DELETE")
#: So many wait at most: they are in memory, and the server could begin.
HELD_AT_MOST = 100


class SilentStatements:
    """The texts that answered with no row in this process. Any thread."""

    def __init__(self) -> None:
        self._silent: dict[str, bool] = {}

    def note(self, text: object, result: Any) -> None:
        """A statement was executed for a run that shares its transaction."""
        if (
            type(text) is str
            and text not in self._silent
            and len(self._silent) < _KNOWN_AT_MOST
            and result.status == ExecStatus.COMMAND_OK
            and result.command_status.startswith(_WRITES)
        ):
            self._silent[text] = True

    def forget(self, text: str) -> None:
        """What it answers was asked for."""
        if len(self._silent) < _KNOWN_AT_MOST or text in self._silent:
            self._silent[text] = False

    def may_hold(self, text: object, values: object) -> bool:
        """Whether to hold it back with these values."""
        return (
            type(text) is str
            and self._silent.get(text, False)
            and type(values) is dict
            and all(type(value) in _STAYS for value in values.values())
        )


class HeldWrites:
    """Those of one transaction: one text, in the order in which they were executed."""

    def __init__(self) -> None:
        self.text = ""
        self.rows: list[Mapping[str, Any]] = []

    def fits(self, text: str) -> bool:
        """Whether one more of this text can wait beside the others."""
        return not self.rows or (text == self.text and len(self.rows) < HELD_AT_MOST)

    def add(self, text: str, row: Mapping[str, Any]) -> None:
        """Hold one."""
        self.text = text
        self.rows.append(row)

    def take(self) -> tuple[str, list[Mapping[str, Any]]]:
        """All of them, to be sent now."""
        rows, self.rows = self.rows, []
        return self.text, rows


class _NotYet(int):
    """A row count that is not known, as SQLAlchemy keeps it for a statement that is held back."""


_NOT_YET = _NotYet(-1)


class HoldingContext:
    """Before SQLAlchemy's execution context of psycopg: it reads a row count only when it is asked for."""

    cursor: Any
    statement: str
    _rowcount: int | None

    def _setup_result_proxy(self) -> Any:
        if getattr(self.cursor, "is_held", False) and not self.execution_options.get("preserve_rowcount"):  # type: ignore[attr-defined]
            self._rowcount = _NOT_YET
        return super()._setup_result_proxy()  # type: ignore[misc]

    @property
    def rowcount(self) -> int:
        """Of the statement. Where it was held back, its run cannot share a transaction."""
        outer: Any = getattr(self.cursor, "outer", None)
        if outer is not None and outer.is_shared:
            outer.asked(self.statement, is_held=self._rowcount is _NOT_YET)
        count: int = super().rowcount  # type: ignore[misc]
        return count


__all__ = ["HELD_AT_MOST", "HeldWrites", "HoldingContext", "SilentStatements"]
