"""The upsert that decides: every ordered pair of copies, batches, concurrency, and what is written beside it."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.support import ROOT
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.errors import RowRefused, StorageUnavailable
from webhooks.model import Disposition, Receipt, new_id
from webhooks.store.intake import OLDER_LIMIT, Intake, Item, Routed

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)


def item(key: str = "ev_1", revision: int = 1, *, digest: bytes = b"", source: str = "close", **changes: Any) -> Item:
    handlers = changes.pop("handlers", ("a",))
    lane = changes.pop("lane", None)
    return Item(
        event_id=new_id(),
        source=source,
        dedup_key=key,
        revision=revision,
        type="lead.updated",
        occurred_at=changes.pop("occurred_at", NOW),
        received_at=NOW,
        body=changes.pop("body", b'{"a": 1}'),
        digest=digest,
        routes=tuple(Routed(new_id(), handler, lane) for handler in handlers),
        **changes,
    )


@pytest.fixture
def intake(database: Database) -> Intake:
    return Intake(database)


def statuses(receipts: list[Receipt]) -> list[str]:
    return [receipt.status.value for receipt in receipts]


def count(database: Database, table: Any, *where: Any) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())


EXPECTED = {
    # (seen, now): receipt; what is decided about each pair, with stripped copies (-1) and events without revisions (0)
    (5, 5): "duplicate", (5, 7): "revision", (7, 5): "stale", (-1, 5): "revision", (5, -1): "stale",
    (-1, -1): "duplicate", (0, 0): "duplicate", (0, 5): "revision", (5, 0): "stale", (-1, 0): "revision",
}  # fmt: skip


@pytest.mark.parametrize(("seen", "now"), EXPECTED)
def test_a_second_copy_gets_the_receipt_that_its_revision_deserves(
    intake: Intake, database: Database, seen: int, now: int
) -> None:
    first, second = item(revision=seen), item(revision=now)
    assert statuses(intake.record([first])) == ["stored"]
    (receipt,) = intake.record([second])
    assert receipt.status == EXPECTED[seen, now]
    kept = receipt.status is not Disposition.DUPLICATE
    assert receipt.event_id == (second.event_id if kept else first.event_id)
    assert count(database, schema.events) == 1 + kept
    delivered = (seen >= 0) + (receipt.status is Disposition.REVISION)
    assert count(database, schema.deliveries) == delivered


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_the_newest_revision_is_the_head_whatever_the_order(
    intake: Intake, database: Database, order: tuple[int, ...]
) -> None:
    items = [item(revision=revision) for revision in order]
    for one in items:
        intake.record([one])
    for one in items:  # and each of them again is a duplicate of itself
        (receipt,) = intake.record([one._replace(event_id=new_id())])
        assert (receipt.status, receipt.event_id) == (Disposition.DUPLICATE, one.event_id)
    with database.read() as connection:
        row = connection.execute(select(schema.dedup_log)).one()
    newest = next(one for one in items if one.revision == 3)
    assert (row.revision, row.event_id, row.copies) == (3, newest.event_id, 6)


def test_a_revision_is_linked_to_the_one_before(intake: Intake, database: Database) -> None:
    first, second = item(revision=1), item(revision=2)
    intake.record([first])
    intake.record([second])
    with database.read() as connection:
        query = select(schema.events.c.previous_id).where(schema.events.c.id == second.event_id)
        assert connection.execute(query).scalar_one() == first.event_id


def test_the_same_key_of_another_source_is_another_event(intake: Intake) -> None:
    assert statuses(intake.record([item(source="close"), item(source="stripe")])) == ["stored", "stored"]


def test_keys_are_compared_byte_for_byte(intake: Intake) -> None:
    keys = ["a", "A", "a ", "é", "e\u0301", "ａ"]
    assert set(statuses(intake.record([item(key) for key in keys]))) == {"stored"}


def test_another_body_without_revisions_is_a_conflict_that_is_kept_once(intake: Intake, database: Database) -> None:
    first = item(revision=0, digest=b"1" * 16)
    intake.record([first])
    for copies in range(2):
        (receipt,) = intake.record([item(revision=0, digest=b"2" * 16, body=b"other")])
        assert receipt.status is Disposition.DUPLICATE
        assert receipt.conflict is (copies == 0)
    assert count(database, schema.events) == 2
    assert count(database, schema.events, schema.events.c.receipt == 4) == 1
    assert count(database, schema.deliveries) == 1


def test_old_copies_cannot_fill_the_disk(intake: Intake, database: Database) -> None:
    intake.record([item(revision=1000)])
    received = [intake.record([item(revision=revision)])[0].status for revision in range(1, OLDER_LIMIT + 20)]
    assert set(received) == {Disposition.STALE}
    assert count(database, schema.events) == 1 + OLDER_LIMIT
    (receipt,) = intake.record([item(revision=2000)])
    assert receipt.status is Disposition.REVISION


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (1, 1)])
def test_the_same_key_twice_in_one_batch_is_decided_in_order(intake: Intake, order: tuple[int, int]) -> None:
    receipts = intake.record([item(revision=revision) for revision in order])
    assert statuses(receipts) == ["stored", {(1, 2): "revision", (2, 1): "stale", (1, 1): "duplicate"}[order]]


def test_fifty_copies_in_one_batch_are_one_event(intake: Intake, database: Database) -> None:
    assert Counter(statuses(intake.record([item() for _ in range(50)]))) == {"stored": 1, "duplicate": 49}
    assert (count(database, schema.events), count(database, schema.deliveries)) == (1, 1)


def test_fifty_copies_at_once_are_one_event(database_url: str) -> None:
    database = connect(database_url, pool_size=10)
    intake = Intake(database)
    received: list[str] = []
    barrier = threading.Barrier(10)

    def post() -> None:
        barrier.wait()
        for _ in range(5):
            received.extend(statuses(intake.record([item()])))

    threads = [threading.Thread(target=post) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert Counter(received) == {"stored": 1, "duplicate": 49}
        assert (count(database, schema.events), count(database, schema.deliveries)) == (1, 1)
        with database.read() as connection:
            assert connection.execute(select(schema.dedup_log.c.copies)).scalar_one() == 50
    finally:
        database.dispose()


def test_overlapping_batches_in_opposite_order_do_not_deadlock_and_lose_nothing(database_url: str) -> None:
    database = connect(database_url, pool_size=6)
    intake = Intake(database)
    received: Counter[str] = Counter()
    failures: list[BaseException] = []
    guard = threading.Lock()

    def post(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(12):
                batch = [
                    item(f"k{chance.randrange(30)}", chance.randrange(1, 5), lane=f"l{chance.randrange(4)}")
                    for _ in range(20)
                ]
                answers = statuses(intake.record(batch))
                with guard:
                    received.update(answers)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=post, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert not failures
        assert sum(received.values()) == 6 * 12 * 20
        kept = received["stored"] + received["revision"] + received["stale"]
        assert count(database, schema.events) == kept
        assert count(database, schema.deliveries) == received["stored"] + received["revision"]
        assert received["stored"] == count(database, schema.dedup_log)
        with database.read() as connection:
            twice = connection.exec_driver_sql(
                "select dedup_key, revision from webhooks_events group by dedup_key, revision having count(*) > 1"
            ).fetchall()
            heads = connection.exec_driver_sql(
                "select handler, lane, count(*) from webhooks_deliveries where lane is not null"
                " group by handler, lane having sum(case when ready then 1 else 0 end) <> 1"
            ).fetchall()
        assert twice == []
        assert heads == [], "every lane has exactly one head"
    finally:
        database.dispose()


def test_a_stripped_copy_is_stored_and_not_delivered(intake: Intake, database: Database) -> None:
    (receipt,) = intake.record([item(revision=-1)])
    assert (receipt.status, receipt.delivery_ids) == (Disposition.STORED, ())
    assert count(database, schema.deliveries) == 0


def test_an_ordering_key_that_failed_makes_a_dead_delivery_with_its_error(intake: Intake, database: Database) -> None:
    one = item()._replace(routes=(Routed(new_id(), "a", None, "ordered_by failed: KeyError: 'x'"),))
    (receipt,) = intake.record([one])
    assert receipt.delivery_ids == ()
    with database.read() as connection:
        row = connection.execute(select(schema.deliveries)).one()
    assert (row.state, row.reason) == (3, "ordered_by failed: KeyError: 'x'")


def test_odd_bytes_and_text_come_back_as_they_were(intake: Intake, database: Database) -> None:
    body = bytes(range(256)) + b'\x00{"a": "\xff"}'
    key = "évènement 🏠 % _ ' \" \\ \n"
    one = item(key, body=body, object_id=key, headers='{"a": "é"}', occurred_at=NOW + timedelta(microseconds=417001))
    intake.record([one])
    with database.read() as connection:
        row = connection.execute(select(schema.events)).one()
    assert (bytes(row.body), row.dedup_key, row.object_id) == (body, key, key)
    assert row.occurred_at == one.occurred_at
    assert statuses(intake.record([item(key)])) == ["duplicate"]


def test_a_refused_row_takes_the_whole_batch_back(intake: Intake, database: Database) -> None:
    good = item("good")
    bad = item("bad")._replace(event_id=good.event_id)  # an id that is taken
    with pytest.raises(RowRefused, match=r"(?i)unique"):
        intake.record([good, bad])
    assert count(database, schema.dedup_log) == 0
    assert statuses(intake.record([good])) == ["stored"]


def test_a_database_that_is_away_is_storage_unavailable(tmp_path: Any) -> None:
    database = connect("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StorageUnavailable):
        Intake(database).record([item()])
    database.dispose()


_FIRST_BATCH = """
import sys
from tests.integration.test_intake import item
from webhooks.database.connect import connect
from webhooks.store.intake import Intake

database = connect(sys.argv[1])
print(*(receipt.status for receipt in Intake(database).record([item("ev_1"), item("ev_2")])))
database.dispose()
"""


@pytest.mark.one_database
def test_the_first_batch_of_a_process_is_taken_in_together(database_url: str) -> None:
    """In a process of its own: what one database registers with the driver, another would find registered."""
    command = [sys.executable, "-c", _FIRST_BATCH, database_url]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.split() == ["stored", "stored"], done.stderr
