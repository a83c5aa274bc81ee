"""`webhooks explain`: why a request was refused or quarantined, and what became of an event, handler by handler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from webhooks.cli import output
from webhooks.cli.context import LONGEST_ENDING, json_option, read_id, read_only, webhooks
from webhooks.formats import printable
from webhooks.operations import explain as explaining
from webhooks.operations import records
from webhooks.tracing import trace_id_of


@click.command(epilog="Example: webhooks explain 0c5e00620973d125")
@click.argument("id", metavar="EVENT|REQUEST")
@json_option
def explain(id: str, as_json: bool) -> None:
    """Say why a request was refused or quarantined (its request_id), or what became of an event (its id, or the sender's)."""
    store = read_only().store
    if id.isascii() and id.isdigit() and len(id) <= LONGEST_ENDING and not store.listings.ids_of_key(id):
        id = str(read_id(id, "event"))
    found = explaining.find(store, id)
    if found.rejection is not None:
        _emit(records.rejection_json(found.rejection), as_json)
        return
    if not found.events:
        assert found.quarantined is not None
        _emit(records.quarantined_request_json(found.quarantined), as_json)
        if not as_json:
            click.echo(f"see: webhooks quarantine show {found.quarantined.id}")
        return
    instance = webhooks()
    answers = [(event, explaining.of_event(instance.store, instance.registry, event)) for event in found.events]
    if as_json:
        output.emit_json({"events": [records.explained_json(event, rows) for event, rows in answers]})
        return
    for event, rows in answers:
        click.echo(
            printable(
                f"event {event.id} of {event.source}: {event.type}, {event.receipt.value}, verified by key "
                f"{event.key_label or 'unknown'}, request {event.request_id or 'unknown'}{_trace(event.headers)}"
            )
        )
        cells = [(row.handler, row.outcome.value, row.why) for row in rows]
        output.emit_table(("HANDLER", "OUTCOME", "WHY"), cells, empty="no handler is registered here")
    if found.quarantined is not None:
        output.print_note(f"it also led to a row of the quarantine: webhooks quarantine show {found.quarantined.id}")


def _trace(headers: Mapping[str, str]) -> str:
    found = trace_id_of(headers)
    return f", trace {found}" if found else ""


def _emit(record: Mapping[str, Any], as_json: bool) -> None:
    """One record: as JSON, or a line for each member."""
    if as_json:
        output.emit_json(record)
        return
    for name, value in record.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        click.echo(f"{name.replace('_', ' '):<14}{printable(text)}")
