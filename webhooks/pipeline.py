"""Send PostgreSQL more than one command at a time, below psycopg's cursors, on a connection that they use as well.

A handler's session costs a round trip for BEGIN, one for each of its statements, one for the delivery's done-mark and one
for COMMIT. `Pipeline.begin` does not wait for its answer, and `Pipeline.finish` sends the last two together.

What surprises: COMMIT is under way before anybody has seen whether the done-mark touched its row, so the statement must
*fail* when it did not (`Guarded`). The server then skips the COMMIT.

psycopg's own pipeline mode does the same for its cursors, but at a price in Python that exceeds what it saves here.
Source: https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: What a `Guarded` statement fails with when it touches nothing: division_by_zero.
_TOUCHED_NOTHING = b"22012"
#: libpq's PQTRANS_IDLE: no transaction has begun on this connection.
_IDLE = 0
#: libpq's PG_DIAG_SQLSTATE.
_SQLSTATE = ord("C")
#: libpq's PGRES_COMMAND_OK and PGRES_TUPLES_OK.
_GOOD = frozenset({1, 2})
_PIPELINE_SYNC = 10
_END = object()


@dataclass(frozen=True, slots=True)
class Guarded:
    """A statement that divides by zero when it touches no row.

    text: with $1, $2, …, each cast. name: what it is prepared as, on each connection once. values: as text, None for NULL.
    """

    name: bytes
    text: bytes
    values: Sequence[bytes | None]


class Pipeline:
    """One psycopg connection, used by one thread at a time. After an error that is not the server's answer, drop it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._socket = select.poll()
        self._socket.register(self._pgconn.socket, select.POLLIN)
        self._prepared: set[bytes] = set()
        self._generation = 0

    @property
    def is_free(self) -> bool:
        """Whether the connection is in the state that psycopg leaves it in; a handler may have done anything to it."""
        return not self._connection.autocommit and self._pgconn.pipeline_status == 0

    @property
    def in_transaction(self) -> bool:
        return bool(self._pgconn.transaction_status != _IDLE)

    def forget(self) -> None:
        """Prepare anew what is needed again: the server may have been told to drop it.

        psycopg drops all prepared statements after a ROLLBACK, DROP or ALTER, with the statement that comes next.
        """
        self._prepared.clear()
        self._generation += 1

    def begin(self) -> None:
        """Send BEGIN; `begun` has to follow before anything else."""
        self._pgconn.send_query_params(b"begin", None)
        self._flush()

    def begun(self) -> None:
        """Wait until the transaction has begun."""
        result = self._next()
        while self._next() is not None:
            pass
        if result.status not in _GOOD:
            raise self._error(result)

    def finish(self, statement: Guarded) -> bool:
        """Run `statement` and commit, beginning the transaction if need be; False: it touched nothing, roll back.

        Raises psycopg's errors: of the statement, of a constraint that waited for COMMIT, or of the connection; with the
        last nobody knows whether it is committed.
        """
        pgconn = self._pgconn
        begins = not self.in_transaction
        mark, commit = b"%s_%d" % (statement.name, self._generation), b"webhooks_commit_%d" % self._generation
        pgconn.enter_pipeline_mode()
        unknown = [(n, text) for n, text in ((mark, statement.text), (commit, b"commit")) if n not in self._prepared]
        for name, text in unknown:
            pgconn.send_prepare(name, text)
        if begins:
            pgconn.send_query_params(b"begin", None)
        pgconn.send_query_prepared(mark, statement.values)
        pgconn.send_query_prepared(commit, None)
        pgconn.pipeline_sync()
        self._flush()
        answers = [result for result in iter(self._next_of_pipeline, _END) if result is not None]
        pgconn.exit_pipeline_mode()
        self._prepared.update(
            name for (name, _), answer in zip(unknown, answers, strict=False) if answer.status in _GOOD
        )
        failed = next((answer for answer in answers if answer.status not in _GOOD), None)
        if failed is None:
            return True
        if failed.error_field(_SQLSTATE) == _TOUCHED_NOTHING:
            return False
        raise self._error(failed)

    def _flush(self) -> None:
        """Hand everything to the kernel, reading meanwhile: a server whose answers nobody takes stops listening."""
        while self._pgconn.flush():
            self._socket.modify(self._pgconn.socket, select.POLLIN | select.POLLOUT)
            try:
                if self._socket.poll()[0][1] & ~select.POLLOUT:
                    self._pgconn.consume_input()
            finally:
                self._socket.modify(self._pgconn.socket, select.POLLIN)

    def _next(self) -> Any:
        """The next result; None between those of two commands."""
        while self._pgconn.is_busy():
            self._socket.poll()
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    def _next_of_pipeline(self) -> Any:
        result = self._next()
        return _END if result is not None and result.status == _PIPELINE_SYNC else result

    def _error(self, result: Any) -> Exception:
        import psycopg.errors  # an extra; whoever has a connection of its has it

        return psycopg.errors.error_from_result(result)
