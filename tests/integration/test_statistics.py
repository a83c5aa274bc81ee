"""`webhooks stats`: from what was counted where that covers the time, else from the rows; and it says which."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.integration.rig import Rig, rig
from webhooks.model import AttemptOutcome, DeliveryClass, DeliveryState, Disposition
from webhooks.operations.statistics import stats
from webhooks.routing import SUCCEEDED, Verdict
from webhooks.store.deliveries import Finished
from webhooks.store.tallies import UNTIMED, Kind, LevelSample, Ran, bucket_of
from webhooks.store.tallies.counter import Key

HOUR = timedelta(hours=1)
COUNTED: dict[Key, int] = {
    (Kind.REQUESTS, "close", Disposition.STORED.code, 3): 10,
    (Kind.REQUESTS, "close", Disposition.REVISION.code, 3): 2,
    (Kind.REQUESTS, "close", Disposition.DUPLICATE.code, 3): 5,  # no row, no event
    (Kind.REQUESTS, "close", 401, UNTIMED): 3,
    (Kind.RUNS, "h", Ran.SUCCEEDED, bucket_of(0.09)): 9,
    (Kind.RUNS, "h", Ran.RETRIED, UNTIMED): 4,
    (Kind.RUNS, "h", Ran.DEAD, bucket_of(300)): 1,
    (Kind.RUNS, "gone", Ran.CANCELLED, bucket_of(0.002)): 1,
}
SAMPLED: dict[Key, int] = {(Kind.LEVELS, "", LevelSample.SAMPLED, UNTIMED): 1}


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        yield made


def count(made: Rig, minutes: int, *, sampled: bool = True, since: int = 0) -> None:
    """So many of the last minutes are counted, but for the newest of them."""
    counts = {**COUNTED, **(SAMPLED if sampled else {})}
    made.store.tallies.add([(60.0 * age, counts) for age in range(since, minutes)])
    made.store.tallies.fold(deletes=False)


def test_what_was_counted_tells_where_it_covers_the_time(made: Rig) -> None:
    made.put(3, "h")
    count(made, 70)
    found = stats(made.store, HOUR)
    assert found.is_tallied
    assert found.is_complete
    (source,) = found.sources
    assert (source.source, source.events) == ("close", 12 * 60), (
        "events that were kept, refused and repeated ones aside"
    )
    assert source.per_minute == 12
    by_name = {each.handler: each for each in found.handlers}
    h = by_name["h"]
    assert (h.succeeded, h.dead, h.cancelled, h.pending) == (540, 60, 0, 3)
    assert 50 <= h.wait_ms[50] <= h.wait_ms[95] <= h.wait_ms[99] <= 100
    assert (by_name["gone"].cancelled, by_name["gone"].wait_ms) == (60, {})


@pytest.mark.parametrize("what", ["too short", "begun later", "no worker", "long silent", "nothing"])
def test_else_the_rows_tell(made: Rig, what: str) -> None:
    made.put(4, "h")
    claimed = made.store.deliveries.claim({("h", DeliveryClass.FRESH): 4}, lease=timedelta(seconds=30), worker="w")
    gone = Verdict(DeliveryState.DEAD, AttemptOutcome.FAILED, reason="ValueError: no", error="no")
    made.store.deliveries.finish([Finished(one.delivery, SUCCEEDED) for one in claimed[1:]])
    made.store.deliveries.finish([Finished(claimed[0].delivery, gone)])
    if what == "begun later":
        count(made, 45)
    elif what == "no worker":
        count(made, 70, sampled=False)
    elif what == "long silent":
        count(made, 90, since=20)
    elif what == "too short":
        count(made, 70)
    found = stats(made.store, timedelta(minutes=10) if what == "too short" else HOUR)
    assert not found.is_tallied
    assert sum(each.events for each in found.sources) == 4
    (h,) = found.handlers
    assert (h.succeeded, h.dead) == (3, 1)


def test_a_sample_that_is_missing_now_and_then_does_not_matter(made: Rig) -> None:
    count(made, 400)
    for minutes in (15, 60, 179, 300):
        found = stats(made.store, timedelta(minutes=minutes))
        assert found.is_tallied, minutes
        assert abs(found.sources[0].events / 12 - minutes) <= 5, minutes
    with made.store.database.write() as connection:
        connection.execute(text("delete from webhooks_tallies where span = 1 and kind = 2 and at % 20 = 3"))
    assert stats(made.store, HOUR).is_tallied
    with made.store.database.write() as connection:
        connection.execute(text("delete from webhooks_tallies where span = 1 and kind = 2 and at % 5 = 1"))
    assert not stats(made.store, HOUR).is_tallied
