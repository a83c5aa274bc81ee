"""One transaction for the requests that wait together, without a thread or a timer of its own.

The first request to wait leads: it commits for all that wait, then hands the lead to the oldest of those that came
meanwhile. It never waits for company; but where a commit has to wait for its turn, as SQLite's writers do, each request
that comes before that turn belongs to it.

Two records tell what becomes of a request, each with one way through its states:

    Ticket    waiting -> leading -> done      one request; done also straight from waiting
    Batch     open -> gathered -> settled     one transaction; settled also straight from open

A ticket is done once: what it gets then, receipts or an error, stays. A batch gathers once, and never after it was
settled: where its leader is ended while it waits for its turn, the next leader's batch takes the tickets.

Promises: no request waits longer than the deadline, and none is stranded, whatever ends its leader. Not here: what is
written (`store.intake`), which errors a sender hears of (`http.answers`).
"""

from __future__ import annotations

import collections
import contextlib
import enum
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from webhooks.errors import DatabaseRefused, Overloaded, RowRefused, StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.model import Receipt
from webhooks.store.intake import Item, with_new_ids

logger = logging.getLogger(__name__)

#: No request waits longer than this for its commit; the routes answer within 2.5 s of its arrival.
DEADLINE = timedelta(seconds=2.2)
#: At most this many events share a transaction.
LARGEST_BATCH = 256
#: Seconds of the deadline that a commit leaves for the answer, and seconds that it has in any case.
_RESERVE_SECONDS = 0.2
_LEAST_SECONDS = 0.1

#: Gives the items of a batch, and closes it.
Gather = Callable[[], Sequence[Item]]
#: Commits what `Gather` gives in one transaction, within the time given, and returns one receipt per item. It calls it
#: once, when nothing is left to wait for but the commit itself.
Record = Callable[[Gather, timedelta], list[Receipt]]
#: Told the items of one request that were refused alone, and how long it may take; raises when the database is at fault.
Judge = Callable[[Sequence[Item], timedelta], None]


class TicketState(enum.Enum):
    """Where a request is on its way to a commit."""

    WAITING = "waiting"  #: in the queue, or in a batch that another request leads
    LEADING = "leading"  #: its request commits the next batch
    DONE = "done"  #: it has its receipts, or an error


class BatchState(enum.Enum):
    """Where a transaction is."""

    OPEN = "open"  #: its leader waits for its turn; requests that come belong to it
    GATHERED = "gathered"  #: it holds its tickets, and is being committed
    SETTLED = "settled"  #: each of its tickets is done


_WAITING, _LEADING, _DONE = TicketState
_OPEN, _GATHERED, _SETTLED = BatchState


class Ticket:
    """The items of one request on their way to a commit. since: when it came, in seconds of the monotonic clock.

    Its request waits on a bare lock: an Event costs three of them, and under threads half of what group commit costs.
    """

    __slots__ = ("_latch", "error", "events", "items", "receipts", "since", "state")

    def __init__(self, items: Sequence[Item], since: float) -> None:
        self.items = items
        self.since = since
        self.state = _WAITING
        #: one per item, once it is done without an error
        self.receipts: list[Receipt] = []
        self.error: BaseException | None = None
        #: of the transaction that stored it
        self.events = len(items)
        self._latch = threading.Lock()
        self._latch.acquire()

    def wait(self, seconds: float) -> None:
        """Wait until it is not waiting any more, but no longer than that."""
        self._latch.acquire(timeout=seconds)

    def lead(self) -> None:
        """Let its request commit the next batch; without effect once it is done."""
        if self.state is _WAITING:
            self.state = _LEADING
            self._latch.release()

    def finish(self, receipts: list[Receipt], error: BaseException | None = None) -> None:
        """Let its request continue with receipts, or with an error; without effect once it is done."""
        state = self.state
        if state is _DONE:
            return
        self.receipts = receipts
        self.error = error
        self.state = _DONE
        if state is _WAITING:
            self._latch.release()


