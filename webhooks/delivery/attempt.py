"""The attempt in hand: one delivery that this process claimed, from the claim until what came of it is recorded.

`RunningAttempt` is one state machine. Threads meet in it: the slot that runs the handler, the supervisor whose time-out
ends it, the heartbeat that finds its lease gone, a stop, the isolated pool. Each of them calls `revoke`, and the first wins.

    claimed -> running -> ended ------------------------> recorded
       |          |                                          ^
       +----------+-> revoked(cause) ------------------------+

What surprises: a thread cannot be killed, so that a revoked attempt may still have one; `is_over` says when it ended.
`Ledger` holds every attempt until it is recorded and its thread has ended.
"""

from __future__ import annotations

import enum
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from types import FrameType
from typing import Protocol

from webhooks.delivery.async_loop import Job
from webhooks.errors import AttemptTimeout, LeaseLost
from webhooks.model import Delivery, DeliveryCause
from webhooks.routing import Handler
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished

logger = logging.getLogger(__name__)


class EndableSession(Protocol):
    """What `revoke` does to a handler's session."""

    def abort(self, reason: BaseException | None = None) -> None:
        """Make the attempt unable to commit, from any thread."""


class Phase(enum.Enum):
    """How far an attempt has come."""

    CLAIMED = "claimed"  # it waits for a thread
    RUNNING = "running"  # a thread has it, and what that thread reports counts
    ENDED = "ended"  # its thread reported; what came of it is to be recorded
    REVOKED = "revoked"  # it may not commit any more, for a `Cause`
    RECORDED = "recorded"  # nothing more is to be recorded, and its lease is extended no longer


class Cause(enum.Enum):
    """Why an attempt was revoked."""

    TIME_UP = "time up"  # it ran longer than its time-out
    LEASE_LOST = "lease lost"  # another worker has the delivery; nothing is recorded here
    STOPPED = "stopped"  # the worker stops, and its grace period is over
    DIED = "died"  # the process that ran it ended


#: Written, as text and code, on the row of a running delivery that may not commit any more, while the thread that ran it may
#: still be running: its next run waits for that thread or its process, and the process that rescues it knows what happened.
NOTES = {
    Cause.TIME_UP: (
        "its time was up; the next run waits until the thread that ran it, or its process, has ended",
        DeliveryCause.TIME_WAS_UP,
    ),
    Cause.STOPPED: (
        "its worker stopped before it was done; the next run waits until that process has ended",
        DeliveryCause.WAS_STOPPED,
    ),
}

_ERRORS: dict[Cause, type[AttemptTimeout] | type[LeaseLost]] = {
    Cause.TIME_UP: AttemptTimeout,
    Cause.LEASE_LOST: LeaseLost,
    Cause.STOPPED: AttemptTimeout,
    Cause.DIED: LeaseLost,
}
_WORDS = {
    Cause.TIME_UP: "the time of delivery %d was up",
    Cause.LEASE_LOST: "delivery %d belongs to another worker now",
    Cause.STOPPED: "the worker that ran delivery %d stops",
    Cause.DIED: "the process that ran delivery %d ended",
}


#: The function of ours that calls a handler's; what stands above it on a thread is the handler.
CALLER = "_call_function"


def _outermost_first(frame: FrameType) -> list[tuple[FrameType, int]]:
    return list(traceback.walk_stack(frame))[::-1]


