"""Who counts, who writes it, and who keeps it in order; on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.integration.rig import Rig, rig
from webhooks.delivery import RunningAttempt
from webhooks.model import DeliveryClass, Disposition
from webhooks.operations import Finding, Level
from webhooks.operations.examinations import DOCTOR, DoctorDuty, document
from webhooks.operations.figures import FIGURES, STAND_IN_AFTER, FigureKeeper, FiguresDuty
from webhooks.routing import Registry, RetryPolicy
from webhooks.store import Store
from webhooks.store.tallies import SPANS, UNTIMED, WINDOWS, Kind, Ran
from webhooks.store.tallies import LevelSample as Stood


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        yield made


def counted(store: Store, kind: Kind) -> dict[tuple[str, int], int]:
    """{(name, what): n} of the last hour."""
    found: dict[tuple[str, int], int] = {}
    for (each, name, what, _), n in store.tallies.totals(0, 60, 1).items():
        if each == kind:
            found[name, what] = found.get((name, what), 0) + n
    return found


# -- counting --------------------------------------------------------------------------------------------------


def test_requests_are_counted_by_what_became_of_them(make_consumer: Any, payload: Callable[[str], bytes]) -> None:
    consumer = make_consumer()
    body = payload("lead_merged")
    assert consumer.post(body).status_code == 200
    assert consumer.post(body).status_code == 200
    assert consumer.post(b"{").status_code == 200
    assert consumer.post(body, close_sig_hash="0" * 64).status_code == 401
    assert consumer.client.post("/webhooks/nobody", data=b"{}").status_code == 404
    assert consumer.client.head("/webhooks/close").status_code == 200
    consumer.webhooks.tally.flush()
    assert counted(consumer.webhooks.store, Kind.REQUESTS) == {
        ("close", Disposition.STORED.code): 1,
        ("close", Disposition.DUPLICATE.code): 1,
        ("close", Disposition.QUARANTINED.code): 1,
        ("close", 401): 1,
        ("", 404): 1,
    }
    timed = {
        bucket != UNTIMED for (kind, _, what, bucket) in consumer.webhooks.store.tallies.totals(0, 60, 1) if what < 100
    }
    assert timed == {True}


def test_where_tallies_are_off_nothing_counts(make_consumer: Any, payload: Callable[[str], bytes]) -> None:
    consumer = make_consumer(tallies=False)
    assert consumer.webhooks.tally is None
    assert consumer.post(payload("lead_merged")).status_code == 200
    assert counted(consumer.webhooks.store, Kind.REQUESTS) == {}


def test_the_end_of_a_process_writes_what_it_counted(
    database_url: str, payload: Callable[[str], bytes], make_consumer: Any
) -> None:
    first, second = make_consumer(), make_consumer(name="second", url_prefix="/second")
    first.post(payload("lead_merged"))
    assert counted(second.webhooks.store, Kind.REQUESTS) == {}
    first.webhooks.close()
    assert counted(second.webhooks.store, Kind.REQUESTS) == {("close", Disposition.STORED.code): 1}


def test_runs_are_counted_by_how_they_ended(make_consumer: Any, payload: Callable[[str], bytes]) -> None:
    registry = Registry()
    failures = iter([True, False])
    retry = RetryPolicy(3, timedelta(0), timedelta(0))

    @registry.on("**", name="flaky", retry=retry)
    def flaky(event: Any) -> None:
        if next(failures):
            raise RuntimeError("once")

    @registry.on("**", name="broken", retry=RetryPolicy(1, timedelta(0), timedelta(0)))
    def broken(event: Any) -> None:
        raise RuntimeError("always")

    @registry.on("**", name="filtered", where=lambda event: False)
    def filtered(event: Any) -> None: ...

    consumer = make_consumer(registry)
    webhooks = consumer.webhooks
    consumer.post(payload("lead_merged"))
    dispatcher, store = webhooks.dispatcher, webhooks.store
    for _ in range(3):
        claimed = store.deliveries.claim(
            {(name, kind): 5 for name in ("flaky", "broken", "filtered") for kind in DeliveryClass},
            lease=timedelta(seconds=30),
            worker="w",
        )
        for each in claimed:
            handler = registry.get(each.delivery.handler)
            assert handler is not None
            finished = dispatcher.run(RunningAttempt(each, handler))
            assert finished is not None
            store.deliveries.finish([finished])
            dispatcher.announcements.recorded(finished)
    webhooks.tally.flush()
    assert counted(store, Kind.RUNS) == {
        ("flaky", Ran.RETRIED): 1,
        ("flaky", Ran.SUCCEEDED): 1,
        ("broken", Ran.DEAD): 1,
        ("filtered", Ran.CANCELLED): 1,
    }


def test_a_process_for_single_attempts_leaves_counting_to_its_worker(make_consumer: Any) -> None:
    webhooks = make_consumer().webhooks
    webhooks.serve_single_attempts()
    assert webhooks.dispatcher.announcements.tally is None


# -- keeping in order --------------------------------------------------------------------------------------------


def test_one_worker_samples_and_folds(made: Rig) -> None:
    made.put(2, "h")
    first, second = FigureKeeper(made.store), FigureKeeper(made.store)
    assert first.turn("a")
    assert not second.turn("b")
    points = made.store.tallies.read(WINDOWS["15m"])
    assert {(what, n) for (_, kind, what, _), n in points.rows.items() if kind == Kind.LEVELS} >= {(Stood.DUE, 2)}
    made.store.processes.resign(FIGURES, "a")
    assert second.turn("b")


def test_a_process_folds_when_no_worker_has_for_an_hour(made: Rig) -> None:
    at = 0.0
    keeper = FigureKeeper(made.store, monotonic=lambda: at)
    assert not keeper.stand_in("web")
    at += STAND_IN_AFTER.total_seconds()
    assert keeper.stand_in("web")
    assert not keeper.stand_in("web")
    at += STAND_IN_AFTER.total_seconds()
    assert not keeper.stand_in("web"), "one has just folded"


def test_a_clock_in_doubt_deletes_nothing(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bool] = []
    monkeypatch.setattr(made.store.tallies, "fold", lambda *, deletes: said.append(deletes))
    FigureKeeper(made.store).fold()
    made.store.processes.acquire("maintenance", "a", timedelta(seconds=2), is_steady=False)
    made.store.processes.unsettle("maintenance")
    FigureKeeper(made.store).fold()
    assert said == [True, False]
    assert SPANS


def test_duties_work_in_threads_of_their_own_one_at_a_time(made: Rig) -> None:
    at = 1000.0
    duty = FiguresDuty(made.store, lambda: at)
    duty.tick("a")
    assert not duty.is_running, "it has just begun"
    at += FiguresDuty.FIRST_AFTER.total_seconds()
    duty.tick("a")
    duty.wait(timedelta(seconds=10))
    duty.tick("a")
    assert not duty.is_running
    assert made.store.tallies.read(WINDOWS["15m"]).rows


class Found:
    """A doctor that finds what it is told to."""

    def __init__(self, store: Store, *findings: Finding) -> None:
        self.findings = findings
        self.asked = 0
        self.sources: list[Any] = []

    def collect(self) -> Any:
        self.asked += 1
        return self


def finding(subject: str, text: str = "it is wrong") -> Finding:
    return Finding(Level.ERROR, "code", subject, text, "webhooks doctor")


def test_an_examination_is_kept_and_not_made_again_before_its_time(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor = Found(made.store, finding("h"))
    monkeypatch.setattr("webhooks.operations.examinations.diagnose", lambda facts: facts.findings)
    duty = DoctorDuty(lambda holder: doctor, made.store)  # type: ignore[arg-type,return-value]
    assert duty.turn("a")
    assert not duty.turn("a")
    assert not DoctorDuty(lambda holder: doctor, made.store).turn("b")  # type: ignore[arg-type,return-value]
    assert doctor.asked == 1
    body = made.store.snapshots.get([DOCTOR])[DOCTOR].body
    assert [each["subject"] for each in body["findings"]] == ["h"]


def test_a_finding_keeps_since_when_it_is_there() -> None:
    first = document([finding("h"), finding("g")], {}, "2026-03-10T02:41:00Z")
    later = document([finding("h", "it is worse"), finding("i")], first, "2026-03-10T03:00:00Z")
    assert [(each["subject"], each["since"]) for each in later["findings"]] == [
        ("h", "2026-03-10T02:41:00Z"),
        ("i", "2026-03-10T03:00:00Z"),
    ]
    assert later["findings"][0]["text"] == "it is worse"
