"""Group commit: one transaction for all requests that wait, none stranded whatever happens to the leader."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import patience
from webhooks import forks
from webhooks.errors import Overloaded, RowRefused, StorageUnavailable
from webhooks.intake import GroupCommit
from webhooks.intake.group_commit import Batch, BatchState, Gather, Queue, Ticket, TicketState
from webhooks.model import Disposition, Receipt, new_id
from webhooks.store.intake import Item

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def item(key: str = "k") -> Item:
    return Item(new_id(), "close", key, 1, "lead.created", NOW, NOW, b"{}")


# -- one request, one transaction --------------------------------------------------------------------------

AWAY = StorageUnavailable("away")


def lead(ticket: Ticket) -> None:
    ticket.lead()


def succeed(ticket: Ticket) -> None:
    ticket.finish([Receipt(Disposition.STORED, 1)])


def fail(ticket: Ticket) -> None:
    ticket.finish([], AWAY)


@pytest.mark.parametrize(
    ("steps", "state", "outcome", "wakes"),
    [
        ((), TicketState.WAITING, None, False),
        ((lead,), TicketState.LEADING, None, True),
        ((succeed,), TicketState.DONE, "receipts", True),
        ((fail,), TicketState.DONE, "error", True),
        ((lead, lead), TicketState.LEADING, None, True),
        ((lead, succeed), TicketState.DONE, "receipts", True),
        ((lead, fail), TicketState.DONE, "error", True),
        ((succeed, lead), TicketState.DONE, "receipts", True),
        ((succeed, fail), TicketState.DONE, "receipts", True),
        ((fail, succeed), TicketState.DONE, "error", True),
    ],
    ids=lambda value: "+".join(step.__name__ for step in value) or "new" if isinstance(value, tuple) else None,
)
def test_a_ticket_goes_one_way_and_is_done_once(
    steps: Sequence[Callable[[Ticket], None]], state: TicketState, outcome: str | None, wakes: bool
) -> None:
    ticket = Ticket([item()], 0.0)
    for step in steps:
        step(ticket)
    assert ticket.state is state
    assert (bool(ticket.receipts), ticket.error) == (outcome == "receipts", AWAY if outcome == "error" else None)
    thread = threading.Thread(target=ticket.wait, args=(0.05 if not wakes else 10.0,))
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "it was not woken"


class Line:
    """A queue with a leader and those who wait behind it, and the leader's batch."""

    def __init__(self, *sizes: int, largest: int = 100) -> None:
        self.queue = Queue()
        self.tickets = [Ticket([item()] * size, 0.0) for size in sizes]
        self.queue.tickets.extend(self.tickets)
        self.queue.has_leader = True
        self.tickets[0].lead()
        self.batch = Batch(self.queue, largest)

    @property
    def states(self) -> str:
        """The first letter of each ticket's state, in order."""
        return "".join(ticket.state.value[0] for ticket in self.tickets)


def gather_batch(line: Line) -> None:
    line.batch.gather()


def receive(line: Line) -> None:
    count = sum(len(ticket.items) for ticket in line.batch.tickets)
    line.batch.receive([Receipt(Disposition.STORED, number) for number in range(count)])


def settle(line: Line) -> None:
    line.batch.settle(line.tickets[0])


@pytest.mark.parametrize(
    ("steps", "state", "gathered", "tickets"),
    [
        ((), BatchState.OPEN, 0, "lww"),
        ((gather_batch,), BatchState.GATHERED, 2, "lww"),
        ((gather_batch, gather_batch), BatchState.GATHERED, 2, "lww"),
        ((gather_batch, receive), BatchState.GATHERED, 2, "ddw"),
        ((gather_batch, receive, settle), BatchState.SETTLED, 2, "ddl"),
        ((gather_batch, settle), BatchState.SETTLED, 2, "ddl"),
        ((settle,), BatchState.SETTLED, 0, "llw"),
        ((settle, gather_batch), BatchState.SETTLED, 0, "llw"),
    ],
    ids=lambda value: "+".join(step.__name__ for step in value) or "new" if isinstance(value, tuple) else None,
)
def test_a_batch_gathers_once_and_hands_the_lead_on_when_it_is_settled(
    steps: Sequence[Callable[[Line], None]], state: BatchState, gathered: int, tickets: str
) -> None:
    line = Line(1, 2, 3, largest=3)
    for step in steps:
        step(line)
    assert line.batch.state is state
    assert len(line.batch.tickets) == gathered
    assert line.states == tickets
    assert line.queue.has_leader


