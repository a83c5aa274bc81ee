"""`webhooks trigger`: post a signed sample event, or a file, as its sender would."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from webhooks.cli import demo, output
from webhooks.cli.context import json_option, read_only
from webhooks.errors import NotFound
from webhooks.formats import did_you_mean, one_line
from webhooks.operations.trigger import (
    PostAnswer,
    apply_sets,
    choose,
    complete_url,
    explain_missing,
    explain_refused,
    renewed,
    send,
)
from webhooks.selection import parse_duration

if TYPE_CHECKING:
    from webhooks.app import ReadOnlyContext
    from webhooks.settings import Settings
    from webhooks.sources import Source


def default_url(settings: Settings, source: str) -> str:
    """Where the server of this directory takes posts for `source`: a running `dev`'s address, else PORT, else 8000."""
    base = demo.running_url(Path.cwd()) or f"http://127.0.0.1:{settings.port}"
    return f"{base}{settings.url_prefix}/{source}"


def find_source(instance: ReadOnlyContext, name: str | None) -> Source:
    """The source asked for, the only one, or Close's. Raises `NotFound`."""
    sources = instance.sources
    if name is None:
        name = next(iter(sources)) if len(sources) == 1 else "close"
        if name not in sources:
            raise NotFound(f"several sources are configured; say which with --source: {', '.join(sources)}")
    if name not in sources:
        raise NotFound(f"no source named {name!r}{did_you_mean(name, sources)}; configured: {', '.join(sources)}")
    return sources[name]


@click.command(epilog="Example: webhooks trigger activity.whatsapp_message.created --set data.direction=outgoing")
@click.argument("what", metavar="TYPE|FILE", required=False)
@click.option("--source", metavar="NAME", help="As this source; default: the only one, else close.")
@click.option(
    "--set", "sets", multiple=True, metavar="PATH=VALUE", help="Replace a value of the body; may be repeated."
)
@click.option("--duplicate", type=click.IntRange(0, 1000), default=0, metavar="N", help="Send it N times more.")
@click.option("--age", metavar="TIME", help="Sign it as if it had been sent so long ago, e.g. 1h.")
@click.option("--bad-signature", is_flag=True, help="With a signature that is wrong.")
@click.option("--as-is", is_flag=True, help="The sample with its own id and dates, rather than as a new event.")
@click.option(
    "--to", metavar="URL", help="Post there, to the source's path unless it has one; default: our server here."
)
@json_option
def trigger(
    what: str | None,
    source: str | None,
    sets: tuple[str, ...],
    duplicate: int,
    age: str | None,
    bad_signature: bool,
    as_is: bool,
    to: str | None,
    as_json: bool,
) -> None:
    """Post a signed sample event, as its sender would. Without TYPE: list the samples. A FILE is sent as it stands.

    Exit code 1 when an answer is not 2xx.
    """
    instance = read_only()  # a handler that does not import must not keep anyone from posting
    sender = find_source(instance, source)
    if what is None:
        _list_samples(sender, as_json)
        return
    ago = parse_duration(age, "age") if age is not None else timedelta(0)
    signed_at = instance.clock() - ago
    body, headers, is_sample = choose(what, sender)
    if is_sample and not as_is:
        body, headers = renewed(body, headers, sender, signed_at, label=next(iter(sender.labels()), ""))
    body = apply_sets(body, sets)
    settings = instance.settings
    url = default_url(settings, sender.name) if to is None else complete_url(to, settings, sender.name)
    first: dict[int, PostAnswer] = {}
    for _ in range(1 + duplicate):
        answer = send(sender, body, headers, url, signed_at, bad_signature=bad_signature)
        first.setdefault(answer.status, answer)
        if as_json:
            output.emit_json_line({"status": answer.status, "body": answer.body})
        else:
            click.echo(f"{answer.status} {one_line(answer.text, 500)}")
        if answer.status == 404:
            output.print_note(explain_missing(url, settings, sender.name))
            break
    if 401 in first:
        output.print_note(explain_refused(first[401], url, sender, ago, bad_signature=bad_signature))
    if 503 in first:
        output.print_note(
            "the server cannot store it now; its log says why, and so does, where it runs: webhooks doctor"
        )
    if any(not 200 <= status < 300 for status in first):
        raise SystemExit(1)


def _list_samples(source: Source, as_json: bool) -> None:
    """The samples of a source's scheme."""
    from webhooks.sources.samples import samples_of

    rows = [(sample.type, one_line(sample.shows)) for sample in samples_of(source)]
    if as_json:
        output.emit_json({"samples": [{"type": type, "shows": shows} for type, shows in rows]})
    else:
        output.emit_table(("TYPE", "SHOWS"), rows, empty="this scheme has no samples; give a file")
