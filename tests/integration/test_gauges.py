"""The figures of the installation: right on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.integration.rig import Rig, rig
from webhooks.http.metrics import as_samples
from webhooks.http.metrics.table import DATABASE
from webhooks.store.gauges import Arrivals
from webhooks.store.handlers import HandlerRow
from webhooks.store.rejections import Rejection


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        yield made


def test_an_empty_installation_has_figures(made: Rig) -> None:
    found = made.store.gauges.read()
    assert (dict(found.handlers), found.processes, dict(found.received), dict(found.marks)) == ({}, [], {}, {})
    assert found.partitions_end_at is None
    samples = list(as_samples(found, ["close"], limit=200))
    assert ("quarantine", ("close",), 0.0) in samples
    assert {part for part, _, _ in samples} <= set(DATABASE)


def test_what_processes_operators_and_senders_left_is_read(made: Rig) -> None:
    store = made.store
    store.handlers.register([HandlerRow("h", ["**"]), HandlerRow("g", ["**"])])
    store.handlers.pause("h", by="me")
    store.processes.beat("w", "worker", "1.2", ["h"], lease=timedelta(seconds=30))
    store.processes.beat("x", "web", "1.2", [])
    now = made.database.now()
    store.key_uses.note("close", "old", now - timedelta(hours=1))
    store.key_uses.note("close", "new", now)
    for body in (b"a", b"b"):
        store.quarantine.put("close", body, reason="r", kind="unparseable", received_at=now, headers="{}")
    store.marks.begin("close", now - timedelta(hours=2), now, now - timedelta(hours=2))
    store.paused_subscriptions.note({"close": 1, "other": 0})
    store.paused_subscriptions.note({"close": 2})
    for minutes, status, diagnosis in ((5, 401, None), (5, 401, "a key"), (90, 401, None), (5, 503, None)):
        store.rejections.put(
            Rejection("close", now - timedelta(minutes=minutes), "r", status, "x", diagnosis, (), 0, 0)
        )
    made.put(3, "h")

    found = store.gauges.read()
    assert {name: (each.is_paused, each.is_held_back) for name, each in found.handlers.items()} == {
        "h": (True, False),
        "g": (False, False),
    }
    assert sorted((each.kind, each.version) for each in found.processes) == [("web", "1.2"), ("worker", "1.2")]
    assert found.received == {"close": now}
    assert found.marks == {}, "a window that was begun is no mark"
    assert found.quarantined == {"close": 2}
    assert (dict(found.paused), dict(found.unexplained)) == ({"close": 2, "other": 0}, {"close": 1})
    assert found.deliveries.handlers["h"].due == 3
    assert made.store.gauges.read(limit=1).quarantined == {"close": 1}
    samples = {(part, values): value for part, values, value in as_samples(found, ["close"], limit=200)}
    assert samples["handler_workers", ("h",)] == 1
    assert samples["handler_workers", ("g",)] == 0
    assert samples["workers", ("1.2",)] == 1


def test_what_came_from_each_source_lately_is_one_statement(made: Rig) -> None:
    store, now = made.store, made.database.now()
    store.key_uses.note("close", "old", now - timedelta(hours=1))
    store.key_uses.note("close", "new", now)
    store.quarantine.put("stripe", b"a", reason="r", kind="unparseable", received_at=now, headers="{}")
    for minutes, kind, source in ((5, "signature", "stripe"), (2, "signature", "stripe"), (1, "storage", "stripe"),
                                  (90, "signature", "close"), (1, "signature", "")):  # fmt: skip
        store.rejections.put(
            Rejection(source, now - timedelta(minutes=minutes), "r", 401, "x", None, (), 0, 0, kind=kind)
        )
    assert store.gauges.arrivals(now) == {
        "close": Arrivals(verified_at=now),
        "stripe": Arrivals(quarantined=1, refused=2, refused_at=now - timedelta(minutes=2)),
    }


def test_postgresql_tells_how_large_tables_are(postgresql_url: str) -> None:
    with rig(postgresql_url) as made:
        made.put(3, "h")
        before = made.store.gauges.read()
        assert before.table_bytes["webhooks_events"] > 0
        assert set(before.table_bytes) == {name for name in before.table_bytes if name.startswith("webhooks_")}
        assert before.partitions_end_at is None
