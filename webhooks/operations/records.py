"""Stored records as JSON documents, for the command line and for pages alike.

The documents are described in docs/operations.md and kept stable: members are added, not renamed; what is unknown is
null, not missing. Ids are decimal strings (they do not fit a JavaScript number), times ISO 8601 in UTC, durations seconds
or milliseconds as their names say.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from webhooks.formats import iso_text
from webhooks.formats import json as jsonio

if TYPE_CHECKING:
    from webhooks.intake.quarantine import Admission
    from webhooks.model import Attempt, Event
    from webhooks.operations import Finding, Plan, Report, SubscriptionChange
    from webhooks.operations.explain import Explanation
    from webhooks.operations.handlers import HandlerView
    from webhooks.operations.quarantine import Discarded
    from webhooks.operations.sources import SourceView
    from webhooks.routing import Reply
    from webhooks.settings import AlarmTarget
    from webhooks.sources import Subscription
    from webhooks.store.alarms import AlarmRow, TargetState
    from webhooks.store.listings import BlockedLane, DeliverySummary, EventSummary, FailureGroup, Page, Stats
    from webhooks.store.processes import Process
    from webhooks.store.quarantine import Quarantined
    from webhooks.store.rejections import Rejection
    from webhooks.store.replays import Replay
    from webhooks.store.scratch import Write


class Rehearsed(Protocol):
    """What is asked of the run of one handler that was rolled back."""

    @property
    def event_id(self) -> int:
        """Of the event."""

    @property
    def handler(self) -> str:
        """The handler's name."""

    @property
    def outcome(self) -> str:
        """What it would have led to."""

    @property
    def reason(self) -> str | None:
        """Why it would have failed, or was not run."""

    @property
    def writes(self) -> Sequence[Write]:
        """What it would have written."""

    @property
    def outside(self) -> Sequence[str]:
        """What it did outside its session, as far as that was watched."""


def event_json(summary: EventSummary) -> dict[str, Any]:
    """One line of a listing of events: its ids and times, and {state of its deliveries: how many}, without the payload."""
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
        "occurred_at": _iso(summary.occurred_at),
        "received_at": _iso(summary.received_at),
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


def delivery_json(delivery: DeliverySummary) -> dict[str, Any]:
    """One delivery as it stands; source, type and key are null where its event was pruned."""
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
        "due_at": _iso(delivery.due_at),
        "created_at": _iso(delivery.created_at),
        "finished_at": _iso(delivery.finished_at),
        "worker": delivery.worker,
        "reason": delivery.reason,
        "source": delivery.source,
        "type": delivery.type,
        "key": delivery.dedup_key,
        "action_id": _id(delivery.action_id),
    }


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """One recorded run of a delivery; finished_at and error are null where there are none."""
    return {
        "delivery_id": str(attempt.delivery_id),
        "number": attempt.number,
        "outcome": str(attempt.outcome),
        "started_at": _iso(attempt.started_at),
        "finished_at": _iso(attempt.finished_at),
        "worker": attempt.worker,
        "error": attempt.error,
    }


def failure_json(group: FailureGroup) -> dict[str, Any]:
    """A group of deliveries of one handler that failed alike; numbers and ids in `error` are masked."""
    return {
        "handler": group.handler,
        "state": group.state.label,
        "error": group.error,
        "count": group.count,
        "first_at": _iso(group.first_at),
        "last_at": _iso(group.last_at),
        "example_id": str(group.example_id),
    }


def blocked_json(blocked: BlockedLane) -> dict[str, Any]:
    """A lane with the dead delivery that holds it, how many wait behind, and the two commands that free it."""
    return {
        "handler": blocked.holder.handler,
        "lane": blocked.holder.lane,
        "waiting": blocked.waiting,
        "holder": delivery_json(blocked.holder),
        "commands": list(freeing(blocked)),
    }


def freeing(blocked: BlockedLane) -> tuple[str, str]:
    """The commands that let a lane continue: by running the dead delivery again, and by giving it up."""
    return f"webhooks requeue {blocked.holder.id}", f"webhooks deliveries cancel {blocked.holder.id}"


def plan_json(plan: Plan) -> dict[str, Any]:
    """What a replay would do, in all and per handler; eta_seconds is null where it cannot be told."""
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
    """One replay as recorded. progress: {state: how many} of its deliveries, where it was asked for."""
    return {
        "id": str(replay.id),
        "state": replay.state.label,
        "created_at": _iso(replay.created_at),
        "created_by": replay.created_by,
        "why": replay.why,
        "selection": dict(replay.selection),
        "options": dict(replay.options),
        "events": replay.events,
        "deliveries": replay.deliveries,
        "finished_at": _iso(replay.finished_at),
        "pruned": replay.pruned,
        "states": None if progress is None else dict(progress),
    }


def rehearsal_json(one: Rehearsed) -> dict[str, Any]:
    """What one handler would have done with one event, and what it would have written, statement by statement."""
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
        "outside": list(one.outside),
    }


