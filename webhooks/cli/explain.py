"""`webhooks explain`: why a request was refused or quarantined, and what became of an event, handler by handler."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import output
from webhooks.cli.context import json_option, read_only, webhooks
from webhooks.errors import NotFound
from webhooks.formats import printable
from webhooks.model import ReceiptStatus
from webhooks.store.rejections import QUARANTINED, ROWS_PER_KIND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webhooks.app import Webhooks
    from webhooks.model import Event
    from webhooks.store import Store
    from webhooks.store.quarantine import Quarantined
    from webhooks.store.rejections import Rejection

_REQUEST_ID = re.compile(r"[0-9a-f]{16}")
_OUR_ID = re.compile(r"[0-9]{1,19}", re.ASCII)


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
    """Say why a request was refused or quarantined (its request_id), or what became of an event (its id, or the sender's)."""
    store = read_only().store
    quarantined: Quarantined | None = None
    if _REQUEST_ID.fullmatch(id):
        ids = store.events.ids_of_request(id)
        quarantined = store.quarantine.of_request(id)
        if not ids and quarantined is None:
            _show_rejection(_require_rejection(store, id), as_json)
            return
    elif _OUR_ID.fullmatch(id) and int(id) < 2**63:
        ids = [int(id)]
        quarantined = store.quarantine.get(int(id))
    else:
        ids = store.listings.ids_of_key(id)
    if quarantined is not None and not any(store.events.get(one) for one in ids):
        _show_quarantined(quarantined, as_json)
        return
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
    if quarantined is not None:
        output.print_note(f"it also led to a row of the quarantine: webhooks quarantine show {quarantined.id}")


def _require_rejection(store: Store, request_id: str) -> Rejection:
    """What is kept of a request that was not accepted. Raises `NotFound`."""
    found = store.rejections.find(request_id)
    if found is None:
        raise NotFound(
            f"request {request_id} is not known. If its answer says duplicate, explain the event_id beside that. Of refused and "
            "quarantined ones a sample is kept: of a source and a reason one a second (setting sample_rejected; 0 keeps "
            f"each) and the latest {ROWS_PER_KIND}; the log counts the others"
        )
    return found


def _event_json(event: Event, rows: list[Answer]) -> dict[str, Any]:
    return {
        "id": str(event.id),
        "type": event.type,
        "source": event.source,
        "receipt": event.receipt.value,
        "handlers": [{"handler": row.handler, "outcome": row.outcome, "why": row.why} for row in rows],
    }


def _show_quarantined(kept: Quarantined, as_json: bool) -> None:
    record = {
        "request_id": kept.request_id,
        "source": kept.source,
        "received_at": output.iso(kept.received_at),
        "status": 200,
        "kind": QUARANTINED,
        "quarantine_id": str(kept.id),
        "state": kept.state,
        "reason": kept.reason,
        "copies": kept.copies,
        "body_bytes": len(kept.body),
    }
    if as_json:
        output.emit_json(record)
        return
    _show(record)
    click.echo(f"see: webhooks quarantine show {kept.id}")


def _show_rejection(found: Rejection, as_json: bool) -> None:
    record = {
        "request_id": found.request_id,
        "source": found.source,
        "received_at": output.iso(found.received_at),
        "status": found.status,
        "kind": found.kind or None,
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
    _show(record)


def _show(record: Mapping[str, Any]) -> None:
    for name, value in record.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        click.echo(f"{name.replace('_', ' '):<14}{printable(text)}")