def test_a_settled_batch_leaves_no_ticket_without_an_answer_and_no_leader_of_nothing() -> None:
    line = Line(1, 1)
    line.batch.gather()
    line.batch.settle(line.tickets[0])
    assert all(isinstance(ticket.error, StorageUnavailable) for ticket in line.tickets)
    assert "unknown" in str(line.tickets[0].error)
    assert not line.queue.has_leader


@pytest.mark.parametrize("is_promoted", [False, True])
def test_a_ticket_that_leaves_takes_no_lead_with_it(is_promoted: bool) -> None:
    line = Line(1, 1, 1)
    line.batch.gather()
    late, other = Ticket([item()], 0.0), Ticket([item()], 0.0)
    line.queue.tickets.extend([late, other])
    if is_promoted:
        line.batch.settle(line.tickets[0])
        assert late.state is TicketState.LEADING
    line.queue.leave(late, AWAY)
    assert (late.state, late.error) == (TicketState.DONE, AWAY)
    assert list(line.queue.tickets) == [other]
    assert other.state is (TicketState.LEADING if is_promoted else TicketState.WAITING)


def test_a_ticket_that_has_its_receipts_keeps_them_when_it_leaves() -> None:
    line = Line(1, 1)
    line.batch.gather()
    receive(line)
    line.queue.leave(line.tickets[1], AWAY)
    assert line.tickets[1].error is None
    assert line.tickets[1].receipts


# -- many requests -----------------------------------------------------------------------------------------


class Recorder:
    """Records batches. While `turn` is not set it waits for its turn, while `go` is not set it is inside its commit."""

    def __init__(self, refuse: str = "", away: bool = False) -> None:
        self.away = away
        self.patience: list[timedelta] = []
        self.batches: list[list[str]] = []
        self.entered = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.asked = threading.Event()
        self.turn = threading.Event()
        self.turn.set()
        self.refuse = refuse

    def __call__(self, take: Gather, patience: timedelta) -> list[Receipt]:
        self.asked.set()
        assert self.turn.wait(10)
        items = take()
        self.batches.append([item.dedup_key for item in items])
        self.entered.set()
        self.patience.append(patience)
        assert self.go.wait(10)
        if self.away:
            raise StorageUnavailable("away")
        if any(item.dedup_key == self.refuse for item in items):
            raise RowRefused("refused")
        return [Receipt(Disposition.STORED, item.event_id) for item in items]


class Poster(threading.Thread):
    """One request: what it got is in `receipts` or `error`."""

    def __init__(self, commit: GroupCommit, *items: Item) -> None:
        super().__init__()
        self.commit = commit
        self.items = items
        self.receipts: list[Receipt] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.receipts = self.commit.append(self.items)
        except BaseException as error:
            self.error = error


def gather(commit: GroupCommit, recorder: Recorder, *batches: Sequence[Item]) -> tuple[Poster, list[Poster]]:
    """A leader that is inside its commit, and followers that wait in the order given."""
    recorder.go.clear()
    leader = Poster(commit, item("leader"))
    assert recorder.entered.wait(10)
    followers = []
    for number, items in enumerate(batches, 1):
        followers.append(Poster(commit, *items))
        while commit.waiting < number:
            pass
    return leader, followers


def join(*posters: Poster) -> None:
    for poster in posters:
        poster.join(10)
        assert not poster.is_alive()


def test_a_lone_request_commits_at_once() -> None:
    recorder = Recorder()
    (receipt,) = GroupCommit(recorder).append([item()])
    assert receipt.status is Disposition.STORED
    assert recorder.batches == [["k"]]


def test_requests_that_wait_share_the_next_commit_and_each_gets_its_own_receipts() -> None:
    recorder = Recorder()
    told: list[int] = []
    commit = GroupCommit(recorder, shared=told.append)
    mine = [[item(f"{n}a"), item(f"{n}b")] for n in range(5)]
    leader, followers = gather(commit, recorder, *mine)
    recorder.go.set()
    join(leader, *followers)
    assert recorder.batches == [["leader"], [one.dedup_key for items in mine for one in items]]
    for items, poster in zip(mine, followers, strict=True):
        assert [receipt.event_id for receipt in poster.receipts] == [one.event_id for one in items]
    assert told == [10] * 4, "the oldest of those that waited led, and so did the first"


