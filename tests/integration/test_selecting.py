"""A selection means the same in SQL, on both databases, as it does in Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tests.support import examples
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import DeliveryState, new_id
from webhooks.routing import Pattern
from webhooks.selection import Selection, glob_parts, is_exact_in_sql
from webhooks.store import Store
from webhooks.store import conditions as selecting
from webhooks.store.dialect import dialect_of
from webhooks.store.intake import Item, Routed

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)

TYPES = [
    "lead",
    "lead.updated",
    "lead.Updated",
    "LEAD.updated",
    "lead.created",
    "lead.merged.twice",
    "leads.updated",
    "lead-x.updated",
    "lead.",
    ".lead",
    "lead..updated",
    "activity.whatsapp_message.created",
    "activity.whatsappXmessage.created",
    "activity.whatsapp%message.created",
    "activity.call.updated",
    "activity.updated",
    "activity",
    "a.b.c.d",
    "a[b].c",
    "a?b.c",
    "a\\b.c",
    "été.créé",
]


def item(**fields: Any) -> Item:
    values: dict[str, Any] = {
        "event_id": new_id(),
        "source": "close",
        "dedup_key": f"ev_{new_id()}",
        "revision": 1,
        "type": "lead.updated",
        "occurred_at": NOW,
        "received_at": NOW,
        "body": b"{}",
    }
    return Item(**(values | fields))


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database, {})


@pytest.fixture
def typed(store: Store) -> Store:
    store.intake.record([item(type=type) for type in TYPES])
    return store


def types_in_sql(store: Store, pattern: str) -> list[str]:
    condition = selecting.of_type(pattern, dialect=dialect_of(store.database))
    query = select(schema.events.c.type)
    if condition is not None:
        query = query.where(condition)
    with store.database.read() as connection:
        return sorted(connection.execute(query).scalars())


segments = st.sampled_from(
    [
        "*",
        "**",
        "lead",
        "updated",
        "Updated",
        "activity",
        "whatsapp_message",
        "created",
        "a[b]",
        "a?b",
        "a\\b",
        "été",
        "c",
    ]
)


@given(st.lists(segments, min_size=1, max_size=5).map(".".join))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(150))
def test_a_pattern_selects_in_sql_what_it_matches(typed: Store, pattern: str) -> None:
    found = types_in_sql(typed, pattern)
    wanted = sorted(type for type in TYPES if Pattern(pattern).matches(type))
    if is_exact_in_sql(pattern):
        assert found == wanted
    else:
        assert set(found) >= set(wanted)
    summaries = typed.listings.events(Selection(type=pattern), limit=100)
    assert sorted(summary.type for summary in summaries) == wanted


REASONS = ["ValueError: no", "valueerror: no", "100% [sure]", "100_ [sure]", "a*b", "a?b", "back\\slash", "é", ""]


@given(st.text(st.sampled_from("ValueError: no100%_[sure]a*b?back\\slashé^-!"), min_size=1, max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(150))
def test_a_glob_finds_in_sql_what_it_matches(store: Store, glob: str) -> None:
    import re

    table = schema.deliveries
    if not store.listings.deliveries(Selection(), limit=1):
        store.intake.record(
            [item(routes=tuple(Routed(new_id(), f"h{n}", error=r) for n, r in enumerate(REASONS) if r))]
        )
    wild = {"\0*": ".*", "\0?": "."}
    expression = "".join(wild.get(part) or re.escape(part) for part in glob_parts(glob))
    wanted = sorted(reason for reason in REASONS if reason and re.fullmatch(expression, reason, re.DOTALL))
    condition = selecting.like_glob(table.c.reason, glob, dialect=dialect_of(store.database))
    with store.database.read() as connection:
        assert sorted(connection.execute(select(table.c.reason).where(condition)).scalars()) == wanted


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("[sure]", 2),
        ("*[sure]", 2),
        ("[s]*", 0),
        ("100%*", 1),
        ("100_*", 1),
        ("a?b", 2),
        ("value*", 1),
        ("Value*", 1),
        ("back\\slash", 1),
        ("^*", 0),
    ],
)
def test_only_star_and_question_mark_are_wild(store: Store, glob: str, found: int) -> None:
    routes = tuple(Routed(new_id(), f"h{n}", error=reason) for n, reason in enumerate(REASONS) if reason)
    store.intake.record([item(routes=routes)])
    assert len(store.listings.deliveries(Selection(error=glob))) == found


def test_every_condition_narrows(store: Store) -> None:
    later = NOW + timedelta(hours=1)
    first, second, third = (
        item(dedup_key="ev_1", routes=(Routed(new_id(), "a"), Routed(new_id(), "b", error="ordered_by failed: x"))),
        item(source="github", dedup_key="ev_1", received_at=later, type="push"),
        item(dedup_key="ev_3", received_at=later, routes=(Routed(new_id(), "b"),)),
    )
    store.intake.record([first, second, third])

    def found(**conditions: Any) -> list[int]:
        return [summary.id for summary in store.listings.events(Selection(**conditions), newest_first=False)]

    one, two, three = first.event_id, second.event_id, third.event_id
    assert found() == [one, two, three]
    assert found(source="github") == [two]
    assert found(key="ev_1") == [one, two]
    assert found(key="nothing") == []
    assert found(key="ev_1", source="close") == [one]
    assert found(events=(one, three), type="lead.*") == [one, three]
    assert found(since=later) == [two, three]
    assert found(until=later) == [one]
    assert found(handler="b") == [one, three]
    assert found(handler="b", states=(DeliveryState.DEAD,)) == [one]
    assert found(handler="a", states=(DeliveryState.DEAD,)) == []
    assert found(states=(DeliveryState.DEAD, DeliveryState.PENDING)) == [one, three]
    assert found(error="*failed*") == [one]
    assert found(unrouted=True) == [two]
    assert found(unrouted=True, states=(DeliveryState.DEAD,)) == [one, two]


def test_a_key_finds_every_copy_and_the_newest_last(store: Store) -> None:
    store.intake.record([item(dedup_key="ev_1", revision=5)])
    store.intake.record([item(dedup_key="ev_1", revision=9)])
    store.intake.record([item(dedup_key="ev_1", revision=7)])
    ids = store.listings.ids_of_key("ev_1")
    revisions = {summary.id: summary.revision for summary in store.listings.events(Selection())}
    assert len(ids) == 3
    assert revisions[ids[-1]] == 9
    assert [summary.revision for summary in store.listings.events(Selection(key="ev_1"), newest_first=False)] == [
        5,
        9,
        7,
    ]


@pytest.mark.parametrize("hostile", ["'; drop table webhooks_events; --", "%", "_", "\\", "a'b\"c", "%s", ":x", "{0}"])
def test_hostile_text_is_only_compared(store: Store, hostile: str) -> None:
    store.intake.record([item(), item(source=hostile, dedup_key=hostile)])
    for name in ("source", "key"):
        assert len(store.listings.events(Selection().only(**{name: hostile}))) == 1
    assert store.listings.events(Selection(handler=hostile)) == []
    assert store.listings.events(Selection(error=hostile)) == []
    assert len(store.listings.events(Selection())) == 2
