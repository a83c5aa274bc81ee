"""`webhooks handlers`: what is registered here, what the database knows of it, pause and resume, and try one."""

from __future__ import annotations

import click

from webhooks.cli import LazyGroup, cells, output
from webhooks.cli.context import actor, json_option, or_explain, webhooks
from webhooks.formats import printable
from webhooks.operations import handler_names, records
from webhooks.operations import handlers as known
from webhooks.operations.handlers import PauseChange
from webhooks.operations.trigger import read_sets

COLUMNS = (
    "NAME",
    "PATTERNS",
    "SOURCE",
    "STATE",
    "QUEUE",
    "OPTIONS",
    "LAST STARTED",
    "WORKERS",
    "LAST SUCCESS",
    "LAST ERROR",
)


@click.group(cls=LazyGroup, invoke_without_command=True, epilog="Example: webhooks handlers pause whatsapp.mirror")
@json_option
@click.pass_context
def handlers(ctx: click.Context, as_json: bool) -> None:
    """Show handlers and replies; pause, resume and rename handlers."""
    if ctx.invoked_subcommand is not None:
        return
    instance = webhooks()
    views = known.view(
        instance.registry.handlers(), or_explain(instance.database, lambda: known.on_record(instance.store))
    )
    if as_json:
        replies = [records.reply_json(each) for each in instance.registry.replies.all()]
        output.emit_json({"handlers": [records.handler_json(view) for view in views], "replies": replies})
        return
    rows = [
        (
            v.name, ", ".join(v.patterns), v.source or "any", v.state + (f" by {v.paused_by}" if v.paused_by else ""),
            v.queue, ", ".join(v.options), output.when(v.seen_at), _workers(v.workers), output.when(v.succeeded_at),
            f"{output.when(v.failed_at)} {v.error or ''}".strip(),
        )
        for v in views
    ]  # fmt: skip
    output.emit_table(COLUMNS, rows, empty="no handlers; write one into handlers/ (webhooks init shows how)")
    answers = [
        (each.name, ", ".join(map(str, each.patterns)), each.source or "any")
        for each in instance.registry.replies.all()
    ]
    if answers:
        click.echo()
        output.emit_table(("REPLY", "PATTERNS", "SOURCE"), answers, empty="")


def _workers(live: int | None) -> str:
    return "unknown" if live is None else str(live or "none live")


@handlers.command("pause", epilog="Example: webhooks handlers pause whatsapp.mirror")
@click.argument("name")
@json_option
def pause(name: str, as_json: bool) -> None:
    """Stop all workers from running a handler; its deliveries wait. Felt everywhere within two seconds."""
    instance = webhooks()
    done = known.pause(instance.store, instance.registry, name, actor=actor())
    paused = f"{name} is paused; its deliveries wait until: webhooks handlers resume {name}"
    _tell(done, paused if done.changed else f"{name} is paused already, by {done.paused_by}", as_json)


@handlers.command("resume", epilog="Example: webhooks handlers resume whatsapp.mirror")
@click.argument("name")
@json_option
def resume(name: str, as_json: bool) -> None:
    """Let workers run a handler again, and close its circuit breaker."""
    instance = webhooks()
    done = known.resume(instance.store, instance.registry, name, actor=actor())
    _tell(done, f"{name} runs again" if done.changed else f"{name} is not paused", as_json)


@handlers.command("rename", epilog="Example: webhooks handlers rename handlers.leads.mirror leads.mirror")
@click.argument("old")
@click.argument("new")
@json_option
def rename(old: str, new: str, as_json: bool) -> None:
    """Move what is stored of handler OLD to NEW, the name that it has in the code now: what waits or is dead, lanes, pause, breaker.

    `formerly=` in the code does the same by itself, and goes on while processes of the old code live.
    """
    instance = webhooks()
    done = handler_names.rename(instance.store, instance.registry, old, new, actor=actor())
    if as_json:
        output.emit_json({"old": done.old, "new": done.new, "moved": done.moved})
    else:
        output.print_note(f"{old} is {new} now; {output.counted(done.moved, 'row')} moved (a lane counts as one)")


@handlers.command(
    "test", epilog="Example: webhooks handlers test whatsapp.mirror --sample activity.whatsapp_message.created"
)
@click.argument("name")
@click.option("--sample", metavar="TYPE|FILE", help="With this event; default: the first sample that it would get.")
@click.option("--source", metavar="NAME", help="As an event of this source; default: the handler's, or the only one.")
@click.option(
    "--set", "sets", multiple=True, metavar="PATH=VALUE", help="Replace a value of the body; may be repeated."
)
@json_option
def test(name: str, sample: str | None, source: str | None, sets: tuple[str, ...], as_json: bool) -> None:
    """Run a handler with one event that is stored nowhere, and show what it would write; that is rolled back.

    Over an empty database of its own, with keys made up: no secret of yours is read. What the handler does outside
    `session`, it does. Exit code 1 when it fails.
    """
    from webhooks.testing.trying import try_handler

    type, done = try_handler(name, sample, source=source, set={path: value for path, value, _ in read_sets(sets)})
    if as_json:
        output.emit_json({"type": type, **records.rehearsal_json(done)})
    else:
        click.echo(printable(f"{name} with {type}: {done.outcome}" + (f": {done.reason}" if done.reason else "")))
        for line in cells.write_lines(done.writes):
            click.echo(f"    {printable(line)}")
    if done.outcome == "would fail":
        raise SystemExit(1)


def _tell(done: PauseChange, text: str, as_json: bool) -> None:
    if as_json:
        output.emit_json({"handler": done.handler, "is_paused": done.is_paused, "changed": done.changed})
    else:
        output.print_note(text)