class RunningAttempt:
    """One delivery being run; see the module's docstring for its phases. Every method may be called by any thread."""

    __slots__ = (
        "_job", "_kill", "_lock", "_session", "_thread", "cause", "claimed", "committed", "delivery", "doubt", "fenced",
        "finished", "handler", "is_over", "is_slow", "is_taken", "isolated", "leased_until", "mates", "phase", "single",
        "started", "stood_at", "together", "waits_for_thread",
    )  # fmt: skip

    def __init__(self, claimed: Claimed, handler: Handler, leased_until: float = float("inf")) -> None:
        self.claimed = claimed
        #: The delivery as it was claimed.
        self.delivery = claimed.delivery
        self.handler = handler
        #: By `time.monotonic()`; one that waited for a thread past it is not begun.
        self.leased_until = leased_until
        self.phase = Phase.CLAIMED
        #: Why it was revoked; None while it is not.
        self.cause: Cause | None = None
        #: It died with its worker once: not beside another such that has just begun, but in an ordinary thread.
        self.single = False
        #: It runs in a process of its own because it died with two of them.
        self.isolated = claimed.delivery.alone
        #: With how many it may share a transaction, itself included; 1: it has its own.
        self.together = 1 if claimed.delivery.alone else handler.together
        #: Those that run in its transaction, itself first, while it stands for all of them; () when it is alone.
        self.mates: Sequence[RunningAttempt] = ()
        #: What is on record for it, if the COMMIT of a shared transaction that was not answered took place.
        self.doubt: Finished | None = None
        #: `time.monotonic()` at the start; None before.
        self.started: float | None = None
        #: Its thread is done with it.
        self.is_over = False
        #: It ran for long enough to be told of.
        self.is_slow = False
        #: Where its thread stood when its time was up, as `traceback` writes it; "" where that is not known.
        self.stood_at = ""
        #: Another thread ended it, records what came of it, and has given its place away.
        self.is_taken = False
        #: Its outcome is committed already, in the handler's own transaction.
        self.committed = False
        #: The delivery under the token that took it away from its thread.
        self.fenced: Delivery | None = None
        #: Its outcome is recorded only when its thread has ended: the next run of its lane waits for that.
        self.waits_for_thread = False
        #: What is to be recorded.
        self.finished: Finished | None = None
        self._session: EndableSession | None = None
        self._job: Job | None = None
        self._kill: Callable[[], None] | None = None
        self._thread: int | None = None
        self._lock = threading.Lock()

    def anew(self) -> RunningAttempt:
        """The same delivery as it was claimed, to wait for a thread again."""
        again = RunningAttempt(self.claimed, self.handler, self.leased_until)
        again.together, again.doubt = self.together, self.doubt
        if self.single:
            again.run_singly()
        return again

    # -- what it is ----------------------------------------------------------------------------------------

    @property
    def current(self) -> Delivery:
        """The delivery under the token that this process holds now."""
        return self.fenced or self.delivery

    @property
    def has_process(self) -> bool:
        """Whether it runs in a process of its own, for that reason or because its handler asks for one."""
        return self.isolated or self.handler.isolation == "process"

    @property
    def job(self) -> Job | None:
        """Its coroutine, where the handler is one."""
        return self._job

    @property
    def is_held(self) -> bool:
        """Whether its lease is to be extended."""
        return self.phase is not Phase.RECORDED and self.cause is not Cause.LEASE_LOST

    @property
    def has_thread(self) -> bool:
        """Whether a thread runs it whose place was not given to another."""
        return self.started is not None and not self.is_over and not self.is_taken

    @property
    def is_unsettled(self) -> bool:
        """Whether another thread has taken it, and its token has not been moved yet."""
        return self.is_taken and self.phase is Phase.REVOKED and self.fenced is None

    @property
    def is_abandoned(self) -> bool:
        """Whether a thread still runs it that is waited for no more."""
        return self.is_taken and not self.is_over

    def took(self) -> timedelta:
        """How long it has run."""
        return timedelta(seconds=time.monotonic() - self.started) if self.started is not None else timedelta(0)

    def stands_at(self) -> str:
        """Where its handler stands now, as `traceback` writes frames; "" where that cannot be seen, as in another process."""
        if self.started is None or self.is_over or self.has_process:
            return ""
        job = self._job
        if job is not None:
            return "".join(traceback.StackSummary.extract(job.frames()).format())
        frame = sys._current_frames().get(self._thread or 0)
        if frame is None:
            return ""
        stack = _outermost_first(frame)
        names = [at.f_code.co_name for at, _ in stack]
        above = stack[names.index(CALLER) + 1 :] if CALLER in names else stack
        return "".join(traceback.StackSummary.extract(iter(above)).format())

    # -- what happens to it --------------------------------------------------------------------------------

    def run_singly(self) -> None:
        """It died with one worker only: an ordinary thread runs it once more, though not beside another such."""
        self.single, self.isolated = True, False

    def begin(self) -> bool:
        """A thread has it from now on; False: it was revoked while it waited."""
        with self._lock:
            self.started = time.monotonic()
            self._thread = threading.get_ident()
            if self.phase is not Phase.CLAIMED:
                return False
            self.phase = Phase.RUNNING
            return True

    def hold(
        self,
        *,
        session: EndableSession | None = None,
        job: Job | None = None,
        kill: Callable[[], None] | None = None,
    ) -> None:
        """Note what `revoke` has to end; when it was revoked already, that is ended at once.

        session: of the handler, which must not commit.
        job: the handler's coroutine.
        kill: ends the process that runs it.
        """
        with self._lock:
            self._session = session or self._session
            self._job = job or self._job
            self._kill = kill or self._kill
            is_revoked = self.cause is not None  # perhaps recorded meanwhile
        if is_revoked:
            self._end_what_runs()

    def let_process_live(self) -> None:
        """The process that ran it serves others from now on."""
        with self._lock:
            self._kill = None

    def end(self) -> bool:
        """Its thread is done with it; whether that thread reports what came of it."""
        with self._lock:
            self.is_over = True
            if self.phase is Phase.CLAIMED or self.phase is Phase.RUNNING:
                self.phase = Phase.ENDED
            return not self.is_taken

    def revoke(self, cause: Cause, *, keeps_thread: bool = False) -> bool:
        """Make it unable to commit, and end it where that is possible; whether the caller was the first.

        keeps_thread: what its thread reports still counts, because that thread is the caller or because nothing is
        left to be recorded. Otherwise the caller records what came of it, and gives the thread's place to another;
        that is possible also after one that left the thread its word.

        Waits for a commit that is on its way; then the token of the delivery says that it came first. Raises nothing.
        """
        with self._lock:
            if self.is_over or self.is_taken or self.phase in _DONE:
                return False
            if self.phase is Phase.REVOKED and keeps_thread:
                return False
            self.phase = Phase.REVOKED
            self.cause = cause
            self.is_taken = not keeps_thread
        self._end_what_runs()
        return True

    def settle(self) -> None:
        """Nothing more is to be recorded."""
        if self.is_over or self.is_taken:
            self.phase = Phase.RECORDED  # `revoke` changes nothing any more
            return
        with self._lock:
            self.phase = Phase.RECORDED

    def _end_what_runs(self) -> None:
        with self._lock:
            session, job, kill, cause = self._session, self._job, self._kill, self.cause
        assert cause is not None
        ends: list[Callable[[], object]] = [] if kill is None else [kill]
        if session is not None:
            ends.append(lambda: session.abort(_ERRORS[cause](_WORDS[cause] % self.delivery.id)))
        if job is not None:
            ends.append(job.cancel)
        for end in ends:
            try:
                end()
            except Exception:
                logger.exception("what ran for delivery %d could not be ended", self.delivery.id)