def test_one_bad_event_does_not_fail_its_neighbours() -> None:
    recorder = Recorder(refuse="bad")
    commit = GroupCommit(recorder)
    leader, (good, bad, other) = gather(commit, recorder, [item("good")], [item("bad")], [item("other")])
    recorder.go.set()
    join(leader, good, bad, other)
    assert good.receipts
    assert other.receipts
    assert isinstance(bad.error, RowRefused)


def test_a_refused_row_is_tried_again_under_a_new_id() -> None:
    seen: list[int] = []

    def record(take: Gather, patience: timedelta) -> list[Receipt]:
        items = take()
        seen.extend(item.event_id for item in items)
        if len(seen) == 1:
            raise RowRefused("this id is taken")
        return [Receipt(Disposition.STORED, item.event_id) for item in items]

    (receipt,) = GroupCommit(record).append([item()])
    assert seen[0] != seen[1] == receipt.event_id


def test_an_outage_is_everybodys_and_is_not_tried_row_by_row() -> None:
    calls: list[int] = []

    def record(take: Gather, patience: timedelta) -> list[Receipt]:
        items = take()
        calls.append(len(items))
        raise StorageUnavailable("away")

    with pytest.raises(StorageUnavailable, match="away"):
        GroupCommit(record).append([item()])
    assert calls == [1]


def test_an_outage_answers_all_who_have_gathered_and_the_next_request_tries_again() -> None:
    recorder = Recorder(away=True)
    commit = GroupCommit(recorder)
    leader, followers = gather(commit, recorder, [item()], [item()])
    recorder.go.set()
    join(leader, *followers)
    assert all(isinstance(poster.error, StorageUnavailable) for poster in (leader, *followers))
    assert recorder.batches == [["leader"]]
    recorder.away = False
    assert commit.append([item()])


def test_a_promoted_follower_has_only_what_is_left_of_its_own_time() -> None:
    recorder = Recorder()
    now = [1000.0]
    commit = GroupCommit(recorder, deadline=timedelta(seconds=10), monotonic=lambda: now[0])
    leader, (follower,) = gather(commit, recorder, [item()])
    now[0] += 5
    recorder.go.set()
    join(leader, follower)
    assert recorder.patience == [timedelta(seconds=9.8), timedelta(seconds=4.8)]


def test_more_than_the_waiting_room_holds_are_turned_away_at_once() -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder, capacity=2)
    leader, followers = gather(commit, recorder, [item()], [item()])
    with pytest.raises(Overloaded):
        commit.append([item()])
    recorder.go.set()
    join(leader, *followers)


def test_batches_are_bounded_but_a_request_is_never_split() -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder, largest_batch=3)
    leader, followers = gather(commit, recorder, [item()] * 2, [item()] * 2, [item()] * 5, [item()])
    recorder.go.set()
    join(leader, *followers)
    assert [len(batch) for batch in recorder.batches] == [1, 2, 2, 5, 1]


def test_what_comes_while_a_commit_waits_for_its_turn_belongs_to_it() -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder)
    recorder.turn.clear()
    leader = Poster(commit, item("leader"))
    assert recorder.asked.wait(10)
    followers = []
    for number, key in enumerate(("one", "two"), 2):
        followers.append(Poster(commit, item(key)))
        while commit.waiting < number:
            pass
    recorder.turn.set()
    join(leader, *followers)
    assert recorder.batches == [["leader", "one", "two"]]
    assert all(poster.receipts for poster in (leader, *followers))


@pytest.mark.parametrize("error", [StorageUnavailable("locked"), ValueError("a fault of ours")], ids=repr)
def test_a_commit_that_never_gets_its_turn_fails_and_the_next_request_tries_again(error: Exception) -> None:
    def record(take: Gather, patience: timedelta) -> list[Receipt]:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return [Receipt(Disposition.STORED, item.event_id) for item in take()]

    calls: list[int] = []
    commit = GroupCommit(record)
    with pytest.raises(type(error)):
        commit.append([item()])
    assert not commit.waiting
    assert commit.append([item()])


