"""One transaction that several runs of a handler share: one flush of what they leave in their sessions, one commit.

Each run has a `Session` of its own, on the same connection, without a savepoint. New objects that it leaves unflushed move
to a session for all of them, and are written together: at the end, or before a statement of a later run is sent, so
that each run sees what it would see alone. Everything else is flushed at the end of its run.

What one run could do to another beyond its writes (a savepoint, a rollback, a setting, a statement that fails) is not
undone but noted: `NeedsOwnTransaction` is raised from then on, nothing commits, and each runs alone.

Not seen: what a function on the server sets (`set_config` in its body), and that `now()` is the same for all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from webhooks.session.outer import DoneMark, OuterTransaction
from webhooks.session.proxy import AttemptConnection

if TYPE_CHECKING:
    from webhooks.session.orm import SharingSession

#: Observers of these are told by the session of the run itself.
_TOLD_BY_RUN = (
    "before_flush", "after_flush", "after_flush_postexec", "before_attach", "after_attach", "pending_to_transient",
)  # fmt: skip


class SharedSession:
    """The transaction of several runs. Made by `Sessions.open_shared`, used by one thread; `abort` by any.

    many: the same connection, for what is left of several runs.
    make_session: makes a session on one of the two.
    """

    def __init__(
        self,
        connection: AttemptConnection,
        many: AttemptConnection,
        outer: OuterTransaction,
        make_session: Callable[[AttemptConnection], SharingSession],
    ) -> None:
        self.connection = connection
        self._many = many
        #: Of the run in hand.
        self.session: SharingSession | None = None
        self._outer = outer
        self._make_session = make_session
        self._left: SharingSession | None = None
        self._unobserved: SharingSession | None = None
        self._sent_before = 0
        outer.is_shared = True

    # -- one run -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def run(self) -> Iterator[SharingSession]:
        """The session of the next run, which ends with the block. Raises what keeps all of them from committing."""
        self._outer.check()
        self._sent_before = self._outer.sent
        session = self.session = self._make_session(self.connection)
        try:
            yield session
            self._outer.check()
            self._keep_left(session)
        finally:
            with contextlib.suppress(Exception):
                session.end()
        self._outer.end_run()
        self.connection.end_run()
        self._outer.check()

    @property
    def is_touched(self) -> bool:
        """Whether the run in hand did anything to the transaction, or to its session."""
        session: Any = self.session
        return self._outer.sent != self._sent_before or bool(session.new or session.dirty or session.deleted)

    @property
    def has_room(self) -> bool:
        """Whether another run may begin: half of the time that the transaction may take is left."""
        return self._outer.share_used() < 0.5

    def _keep_left(self, session: SharingSession) -> None:
        if not (session.new or len(session.identity_map)):
            return  # there is nothing to flush
        if session.dirty or session.deleted or session.info or self._is_observed(session):
            session.flush()
        new = list(session.new)
        if not new:
            return
        session.expunge_all()
        if self._left is None:
            self._left = self._make_session(self._many)
            self._left.autoflush = False
        self._left.add_all(new)
        self._outer.write_left = self._write_left

    def _is_observed(self, session: SharingSession) -> bool:
        if self._unobserved is None:
            self._unobserved = self._make_session(self.connection)  # of no run: what observes it observes all
        of_all: Any = self._unobserved.dispatch
        own = vars(session.dispatch)
        return any(getattr(of_all, name) or own.get(name) for name in _TOLD_BY_RUN)

    def _write_left(self) -> None:
        """Write what ended runs left."""
        self._outer.write_left = None
        assert self._left is not None
        try:
            self._left.flush()
        except BaseException:
            self._outer.need_own("what an earlier run left could not be written")
            raise
        self._left.expunge_all()

    # -- the end -------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what is left, and take SQLite's write lock. Raises what keeps the runs from committing."""
        self._outer.check()
        if self._outer.write_left is not None:
            self._write_left()
        self._outer.ready_to_finish()

    def finish(self, mark: DoneMark) -> bool:
        """Mark all deliveries as done and commit; as `HandlerSession.finish`."""
        return self._outer.finish(mark)

    def check(self) -> None:
        """Raise the reason if these runs can no longer commit."""
        self._outer.check()

    def abort(self, reason: BaseException | None = None) -> None:
        """Make them unable to commit, from any thread."""
        self._outer.abort(reason or TimeoutError("the attempts were aborted"))

    def is_outage(self, error: BaseException) -> bool:
        """Whether they failed because the database went away."""
        return self._outer.failed is None and self._outer.is_outage(error)

    def close(self) -> None:
        """Let nothing of it be used any more."""
        for session in (self.session, self._left, self._unobserved):
            if session is not None:
                with contextlib.suppress(Exception):
                    session.end()
        self.session = self._left = self._unobserved = None
        self.connection.end()
        self._many.end()


__all__ = ["SharedSession"]
