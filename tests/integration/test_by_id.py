"""Claiming by id, which another engine does: an id is a hint, and the rows decide."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.integration.rig import Rig, rig
from webhooks.errors import ConfigurationError
from webhooks.model import DeliveryClass, DeliveryState
from webhooks.routing import SUCCEEDED
from webhooks.store.deliveries import Claimed, Finished, Offered
from webhooks.store.handlers import HandlerRow

LEASE = timedelta(seconds=30)


@pytest.fixture
def made(postgresql_url: str) -> Iterator[Rig]:
    with rig(postgresql_url) as made:
        yield made


def claim(made: Rig, ids: list[int], *handlers: str, worker: str = "w") -> list[Claimed]:
    return made.store.deliveries.claim_ids(ids, handlers or ("h",), lease=LEASE, worker=worker)


def ids(claimed: list[Claimed]) -> list[int]:
    return [each.delivery.id for each in claimed]


def test_what_is_claimed_by_id_is_leased_counted_and_comes_with_its_event(made: Rig) -> None:
    put = made.put(3)
    claimed = claim(made, [put[2], put[0]])
    assert ids(claimed) == [put[0], put[2]]
    delivery, event = claimed[0].delivery, claimed[0].event
    assert (delivery.state, delivery.number, delivery.token, delivery.worker) == (DeliveryState.RUNNING, 1, 1, "w")
    assert event is not None
    assert event.raw == b"{}"
    assert made.row(put[1]).state == DeliveryState.PENDING


def test_ids_that_are_claimed_done_unknown_not_due_not_ready_or_of_other_handlers_are_passed_over(made: Rig) -> None:
    (running,), (done,), (late,), (other,) = made.put(), made.put(), made.put(), made.put(1, "other")
    head, behind = made.put(1, lane="l")[0], made.put(1, lane="l", at=1)[0]
    claim(made, [running])
    made.store.deliveries.finish([Finished(each.delivery, SUCCEEDED) for each in claim(made, [done])])
    with made.database.raw() as connection:
        connection.execute(
            "update webhooks_deliveries set due_at = now() + interval '1 hour', scheduled_at = now() where id = %s",
            (late,),
        )
    assert ids(claim(made, [running, done, late, other, head, behind, 12345])) == [head]
    assert claim(made, [running, done]) == []
    assert claim(made, []) == []


def test_an_id_that_comes_to_many_at_once_is_claimed_by_one(made: Rig) -> None:
    put = made.put(40)
    taken: list[int] = []

    def work(name: str) -> None:
        for start in range(0, 40, 8):
            taken.extend(ids(claim(made, put[start : start + 8], worker=name)))

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(put)


def test_limits_over_all_workers_hold_for_ids_too(made: Rig) -> None:
    made.store.handlers.register(
        [HandlerRow("h", ("**",), concurrency=2), HandlerRow("r", ("**",), rate=(10, timedelta(hours=1)))]
    )
    put, rated = made.put(5), made.put(3, "r")

    def claim_limited(overrides: dict[str, int] | None = None) -> list[int]:
        found = made.store.deliveries.claim_ids_limited(
            [*put, *rated],
            ("h", "r"),
            lease=LEASE,
            worker="w",
            handlers=made.store.handlers,
            overrides=overrides,
        )
        return ids(found)

    assert claim_limited({"h": 1}) == [put[0], rated[0]]
    assert claim_limited() == [put[1]]
    assert claim_limited() == []


def test_the_first_of_each_queue_are_named_with_their_tokens_and_stay_as_they_are(made: Rig) -> None:
    put, other = made.put(5), made.put(2, "other")
    fresh = DeliveryClass.FRESH
    first = made.store.deliveries.first(
        {("h", fresh): 3, ("other", fresh): 9, ("none", fresh): 1, ("h", DeliveryClass.RETRY): 0}
    )
    assert [each.id for each in first] == put[:3] + other
    assert first[0] == Offered(put[0], 0, "h", fresh, False)
    assert first[0].queue == ("h", fresh)
    assert made.store.deliveries.first({}) == []
    claim(made, put[:2])
    left = made.store.deliveries.claimable([*put[:3], *other], ["h"])
    assert left == [Offered(put[2], 0, "h", fresh, False)]
    assert made.store.deliveries.claimable([], ["h"]) == []


def test_sqlite_is_refused_with_what_to_do(sqlite_url: str) -> None:
    with rig(sqlite_url) as made, pytest.raises(ConfigurationError, match=r"PostgreSQL.*webhooks worker"):
        claim(made, [1])