class Queue:
    """The requests of one process that wait for a commit. Its fields are read and written under `lock`."""

    __slots__ = ("has_leader", "lock", "tickets")

    def __init__(self) -> None:
        self.lock = _native_lock()
        self.tickets: collections.deque[Ticket] = collections.deque()
        self.has_leader = False

    def promote(self) -> None:
        """Hand the lead to the oldest ticket; the lock is held."""
        if self.tickets:
            self.tickets[0].lead()
        else:
            self.has_leader = False

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out, if it is in; the lock is held."""
        with contextlib.suppress(ValueError):
            self.tickets.remove(ticket)

    def leave(self, ticket: Ticket, error: BaseException) -> None:
        """Have a ticket end with `error`, and pass the lead on, if it came to it at the last moment."""
        with self.lock:
            self.remove(ticket)
            if ticket.state is _LEADING:
                self.promote()
            ticket.state, state = _DONE, ticket.state
            if state is not _DONE:
                ticket.error = error

    def clear(self) -> list[Ticket]:
        """Take all tickets out."""
        with self.lock:
            tickets = list(self.tickets)
            self.tickets.clear()
        return tickets


class Batch:
    """The tickets that share one transaction. largest: items that it holds; one request's are never split."""

    __slots__ = ("_largest", "_queue", "state", "tickets")

    def __init__(self, queue: Queue, largest: int) -> None:
        self._queue = queue
        self._largest = largest
        self.state = _OPEN
        self.tickets: list[Ticket] = []

    def gather(self) -> list[Item]:
        """Move those that wait into the batch; their items. Nothing, once it was gathered or settled."""
        queue, tickets = self._queue, self.tickets
        with queue.lock:
            if self.state is not _OPEN:
                return []  # its leader was ended while it waited for its turn; the next one takes them
            self.state = _GATHERED
            waiting = queue.tickets
            count = 0
            while waiting and (not tickets or count + len(waiting[0].items) <= self._largest):
                ticket = waiting.popleft()
                count += len(ticket.items)
                tickets.append(ticket)
        return [item for ticket in tickets for item in ticket.items]

    def receive(self, receipts: list[Receipt]) -> None:
        """Give each ticket its receipts. receipts: one per item, in the order in which `gather` gave them."""
        start = 0
        for ticket in self.tickets:
            end = start + len(ticket.items)
            ticket.events = len(receipts)
            ticket.finish(receipts[start:end])
            start = end

    def settle(self, leader: Ticket) -> None:
        """End it, also when its leader is ended from outside, and hand the lead on: no ticket waits for one that is gone."""
        queue = self._queue
        with queue.lock:
            if self.state is _OPEN:
                queue.remove(leader)
            self.state = _SETTLED
            queue.promote()
        for ticket in self.tickets:
            if ticket.state is not _DONE:
                ticket.finish([], StorageUnavailable("the commit was interrupted; its outcome is unknown"))


