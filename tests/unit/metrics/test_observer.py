"""Each signal moves the sample that the table names, and label values are ours whatever anybody sends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from webhooks import signals
from webhooks.http.metrics import METRICS, Meter, MeteredCommit, meter_of_process, worker_gauges
from webhooks.http.metrics.instruments import instruments
from webhooks.http.metrics.table import OUTCOMES, PROCESS, RECEIPTS
from webhooks.model import AttemptOutcome, Delivery, DeliveryClass, DeliveryState, Disposition, Receipt

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def meter() -> Iterator[Meter]:
    meter = Meter(instruments(), clock=lambda: NOW)
    meter.learn(["close", "stripe"], ["h", "g"], limit=200)
    meter.connect()
    yield meter
    meter.disconnect()


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"class" if k == "kind" else k: v for k, v in labels.items()}) or 0.0


def delivery(handler: str = "h", kind: DeliveryClass = DeliveryClass.FRESH) -> Delivery:
    return Delivery(
        id=1,
        event_id=2,
        handler=handler,
        state=DeliveryState.RUNNING,
        due_at=NOW - 3 * SECOND,
        created_at=NOW,
        delivery_class=kind,
    )


EVENT: dict[str, Any] = {"event_id": 1, "type": "t", "dedup_key": "k", "delivery_ids": (), "request_id": "r"}
ATTEMPTS = "webhooks_attempts_total"

#: (signal, sender, arguments, sample, its labels, by how much it grows)
TABLE: list[tuple[Any, str, dict[str, Any], str, dict[str, str], float]] = [
    *(
        (getattr(signals, f"event_{receipt}"), "close", {**EVENT, "conflict": False}, "webhooks_events_total",
         {"source": "close", "receipt": receipt}, 1)
        for receipt in ("stored", "duplicate", "revision", "stale")
    ),
    (signals.event_duplicate, "close", {**EVENT, "conflict": True}, "webhooks_events_total",
     {"source": "close", "receipt": "conflict"}, 1),
    (signals.event_quarantined, "close", {"quarantine_id": 1, "reason": "r", "kind": "unparseable", "request_id": "r"},
     "webhooks_events_total", {"source": "close", "receipt": "quarantined"}, 1),
    (signals.delivery_started, "h", {"delivery": delivery(), "event": None}, "webhooks_wait_seconds_sum",
     {"handler": "h", "kind": "fresh"}, 3),
    (signals.delivery_started, "h", {"delivery": delivery(kind=DeliveryClass.REPLAY), "event": None},
     "webhooks_wait_seconds_count", {"handler": "h", "kind": "replay"}, 1),
    (signals.delivery_succeeded, "h", {"delivery": delivery(), "took": 2 * SECOND}, ATTEMPTS,
     {"handler": "h", "outcome": "succeeded"}, 1),
    (signals.delivery_succeeded, "h", {"delivery": delivery(), "took": 2 * SECOND}, "webhooks_attempt_seconds_sum",
     {"handler": "h"}, 2),
    *(
        (signals.delivery_failed, "h", {"delivery": delivery(), "outcome": outcome, "error": "", "took": SECOND},
         ATTEMPTS, {"handler": "h", "outcome": label}, 1)
        for outcome, label in (
            (AttemptOutcome.FAILED, "failed"), (AttemptOutcome.TIMED_OUT, "timed_out"), (AttemptOutcome.RETRY, "retry"))
    ),
    (signals.delivery_cancelled, "h", {"delivery": delivery(), "reason": "", "ran": True, "took": SECOND}, ATTEMPTS,
     {"handler": "h", "outcome": "discarded"}, 1),
    (signals.delivery_cancelled, "h", {"delivery": delivery(), "reason": "", "ran": False, "took": SECOND}, ATTEMPTS,
     {"handler": "h", "outcome": "filtered"}, 1),
    (signals.delivery_cancelled, "h", {"delivery": delivery(), "reason": "", "ran": False, "took": SECOND},
     "webhooks_attempt_seconds_count", {"handler": "h"}, 0),
    (signals.delivery_lost, "h", {"delivery": delivery()}, ATTEMPTS, {"handler": "h", "outcome": "lost"}, 1),
    (signals.delivery_released, "h", {"delivery": delivery()}, ATTEMPTS, {"handler": "h", "outcome": "released"}, 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("signal", "sender", "arguments", "sample", "labels", "by"), TABLE, ids=lambda each: getattr(each, "name", None)
)
def test_a_signal_moves_its_sample(
    meter: Meter, signal: Any, sender: str, arguments: dict[str, Any], sample: str, labels: dict[str, str], by: float
) -> None:
    assert set(arguments) == set(signals.TABLE[signal.name].arguments), "as it is really sent"
    before = value(sample, **labels)
    signals.emit(signal, sender, **arguments)
    assert value(sample, **labels) - before == by


def test_each_receipt_and_outcome_has_a_signal_that_moves_it() -> None:
    moved = {(sample, tuple(labels.values())[-1]) for _, _, _, sample, labels, by in TABLE if by}
    assert {receipt for sample, receipt in moved if sample == "webhooks_events_total"} == set(RECEIPTS)
    assert {outcome for sample, outcome in moved if sample == ATTEMPTS} == set(OUTCOMES)


def test_connected_twice_it_counts_once(meter: Meter) -> None:
    meter.connect()
    before = value(ATTEMPTS, handler="h", outcome="lost")
    signals.emit(signals.delivery_lost, "h", delivery=delivery())
    assert value(ATTEMPTS, handler="h", outcome="lost") - before == 1


def test_a_process_for_single_attempts_counts_their_start_and_its_parent_the_end(meter: Meter) -> None:
    meter.count_starts_only()
    ended, begun = (
        value(ATTEMPTS, handler="h", outcome="lost"),
        value("webhooks_wait_seconds_count", handler="h", kind="fresh"),
    )
    signals.emit(signals.delivery_started, "h", delivery=delivery(), event=None)
    signals.emit(signals.delivery_lost, "h", delivery=delivery())
    assert value("webhooks_wait_seconds_count", handler="h", kind="fresh") - begun == 1
    assert value(ATTEMPTS, handler="h", outcome="lost") == ended


def test_an_answer_is_counted_and_timed(meter: Meter) -> None:
    labels = {"source": "close", "status": "200"}
    before, timed = value("webhooks_requests_total", **labels), value("webhooks_request_seconds_sum", source="close")
    small = value("webhooks_body_bytes_bucket", source="close", le="1024.0")
    meter.accepted("close", 200, 2048, 0.25)
    assert value("webhooks_requests_total", **labels) - before == 1
    assert value("webhooks_request_seconds_sum", source="close") - timed == 0.25
    assert value("webhooks_body_bytes_bucket", source="close", le="1024.0") == small
    assert value("webhooks_body_bytes_bucket", source="close", le="4096.0") >= 1


def series() -> int:
    return sum(len(metric.samples) for metric in REGISTRY.collect() if metric.name.startswith("webhooks_"))


def test_names_that_are_not_configured_add_no_series(meter: Meter) -> None:
    for name in ("nosuch", "close"):
        meter.counted(name, 404)
        meter.counted(name, 400)
        meter.accepted(name, 200, 1, 0.125)
    signals.emit(signals.delivery_lost, "a handler of yesterday", delivery=delivery())
    before = series()
    for n in range(500):
        meter.counted(f"x{n}", 404)
        meter.counted(f"x{n}\n\"'{{}}", 400)
        meter.accepted(f"x{n}", 200, n, 0.125)
        signals.emit(signals.delivery_lost, f"x{n}", delivery=delivery())
    assert series() == before
    assert value("webhooks_requests_total", source="", status="404") >= 501
    assert value(ATTEMPTS, handler="other", outcome="lost") >= 501


def test_handlers_beyond_the_limit_share_a_label() -> None:
    meter = Meter(instruments())
    meter.learn([], [f"many.{n}" for n in range(5)], limit=3)
    meter.connect()
    try:
        before = value(ATTEMPTS, handler="other", outcome="released")
        for n in range(5):
            signals.emit(signals.delivery_released, f"many.{n}", delivery=delivery())
        assert value(ATTEMPTS, handler="other", outcome="released") - before == 2
        assert value(ATTEMPTS, handler="many.2", outcome="released") == 1
    finally:
        meter.disconnect()


def test_a_commit_is_timed_and_who_waits_is_counted(meter: Meter) -> None:
    waiting: list[float] = []

    def record(gather: Any, patience: timedelta) -> list[Receipt]:
        waiting.append(value("webhooks_waiting_requests"))
        return [Receipt(Disposition.STORED, 1) for _ in gather()]

    count, events = value("webhooks_commit_seconds_count"), value("webhooks_commit_events_sum")
    receipts = MeteredCommit(record, meter=meter).append([object(), object()])
    assert len(receipts) == 2
    assert waiting == [1.0]
    assert value("webhooks_waiting_requests") == 0
    assert value("webhooks_commit_seconds_count") - count == 1
    assert value("webhooks_commit_events_sum") - events == 2


def test_a_commit_that_fails_leaves_nobody_waiting(meter: Meter) -> None:
    def record(gather: Any, patience: timedelta) -> list[Receipt]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        MeteredCommit(record, meter=meter).append([object()])
    assert value("webhooks_waiting_requests") == 0


def test_claims_are_timed_and_counted(meter: Meter) -> None:
    count, claimed = value("webhooks_claim_seconds_count"), value("webhooks_claimed_total")
    some: Any = [1, 1, 1]
    assert meter.time_claim(lambda: some) is some
    assert meter.time_claim(list) == []
    assert value("webhooks_claim_seconds_count") - count == 2
    assert value("webhooks_claimed_total") - claimed == 3


def test_the_gauges_of_a_worker_are_set_when_asked(meter: Meter) -> None:
    worker: Any = SimpleNamespace(
        settings=SimpleNamespace(slots=8),
        runner=SimpleNamespace(buffer=SimpleNamespace(running=lambda: [1, 2])),
        abandoned_threads=1,
    )
    worker_gauges(meter, worker)()
    assert value("webhooks_slots") == 8
    assert value("webhooks_slots_busy") == 2
    assert value("webhooks_abandoned_threads") == 1


def test_every_metric_of_a_process_is_registered_under_its_name_and_labels() -> None:
    meter_of_process()
    made = {metric.name: metric for metric in REGISTRY.collect()}
    for metric in PROCESS.values():
        found = made[metric.name.removesuffix("_total")]
        assert (found.documentation, found.type) == (metric.text, metric.kind.value)


def test_names_end_in_a_unit_and_labels_are_of_the_closed_set() -> None:
    allowed = {"source", "handler", "class", "outcome", "status", "receipt", "kind", "version", "table", "queue"}
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("webhooks_")
        assert set(metric.labels) <= allowed
        assert metric.text.endswith((".", ")."))
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        if metric.kind == "histogram":
            assert metric.name.endswith(("_seconds", "_bytes", "_events"))
