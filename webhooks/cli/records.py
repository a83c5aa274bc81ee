"""Stored records as JSON and as cells of a table. The JSON is documented in docs/operations.md and kept stable.

Ids are decimal strings (they do not fit a JavaScript number), times ISO 8601 in UTC, durations seconds or milliseconds
as their names say. Members are added, not renamed; what is unknown is null, not missing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from webhooks.cli.output import counted, iso, states, when
from webhooks.formats import json as jsonio
from webhooks.formats import printable

if TYPE_CHECKING:
    from webhooks.delivery import Rehearsal
    from webhooks.model import Attempt, Event
    from webhooks.operations import Plan
    from webhooks.store.listings import BlockedLane, DeliverySummary, EventSummary, FailureGroup, Page, Stats
    from webhooks.store.replays import Replay
    from webhooks.store.scratch import Write

EVENT_COLUMNS = ("ID", "RECEIVED", "SOURCE", "TYPE", "KEY", "RECEIPT", "DELIVERIES")
DELIVERY_COLUMNS = ("ID", "EVENT", "HANDLER", "STATE", "TRIES", "DUE", "REASON")
FAILURE_COLUMNS = ("N", "HANDLER", "STATE", "ERROR", "LAST", "ID")
BLOCKED_COLUMNS = ("HANDLER", "LANE", "WAITING", "DEAD", "SINCE", "REASON")


def event_cells(summary: EventSummary) -> tuple[str, ...]:
    return (
        str(summary.id), when(summary.received_at), summary.source, summary.type, summary.dedup_key, summary.receipt,
        states(summary.deliveries) or "unrouted",
    )  # fmt: skip


def event_json(summary: EventSummary) -> dict[str, Any]:
    return {
        "id": str(summary.id),
        "source": summary.source,
        "type": summary.type,
        "key": summary.dedup_key,
        "revision": str(summary.revision),
        "receipt": summary.receipt,
        "previous_id": _id(summary.previous_id),
        "object_id": summary.object_id,
        "lead_id": summary.group_id,
        "occurred_at": iso(summary.occurred_at),
        "received_at": iso(summary.received_at),
        "origin": summary.origin,
        "key_label": summary.key_label,
        "request_id": summary.request_id,
        "body_bytes": summary.body_bytes,
        "deliveries": dict(summary.deliveries),
    }


def payload_json(event: Event) -> dict[str, Any]:
    """The body of an event: decoded where it is JSON, and as base64 where it is not."""
    try:
        return {"payload": jsonio.load(event.raw), "payload_base64": None, "headers": dict(event.headers)}
    except ValueError:
        return {
            "payload": None,
            "payload_base64": base64.b64encode(event.raw).decode(),
            "headers": dict(event.headers),
        }


def delivery_cells(delivery: DeliverySummary) -> tuple[str, ...]:
    return (
        str(delivery.id), str(delivery.event_id), delivery.handler, delivery.state.label, str(delivery.attempts),
        when(delivery.due_at), delivery.reason or "",
    )  # fmt: skip


def delivery_json(delivery: DeliverySummary) -> dict[str, Any]:
    return {
        "id": str(delivery.id),
        "event_id": str(delivery.event_id),
        "handler": delivery.handler,
        "state": delivery.state.label,
        "class": delivery.delivery_class.name.lower(),
        "replay_id": _id(delivery.replay_id or None),
        "attempts": delivery.attempts,
        "failures": delivery.failures,
        "lane": delivery.lane,
        "due_at": iso(delivery.due_at),
        "created_at": iso(delivery.created_at),
        "finished_at": iso(delivery.finished_at),
        "worker": delivery.worker,
        "reason": delivery.reason,
        "source": delivery.source,
        "type": delivery.type,
        "key": delivery.dedup_key,
    }


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "delivery_id": str(attempt.delivery_id),
        "number": attempt.number,
        "outcome": str(attempt.outcome),
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "worker": attempt.worker,
        "error": attempt.error,
    }


def failure_cells(group: FailureGroup) -> tuple[str, ...]:
    return (
        str(group.count), group.handler, group.state.label, group.error, when(group.last_at), str(group.example_id),
    )  # fmt: skip


def failure_json(group: FailureGroup) -> dict[str, Any]:
    return {
        "handler": group.handler,
        "state": group.state.label,
        "error": group.error,
        "count": group.count,
        "first_at": iso(group.first_at),
        "last_at": iso(group.last_at),
        "example_id": str(group.example_id),
    }


def blocked_cells(blocked: BlockedLane) -> tuple[str, ...]:
    holder = blocked.holder
    return (
        holder.handler, holder.lane or "", str(blocked.waiting), str(holder.id), when(holder.finished_at),
        holder.reason or "",
    )  # fmt: skip


def blocked_json(blocked: BlockedLane) -> dict[str, Any]:
    return {
        "handler": blocked.holder.handler,
        "lane": blocked.holder.lane,
        "waiting": blocked.waiting,
        "holder": delivery_json(blocked.holder),
        "commands": list(freeing(blocked)),
    }


def freeing(blocked: BlockedLane) -> tuple[str, str]:
    """The commands that let a lane go on: by running the dead delivery again, and by giving it up."""
    return f"webhooks requeue {blocked.holder.id}", f"webhooks deliveries cancel {blocked.holder.id}"


def plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "selection": plan.selection.to_mapping(),
        "options": plan.options.to_mapping(),
        "events": plan.events,
        "deliveries": plan.deliveries,
        "handlers": [
            {"name": h.name, "deliveries": h.deliveries, "added": h.added, "left_out": h.left_out}
            for h in plan.handlers
        ],
        "without_delivery": plan.without_delivery,
        "never_delivered": plan.never_delivered,
        "pruned": plan.pruned,
        "gone": dict(plan.gone),
        "compared": plan.compared,
        "eta_seconds": None if plan.eta is None else round(plan.eta.total_seconds(), 1),
    }


def replay_json(replay: Replay, progress: Mapping[str, int] | None = None) -> dict[str, Any]:
    return {
        "id": str(replay.id),
        "state": replay.state.label,
        "created_at": iso(replay.created_at),
        "created_by": replay.created_by,
        "why": replay.why,
        "selection": dict(replay.selection),
        "options": dict(replay.options),
        "events": replay.events,
        "deliveries": replay.deliveries,
        "finished_at": iso(replay.finished_at),
        "pruned": replay.pruned,
        "states": None if progress is None else dict(progress),
    }


def rehearsal_json(one: Rehearsal) -> dict[str, Any]:
    return {
        "event_id": str(one.event_id),
        "handler": one.handler,
        "outcome": one.outcome,
        "reason": one.reason,
        "writes": [
            {
                "verb": write.verb,
                "table": write.table,
                "rows": write.rows,
                "values": [dict(row) for row in write.values],
            }
            for write in one.writes
        ],
    }


def write_lines(writes: Sequence[Write]) -> list[str]:
    """What would have been written, a line a statement, and its values below."""
    lines = []
    for write in writes:
        is_whole = write.table.lower().startswith(f"{write.verb} ")  # a statement that was given as text
        rows = "" if write.rows is None else f", {counted(write.rows, 'row')}"
        lines.append(f"{'' if is_whole else f'{write.verb} '}{printable(write.table)}{rows}")
        lines += [f"  {', '.join(f'{name}={value}' for name, value in row.items())}" for row in write.values if row]
    return lines


def look_json(page: Page[Any, Any]) -> dict[str, Any]:
    """How far a listing looked; is_complete: false when its time was over before."""
    return {"looked_at": page.looked_at, "looked_back_to": iso(page.back_to), "is_complete": page.is_complete}


def stats_json(stats: Stats) -> dict[str, Any]:
    return {
        "window_seconds": stats.window.total_seconds(),
        "now": iso(stats.now),
        "is_complete": stats.is_complete,
        "sources": [
            {
                "source": s.source,
                "events": s.events,
                "per_minute": round(s.per_minute, 3),
                "last_received_at": iso(s.last_received_at),
            }
            for s in stats.sources
        ],
        "handlers": [
            {
                "handler": h.handler,
                "succeeded": h.succeeded,
                "dead": h.dead,
                "cancelled": h.cancelled,
                "pending": h.pending,
                "running": h.running,
                "is_more": h.is_more,
                "retrying": h.retrying,
                "failing_since": iso(h.failing_since),
                "oldest_unhandled_at": iso(h.oldest_unhandled_at),
                "wait_ms": {f"p{percent}": round(value, 3) for percent, value in h.wait_ms.items()},
            }
            for h in stats.handlers
        ],
    }


def _id(id: int | None) -> str | None:
    return None if id is None else str(id)
