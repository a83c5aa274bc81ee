"""What is read of a log between two instants: pages folded into a slice, and which entries are for us."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from webhooks.errors import Malformed
from webhooks.model import ParsedEvent
from webhooks.operations.catch_up import Choice, LogEntry, Slice
from webhooks.routing import Registry
from webhooks.sources import Subscription, Topic

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def event(key: str, minute: float | None = 0, revision: int = 0, type: str = "lead.created") -> ParsedEvent:
    at = None if minute is None else NOON + MINUTE * minute
    return ParsedEvent(dedup_key=key, type=type, body=key.encode(), revision=revision, occurred_at=at)


def entry(*arguments: Any) -> LogEntry:
    return LogEntry(b"body", event(*arguments))


def folded(*pages: Sequence[LogEntry], most_entries: int = 2000, minutes: float = 10) -> Slice:
    piece = Slice(NOON, NOON + MINUTE * minutes, most_entries)
    for page in pages:
        piece.add(page)
    return piece


def keys(piece: Slice) -> list[str]:
    return [each.dedup_key for each in piece.entries()]


@pytest.mark.parametrize(
    ("pages", "kept", "fetched"),
    [
        ([], [], 0),
        ([[entry("b", 2), entry("a", 1)]], ["a", "b"], 2),
        ([[entry("b", 2)], [], [entry("a", 1)]], ["a", "b"], 2),
        ([[entry("late", 11), entry("a", 1), entry("early", -1)]], ["a"], 3),
        ([[entry("b", 0), entry("a", 10)]], ["b", "a"], 2),
        ([[entry("without an instant", None), entry("a", 1)]], ["without an instant", "a"], 2),
        ([[entry("b", 1), entry("a", 1)]], ["a", "b"], 2),
    ],
)
def test_pages_become_entries_of_the_slice_oldest_first(
    pages: list[list[LogEntry]], kept: list[str], fetched: int
) -> None:
    piece = folded(*pages)
    assert (keys(piece), piece.fetched) == (kept, fetched)


def test_of_an_entry_that_stands_on_two_pages_the_latest_revision_counts() -> None:
    piece = folded([entry("a", 3, 7)], [entry("a", 2, 9)], [entry("a", 1, 8)])
    assert [each.revision for each in piece.entries()] == [9]
    assert piece.fetched == 3


def test_a_slice_is_complete_once_a_page_reaches_back_before_it() -> None:
    assert not folded([entry("a", 0)]).is_complete
    assert not folded([entry("a", None)]).is_complete
    assert folded([entry("a", 1)], [entry("b", -0.1)]).is_complete


def test_what_cannot_be_read_is_kept_with_its_reason_and_is_no_entry() -> None:
    error = Malformed("no id")
    piece = folded([LogEntry(b"{}", error), entry("a", 1)])
    assert (piece.unreadable, keys(piece), piece.fetched) == ([(b"{}", error)], ["a"], 2)


def test_a_slice_is_too_large_by_entries_or_bytes_unless_it_is_the_shortest() -> None:
    page = [entry(str(number), 0) for number in range(3)]
    assert folded(page, most_entries=2).is_too_large
    assert not folded(page, most_entries=3).is_too_large
    assert not folded(page, most_entries=2, minutes=1 / 60).is_too_large
    large = LogEntry(b"x" * (64 * 2**20 + 1), event("a"))
    assert folded([large]).is_too_large


# -- which entries ------------------------------------------------------------------------------------------


def handle(event: Any) -> None: ...


def choice(*topics: str, handled: str | None = None) -> Choice:
    source: Any = SimpleNamespace(
        name="shop", log_is_ours=False, would_send=lambda entry, topic: entry.type == topic.type
    )
    registry = Registry()
    if handled is not None:
        registry.add(handle, handled, source="shop", name="h")
    subscriptions = [Subscription("sub_1", "https://x.example/", "active", tuple(map(Topic, topics)))] if topics else []
    return Choice(source, registry, subscriptions)


@pytest.mark.parametrize(
    ("choice", "type", "wants"),
    [
        (choice(), "lead.created", True),
        (choice("lead.created"), "lead.created", True),
        (choice("lead.created"), "lead.updated", False),
        (choice("lead.created", handled="lead.updated"), "lead.updated", True),
        (choice(handled="lead.*"), "lead.updated", True),
        (choice(handled="lead.*"), "contact.created", False),
    ],
)
def test_an_entry_is_for_us_if_a_subscription_or_a_handler_asks_for_it(choice: Choice, type: str, wants: bool) -> None:
    assert choice.wants(event("a", type=type)) is wants


def test_of_a_log_that_holds_nothing_else_everything_is_for_us() -> None:
    source: Any = SimpleNamespace(name="shop", log_is_ours=True)
    registry = Registry()
    registry.add(handle, "lead.created", source="shop", name="h")
    assert Choice(source, registry, ()).wants(event("a", type="contact.created"))