_DONE = (Phase.ENDED, Phase.RECORDED)


def fence(store: Store, attempt: RunningAttempt) -> Delivery | None:
    """Move the token of a revoked attempt's delivery, so that its run can record nothing any more.

    None: it committed before, or the delivery is another worker's. Raises `Locked`, `StorageUnavailable`.
    """
    note, code = (None, None) if attempt.cause is None else NOTES.get(attempt.cause, (None, None))
    attempt.fenced = store.deliveries.fence(attempt.current, note, code)
    return attempt.fenced


class Ledger:
    """Every attempt that a process has in hand: claimed and not recorded, or recorded while its thread still runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attempts: set[RunningAttempt] = set()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._attempts)

    def add(self, attempts: Collection[RunningAttempt]) -> None:
        """Hold what was claimed."""
        with self._lock:
            self._attempts.update(attempts)

    def replace(self, attempt: RunningAttempt, again: RunningAttempt) -> None:
        """Hold `again` for an attempt that did not begin, in place of it."""
        with self._lock:
            if attempt in self._attempts:
                self._attempts.remove(attempt)
                self._attempts.add(again)

    def unrecorded(self) -> set[tuple[int, int]]:
        """(delivery id, token by which it was claimed) of those of which something is to be recorded.

        Without those that wait until a thread has ended, which may be never.
        """
        with self._lock:
            return {
                (attempt.delivery.id, attempt.delivery.token)
                for attempt in self._attempts
                if attempt.phase is not Phase.RECORDED and not attempt.waits_for_thread
            }

    def settle(self, attempt: RunningAttempt) -> None:
        """Nothing more is to be recorded for it: its lease is extended no longer."""
        attempt.settle()
        if not attempt.is_taken:
            with self._lock:
                self._attempts.discard(attempt)
        else:
            self.look_at(attempt)

    def look_at(self, attempt: RunningAttempt) -> None:
        """Forget it when there is nothing left to know: it is recorded, and no thread is left behind in it."""
        if attempt.phase is Phase.RECORDED and not attempt.is_abandoned:
            with self._lock:
                self._attempts.discard(attempt)

    def held(self) -> list[RunningAttempt]:
        """Those whose leases are to be extended."""
        with self._lock:
            return [attempt for attempt in self._attempts if attempt.is_held]

    def taken(self) -> list[RunningAttempt]:
        """Those that were taken from their threads; mostly none."""
        with self._lock:
            return [attempt for attempt in self._attempts if attempt.is_taken]

    def unsettled(self) -> list[RunningAttempt]:
        """Those that were taken from their threads, and whose tokens have not been moved yet."""
        return [attempt for attempt in self.taken() if attempt.is_unsettled]

    def abandoned(self) -> list[RunningAttempt]:
        """Those whose threads are left behind and still run."""
        return [attempt for attempt in self.taken() if attempt.is_abandoned]

    def waiting_for_threads(self) -> list[RunningAttempt]:
        """Those whose outcome is recorded when their thread has ended."""
        return [attempt for attempt in self.taken() if attempt.waits_for_thread and attempt.is_held]
