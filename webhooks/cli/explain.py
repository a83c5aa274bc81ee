"""`webhooks explain`: why a request was refused, and what became of an event, handler by handler."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import output
from webhooks.cli.context import desk, json_option, webhooks
from webhooks.errors import NotFound
from webhooks.model import ReceiptStatus
from webhooks.retry import printable

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.model import Event
    from webhooks.store.rejections import Rejection

_REQUEST_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Answer:
    """Why one handler did or did not run for an event."""

    handler: str
    outcome: str
    why: str


def of_event(instance: Webhooks, event: Event) -> list[Answer]:
    """For each handler that is registered or has a delivery: ran, filtered, paused, not subscribed …"""
    answers: dict[str, Answer] = {}
    states = instance.store.handlers.states()
    for delivery in instance.store.listings.of_event(event.id):
        state = delivery.state.label
        why = delivery.reason or ""
        row = states.get(delivery.handler)
        if state == "pending" and row is not None and row.paused:
            why = f"the handler is paused by {row.paused_by}; webhooks handlers resume {delivery.handler}"
        elif state == "pending" and instance.registry.get(delivery.handler) is None:
            why = "no handler of that name is registered here; it waits until one is"
        outcome = {"succeeded": "ran", "dead": "failed for good"}.get(state, state)
        answers[f"{delivery.handler} {delivery.id}"] = Answer(delivery.handler, outcome, why)
    with_delivery = {answer.handler for answer in answers.values()}
    for handler in instance.registry.handlers():
        if handler.name in with_delivery:
            continue
        if handler.source not in (None, event.source):
            why = f"it wants events of source {handler.source!r}"
        elif not any(pattern.matches(event.type) for pattern in handler.patterns):
            why = f"none of its patterns matches: {', '.join(str(pattern) for pattern in handler.patterns)}"
        elif event.conflict or event.receipt is ReceiptStatus.STALE or event.revision < 0:
            why = f"the event was not delivered: {_undelivered(event)}"
        else:
            why = "it was not registered when the event came; webhooks replay " + str(event.id)
        answers[handler.name] = Answer(
            handler.name, "not subscribed" if "wants" in why or "none" in why else "no delivery", why
        )
    return list(answers.values())


def _undelivered(event: Event) -> str:
    if event.conflict:
        return "a second body under the key of another event (conflict)"
    if event.revision < 0:
        return "a copy without content, from the sender's log"
    return "stale: a later revision had come before"


@click.command(epilog="Example: webhooks explain 0c5e00620973d125")
@click.argument("id", metavar="EVENT|REQUEST")
@json_option
def explain(id: str, as_json: bool) -> None:
    """Say why a request was refused (its request_id), or what became of an event (its id, or the sender's)."""
    if _REQUEST_ID.fullmatch(id):
        found = desk().store.rejections.find(id)
        if found is not None:
            _show_rejection(found, as_json)
            return
        ids = desk().store.events.ids_of_request(id)
        if not ids:
            raise NotFound(
                f"request {id} is not known: it led to no event, and is not among the refused ones that are kept (of a "
                "source one a second, unless the setting sample_rejected says otherwise, and the latest 1,000); the log has "
                "a line for each"
            )
    else:
        ids = [int(id)] if id.isdigit() else desk().store.listings.ids_of_key(id)
    instance = webhooks()
    events = [event for event in (instance.store.events.get(one) for one in ids) if event is not None]
    if not events:
        raise NotFound(f"no event {id!r}: it is neither an id of ours, nor a sender's key, nor a request that is known")
    answers = [(event, of_event(instance, event)) for event in events]
    if as_json:
        output.emit_json({"events": [_event_json(event, rows) for event, rows in answers]})
        return
    for event, rows in answers:
        click.echo(
            printable(
                f"event {event.id} of {event.source}: {event.type}, {event.receipt.value}, verified by key "
                f"{event.key_label or 'unknown'}, request {event.request_id or 'unknown'}"
            )
        )
        cells = [(row.handler, row.outcome, row.why) for row in rows]
        output.emit_table(("HANDLER", "OUTCOME", "WHY"), cells, empty="no handler is registered here")


def _event_json(event: Event, rows: list[Answer]) -> dict[str, Any]:
    return {
        "id": str(event.id),
        "type": event.type,
        "source": event.source,
        "receipt": event.receipt.value,
        "handlers": [{"handler": row.handler, "outcome": row.outcome, "why": row.why} for row in rows],
    }


def _show_rejection(found: Rejection, as_json: bool) -> None:
    record = {
        "request_id": found.request_id,
        "source": found.source,
        "received_at": output.iso(found.received_at),
        "status": found.status,
        "reason": found.reason,
        "diagnosis": found.diagnosis,
        "header_names": list(found.header_names),
        "header_bytes": found.header_bytes,
        "body_bytes": found.body_bytes,
        "body_captured": found.body is not None,
    }
    if as_json:
        output.emit_json(record)
        return
    for name, value in record.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        click.echo(f"{name.replace('_', ' '):<14}{printable(text)}")
