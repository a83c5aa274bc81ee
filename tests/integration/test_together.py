"""Deliveries that share a transaction: everything is as if each had run alone, row for row and attempt for attempt."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, Text, delete, event, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, registry

from tests.integration.hand import Hand
from tests.integration.rig import Rig, rig
from tests.support import examples, wait_until
from webhooks import signals
from webhooks.delivery.attempt import Cause
from webhooks.errors import AttemptOver, Discard, NoConnection, Retry
from webhooks.model import DeliveryState
from webhooks.routing import RetryPolicy
from webhooks.session import SharedSession
from webhooks.session.sqlite import LazyTransaction

SUCCEEDED, RUNNING = DeliveryState.SUCCEEDED, DeliveryState.RUNNING

metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("what", Text, unique=True))
counters = Table("counters", metadata, Column("id", Integer, primary_key=True), Column("n", Integer, nullable=False))


class Note:
    id: Any

    def __init__(self, what: str) -> None:
        self.what = what


class Counter:
    n: int


mappings = registry()
mappings.map_imperatively(Note, notes)
mappings.map_imperatively(Counter, counters)


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        afresh(made)
        yield made


def afresh(made: Rig) -> None:
    with made.database.write() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
        connection.execute(insert(counters).values(id=1, n=0))


def written(made: Rig) -> list[str]:
    with made.database.read() as connection:
        found = connection.execute(select(notes.c.what).order_by(notes.c.id)).scalars()
        return [*found, str(connection.execute(select(counters.c.n)).scalar_one())]


def transactions(made: Rig) -> list[int]:
    """Gets, for each transaction of handlers that commits, how many deliveries it marks."""
    sizes: list[int] = []
    real = made.store.deliveries.done_mark

    def counting(batch: Any) -> Any:
        sizes.append(len(batch))
        return real(batch)

    made.store.deliveries.done_mark = counting  # type: ignore[method-assign]
    return sizes


# -- the same as alone -------------------------------------------------------------------------------------


def cursor(session: Any) -> Any:
    return session.connection().connection.driver_connection.cursor()


def count(session: Any) -> int:
    n: int = session.execute(select(func.count()).select_from(notes)).scalar_one()
    return n


def increment(session: Any, **options: Any) -> None:
    session.get(Counter, 1, **options).n += 1


def rename(session: Any, what: str) -> None:
    for one in session.query(Note).order_by(Note.id)[:1]:
        one.what = f"{one.what}!"


def survive(session: Any, what: str) -> None:
    session.execute(insert(notes).values(what=what))
    try:
        with session.begin_nested():
            session.execute(insert(notes).values(what=what))
    except IntegrityError:
        session.add(Note(f"{what} again"))


def duplicate(session: Any, what: str) -> None:
    try:
        session.execute(insert(notes).values(what="the same"))
    except IntegrityError:
        session.rollback()


TEXT = text("insert into notes (what) values (:what)")
UPDATE = update(counters).values(n=counters.c.n + 1).where(counters.c.id == 1)


def caught(session: Any, what: str) -> None:
    try:
        session.execute(TEXT, {"what": "the same"})
    except IntegrityError:
        session.add(Note(f"{what} instead"))


def fail(error: BaseException) -> Callable[[Any, str], None]:
    def act(session: Any, what: str) -> None:
        raise error

    return act


ACTS: dict[str, Callable[[Any, str], object]] = {
    "orm": lambda session, what: session.add(Note(what)),
    "orm twice": lambda session, what: session.add_all([Note(f"{what} b"), Note(f"{what} a")]),
    "orm the same": lambda session, what: session.add(Note("the same")),
    "flush": lambda session, what: session.flush(),
    "core": lambda session, what: session.execute(insert(notes).values(what=what)),
    "text": lambda session, what: session.execute(TEXT, {"what": what}),
    "text twice": lambda session, what: [session.execute(TEXT, {"what": f"{what} {n}"}) for n in (2, 1)],
    "text the same": lambda session, what: session.execute(TEXT, {"what": "the same"}),
    "text, caught": caught,
    "text and ask": lambda session, what: session.add(
        Note(f"{what}: {session.execute(TEXT, {'what': f'{what} row'}).rowcount}")
    ),
    "core update and ask": lambda session, what: session.add(Note(f"{what}: {session.execute(UPDATE).rowcount}")),
    "core update again": lambda session, what: session.execute(UPDATE),
    "another text": lambda session, what: session.execute(
        text("insert into notes (what) values (:what || :more)"), {"what": what, "more": "."}
    ),
    "connection": lambda session, what: session.connection().exec_driver_sql(
        f"insert into notes (what) values ('{what}')"
    ),
    "cursor": lambda session, what: cursor(session).execute(f"insert into notes (what) values ('{what}')"),
    "many": lambda session, what: session.execute(insert(notes), [{"what": f"{what} {n}"} for n in (2, 1)]),
    "core count": lambda session, what: session.add(Note(f"{what}: {count(session)}")),
    "cursor count": lambda session, what: session.add(
        Note(f"{what}: {cursor(session).execute('select count(*) from notes').fetchone()[0]}")
    ),
    "get and update": lambda session, what: increment(session),
    "lock and update": lambda session, what: increment(session, with_for_update=True),
    "core update": lambda session, what: session.execute(update(counters).values(n=counters.c.n + 10)),
    "delete the first": lambda session, what: [
        session.delete(one) for one in session.query(Note).order_by(Note.id)[:1]
    ],
    "core delete": lambda session, what: session.execute(delete(notes).where(notes.c.what.like("%b"))),
    "rename": rename,
    "savepoint": survive,
    "a statement fails": duplicate,
    "commit": lambda session, what: session.commit(),
    "rollback": lambda session, what: session.rollback(),
    "close": lambda session, what: session.close(),
    "nothing": lambda session, what: None,
    "discard": fail(Discard("not for us")),
    "retry": fail(Retry("later", after=0)),
    "raise": fail(LookupError("gone")),
    "exit": fail(SystemExit(3)),
}
runs = st.lists(st.lists(st.sampled_from(sorted(ACTS)), max_size=3), min_size=2, max_size=6)


def outcome(made: Rig, plan: list[list[str]], effects: Any) -> tuple[list[str], list[Any]]:
    """What the plan leads to: what is written, and of each delivery its state and its attempts.

    plan: {delivery, by its place: names of acts}.
    """
    afresh(made)
    made.registry._handlers.clear()
    made.registry._names.clear()
    made.registry._signals.clear()
    places: dict[int, int] = {}

    @made.on("h", effects=effects)
    def h(session: Any, delivery: Any) -> None:
        place = places[delivery.id]
        for number, name in enumerate(plan[place]):
            ACTS[name](session, f"{place}.{number}")

    for place, id in enumerate(made.put(len(plan), "h")):
        places[id] = place
    Hand(made).run_due()
    rows = [made.row(id) for id in places]
    return written(made), [(row.state, row.attempts, row.failures, row.reason, made.outcomes(row.id)) for row in rows]


@settings(max_examples=examples(90), deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=runs)
def test_what_runs_together_does_what_it_does_alone(made: Rig, plan: list[list[str]]) -> None:
    assert outcome(made, plan, "session") == outcome(made, plan, "anywhere")


# -- what shares a transaction -----------------------------------------------------------------------------


def test_what_waits_already_commits_together(made: Rig) -> None:
    sizes = transactions(made)

    @made.on("h", effects="session")
    def h(session: Any, delivery: Any) -> None:
        session.add(Note(str(delivery.id)))

    ids = made.put(7)
    hand = Hand(made)
    hand.claim()
    assert hand.serve() == 1
    assert sizes == [7]
    assert [made.row(id).state for id in ids] == [SUCCEEDED] * 7
    assert [made.outcomes(id) for id in ids] == [["succeeded"]] * 7
    assert written(made) == [*map(str, ids), "0"]


def sent(made: Rig, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Gets, for each message with statements of a handler's, the statement's first word and how many rows it has."""
    from webhooks.session.postgresql_cursors import GuardedCursor

    messages: list[tuple[str, int]] = []
    real = GuardedCursor.send, GuardedCursor.executemany

    def send(cursor: Any, statement: Any, *arguments: Any) -> None:
        messages.append((str(statement).split()[0], 1))
        real[0](cursor, statement, *arguments)

    def executemany(cursor: Any, statement: Any, rows: Any, **options: Any) -> None:
        messages.append((str(statement).split()[0], len(rows)))
        real[1](cursor, statement, rows, **options)

    monkeypatch.setattr(GuardedCursor, "send", send)
    monkeypatch.setattr(GuardedCursor, "executemany", executemany)
    return messages