def test_a_leader_interrupted_while_it_waits_for_its_turn_takes_nobody_with_it() -> None:
    """Its native thread goes on, gets the turn later, and must not find those whom the next leader commits."""
    left_behind: list[Gather] = []

    def record(take: Gather, patience: timedelta) -> list[Receipt]:
        if not left_behind:
            left_behind.append(take)
            raise Interrupted
        return [Receipt(Disposition.STORED, item.event_id) for item in take()]

    commit = GroupCommit(record)
    with pytest.raises(Interrupted):
        commit.append([item("leader")])
    assert not commit.waiting
    assert commit.append([item("next")])
    assert left_behind[0]() == []


class Interrupted(BaseException):
    """What gevent, gunicorn or a signal raises in the middle of things."""


def test_a_leader_interrupted_in_its_commit_strands_nobody() -> None:
    first = threading.Event()
    go = threading.Event()
    batches: list[int] = []

    def record(take: Gather, patience: timedelta) -> list[Receipt]:
        items = take()
        batches.append(len(items))
        if len(batches) == 2:
            raise Interrupted
        if len(batches) == 1:
            first.set()
            assert go.wait(10)
        return [Receipt(Disposition.STORED, item.event_id) for item in items]

    commit = GroupCommit(record, largest_batch=2)
    leader = Poster(commit, item())
    assert first.wait(10)
    followers = []
    for number in range(1, 5):
        followers.append(Poster(commit, item()))
        while commit.waiting < number:
            pass
    go.set()
    join(leader, *followers)
    assert isinstance(followers[0].error, Interrupted)
    assert isinstance(followers[1].error, StorageUnavailable), (
        "its outcome is unknown: 503, and the resend is a duplicate"
    )
    assert "unknown" in followers[1].error.reason
    assert followers[2].receipts
    assert followers[3].receipts
    assert GroupCommit.append(commit, [item()]), "and the next request finds a working house"


def test_a_follower_interrupted_while_it_waits_hands_the_lead_on(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder)
    wait = Ticket.wait

    def wait_and_be_interrupted(ticket: Ticket, seconds: float) -> None:
        wait(ticket, seconds)
        if ticket.items[0].dedup_key == "victim":
            raise Interrupted  # just after it was promoted

    monkeypatch.setattr(Ticket, "wait", wait_and_be_interrupted)
    leader, (victim, follower) = gather(commit, recorder, [item("victim")], [item("follower")])
    recorder.go.set()
    join(leader, victim, follower)
    assert isinstance(victim.error, Interrupted)
    assert follower.receipts
    assert ["victim"] not in recorder.batches


def test_a_follower_whose_time_is_up_answers_and_leaves_the_queue() -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder, deadline=timedelta(seconds=patience(0.3)))  # the leader begins within it
    recorder.go.clear()
    leader = Poster(commit, item("leader"))
    assert recorder.entered.wait(10)
    late = Poster(commit, item("late"))
    join(late)
    assert isinstance(late.error, StorageUnavailable)
    assert not commit.waiting
    recorder.go.set()
    join(leader)
    assert leader.receipts
    assert ["late"] not in recorder.batches, "it was told 503, so it must not be stored behind its back"


def test_a_child_forgets_the_requests_that_waited_in_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder)
    leader, (follower,) = gather(commit, recorder, [item("parent")])
    recorder.go.set()
    with monkeypatch.context() as child:
        child.setattr(forks, "_mark", b"\1")
        child.setattr(forks, "_process", (-1, -1))  # what a child finds: a leader that does not exist here
        assert commit.waiting == 0
        assert commit.append([item("child")])
    join(leader, follower)
    assert follower.receipts


def test_hundreds_of_requests_at_once_all_get_an_answer() -> None:
    lock = threading.Lock()
    stored: list[int] = []

    def record(take: Gather, patience: timedelta) -> list[Receipt]:
        items = take()
        assert lock.acquire(blocking=False), "two leaders at once"
        try:
            stored.extend(item.event_id for item in items)
            return [Receipt(Disposition.STORED, item.event_id) for item in items]
        finally:
            lock.release()

    commit = GroupCommit(record, largest_batch=16)
    mine: list[Any] = [item() for _ in range(300)]
    posters = [Poster(commit, one) for one in mine]
    join(*posters)
    assert sorted(stored) == sorted(one.event_id for one in mine)
    assert all(poster.receipts[0].event_id == one.event_id for poster, one in zip(posters, mine, strict=True))
