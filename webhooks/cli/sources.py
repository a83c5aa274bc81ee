"""`webhooks sources`: the configured senders, as this directory's settings have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from webhooks.cli import LazyGroup, output
from webhooks.cli.context import actor, json_option, or_explain, read_only
from webhooks.errors import NotFound
from webhooks.formats import did_you_mean, printable
from webhooks.operations import records
from webhooks.operations import sources as known

if TYPE_CHECKING:
    from webhooks.operations.sources import SourceView
    from webhooks.operations.vectors import Tried
    from webhooks.sources import Source

COLUMNS = ("NAME", "SCHEME", "PATH", "SECRETS", "TOLERANCE", "SIGNS", "EVENTS", "LAST EVENT")


@click.group(
    cls=LazyGroup, invoke_without_command=True, epilog="Example: webhooks sources --json | jq -r '.sources[].name'"
)
@json_option
@click.pass_context
def sources(ctx: click.Context, as_json: bool) -> None:
    """Show the configured sources: path, scheme, events of the last day, and when each secret was last used.

    A secret that is not used any more can go: that is how a rotation ends.
    """
    if ctx.invoked_subcommand is not None:
        return
    context = read_only()
    figures = or_explain(context.database, lambda: known.read_figures(context.store, context.sources))
    views = known.view(context.sources, context.settings.url_prefix, figures)
    if as_json:
        output.emit_json({"sources": [records.source_json(view) for view in views]})
        return
    output.emit_table(COLUMNS, [_cells(view) for view in views], empty="no sources are configured")


def _read_span(ctx: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    from webhooks.formats import read_duration

    try:
        return read_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _cells(view: SourceView) -> tuple[str, ...]:
    return (
        view.name,
        view.scheme,
        view.path,
        _secrets(view),
        "no time is signed" if view.tolerance is None else output.span(view.tolerance),
        "whole body" if view.signs_whole_body else "PART OF THE REQUEST ONLY",
        "unknown" if view.events_last_day is None else f"{view.events_last_day:,} in 24 h",
        output.iso(view.last_received_at) or "",
    )


def _secrets(view: SourceView) -> str:
    """The labels of its secrets, and when each was last used, to the second."""
    if view.events_last_day is None:
        return ", ".join(view.secrets) or "from a file"
    used = {label: (output.iso(at) or "")[:19] for label, at in view.secrets.items()}
    words = [f"{label} (last used {at})" if at else f"{label} (never used)" for label, at in used.items()]
    return ", ".join(words) or "from a file, not used yet"


# -- test ------------------------------------------------------------------------------------------------------


@sources.command("test", epilog="Example: webhooks sources test lighthouse vectors/lighthouse.json")
@click.argument("name")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def test(ctx: click.Context, name: str, file: Path | None, as_json: bool) -> None:
    """Verify and read requests whose answer is known, and say what was read; nothing is stored.

    FILE holds vectors, as docs/sources.md shows them: the sender's own, or made with another program. Without it the
    source signs a sample itself. Exit code 1 when one is not as it should be.
    """
    from webhooks.operations import vectors

    source = _source(name)
    now = datetime.now(UTC)
    if file is None:
        results = [vectors.try_itself(source, now)]
    else:
        results = [vectors.try_vector(source, each, now) for each in vectors.read_vectors(file)]
    if as_json:
        output.emit_json({"results": [vectors.tried_json(result) for result in results]})
    else:
        for result in results:
            _print_tried(result)
    if not all(result.is_as_said for result in results):
        ctx.exit(1)


def _source(name: str) -> Source:
    found = read_only().sources
    if name not in found:
        raise NotFound(
            f"no source named {name!r}{did_you_mean(name, sorted(found))}; configured: {', '.join(sorted(found))}"
        )
    return found[name]


def _print_tried(result: Tried) -> None:
    outcome = f"verified by {result.label!r}" if result.label else "refused"
    mark = "ok  " if result.is_as_said else "BAD "
    click.echo(printable(f"{mark}{result.name}: {outcome}{f', {result.reason}' if result.reason else ''}"))
    for event in result.events:
        at = output.iso(event.occurred_at) or "no time of its own"
        subject = event.ordering.get("object_id")
        click.echo(
            printable(f"      type {event.type}, key {event.dedup_key}, {at}{f', object {subject}' if subject else ''}")
        )


# -- registering -----------------------------------------------------------------------------------------------


@sources.command("listen", epilog="Example: webhooks sources listen asana --for 10m")
@click.argument("name")
@click.option("--for", "span", default="10m", show_default=True, callback=_read_span, help="How long; an hour at most.")
@click.option("--label", default="brought", show_default=True, help="Of the secret in the secret_file.")
@click.pass_context
def listen(ctx: click.Context, name: str, span: timedelta, label: str) -> None:
    """Let the first request of a sender bring its secret, and write it once you said yes.

    What comes is not signed: compare what is shown of it with what the sender's pages say. Other processes take the
    secret from the secret_file within a second.
    """
    from webhooks.operations import registrations

    source, store = _source(name), read_only().store
    registrations.require_bringing(source)
    output.print_note(
        f"listening for {name} for {output.span(min(span, registrations.LONGEST))}; have the sender make its first request now"
    )
    found = registrations.listen(store, source, span, actor=actor())
    if found is None:
        output.print_note("nothing came")
        ctx.exit(1)
    click.echo(printable(f"a secret came: SHA-256 {found.digest}…, from: {found.sender}"))
    if not click.confirm("Use it?", err=True):
        registrations.refuse(store, source)
        output.print_note("it was forgotten")
        ctx.exit(1)
    registrations.accept(store, source, label)
    output.print_note(f"written to the secret_file of {name}, under the label {label}")


@sources.command("confirm", epilog="Example: webhooks sources confirm ses")
@click.argument("name")
def confirm(name: str) -> None:
    """Confirm the latest subscription of an Amazon SNS topic, as its signed request asks."""
    from webhooks.operations import registrations

    registrations.confirm(read_only().store, _source(name))
    output.print_note("confirmed")