class GroupCommit:
    """One transaction for all requests that wait; correct under sync, threads and gevent.

    record: commits a batch, raising `StorageUnavailable` when the outcome is a "no" or unknown, and `RowRefused` when
        the database refuses one of its rows. Under gevent it may run in a native thread.
    judge: asked about one request's items that were refused alone.
    capacity: requests that may wait in this process; more are `Overloaded`.
    deadline: how long a request waits.
    largest_batch: events that share a transaction; one request's are never split.
    shared: called, in the thread of each request that another request's transaction stored, with how many events that had.
    monotonic: seconds, for tests.
    """

    def __init__(
        self,
        record: Record,
        *,
        judge: Judge = lambda items, patience: None,
        capacity: int = 512,
        deadline: timedelta = DEADLINE,
        largest_batch: int = LARGEST_BATCH,
        shared: Callable[[int], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._judge = judge
        self._capacity = capacity
        self._deadline = deadline.total_seconds()
        self._largest = largest_batch
        self._shared = shared
        self._monotonic = monotonic
        # a child begins with an empty one: requests that waited in its parent wait there
        self._queue = PerProcess(Queue)

    @property
    def waiting(self) -> int:
        """Requests of this process that no batch has gathered yet."""
        return len(self._queue.get().tickets)

    def append(self, items: Sequence[Item]) -> list[Receipt]:
        """Commit `items` together (they are one request's), perhaps with others'; one receipt each.

        Raises `Overloaded` when too many wait, `StorageUnavailable` when nothing is known to be committed, and what the
        database says when it refuses one of these very items.
        """
        ticket = Ticket(items, self._monotonic())
        queue = self._queue.get()
        with queue.lock:
            if len(queue.tickets) >= self._capacity:
                raise Overloaded(f"{self._capacity} requests wait for a commit already")
            queue.tickets.append(ticket)
            if not queue.has_leader:
                queue.has_leader = True
                ticket.state = _LEADING
        follows = ticket.state is not _LEADING
        if follows:
            self._follow(ticket, queue)
            follows = ticket.state is not _LEADING
        if not follows:
            self._lead(ticket, queue)
        error = ticket.error
        if error is not None:
            raise error
        if follows and self._shared is not None:
            self._shared(ticket.events)
        return ticket.receipts

    def _follow(self, ticket: Ticket, queue: Queue) -> None:
        """Wait until another request has committed for this one, or hands it the lead."""
        try:
            ticket.wait(self._deadline)
        except BaseException as error:  # our request was ended from outside: do not take the lead away with it
            queue.leave(ticket, error)
            raise
        if ticket.state is _WAITING:
            queue.leave(ticket, StorageUnavailable("the commit took too long; its outcome is unknown"))

    def _lead(self, ticket: Ticket, queue: Queue) -> None:
        """Commit a batch, and hand the lead on."""
        batch = Batch(queue, self._largest)
        try:
            time.sleep(0)  # requests that are about to join get the chance, once
            self._commit(ticket, batch, queue)
        finally:
            batch.settle(ticket)

    def _commit(self, leader: Ticket, batch: Batch, queue: Queue) -> None:
        """Commit what `batch` gathers, and give each of its tickets receipts or an error."""
        try:
            receipts = self._record(batch.gather, self._left(leader.since))
        except RowRefused as error:
            self._commit_one_by_one(batch, leader.since, error)
        except StorageUnavailable as error:
            # those that came meanwhile would wait as long for the same answer
            for ticket in (*batch.tickets, *queue.clear()):
                ticket.finish([], error)
        except Exception as error:
            for ticket in batch.tickets or (leader,):
                ticket.finish([], error)
        else:
            batch.receive(receipts)

    def _commit_one_by_one(self, batch: Batch, since: float, error: RowRefused) -> None:
        """Commit each ticket alone: with a refused row goes its transaction, and one bad event must fail no other."""
        if len(batch.tickets) > 1:
            logger.warning(
                "%d events are committed one by one, because together they were refused: %s",
                sum(len(ticket.items) for ticket in batch.tickets),
                error,
            )
        refused: DatabaseRefused | None = None
        for ticket in batch.tickets:
            if refused is not None:
                ticket.finish([], refused)
                continue
            try:
                ticket.finish(self._commit_alone(ticket.items, since))
            except Exception as fault:
                refused = fault if isinstance(fault, DatabaseRefused) else None
                ticket.finish([], fault)

    def _commit_alone(self, items: Sequence[Item], since: float) -> list[Receipt]:
        """Commit one request's items; raises what they get instead."""
        # new ids: two processes may have drawn the same one
        items = [with_new_ids(item) for item in items]
        try:
            return self._record(lambda: items, self._left(since))
        except RowRefused:
            self._judge(items, self._left(since))
            raise

    def _left(self, since: float) -> timedelta:
        """What is left for a commit to a request that waits since then; a promoted follower has less."""
        left = since + self._deadline - _RESERVE_SECONDS - self._monotonic()
        return timedelta(seconds=max(_LEAST_SECONDS, left))


def _native_lock() -> threading.Lock:
    """A lock between threads of the system also where gevent has patched them; held for moments only.

    Under gevent a batch is gathered in a native thread, which must not touch the locks of greenlets.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    make: Callable[[], threading.Lock] = monkey.get_original("threading", "Lock") if monkey else threading.Lock
    return make()


__all__ = [
    "DEADLINE",
    "Batch",
    "BatchState",
    "Gather",
    "GroupCommit",
    "Judge",
    "Queue",
    "Record",
    "Ticket",
    "TicketState",
]
