"""What a scrape gets: figures that are kept, asked for once, and 0 when the database cannot be asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from webhooks.errors import StorageUnavailable
from webhooks.http.metrics import Exposition, as_samples
from webhooks.http.metrics.exposition import Figure, as_text
from webhooks.http.metrics.table import DATABASE
from webhooks.http.metrics.tokens import is_authorized
from webhooks.model import DeliveryClass
from webhooks.operations.alarms import AlarmBounds
from webhooks.store.gauges import HandlerStanding, Standing
from webhooks.store.health import Backlog, DueQueue, Gauges
from webhooks.store.processes import Process

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Seconds:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def asked(answers: list[Any], calls: list[int]) -> Callable[[], Iterator[Figure]]:
    def figures() -> Iterator[Figure]:
        calls.append(1)
        answer = answers[min(len(calls), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        yield "dead", ("h",), float(answer)

    return figures


def test_figures_are_kept_for_ten_seconds() -> None:
    clock, calls = Seconds(), list[int]()
    exposition = Exposition(asked([1, 2], calls), monotonic=clock)
    assert b'webhooks_deliveries_dead{handler="h"} 1.0' in exposition.database()
    clock.now += 10
    exposition.database()
    assert len(calls) == 1
    clock.now += 0.1
    text = exposition.database()
    assert b'webhooks_deliveries_dead{handler="h"} 2.0' in text
    assert b"webhooks_database_up 1.0" in text
    assert len(calls) == 2


@pytest.mark.parametrize("error", [StorageUnavailable("gone"), PermissionError("a right is missing")])
def test_a_database_that_cannot_be_asked_is_down_and_nothing_else_is_said(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Seconds()
    exposition = Exposition(asked([error, error, 3], []), monotonic=clock)
    lines = [line for line in exposition.database().decode().splitlines() if not line.startswith("#")]
    assert lines == ["webhooks_database_up 0.0"]
    clock.now += 11
    exposition.database()
    assert len(caplog.records) == 1, "a line when it begins, and not with each scrape"
    clock.now += 11
    assert b"webhooks_database_up 1.0" in exposition.database()


def test_a_second_scrape_does_not_ask_a_second_time_while_the_first_waits() -> None:
    begun, over = threading.Event(), threading.Event()
    calls: list[int] = []

    def figures() -> Iterator[Figure]:
        calls.append(1)
        begun.set()
        over.wait(10)
        yield "dead", ("h",), 1.0

    exposition = Exposition(figures)
    exposition.PATIENCE = 0.0
    thread = threading.Thread(target=exposition.database)
    thread.start()
    assert begun.wait(10)
    assert b"webhooks_database_up 0.0" in exposition.database(), "there is no older answer"
    over.set()
    thread.join()
    assert b"webhooks_database_up 1.0" in exposition.database()
    assert calls == [1]


def test_label_values_are_escaped() -> None:
    assert b'handler="a\\"b\\\\c\\nd"' in as_text([("dead", ('a"b\\c\nd',), 1.0)])


def standing(**more: Any) -> Standing:
    handlers = {
        "a": Backlog("a", due=3, scheduled=2, running=1, dead=4, lanes=1, failing_since=NOW - HOUR),
        "b": Backlog("b", due=5, scheduled=1),
    }
    queues = {
        ("a", DeliveryClass.FRESH): DueQueue(3, NOW - HOUR),
        ("b", DeliveryClass.FRESH): DueQueue(5, NOW - 2 * HOUR),
        ("b", DeliveryClass.REPLAY): DueQueue(1, NOW + HOUR),
    }
    known = {"a": HandlerStanding(True, False), "b": HandlerStanding(False, True), "c": HandlerStanding(False, False)}
    worker = Process("w", "worker", NOW, NOW, "1.2", ("a", "b"))
    web = Process("x", "web", NOW, NOW, "1.3", ())
    feeder = Process("f", "feeder", NOW, NOW, "1.3", (), silent_since=NOW - HOUR)
    values: dict[str, Any] = {
        "deliveries": Gauges(NOW, queues, handlers),
        "handlers": known,
        "processes": [worker, worker, web, feeder],
        "received": {"close": NOW, "forgotten": NOW},
        "marks": {"close": NOW - HOUR},
        "quarantined": {"close": 2, "forgotten": 9},
        "paused": {"close": 1},
        "unexplained": {"close": 5},
        "partitions_end_at": NOW + HOUR,
        "oldest_partition_at": NOW - timedelta(days=30) - HOUR,
        "table_bytes": {"webhooks_events": 8192},
    }
    return Standing(**{**values, **more})


BOUNDS = AlarmBounds({"close": 2 * HOUR}, HOUR, {"a": timedelta(minutes=1), "unknown": HOUR})


def test_every_figure_is_told_of_what_the_database_said() -> None:
    samples = {
        (part, values): value
        for part, values, value in as_samples(standing(), ["close", "stripe"], limit=200, bounds=BOUNDS)
    }
    assert {part for part, _ in samples} | {"up"} == set(DATABASE)
    for key, value in {
        ("due", ("a", "fresh")): 3,
        ("oldest_due", ("a", "fresh")): 3600,
        ("oldest_due", ("b", "replay")): 0,
        ("scheduled", ("a",)): 2,
        ("running", ("a",)): 1,
        ("dead", ("a",)): 4,
        ("dead", ("c",)): 0,
        ("failing", ("a",)): 3600,
        ("failing", ("b",)): 0,
        ("lanes_blocked", ("a",)): 1,
        ("paused", ("a",)): 1,
        ("circuit_open", ("b",)): 1,
        ("handler_workers", ("a",)): 2,
        ("handler_workers", ("c",)): 0,
        ("workers", ("1.2",)): 2,
        ("engine_age", ()): 3600,
        ("last_received", ("close",)): NOW.timestamp(),
        ("catch_up_mark", ("close",)): (NOW - HOUR).timestamp(),
        ("quarantine", ("close",)): 2,
        ("max_wait", ("a",)): 60,
        ("expect_within", ("close",)): 7200,
        ("subscriptions_unhealthy", ("close",)): 1,
        ("unexplained", ("close",)): 5,
        ("unexplained", ("stripe",)): 0,
        ("partition_held", ()): 3600,
        ("quarantine", ("stripe",)): 0,
        ("partition_ahead", ()): 3600,
        ("table_bytes", ("webhooks_events",)): 8192,
    }.items():
        assert samples[key] == value, key
    assert not [values for _, values in samples if "forgotten" in values], "only configured sources have series"


def test_handlers_beyond_the_limit_are_added_up_or_the_largest() -> None:
    samples = {(part, values): value for part, values, value in as_samples(standing(), [], limit=1)}
    assert samples["dead", ("a",)] == 4
    assert samples["scheduled", ("other",)] == 1
    assert samples["circuit_open", ("other",)] == 1
    assert samples["oldest_due", ("other", "fresh")] == 7200
    assert not [values for _, values in samples if "b" in values or "c" in values]


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        ("Bearer right-token-right", True),
        ("bearer  right-token-right ", True),
        ("Bearer right-token-righ", False),
        ("Bearer wr\xf6ng", False),
        ("Basic right-token-right", False),
        ("right-token-right", False),
        ("", False),
    ],
)
def test_the_token_is_asked_for(given: str, is_right: bool) -> None:
    assert is_authorized(given, "right-token-right") is is_right
    assert is_authorized(given, "")
