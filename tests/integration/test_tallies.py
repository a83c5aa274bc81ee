"""Figures over time: added by several, folded by one, read in a few statements; on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, select

from tests.integration.rig import Rig, rig
from tests.support import Clock
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import Disposition
from webhooks.store import Store
from webhooks.store.tallies import SPANS, UNTIMED, WINDOWS, Counts, Kind, LevelSample, Ran, minute_of
from webhooks.store.tallies import tallies as module
from webhooks.store.tallies.points import Span
from webhooks.store.tallies.tallies import _Made, _whole

STORED = (Kind.REQUESTS, "close", Disposition.STORED.code, 3)
REFUSED = (Kind.REQUESTS, "close", 401, UNTIMED)
RAN = (Kind.RUNS, "h", Ran.SUCCEEDED, 5)
START = datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def store(database: Database, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Store:
    """A store whose database has the clock of the test."""
    clock.move(START - clock())
    monkeypatch.setattr(type(database), "now", lambda self, connection=None: clock())
    made = Store(database, {})
    monkeypatch.setattr(made.tallies._statements, "minute", lambda: str(minute_of(clock())), raising=True)
    monkeypatch.setattr(database, "monotonic", lambda: clock().timestamp())
    return made


def rows(store: Store, span: int = 1) -> dict[Any, int]:
    table = schema.tallies.c
    with store.database.read() as connection:
        found = connection.execute(select(schema.tallies).where(table.span == span)).fetchall()
    return {(row.at, row.kind, row.name, row.what, row.bucket): row.n for row in found}


def test_numbers_are_added_to_the_minute_in_which_they_were_counted(store: Store) -> None:
    now = minute_of(START)
    store.tallies.add([(5.0, {STORED: 2}), (65.0, {STORED: 1, RAN: 4})])
    store.tallies.add([(5.0, {STORED: 3})])
    assert rows(store) == {(now, *STORED): 5, (now - 1, *STORED): 1, (now - 1, *RAN): 4}
    store.tallies.add([])


def test_a_sample_keeps_the_largest_of_its_minute(database: Database) -> None:
    with rig(str(database.url.render_as_string(hide_password=False))) as made:
        made.put(3, "h")
        made.store.tallies.sample(made.store.health.gauges())
        made.put(2, "h")
        made.store.tallies.sample(made.store.health.gauges())
        claimed = made.claim("h")
        made.store.tallies.sample(made.store.health.gauges())
        points = made.store.tallies.read(WINDOWS["15m"])
        last = {what: n for (at, kind, what, _), n in sorted(points.rows.items()) if kind == Kind.LEVELS}
        assert last[LevelSample.DUE] in (4, 5), "another minute may have begun"
        assert (last[LevelSample.RUNNING], last[LevelSample.SAMPLED]) == (1, 1)
        assert claimed.delivery.handler == "h"


def test_windows_add_up_what_every_span_knows(store: Store, clock: Clock) -> None:
    """Whatever is folded and whatever is not yet: each window has every number once."""
    clock.move(timedelta(minutes=-1))
    counts: Counts = {STORED: 1, (Kind.RUNS, "g", Ran.DEAD, 9): 1, RAN: 2}
    for step in (37, 3, 40, 100, 59, 61, 120, 57, 3):
        clock.move(timedelta(minutes=step))
        store.tallies.add([(60.0 * minute, counts) for minute in range(step)])
        if step > 3:
            store.tallies.fold()
    for name, counted in (("15m", 15), ("1h", 60), ("6h", 360), ("24h", 480), ("7d", 480), ("30d", 480)):
        window = WINDOWS[name]
        points = store.tallies.read(window)
        stored = {at: n for (at, kind, _, _), n in points.rows.items() if kind == Kind.REQUESTS}
        begins = points.since
        expected = sum(1 for m in range(8 * 60) if minute_of(START) + m >= begins)
        assert sum(stored.values()) == expected, name
        assert abs(expected - counted) < window.span
        assert len(points.at) <= 72
        assert set(stored) <= set(points.at), name
        only = store.tallies.read(window, name="h")
        assert sum(only.rows.values()) == 2 * expected
    assert store.tallies.totals(0, 60, 1)[RAN] == 120
    assert store.tallies.totals(180, 60, 30)[RAN] == 120
    for _ in range(7):
        clock.move(timedelta(minutes=7))
        store.tallies.add([(60.0 * minute, counts) for minute in range(7)])
        store.tallies.fold()
        for name in ("15m", "1h", "6h"):
            window = WINDOWS[name]
            totals = store.tallies.totals(0, window.minutes, window.span)
            by_point = store.tallies.read(window).counts(Kind.RUNS).values()
            expected = sum(n for point in by_point for n in point.values())
            assert sum(n for (kind, *_), n in totals.items() if kind == Kind.RUNS) == expected > 0, name


def test_a_time_is_added_up_from_the_fewest_points() -> None:
    made = _Made(10_007, 0, {1: 10_008, 5: 10_000, 30: 9_990, 180: 9_900, 720: 9_360})
    found = _whole(made, SPANS, 9_948, 10_008)
    assert found == [(1, 9_948, 9_950), (5, 9_950, 9_960), (30, 9_960, 9_990), (5, 9_990, 10_000), (1, 10_000, 10_008)]
    assert _whole(made, SPANS, 10_000, 10_000) == []
    for since, until in ((8_000, 10_008), (9_361, 9_362), (0, 720), (9_900, 10_007)):
        ranges = _whole(made, SPANS, since, until)
        assert [first for _, first, _ in ranges] == [since, *(last for _, _, last in ranges[:-1])]
        assert ranges[-1][2] == until
        assert all(first % span == 0 and last % span == 0 and last <= made.until[span] for span, first, last in ranges)


def test_points_that_are_over_are_read_once_in_a_process(store: Store, clock: Clock, statements: list[str]) -> None:
    window = WINDOWS["1h"]
    for _ in range(90):
        store.tallies.add([(0.0, {STORED: 1}), (45.0, {STORED: 1})])
        kept, whole = store.tallies.window(window), store.tallies.read(window)
        assert (kept.since, dict(kept.rows)) == (whole.since, dict(whole.rows))
        clock.move(timedelta(minutes=1))
    with store.database.write() as connection:
        connection.execute(schema.tallies.delete())
    assert sum(store.tallies.window(window).rows.values()) >= 110, "it is not asked again"
    clock.move(timedelta(minutes=11))
    assert not store.tallies.window(window).rows


def test_folding_twice_changes_nothing_and_deletes_what_was_kept_for_long_enough(store: Store, clock: Clock) -> None:
    begin = minute_of(START)
    store.tallies.add([(0.0, {STORED: 7, (Kind.LEVELS, "h", LevelSample.DUE, UNTIMED): 3})])
    clock.move(timedelta(minutes=1))
    store.tallies.add([(0.0, {STORED: 1, (Kind.LEVELS, "h", LevelSample.DUE, UNTIMED): 9})])
    clock.move(timedelta(minutes=5))
    for _ in range(2):
        assert store.tallies.fold() == 0
    assert rows(store, 5) == {(begin, *STORED): 8, (begin, Kind.LEVELS, "h", LevelSample.DUE, UNTIMED): 9}
    store.tallies.add([(300.0, {STORED: 2})])
    store.tallies.fold()
    assert rows(store, 5)[begin, *STORED] == 10, "what came late is in it"
    for span in SPANS:
        clock.move(timedelta(minutes=span.keep + 720))
        store.tallies.fold()
        assert not rows(store, span.minutes), span
    assert store.tallies.fold() == 0


def test_a_point_is_not_made_again_of_what_is_left_of_its_parts(store: Store, clock: Clock) -> None:
    """After the last number there is silence, so the newest point is made again at each fold, until its parts are gone."""
    for _ in range(5):
        store.tallies.add([(0.0, {STORED: 1})])
        clock.move(timedelta(minutes=1))
    clock.move(timedelta(hours=2, minutes=50))
    for _ in range(20):
        store.tallies.fold()
        assert sum(rows(store, 5).values()) == 5
        clock.move(timedelta(minutes=1))
    assert not rows(store)


def test_a_time_in_which_no_process_folded_loses_nothing(store: Store, clock: Clock) -> None:
    for _ in range(50):
        store.tallies.add([(0.0, {STORED: 1})])
        clock.move(timedelta(hours=1))
    assert len(rows(store)) == 50
    store.tallies.fold()
    assert sum(rows(store, 180).values()) >= 48
    points = store.tallies.read(WINDOWS["7d"])
    assert sum(points.rows.values()) == 50
    assert points.begins == minute_of(START) - minute_of(START) % 720 or points.begins == minute_of(START)


def test_rows_of_a_span_are_bounded(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    few = tuple(Span(span.minutes, span.keep, 10) for span in SPANS)
    monkeypatch.setattr(module, "SPANS", few)
    for _ in range(120):
        store.tallies.add([(0.0, {STORED: 1})])
        clock.move(timedelta(minutes=1))
    store.tallies.fold()
    assert len(rows(store)) <= 10
    assert len(rows(store, 5)) <= 24


def test_rows_of_a_clock_that_was_ahead_are_not_looked_at_before_their_time(store: Store, clock: Clock) -> None:
    store.tallies.add([(0.0, {STORED: 1})])
    clock.move(timedelta(days=400))
    store.tallies.add([(0.0, {STORED: 100})])
    clock.move(timedelta(days=-400))
    store.tallies.add([(0.0, {STORED: 2})])
    clock.move(timedelta(minutes=6))
    store.tallies.fold()
    for window in WINDOWS.values():
        assert sum(store.tallies.read(window).rows.values()) == 3, window.name


def test_processes_that_write_at_once_wait_for_each_other_and_lose_nothing(database_url: str) -> None:
    """The keys are sorted, so two statements lock rows in one order."""
    counts = {(Kind.RUNS, f"h{number}", Ran.SUCCEEDED, number % 9): 1 for number in range(50)}
    with rig(database_url) as one, rig(database_url) as two:

        def work(made: Rig) -> None:
            for turn in range(20):
                order = list(counts.items()) if turn % 2 else list(reversed(counts.items()))
                made.store.tallies.add([(0.0, dict(order))])

        threads = [threading.Thread(target=work, args=(made,)) for made in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with one.database.read() as connection:
            total = connection.execute(select(func.sum(schema.tallies.c.n))).scalar()
        assert total == 50 * 2 * 20


@pytest.fixture
def statements(database: Database) -> Iterator[list[str]]:
    said: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield said
    event.remove(database.engine, "before_cursor_execute", note)


def test_a_window_is_two_statements_and_a_turn_is_one(
    database: Database, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "monotonic", lambda: 0.0)  # not even on a slow machine does the second end
    store = Store(database, {})
    store.tallies.read(WINDOWS["24h"])
    store.tallies.totals(24 * 60, 60, 30)
    assert len(statements) == 3, "how far points are made is asked once a second"
    statements.clear()
    store.tallies.add([(0.0, {(Kind.RUNS, f"h{n}", Ran.SUCCEEDED, 1): 1 for n in range(100)})])
    assert sum("insert" in statement for statement in statements) == 1


def test_snapshots_are_replaced_and_read_in_one_statement(database: Database, statements: list[str]) -> None:
    store = Store(database, {})
    assert store.snapshots.get(["doctor", "b"]) == {}
    store.snapshots.put("doctor", {"findings": []})
    store.snapshots.put("doctor", {"findings": [1]})
    statements.clear()
    found = store.snapshots.get(["doctor", "b"])
    assert len(statements) == 1
    assert found["doctor"].body == {"findings": [1]}
    assert abs(found["doctor"].at - database.now()) < timedelta(minutes=5)
