"""`webhooks quarantine`: requests and log entries that could not be read; look at them, admit them, give them up."""

from __future__ import annotations

import click

from webhooks.cli import LazyGroup, output
from webhooks.cli.context import actor, json_option, read_only, webhooks
from webhooks.errors import NotFound
from webhooks.formats import printable
from webhooks.operations import quarantine as deciding
from webhooks.operations import records

COLUMNS = ("ID", "RECEIVED", "SOURCE", "COPIES", "BYTES", "STATE", "REASON")


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
        output.emit_json({"quarantine": [records.quarantined_json(row) for row in rows]})
        return
    cells = [
        (str(r.id), output.when(r.received_at), r.source, str(r.copies), f"{r.body_bytes:,}", r.state, r.reason)
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
        output.emit_json(records.quarantined_json(kept, with_body=True))
        return
    record = records.quarantined_json(kept)
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
    """Verify and read again, with the time at which they came, and accept what can be read now.

    What catch-up found in the sender's log was never signed, and is only read again. Exit code 1 when some could not be admitted.
    """
    if bool(ids) == everything:
        raise click.UsageError("name the ids to admit, or --all; `webhooks quarantine list` shows them")
    instance = webhooks()
    results = deciding.retry(instance.store, instance.ingest, ids, actor=actor())
    if as_json:
        output.emit_json({"results": [records.admission_json(result) for result in results]})
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
    results = deciding.discard(read_only().store, ids, actor=actor())
    if as_json:
        output.emit_json({"results": [records.discarded_json(result) for result in results]})
        return
    for result in results:
        output.print_note(f"{result.id} is {result.state}{'' if result.changed else ' already'}")