def look_json(page: Page[Any, Any]) -> dict[str, Any]:
    """How far a listing looked; is_complete: false when its time was over before."""
    return {"looked_at": page.looked_at, "looked_back_to": _iso(page.back_to), "is_complete": page.is_complete}


def stats_json(stats: Stats) -> dict[str, Any]:
    """Figures of a window per source and handler; wait_ms holds the percentiles p50, p95 and p99."""
    return {
        "window_seconds": stats.window.total_seconds(),
        "now": _iso(stats.now),
        "is_complete": stats.is_complete,
        "is_tallied": stats.is_tallied,
        "sources": [
            {
                "source": s.source,
                "events": s.events,
                "per_minute": round(s.per_minute, 3),
                "last_received_at": _iso(s.last_received_at),
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
                "failing_since": _iso(h.failing_since),
                "oldest_unhandled_at": _iso(h.oldest_unhandled_at),
                "wait_ms": {f"p{percent}": round(value, 3) for percent, value in h.wait_ms.items()},
            }
            for h in stats.handlers
        ],
    }


def handler_json(handler: HandlerView) -> dict[str, Any]:
    """One handler: what it asks for, its state, when a process last registered it, and how it runs."""
    return {
        "name": handler.name,
        "patterns": list(handler.patterns),
        "source": handler.source,
        "is_registered": handler.is_registered,
        "state": handler.state,
        "queue": handler.queue,
        "paused_by": handler.paused_by,
        "options": list(handler.options),
        "seen_at": _iso(handler.seen_at),
        "workers": handler.workers,
        "succeeded_at": _iso(handler.succeeded_at),
        "failed_at": _iso(handler.failed_at),
        "error": handler.error,
    }


def reply_json(reply: Reply) -> dict[str, Any]:
    """One reply: which events it answers, and as what its text is sent."""
    return {
        "name": reply.name,
        "patterns": [pattern.text for pattern in reply.patterns],
        "source": reply.source,
        "content_type": reply.content_type,
    }


def source_json(source: SourceView) -> dict[str, Any]:
    """One configured source; secrets by their labels only, with {label: when it was last used}."""
    return {
        "name": source.name,
        "scheme": source.scheme,
        "path": source.path,
        "secrets": list(source.secrets),
        "secrets_last_used_at": {label: _iso(used_at) for label, used_at in source.secrets.items()},
        "keys": [
            {
                "label": key.label,
                "is_held": key.is_held,
                "held_since": _iso(key.held_since),
                "last_used_at": _iso(key.last_used_at),
                "may_go": key.may_go,
            }
            for key in source.keys
        ],
        "tolerance_seconds": None if source.tolerance is None else source.tolerance.total_seconds(),
        "signs_whole_body": source.signs_whole_body,
        "events_last_day": source.events_last_day,
        "last_received_at": _iso(source.last_received_at),
    }


def quarantined_json(kept: Quarantined, *, with_body: bool = False) -> dict[str, Any]:
    """One row of the quarantine; headers are left out, since they hold the signature. with_body: as base64."""
    from webhooks.model import Origin

    record: dict[str, Any] = {
        "id": str(kept.id),
        "source": kept.source,
        "state": kept.state,
        "reason": kept.reason,
        "kind": kept.kind,
        "origin": str(Origin.CATCH_UP if kept.is_from_log else Origin.WEBHOOK),
        "copies": kept.copies,
        "received_at": _iso(kept.received_at),
        "last_seen_at": _iso(kept.last_seen_at),
        "key_label": kept.key_label,
        "request_id": kept.request_id,
        "body_bytes": kept.body_bytes,
        "receipts": list(kept.receipts),
        "decided_by": kept.decided_by,
        "decided_at": _iso(kept.decided_at),
    }
    if with_body:
        record["body_base64"] = base64.b64encode(kept.body).decode()
    return record


def admission_json(result: Admission) -> dict[str, Any]:
    """What a retry of one quarantined row led to; reason is null where its events were recorded."""
    return {
        "id": str(result.id),
        "reason": result.reason,
        "receipts": [
            {"status": receipt.status.value, "event_id": str(receipt.event_id)} for receipt in result.receipts
        ],
    }


def discarded_json(result: Discarded) -> dict[str, Any]:
    """What became of one row that was given up."""
    return {"id": str(result.id), "state": result.state or None, "changed": result.changed}


def explained_json(event: Event, explanations: Sequence[Explanation]) -> dict[str, Any]:
    """One event, and for each handler what became of it and why."""
    return {
        "id": str(event.id),
        "type": event.type,
        "source": event.source,
        "receipt": event.receipt.value,
        "handlers": [{"handler": one.handler, "outcome": one.outcome.value, "why": one.why} for one in explanations],
    }


