"""`webhooks quarantine`: requests and log entries that could not be read; look at them, admit them, give them up."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import LazyGroup, output
from webhooks.cli.context import json_option, operator_name, read_only, webhooks
from webhooks.errors import NotFound
from webhooks.formats import printable
from webhooks.model import Origin

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.quarantine import Quarantined

COLUMNS = ("ID", "RECEIVED", "SOURCE", "COPIES", "BYTES", "STATE", "REASON")


def as_json_record(kept: Quarantined, *, with_body: bool = False) -> dict[str, Any]:
    """One row; headers are left out, since they hold the signature."""
    record: dict[str, Any] = {
        "id": str(kept.id),
        "source": kept.source,
        "state": kept.state,
        "reason": kept.reason,
        "kind": kept.kind,
        "origin": str(Origin.CATCH_UP if kept.is_from_log else Origin.WEBHOOK),
        "copies": kept.copies,
        "received_at": output.iso(kept.received_at),
        "last_seen_at": output.iso(kept.last_seen_at),
        "key_label": kept.key_label,
        "request_id": kept.request_id,
        "body_bytes": len(kept.body),
        "receipts": list(kept.receipts),
        "decided_by": kept.decided_by,
        "decided_at": output.iso(kept.decided_at),
    }
    if with_body:
        record["body_base64"] = base64.b64encode(kept.body).decode()
    return record


@click.group(cls=LazyGroup, epilog="Example: webhooks quarantine retry --all")
def quarantine() -> None:
    """Signed requests that could not be read."""


@quarantine.command("list", epilog="Example: webhooks quarantine list --source close")
@click.option("--source", metavar="NAME", help="Of this source.")
@click.option("--all", "everything", is_flag=True, help="Also those that were admitted or dropped.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@json_option
def list_(source: str | None, everything: bool, limit: int, as_json: bool) -> None:
    """List what is held, newest first."""
    rows = read_only().store.quarantine.list(limit, source=source, state=None if everything else "held")
    if as_json:
        output.emit_json({"quarantine": [as_json_record(row) for row in rows]})
        return
    cells = [
        (str(r.id), output.when(r.received_at), r.source, str(r.copies), f"{len(r.body):,}", r.state, r.reason)
        for r in rows
    ]
    output.emit_table(COLUMNS, cells, empty="nothing is quarantined")


@quarantine.command("show", epilog="Example: webhooks quarantine show 891150187957228597")
@click.argument("id", type=int)
@json_option
def show(id: int, as_json: bool) -> None:
    """Show one request with its body; control characters escaped."""
    kept = read_only().store.quarantine.get(id)
    if kept is None:
        raise NotFound(f"nothing is quarantined under {id}; `webhooks quarantine list` shows what is")
    if as_json:
        output.emit_json(as_json_record(kept, with_body=True))
        return
    record = as_json_record(kept)
    for name, value in record.items():
        if value not in (None, []):
            click.echo(f"{name.replace('_', ' '):<14}{printable(str(value))}")
    click.echo()
    click.echo(printable(kept.body.decode("utf-8", "backslashreplace")))


@quarantine.command("retry", epilog="Example: webhooks quarantine retry 891150187957228597")
@click.argument("ids", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that are held (at most 10,000).")
@json_option
@click.pass_context
def retry(ctx: click.Context, ids: tuple[int, ...], everything: bool, as_json: bool) -> None:
    """Verify and read again, with the time at which they came, and take in what can be read now.

    What catch-up found in the sender's log was never signed, and is only read again. Exit code 1 when some could not be admitted.
    """
    from webhooks.intake import retry as admit

    if bool(ids) == everything:
        raise click.UsageError("name the ids to admit, or --all; `webhooks quarantine list` shows them")
    instance = webhooks()
    if everything:
        ids = tuple(row.id for row in reversed(instance.store.quarantine.list(10_000)))
    _require_known(instance.store, ids)
    results = [admit(id, store=instance.store, ingest=instance.ingest, by=operator_name()) for id in ids]
    if as_json:
        output.emit_json(
            {
                "results": [
                    {
                        "id": str(result.id),
                        "reason": result.reason,
                        "receipts": [
                            {"status": receipt.status.value, "event_id": str(receipt.event_id)}
                            for receipt in result.receipts
                        ],
                    }
                    for result in results
                ]
            }
        )
    else:
        for result in results:
            what = ", ".join(f"{receipt.status.value} (event {receipt.event_id})" for receipt in result.receipts)
            outcome = f"not admitted: {result.reason}" if result.reason is not None else what or "held no event"
            click.echo(f"{result.id}  {printable(outcome)}")
    if any(result.reason is not None for result in results):
        ctx.exit(1)


@quarantine.command("drop", epilog="Example: webhooks quarantine drop 891150187957228597")
@click.argument("ids", type=int, nargs=-1, required=True)
@json_option
def drop(ids: tuple[int, ...], as_json: bool) -> None:
    """Give requests up. They stay in the database, for the record, until they are pruned."""
    store = read_only().store
    _require_known(store, ids)
    results = []
    for id in ids:
        changed = store.quarantine.drop(id, operator_name())
        kept = store.quarantine.get(id)
        results.append({"id": str(id), "state": kept.state if kept is not None else None, "changed": changed})
    if as_json:
        output.emit_json({"results": results})
        return
    for result in results:
        output.print_note(f"{result['id']} is {result['state']}{'' if result['changed'] else ' already'}")


def _require_known(store: Store, ids: Sequence[int]) -> None:
    """Refuse all when one is unknown, so that a typing mistake changes nothing."""
    for id in ids:
        if store.quarantine.get(id) is None:
            raise NotFound(
                f"nothing is quarantined under {id}; `webhooks quarantine list` shows what is; nothing was changed"
            )
