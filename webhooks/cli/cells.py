"""Stored records as cells of a table, and as lines; their JSON is made by `operations.records`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from webhooks.cli.output import counted, span, when
from webhooks.formats import printable
from webhooks.operations.words import states

if TYPE_CHECKING:
    from webhooks.store.listings import BlockedLane, DeliverySummary, EventSummary, FailureGroup
    from webhooks.store.scratch import Write

EVENT_COLUMNS = ("ID", "RECEIVED", "SOURCE", "TYPE", "KEY", "RECEIPT", "DELIVERIES")
DELIVERY_COLUMNS = ("ID", "EVENT", "TYPE", "HANDLER", "STATE", "TRIES", "AGE", "DUE", "REASON")
FAILURE_COLUMNS = ("N", "HANDLER", "STATE", "ERROR", "LAST", "ID")
BLOCKED_COLUMNS = ("HANDLER", "LANE", "WAITING", "DEAD", "SINCE", "REASON")


#: How an id is shown; see `shown_ids`.
ShowId = Callable[[int], str]


def event_cells(summary: EventSummary, shown: ShowId = str) -> tuple[str, ...]:
    """One event, in the order of `EVENT_COLUMNS`."""
    return (
        shown(summary.id), when(summary.received_at), summary.source, summary.type, summary.dedup_key, summary.receipt,
        states(summary.deliveries) or "unrouted",
    )  # fmt: skip


def delivery_cells(
    delivery: DeliverySummary, now: datetime, shown: ShowId = str, shown_event: ShowId = str
) -> tuple[str, ...]:
    """One delivery, in the order of `DELIVERY_COLUMNS`. now: from which its age counts."""
    return (
        shown(delivery.id), shown_event(delivery.event_id), delivery.type or "(pruned)", delivery.handler,
        delivery.state.label, str(delivery.attempts), span(max(now - delivery.created_at, timedelta(0))),
        when(delivery.due_at), delivery.reason or "",
    )  # fmt: skip


def failure_cells(group: FailureGroup, shown: ShowId = str) -> tuple[str, ...]:
    """A group of failures, in the order of `FAILURE_COLUMNS`."""
    return (
        str(group.count), group.handler, group.state.label, group.error, when(group.last_at), shown(group.example_id),
    )  # fmt: skip


def blocked_cells(blocked: BlockedLane, shown: ShowId = str) -> tuple[str, ...]:
    """A blocked lane, in the order of `BLOCKED_COLUMNS`."""
    holder = blocked.holder
    return (
        holder.handler, holder.lane or "", str(blocked.waiting), shown(holder.id), when(holder.finished_at),
        holder.reason or "",
    )  # fmt: skip


def write_lines(writes: Sequence[Write]) -> list[str]:
    """What would have been written, a line a statement, and its values below."""
    lines = []
    for write in writes:
        is_whole = write.table.lower().startswith(f"{write.verb} ")  # a statement that was given as text
        rows = "" if write.rows is None else f", {counted(write.rows, 'row')}"
        lines.append(f"{'' if is_whole else f'{write.verb} '}{printable(write.table)}{rows}")
        lines += [f"  {', '.join(f'{name}={value}' for name, value in row.items())}" for row in write.values if row]
    return lines