def quarantined_request_json(kept: Quarantined) -> dict[str, Any]:
    """A request that led to a row of the quarantine and was answered 200."""
    from webhooks.store.rejections import QUARANTINED

    return {
        "request_id": kept.request_id,
        "source": kept.source,
        "received_at": _iso(kept.received_at),
        "status": 200,
        "kind": QUARANTINED,
        "quarantine_id": str(kept.id),
        "state": kept.state,
        "reason": kept.reason,
        "copies": kept.copies,
        "body_bytes": kept.body_bytes,
    }


def rejection_json(found: Rejection) -> dict[str, Any]:
    """A refused request: why, and how it looked, without values of its headers."""
    return {
        "request_id": found.request_id,
        "source": found.source,
        "received_at": _iso(found.received_at),
        "status": found.status,
        "kind": found.kind or None,
        "reason": found.reason,
        "diagnosis": found.diagnosis,
        "header_names": list(found.header_names),
        "header_bytes": found.header_bytes,
        "body_bytes": found.body_bytes,
        "body_captured": found.body is not None,
    }


def report_json(report: Report) -> dict[str, Any]:
    """What one catch-up read and added; added holds {event type: how many}."""
    return {
        "source": report.source,
        "since": _iso(report.since),
        "until": _iso(report.until),
        "is_dry_run": report.is_dry,
        "is_resumed": report.is_resumed,
        "fetched": report.fetched,
        "chosen": report.chosen,
        "added": dict(sorted(report.added.items())),
        "repaired": report.repaired,
        "duplicates": report.duplicates,
        "stale": report.stale,
        "held": report.held,
        "stripped": report.stripped,
        "unreadable": report.unreadable,
        "refused": report.refused,
        "first_at": _iso(report.first_at),
        "last_at": _iso(report.last_at),
        "cause": report.cause,
        "mark_at": _iso(report.mark_at),
        "gap_from": _iso(report.gap_from),
        "lost_before": _iso(report.lost_before),
    }


def process_json(process: Process, is_running: bool) -> dict[str, Any]:
    """One process as it last reported. is_running: that was lately."""
    return {
        "id": process.id,
        "kind": process.kind,
        "version": process.version,
        "started_at": _iso(process.started_at),
        "heartbeat_at": _iso(process.heartbeat_at),
        "is_running": is_running,
        "handlers": list(process.handlers),
        "queues": None if process.queues is None else list(process.queues),
    }


def finding_json(finding: Finding, typed: Callable[[str], str] = str) -> dict[str, Any]:
    """What is wrong, how much, and what repairs it. typed: how a command of ours is typed where this is read."""
    return {
        "level": str(finding.level),
        "code": finding.code,
        "subject": finding.subject,
        "text": finding.text,
        "command": None if finding.command is None else typed(finding.command),
        "fix": None if finding.fix is None else str(finding.fix),
    }


def change_json(change: SubscriptionChange) -> dict[str, Any]:
    """What a subscription lacks and has too much; subscription is null for one that is to be made."""
    return {
        "subscription": None if change.subscription is None else change.subscription.id,
        "is_needed": change.is_needed,
        "add": list(change.add),
        "remove": list(change.remove),
        "url": change.url,
        "needs_key": change.needs_key,
    }


def subscription_json(subscription: Subscription, is_held: bool, used_at: datetime | None) -> dict[str, Any]:
    """One subscription as its sender has it.

    is_held: whether this installation holds its key.
    used_at: when a post signed with that key last came.
    """
    return {
        "id": subscription.id,
        "url": subscription.url,
        "status": subscription.status,
        "types": sorted(subscription.types),
        "filtered": sorted(topic.type for topic in subscription.topics if topic.filter),
        "verify_ssl": subscription.verify_ssl,
        "health_status": subscription.health_status,
        "latest_error": subscription.latest_error,
        "pause_reason": subscription.pause_reason,
        "created_at": _iso(subscription.created_at),
        "is_key_held": is_held,
        "key_last_used_at": _iso(used_at),
    }


def alarm_json(row: AlarmRow) -> dict[str, Any]:
    """One alarm as JSON."""
    from webhooks.operations.alarms import ALARMS, Severity

    is_known = row.since is not None and row.name in ALARMS
    return {
        "name": row.name,
        "subject": row.subject,
        "severity": Severity(row.severity).word if row.since is not None else None,
        "since": _iso(row.since),
        "text": row.text or None,
        "count": row.count,
        "example": _id(row.example),
        "told": {target: iso_text(told.at) for target, told in sorted(row.told.items())},
        "muted_until": _iso(row.muted_until),
        "command": ALARMS[row.name].command.format(subject=row.subject) if is_known else None,
    }


def alarm_target_json(target: AlarmTarget, state: TargetState | None) -> dict[str, Any]:
    """One target as JSON, without its address."""
    return {
        "name": target.name,
        "kind": target.kind,
        "severity": target.severity,
        "only": list(target.only),
        "tried_at": _iso(state.tried_at if state is not None else None),
        "failing_since": _iso(state.failing_since if state is not None else None),
        "error": state.error if state is not None else None,
    }


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else iso_text(instant)


def _id(id: int | None) -> str | None:
    return None if id is None else str(id)
