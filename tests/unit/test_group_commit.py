"""Group commit: one transaction for all who wait, nobody stranded whatever happens to the leader."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from webhooks.errors import Overloaded, RowRefused, StorageUnavailable
from webhooks.intake import GroupCommit, ingest
from webhooks.intake.ingest import Gather
from webhooks.model import Receipt, ReceiptStatus, new_id
from webhooks.store.intake import Item

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def item(key: str = "k") -> Item:
    return Item(new_id(), "close", key, 1, "lead.created", NOW, NOW, b"{}")


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
        return [Receipt(ReceiptStatus.STORED, item.event_id) for item in items]


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
        while len(commit._queue) < number:
            pass
    return leader, followers


def join(*posters: Poster) -> None:
    for poster in posters:
        poster.join(10)
        assert not poster.is_alive()


def test_a_lone_request_commits_at_once() -> None:
    recorder = Recorder()
    (receipt,) = GroupCommit(recorder).append([item()])
    assert receipt.status is ReceiptStatus.STORED
    assert recorder.batches == [["k"]]


def test_requests_that_wait_share_the_next_commit_and_each_gets_its_own_receipts() -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder)
    mine = [[item(f"{n}a"), item(f"{n}b")] for n in range(5)]
    leader, followers = gather(commit, recorder, *mine)
    recorder.go.set()
    join(leader, *followers)
    assert recorder.batches == [["leader"], [one.dedup_key for items in mine for one in items]]
    for items, poster in zip(mine, followers, strict=True):
        assert [receipt.event_id for receipt in poster.receipts] == [one.event_id for one in items]


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
        return [Receipt(ReceiptStatus.STORED, item.event_id) for item in items]

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
    commit = GroupCommit(recorder, deadline=timedelta(seconds=10))
    leader, (follower,) = gather(commit, recorder, [item()])
    commit._queue[0].since -= 5  # as if it had waited so long
    recorder.go.set()
    join(leader, follower)
    assert recorder.patience[1] < timedelta(seconds=5) < recorder.patience[0] < timedelta(seconds=9.9)


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


def test_whoever_comes_while_a_commit_waits_for_its_turn_belongs_to_it() -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder)
    recorder.turn.clear()
    leader = Poster(commit, item("leader"))
    assert recorder.asked.wait(10)
    followers = []
    for number, key in enumerate(("one", "two"), 2):
        followers.append(Poster(commit, item(key)))
        while len(commit._queue) < number:
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
        return [Receipt(ReceiptStatus.STORED, item.event_id) for item in take()]

    calls: list[int] = []
    commit = GroupCommit(record)
    with pytest.raises(type(error)):
        commit.append([item()])
    assert not commit._queue
    assert commit.append([item()])


def test_a_leader_interrupted_while_it_waits_for_its_turn_takes_nobody_with_it() -> None:
    """Its native thread goes on, gets the turn later, and must not find those whom the next leader commits."""
    left_behind: list[Gather] = []

    def record(take: Gather, patience: timedelta) -> list[Receipt]:
        if not left_behind:
            left_behind.append(take)
            raise Interrupted
        return [Receipt(ReceiptStatus.STORED, item.event_id) for item in take()]

    commit = GroupCommit(record)
    with pytest.raises(Interrupted):
        commit.append([item("leader")])
    assert not commit._queue
    assert commit.append([item("next")])
    late = ingest._Entry([item("waits")])
    commit._queue.append(late)
    assert left_behind[0]() == []
    assert list(commit._queue) == [late]


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
        return [Receipt(ReceiptStatus.STORED, item.event_id) for item in items]

    commit = GroupCommit(record, largest_batch=2)
    leader = Poster(commit, item())
    assert first.wait(10)
    followers = []
    for number in range(1, 5):
        followers.append(Poster(commit, item()))
        while len(commit._queue) < number:
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
    recorder.go.clear()
    leader = Poster(commit, item("leader"))
    assert recorder.entered.wait(10)

    class Victim(ingest._Entry):
        """Whose request is interrupted just after it was promoted."""

        def wait(self, seconds: float) -> None:
            super().wait(seconds)
            raise Interrupted

    monkeypatch.setattr(ingest, "_Entry", Victim)
    victim = Poster(commit, item("victim"))
    while not commit._queue:
        pass
    monkeypatch.undo()
    follower = Poster(commit, item("follower"))
    while len(commit._queue) < 2:
        pass
    recorder.go.set()
    join(leader, victim, follower)
    assert isinstance(victim.error, Interrupted)
    assert follower.receipts
    assert ["victim"] not in recorder.batches


def test_a_follower_whose_time_is_up_answers_and_leaves_the_queue() -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder, deadline=timedelta(milliseconds=50))
    recorder.go.clear()
    leader = Poster(commit, item("leader"))
    assert recorder.entered.wait(10)
    late = Poster(commit, item("late"))
    join(late)
    assert isinstance(late.error, StorageUnavailable)
    assert not commit._queue
    recorder.go.set()
    join(leader)
    assert leader.receipts
    assert ["late"] not in recorder.batches, "it was told 503, so it must not be stored behind its back"


def test_a_child_forgets_who_waited_in_its_parent() -> None:
    recorder = Recorder()
    commit = GroupCommit(recorder)
    leader, _ = gather(commit, recorder)
    recorder.go.set()
    commit.after_fork()  # what a child finds: a leader that does not exist here
    assert commit.append([item("child")])
    join(leader)


def test_hundreds_of_requests_at_once_all_get_an_answer() -> None:
    lock = threading.Lock()
    stored: list[int] = []

    def record(take: Gather, patience: timedelta) -> list[Receipt]:
        items = take()
        assert lock.acquire(blocking=False), "two leaders at once"
        try:
            stored.extend(item.event_id for item in items)
            return [Receipt(ReceiptStatus.STORED, item.event_id) for item in items]
        finally:
            lock.release()

    commit = GroupCommit(record, largest_batch=16)
    mine: list[Any] = [item() for _ in range(300)]
    posters = [Poster(commit, one) for one in mine]
    join(*posters)
    assert sorted(stored) == sorted(one.event_id for one in mine)
    assert all(poster.receipts[0].event_id == one.event_id for poster, one in zip(posters, mine, strict=True))
