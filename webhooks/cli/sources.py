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
    from webhooks.operations.keys import KeyView
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
    """Show the configured sources: path, scheme, events of the last day, and each key: last used, since when, which may go.

    Key files are read as they are now. A key may go when another has been used for three days since: that is how a rotation ends.
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
    """The labels of its keys, since when each is held, when it was last used, and which may go."""
    is_asked = view.events_last_day is not None
    return ", ".join(_key(key, is_asked) for key in view.keys) or "published by the sender, or looked up"


def _key(key: KeyView, is_asked: bool) -> str:
    if not is_asked:
        return key.label
    words = [f"last used {_second(key.last_used_at)}" if key.last_used_at else "never used"]
    if key.held_since is not None:
        words.append(f"file of {_second(key.held_since)}")
    if key.may_go:
        words.append("may go")
    if not key.is_held:
        words.append("not held any more")
    return f"{key.label} ({', '.join(words)})"


def _second(at: datetime | None) -> str:
    return (output.iso(at) or "")[:19]


# -- rotate ----------------------------------------------------------------------------------------------------


@sources.command("rotate", epilog="Example: webhooks sources rotate shop")
@click.argument("name")
@click.option("--label", metavar="LABEL", help="Of the new key. Default: today's date.")
@click.option(
    "--make", is_flag=True, help="Make the new key here, for senders that take one of ours, and show it once."
)
@click.option("--remove", metavar="LABEL", help="Take this key out, though it may still be used.")
@click.option("--yes", "-y", is_flag=True, help="Take out without asking.")
@click.pass_context
def rotate(ctx: click.Context, name: str, label: str | None, make: bool, remove: str | None, yes: bool) -> None:
    """Walk through the rotation of a source's key, for senders without an API for it; call it again for each next step.

    The new key is read from the terminal or standard input, never from the command line, and goes into the secret_file beside the
    old one: both are tried, and no event is lost. Exit code 1 while there is something to wait for.
    """
    from webhooks.operations import keys

    source, store = _source(name), read_only().store
    keys.require_rotatable(source)
    held = keys.of_source(source, store.key_uses.of(name))
    found = keys.KeyChange(keys.KeyStep.REMOVE, remove) if remove else keys.step(held)
    if found.step is keys.KeyStep.ADD:
        _add_key(source, label or f"{datetime.now(UTC):%Y-%m-%d}", make=make)
        ctx.exit(1)
    if found.step is keys.KeyStep.WAIT:
        output.print_note(
            f"no request was verified by {found.new!r} yet; set it at the sender, or, if it is set, have it send something. "
            f"{found.old!r} is accepted beside it, so nothing is lost meanwhile. Then: webhooks sources rotate {name}"
        )
        ctx.exit(1)
    used = {key.label: output.when(key.last_used_at) for key in held}
    if found.step is keys.KeyStep.REST:
        output.print_note(
            f"{found.new!r} is in use; {found.old!r} was last used {used[found.old]}, and the sender may repeat what it signed with it "
            f"for {output.span(keys.REST)}. Then: webhooks sources rotate {name}; or, now: webhooks sources rotate {name} --remove {found.old}"
        )
        ctx.exit(1)
    if not yes and not click.confirm(f"Take out {found.old!r}, last used {used.get(found.old, 'never')}?", err=True):
        ctx.exit(1)
    keys.remove(store, source, found.old)
    output.print_note(f"{found.old!r} is out of the secret_file of {name}; the rotation is over")


def _add_key(source: Source, label: str, *, make: bool) -> None:
    """Write a new key beside the old one, and say what comes next."""
    import secrets as randomness

    from webhooks.operations import keys

    text = randomness.token_hex(32) if make else click.prompt("The new key", hide_input=True, err=True).strip()
    keys.add(source, label, text)
    if make:
        click.echo(text)
    output.print_note(
        f"written to the secret_file of {source.name}, under the label {label!r}, beside the old one; running processes take it "
        f"within a second. Set it at the sender now, then: webhooks sources rotate {source.name}"
    )


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
