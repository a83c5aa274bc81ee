"""Stored records as cells of a table, and as lines; their JSON is made by `operations.records`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from webhooks.cli.output import counted, when
from webhooks.formats import printable
from webhooks.operations.words import states

if TYPE_CHECKING:
    from webhooks.store.listings import BlockedLane, DeliverySummary, EventSummary, FailureGroup
    from webhooks.store.scratch import Write

EVENT_COLUMNS = ("ID", "RECEIVED", "SOURCE", "TYPE", "KEY", "RECEIPT", "DELIVERIES")
DELIVERY_COLUMNS = ("ID", "EVENT", "HANDLER", "STATE", "TRIES", "DUE", "REASON")
FAILURE_COLUMNS = ("N", "HANDLER", "STATE", "ERROR", "LAST", "ID")
BLOCKED_COLUMNS = ("HANDLER", "LANE", "WAITING", "DEAD", "SINCE", "REASON")


def event_cells(summary: EventSummary) -> tuple[str, ...]:
    """One event, in the order of `EVENT_COLUMNS`."""
    return (
        str(summary.id), when(summary.received_at), summary.source, summary.type, summary.dedup_key, summary.receipt,
        states(summary.deliveries) or "unrouted",
    )  # fmt: skip


def delivery_cells(delivery: DeliverySummary) -> tuple[str, ...]:
    """One delivery, in the order of `DELIVERY_COLUMNS`."""
    return (
        str(delivery.id), str(delivery.event_id), delivery.handler, delivery.state.label, str(delivery.attempts),
        when(delivery.due_at), delivery.reason or "",
    )  # fmt: skip


def failure_cells(group: FailureGroup) -> tuple[str, ...]:
    """A group of failures, in the order of `FAILURE_COLUMNS`."""
    return (
        str(group.count), group.handler, group.state.label, group.error, when(group.last_at), str(group.example_id),
    )  # fmt: skip


def blocked_cells(blocked: BlockedLane) -> tuple[str, ...]:
    """A blocked lane, in the order of `BLOCKED_COLUMNS`."""
    holder = blocked.holder
    return (
        holder.handler, holder.lane or "", str(blocked.waiting), str(holder.id), when(holder.finished_at),
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