def run_two_groups(made: Rig, act: Callable[[Any, str], object]) -> list[int]:
    """The first group has three, and the process learns what the statements answer; the second has five. Their ids."""

    @made.on("h", effects="session")
    def h(session: Any, delivery: Any) -> None:
        act(session, str(delivery.id))

    ids: list[int] = []
    for n in (3, 5):
        ids += made.put(n)
        Hand(made).run_due()
    return ids


@pytest.mark.parametrize(
    ("act", "word", "came"),
    [
        (lambda session, what: session.execute(TEXT, {"what": what}), "insert", 8),
        (lambda session, what: session.execute(UPDATE), "UPDATE", 0),
    ],
)
def test_writes_of_several_runs_travel_together_on_postgresql(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, act: Any, word: str, came: int
) -> None:
    with rig(postgresql_url) as made:
        afresh(made)
        messages = sent(made, monkeypatch)
        run_two_groups(made, act)
        assert messages == [(word, 2), (word, 5)]  # the very first was sent by itself
        assert len(written(made)) == came + 1
        assert written(made)[-1] == str(8 - came)


def test_what_several_runs_leave_is_one_insert_on_postgresql(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by a trigger, which fires once a statement."""
    with rig(postgresql_url) as made:
        afresh(made)
        with made.database.write() as connection:
            connection.exec_driver_sql(
                "create or replace function count_statements() returns trigger language plpgsql as"
                " $$ begin update counters set n = n + 1; return null; end $$;"
                "create trigger counting after insert on notes for each statement execute function count_statements()"
            )
        messages = sent(made, monkeypatch)

        def act(session: Any, what: str) -> None:
            note = Note(what)
            note.id = next(numbers)  # none that the server makes, for which one INSERT would be sent anyway
            session.add(note)

        numbers = itertools.count()
        ids = run_two_groups(made, act)
        assert messages == []
        assert written(made) == [*map(str, ids), "2"]


def test_what_reads_comes_after_the_writes_before_it(postgresql_url: str) -> None:
    with rig(postgresql_url) as made:
        afresh(made)
        counts: list[int] = []

        def act(session: Any, what: str) -> None:
            session.execute(TEXT, {"what": what})
            if len(counts) % 2:
                session.execute(TEXT, {"what": f"{what} more"})
            counts.append(count(session))

        run_two_groups(made, act)
        assert counts == [1, 3, 4, 6, 7, 9, 10, 12]


def test_a_write_that_is_asked_for_its_rows_is_sent_at_once(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rig(postgresql_url) as made:
        afresh(made)
        sizes, messages = transactions(made), sent(made, monkeypatch)
        answers: list[int] = []
        run_two_groups(made, lambda session, what: answers.append(session.execute(UPDATE).rowcount))
        assert answers == [1] * 8
        assert sizes == [3, 5]
        assert messages == []


def asked_of_result(session: Any) -> int:
    count: int = session.execute(UPDATE).rowcount
    return count


def asked_of_cursor(session: Any) -> int:
    own = cursor(session)
    words = "UPDATE counters SET n=(counters.n + %(n_1)s::INTEGER) WHERE counters.id = %(id_1)s::INTEGER"
    own.execute(words, {"n_1": 1, "id_1": 1})
    count: int = own.rowcount
    return count


@pytest.mark.parametrize("ask", [asked_of_result, asked_of_cursor])
def test_a_write_that_is_asked_for_later_than_at_first_runs_alone_and_is_not_held_back_again(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Any], int]
) -> None:
    with rig(postgresql_url) as made:
        afresh(made)
        sizes, messages = transactions(made), sent(made, monkeypatch)
        answers: list[int] = []
        held: list[int] = []

        def act(session: Any, what: str) -> None:
            if len(held) < 2:
                held.append(session.execute(UPDATE) is None)
            else:
                answers.append(ask(session))

        run_two_groups(made, act)
        assert answers == [1] * len(answers)
        assert sizes[0] == 1  # what the question kept from sharing
        assert sum(sizes) == 8
        assert sizes[-1] > 1
        assert messages == []
        assert written(made) == ["8"]


def test_a_write_that_fails_late_fails_alone_where_it_was_executed(postgresql_url: str) -> None:
    with rig(postgresql_url) as made:
        afresh(made)
        places: dict[str, int] = {}

        def act(session: Any, what: str) -> None:
            place = places.setdefault(what, len(places))
            session.execute(TEXT, {"what": "the same" if place in (4, 6) else what})

        ids = run_two_groups(made, act)
        assert [place for place, id in enumerate(ids) if made.row(id).state != SUCCEEDED] == [6]
        assert made.outcomes(ids[6]) == ["failed"] * 3  # as often as it is tried


def test_one_that_waits_alone_runs_as_it_always_did(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made.sessions, "open_shared", None)

    @made.on("h", effects="session")
    def h(session: Any) -> None:
        session.add(Note("alone"))

    made.put(1)
    Hand(made).run_due()
    assert written(made) == ["alone", "0"]


def test_no_more_than_fit_into_a_moment_are_put_together(made: Rig) -> None:
    sizes = transactions(made)

    @made.on("h", effects="session")
    def h(session: Any) -> None:
        session.execute(update(counters).values(n=counters.c.n + 1))

    made.put(60)
    hand = Hand(made, mean=0.0251)
    hand.claim()
    hand.runner.serve(next_of(hand))
    assert sizes == [1]  # of two the second would begin after 25 ms, and end after 50
    hand.runner.buffer._mean["h"] = 0.012
    hand.runner.serve(next_of(hand))
    hand.runner.buffer._mean["h"] = 0.0001
    hand.runner.serve(next_of(hand))
    assert sizes == [1, 4, 45]
    hand.run_due()
    assert written(made) == ["60"]


def next_of(hand: Hand) -> Any:
    attempt = hand.runner.buffer.next_now()
    assert attempt is not None
    return attempt


def test_handlers_that_may_have_other_effects_never_share(made: Rig) -> None:
    sizes = transactions(made)
    made.on("h")(lambda session: None)
    made.put(3)
    Hand(made).run_due()
    assert sizes == [1, 1, 1]


def test_what_died_with_its_worker_shares_with_no_other(made: Rig) -> None:
    sizes = transactions(made)
    made.on("h", effects="session")(lambda session: None)
    ids = made.put(3)
    with made.database.write() as connection:
        mark = text("update webhooks_deliveries set alone = :yes where id = :id")
        connection.execute(mark, {"yes": 1 if made.database.is_sqlite else True, "id": ids[1]})
    hand = Hand(made)
    hand.claim()
    hand.serve()
    assert sorted(sizes) == [1, 2]


def test_one_of_each_lane_shares_in_the_order_of_its_lane(made: Rig) -> None:
    sizes = transactions(made)
    ran: list[int] = []

    @made.on("h", effects="session", ordered_by=lambda event: "any")
    def h(session: Any, delivery: Any) -> None:
        session.add(Note(str(delivery.id)))
        ran.append(delivery.id)

    lanes = {lane: [made.put(1, lane=lane, at=at)[0] for at in range(3)] for lane in ("a", "b")}
    Hand(made).run_due()
    assert sizes == [2, 2, 2]
    assert [id for id in ran if id in lanes["a"]] == lanes["a"]
    assert [id for id in ran if id in lanes["b"]] == lanes["b"]
    assert len(ran) == 6


def test_coroutines_share_too(made: Rig) -> None:
    sizes = transactions(made)

    @made.on("h", effects="session")
    async def h(session: Any, delivery: Any) -> None:
        session.add(Note(str(delivery.id)))

    made.put(3)
    Hand(made).run_due()
    assert sizes == [3]
    assert len(written(made)) == 4


# -- exactly once ------------------------------------------------------------------------------------------


def test_the_token_of_each_is_checked_in_the_transaction_that_commits_them(made: Rig) -> None:
    """Another worker took one of them over while they ran: none of it commits, and each runs alone."""
    sizes = transactions(made)
    ran: list[int] = []

    @made.on("h", effects="session")
    def h(session: Any, delivery: Any) -> None:
        ran.append(delivery.id)
        session.add(Note(str(delivery.id)))

    ids = made.put(3)
    hand = Hand(made)
    attempts = hand.claim()
    made.store.deliveries.fence(attempts[1].delivery)
    hand.serve()
    assert sizes == [3, 1, 1, 1]
    assert ran == ids + ids
    assert [made.row(id).state for id in ids] == [SUCCEEDED, RUNNING, SUCCEEDED]
    assert written(made) == [str(ids[0]), str(ids[2]), "0"]


def test_one_whose_lease_is_lost_while_it_waits_in_a_group_does_not_begin(made: Rig) -> None:
    sizes = transactions(made)

    @made.on("h", effects="session")
    def h(session: Any, delivery: Any) -> None:
        session.add(Note(str(delivery.id)))

    ids = made.put(3)
    hand = Hand(made)
    attempts = hand.claim()
    attempts[1].revoke(Cause.LEASE_LOST, keeps_thread=True)
    hand.serve()
    assert sizes == [2]
    assert written(made) == [str(ids[0]), str(ids[2]), "0"]
    assert len(hand.runner.ledger) == 0


def test_a_lease_that_is_lost_during_a_later_run_takes_back_the_whole_group(made: Rig) -> None:
    sizes = transactions(made)
    attempts: list[Any] = []
    lost: list[int] = []
    signals.connect(signals.delivery_lost, told := lambda handler, *, delivery, **_: lost.append(delivery.id))

    @made.on("h", effects="session")
    def h(session: Any, delivery: Any) -> None:
        session.add(Note(str(delivery.id)))
        if delivery.id == attempts[1].delivery.id:
            attempts[0].revoke(Cause.LEASE_LOST, keeps_thread=True)

    ids = made.put(3)
    hand = Hand(made)
    attempts += hand.claim()
    hand.serve()
    signals.delivery_lost.disconnect(told)
    assert sizes == [1, 1]
    assert written(made) == [str(ids[1]), str(ids[2]), "0"]
    assert lost == [ids[0]]


def test_after_a_commit_without_an_answer_nothing_runs_that_it_committed(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    ended: list[int] = []
    signals.connect(signals.delivery_succeeded, told := lambda handler, *, delivery, **_: ended.append(delivery.id))
    real = SharedSession.finish

    def finish(self: Any, mark: Any) -> bool:
        assert real(self, mark)
        raise ConnectionError("no answer")

    monkeypatch.setattr(SharedSession, "finish", finish)

    @made.on("h", effects="session")
    def h(session: Any, delivery: Any) -> None:
        ran.append(delivery.id)
        session.add(Note(str(delivery.id)))

    ids = made.put(3)
    Hand(made).run_due()
    signals.delivery_succeeded.disconnect(told)
    assert ran == ids
    assert ended == ids
    assert [made.row(id).state for id in ids] == [SUCCEEDED] * 3
    assert written(made) == [*map(str, ids), "0"]


def test_after_a_commit_that_was_none_each_runs_again(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(self: Any, mark: Any) -> bool:
        raise ConnectionError("no answer")

    monkeypatch.setattr(SharedSession, "finish", finish)

    @made.on("h", effects="session")
    def h(session: Any, delivery: Any) -> None:
        session.add(Note(str(delivery.id)))

    ids = made.put(3)
    Hand(made).run_due()
    assert [made.outcomes(id) for id in ids] == [["succeeded"]] * 3
    assert written(made) == [*map(str, ids), "0"]


# -- what counts -------------------------------------------------------------------------------------------


def test_signals_tell_of_the_run_that_counts(made: Rig) -> None:
    told: list[tuple[str, int]] = []
    observers = {
        signal: (lambda handler, *, delivery, name=name, **_: told.append((name, delivery.id)))
        for name, signal in (
            ("started", signals.delivery_started),
            ("succeeded", signals.delivery_succeeded),
            ("raised", signals.handler_raised),
            ("failed", signals.delivery_failed),
        )
    }
    for signal, observer in observers.items():
        signals.connect(signal, observer)

    @made.on("h", effects="session", retry=RetryPolicy(max_attempts=1))
    def h(session: Any, event: Any, delivery: Any) -> None:
        session.add(Note(str(delivery.id)))
        if event.raw == b"2":
            raise LookupError("gone")

    good = made.put(2)
    (bad,) = made.put(1, body=b"2")
    Hand(made).run_due()
    for signal, observer in observers.items():
        signal.disconnect(observer)
    expected = [(name, id) for id in good for name in ("started", "succeeded")]
    assert told == [*expected, ("started", bad), ("raised", bad), ("failed", bad)]
    assert [made.outcomes(id) for id in (*good, bad)] == [["succeeded"], ["succeeded"], ["failed"]]


@pytest.mark.parametrize("raised", [Discard("not ours"), Retry("later", after=3600)])
def test_what_ends_before_it_touches_the_session_ends_alone(made: Rig, raised: Exception) -> None:
    sizes = transactions(made)

    @made.on("h", effects="session", where=lambda event: event.raw != b"3")
    def h(session: Any, event: Any, delivery: Any) -> None:
        if event.raw == b"2":
            raise raised
        session.add(Note(str(delivery.id)))

    ids = [*made.put(2), *made.put(1, body=b"2"), *made.put(1, body=b"3"), *made.put(1)]
    Hand(made).run_due()
    assert sizes == [3]
    reasons = [made.row(id).reason for id in ids]
    assert reasons[:2] + reasons[4:] == [None] * 3
    assert "not ours" in str(reasons[2]) or "later" in str(reasons[2])
    assert "filtered" in str(reasons[3])


def test_a_condition_that_raises_fails_its_own_delivery(made: Rig) -> None:
    sizes = transactions(made)
    made.on("h", effects="session", where=lambda event: 1 / len(event.raw.strip(b"0")))(lambda session: None)
    good = made.put(2)
    (bad,) = made.put(1, body=b"0")
    Hand(made).run_due()
    assert sizes == [2]
    assert [made.row(id).state for id in good] == [SUCCEEDED] * 2
    assert made.outcomes(bad) == ["failed"] * 3


def test_a_poisoned_handler_costs_at_most_twice(made: Rig) -> None:
    calls: list[int] = []

    @made.on("h", effects="session")
    def h(session: Any, delivery: Any) -> None:
        calls.append(delivery.id)
        with session.begin_nested():
            session.add(Note(str(delivery.id)))

    ids = made.put(100)
    Hand(made).run_due()
    assert [made.row(id).state for id in ids] == [SUCCEEDED] * 100
    assert len(calls) <= 2 * len(ids)


def test_after_a_deadlock_one_thread_at_a_time_has_a_group(made: Rig) -> None:
    psycopg = pytest.importorskip("psycopg")
    sizes = transactions(made)
    deadlocks = [True]

    @made.on("h", effects="session")
    def h(session: Any) -> None:
        session.execute(update(counters).values(n=counters.c.n + 1))
        if deadlocks and deadlocks.pop():
            raise OperationalError("update", {}, psycopg.errors.DeadlockDetected("deadlock detected"))

    made.put(30)
    hand = Hand(made, slots=2)
    hand.claim()
    hand.serve()
    made.put(4)
    hand.claim()
    hand.runner.buffer._mean["h"] = 0.0001
    first = next_of(hand)
    assert hand.runner.groups.gather(first)  # another thread's, which runs
    made.put(3)
    hand.claim()
    second = next_of(hand)
    assert not hand.runner.groups.gather(second)
    hand.runner.serve(second)
    hand.runner.groups.run(first)
    hand.run_due()
    assert sum(sizes) == 37
    assert written(made) == ["37"]


# -- one run is not seen by the next -----------------------------------------------------------------------


def test_the_session_of_a_run_ends_with_it(made: Rig) -> None:
    kept: list[Any] = []

    @made.on("h", effects="session")
    def h(session: Any) -> None:
        if kept:
            with pytest.raises(AttemptOver):
                kept[0].execute(text("select 1"))
        kept.append(session)

    made.put(2)
    Hand(made).run_due()
    assert len(kept) == 2


def test_what_a_run_sets_on_its_connection_ends_with_it(made: Rig) -> None:
    sizes = transactions(made)
    seen: list[Any] = []

    @made.on("h", effects="session")
    def h(session: Any) -> None:
        connection = session.connection()
        seen.append((dict(connection.info), connection.get_execution_options().get("mine")))
        connection.info["mine"] = 1
        connection.execution_options(mine=1)

    made.put(2)
    Hand(made).run_due()
    assert sizes == [2]
    assert seen == [({}, None)] * 2


@pytest.mark.parametrize(
    "statement",
    [
        "select set_config('webhooks.mine', 'x', true)",
        "set local webhooks.mine = 'x'",
        "create temp table mine (n int)",
    ],
)
def test_a_setting_of_one_run_reaches_no_other_on_postgresql(postgresql_url: str, statement: str) -> None:
    seen: list[Any] = []
    with rig(postgresql_url) as made:

        @made.on("h", effects="session")
        def h(session: Any) -> None:
            setting = text("select current_setting('webhooks.mine', true), to_regclass('mine')")
            seen.append(tuple(session.execute(setting).one()))
            session.execute(text(statement))

        ids = made.put(4)
        Hand(made).run_due()
        assert [made.row(id).state for id in ids] == [SUCCEEDED] * 4
        assert {(setting or None, table) for setting, table in seen} == {(None, None)}


def test_an_observer_of_the_session_is_told_by_the_run_itself(made: Rig) -> None:
    """Listening to all sessions is how auditing is done."""
    told: list[tuple[Any, int]] = []

    def before_flush(session: Any, context: Any, instances: Any) -> None:
        told.append((session.info.get("whose"), len(session.new)))

    @made.on("h", effects="session")
    def h(session: Any, delivery: Any) -> None:
        session.info["whose"] = delivery.id
        session.add(Note(str(delivery.id)))

    ids = made.put(3)
    event.listen(Session, "before_flush", before_flush)
    try:
        Hand(made).run_due()
    finally:
        event.remove(Session, "before_flush", before_flush)
    assert told == [(id, 1) for id in ids]


# -- time --------------------------------------------------------------------------------------------------


def test_no_run_is_added_when_half_of_the_write_limit_is_used(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LazyTransaction, "share_used", lambda self: 0.5 if self._begun_at else 0.0)
    with rig(sqlite_url) as made:
        afresh(made)
        sizes = transactions(made)

        @made.on("h", effects="session")
        def h(session: Any, event: Any) -> None:
            if event.raw != b"{}":
                session.execute(update(counters).values(n=counters.c.n + 1))

        made.put(2)
        made.put(1, body=b"1")
        made.put(2)
        Hand(made).run_due()
        assert sizes == [3, 2]
        assert written(made) == ["1"]


def test_the_write_limit_is_that_of_the_whole_group(sqlite_url: str) -> None:
    with rig(sqlite_url) as made:
        afresh(made)
        sizes = transactions(made)
        held = [True]

        @made.on("h", effects="session")
        def h(session: Any, delivery: Any) -> None:
            session.execute(insert(notes).values(what=str(delivery.id)))
            if len(holders) == 1 and held and held.pop():
                holders[0].hold_too_long()  # what the watchdog does

        holders: list[LazyTransaction] = []
        real = made.sessions._transactions.begin

        def begin(kept: Any) -> LazyTransaction:
            holders.append(real(kept))
            return holders[-1]

        made.sessions._transactions.begin = begin
        ids = made.put(3)
        Hand(made).run_due()
        assert [made.outcomes(id) for id in ids] == [["succeeded"]] * 3
        assert sizes == [1, 1, 1]
        assert len(written(made)) == 4


def test_a_run_that_takes_too_long_takes_back_its_group_and_each_runs_alone(made: Rig) -> None:
    """The thread that hangs is left behind; the one that hung fails when it hangs alone, too."""
    made.dispatcher.outcomes.default_timeout = timedelta(seconds=0.5)
    go_on = threading.Event()
    patient = RetryPolicy(max_attempts=100, base=timedelta(0), cap=timedelta(0))

    @made.on("h", effects="session", retry=patient)
    def h(session: Any, event: Any, delivery: Any) -> None:
        session.add(Note(str(delivery.id)))
        if event.raw == b"hang":
            go_on.wait(60)

    good = made.put(2)
    (bad,) = made.put(1, body=b"hang")
    good += made.put(1)
    with made.running(slots=1) as worker:
        worker.runner.buffer.note_run("h", 0.0001)
        wait_until(lambda: "timed-out" in made.outcomes(bad), timedelta(seconds=15), "it ran alone")
        go_on.set()
        made.wait_for(SUCCEEDED, 4)
    assert sorted(written(made)) == sorted([*map(str, [*good, bad]), "0"])


def test_a_stop_gives_back_what_waits_in_a_group(made: Rig) -> None:
    is_in, go_on = threading.Event(), threading.Event()

    @made.on("h", effects="session")
    def h(session: Any) -> None:
        is_in.set()
        go_on.wait(60)

    ids = made.put(4)
    with made.running(slots=1, grace=timedelta(0)) as worker:
        worker.runner.buffer.note_run("h", 0.0001)
        assert is_in.wait(30)
        worker.stop()
        assert worker.has_ended.wait(30)
        go_on.set()
    assert made.states() == [DeliveryState.PENDING] * 4
    assert sum(made.row(id).attempts for id in ids) <= 1


def test_without_a_connection_a_group_waits_as_it_was(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = transactions(made)
    real, refused = made.sessions.open_shared, [True]

    def open_shared() -> Any:
        if refused and refused.pop():
            raise NoConnection("too many")
        return real()

    monkeypatch.setattr(made.sessions, "open_shared", open_shared)
    made.on("h", effects="session")(lambda session: None)
    made.put(3)
    hand = Hand(made)
    hand.claim()
    hand.serve()
    hand.runner.buffer._connections._limit = 1  # there is one again
    hand.serve()
    assert sizes == [3]
