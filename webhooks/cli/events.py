"""`webhooks events`: list, show, follow and export what was stored."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, LazyGroup, cells, output
from webhooks.cli.context import (
    actor,
    json_option,
    parse_selection,
    patience_option,
    read_only,
    selection_options,
    shown_ids,
)
from webhooks.errors import NotFound
from webhooks.formats import printable
from webhooks.operations import Journal, Verb, records
from webhooks.operations import events as looking
from webhooks.tracing import trace_id_of

if TYPE_CHECKING:
    from webhooks.formats.redaction import FixtureRules
    from webhooks.operations.events import EventView
    from webhooks.selection import Selection
    from webhooks.sources import Source

#: How often `tail` looks.
TAIL_INTERVAL = timedelta(milliseconds=500)


@click.group(cls=LazyGroup)
def events() -> None:
    """List, show, follow and export stored events."""


@events.command("list", epilog="Example: webhooks events list --type 'lead.**' --since 2d --state dead")
@click.argument("event", nargs=-1)
@selection_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--oldest-first", is_flag=True, help="The oldest first, rather than the latest.")
@click.option("--after", metavar="PLACE", help="Continue after this place, where a look that was over stood.")
@patience_option
@json_option
def list_(
    event: tuple[str, ...],
    conditions: Mapping[str, Any],
    limit: int,
    oldest_first: bool,
    after: str | None,
    patience: timedelta,
    as_json: bool,
) -> None:
    """List events in the order of arrival, the latest first. EVENT: ids, or senders' keys.

    What no index finds (--state unrouted, --error, --handler, --source, --where) is looked for event by event; when the time
    is over, it says how far it came.
    """
    selection = parse_selection(conditions, event)
    place = None if after is None else looking.parse_place(after)
    page = read_only().store.listings.look(
        selection, deadline=patience, limit=limit, newest_first=not oldest_first, after=place
    )
    found = page.rows
    if as_json:
        output.emit_json(looking.page_json(page))
        return
    if not page.is_complete:
        assert page.at is not None
        output.incomplete(
            output.counted(page.looked_at, "event"), page.back_to, f"--after {looking.place_text(page.at)}"
        )
        if not found:
            return
    shown = shown_ids("event", [summary.id for summary in found])
    rows = [cells.event_cells(summary, shown) for summary in found]
    output.emit_table(
        cells.EVENT_COLUMNS,
        rows,
        empty=f"no events match ({selection}); post one with: webhooks trigger",
        spare=("SOURCE", "RECEIPT", "KEY"),
    )
    if len(found) == limit:
        output.print_note(
            f"the first {limit}; --limit shows more, --until {output.iso(found[-1].received_at)} older ones"
        )


# -- show ----------------------------------------------------------------------------------------------------


@events.command("show", epilog="Example: webhooks events show ev_2Gk0pEMM7x --payload | jq .event.data")
@click.argument("event")
@click.option("--payload", is_flag=True, help="Print only the body: in a pipe byte for byte as it came.")
@click.option("--curl", is_flag=True, help="Print a command that posts it again, signed anew.")
@click.option("--diff", is_flag=True, help="Print only what changed since the revision before.")
@json_option
def show(event: str, payload: bool, curl: bool, diff: bool, as_json: bool) -> None:
    """Show one event: payload, deliveries, attempts, timeline. EVENT: an id, or the sender's key (its newest copy)."""
    instance = read_only()
    ids = parse_selection({}, (event,)).events
    seen = looking.view(instance.store, ids[-1])
    assert seen.summary.event is not None
    raw = seen.summary.event.raw
    if payload and output.is_terminal():  # which would act on what it holds
        click.echo(printable(raw.decode("utf-8", "backslashreplace"), 10 * len(raw)))
    elif payload:
        click.echo(raw, nl=False)
    elif curl:
        source = instance.sources.get(seen.summary.source)
        if source is None:
            raise NotFound(f"source {seen.summary.source!r} is not configured, so nothing can be signed for it")
        from webhooks.cli.trigger import default_url

        headers = {"content-type": "application/json", **source.sign(raw, instance.clock())}
        click.echo(looking.as_curl(raw, default_url(instance.settings, source.name), headers))
        output.print_note("the signature is made for now; it is refused when it is older than the source's tolerance")
    elif diff:
        _show_difference(seen)
    elif as_json:
        _show_json(seen)
    else:
        _show(seen, others=ids[:-1])


def _show_json(seen: EventView) -> None:
    assert seen.summary.event is not None
    output.emit_json(
        records.event_json(seen.summary)
        | records.payload_json(seen.summary.event)
        | {
            "attempts": [records.attempt_json(attempt) for attempts in seen.attempts.values() for attempt in attempts],
            "delivery_list": [records.delivery_json(delivery) for delivery in seen.deliveries],
        }
    )


def _show(seen: EventView, others: Sequence[int]) -> None:
    s = seen.summary
    assert s.event is not None
    fields = [
        ("id", str(s.id)), ("source", s.source), ("type", s.type), ("key", s.dedup_key), ("receipt", s.receipt),
        ("occurred", output.when(s.occurred_at)), ("received", output.when(s.received_at)), ("origin", s.origin),
        ("object", s.object_id or ""), ("signed with", s.key_label or ""), ("request", s.request_id or ""),
        ("trace", trace_id_of(s.event.headers) or ""),
        ("bytes", str(s.body_bytes)), ("previous", str(s.previous_id or "")),
        ("other copies", ", ".join(str(id) for id in others)),
    ]  # fmt: skip
    output.emit_fields([(name, value) for name, value in fields if value])
    output.heading("Timeline")
    for moment in looking.timeline(seen):
        click.echo(f"{output.when(moment.at)}  {printable(moment.what)}")
    output.heading("Deliveries")
    now, shown = read_only().clock(), shown_ids("delivery", [delivery.id for delivery in seen.deliveries])
    rows = [cells.delivery_cells(delivery, now, shown) for delivery in seen.deliveries]
    output.emit_table(
        cells.DELIVERY_COLUMNS,
        rows,
        empty="none: no handler asked for this event",
        spare=("EVENT", "TYPE", "DUE", "TRIES", "AGE"),
    )
    for delivery in seen.deliveries:
        last = [attempt for attempt in seen.attempts.get(delivery.id, ()) if attempt.error]
        if last:
            output.heading(f"{delivery.handler}: error of attempt {last[-1].number}")
            click.echo(printable(last[-1].error or ""))
    if seen.previous is not None:
        output.heading(f"Changed since revision {seen.previous.id}")
        _show_difference(seen)
    output.heading("Payload")
    click.echo(printable(looking.pretty(s.event.raw), limit=100_000))


def _show_difference(seen: EventView) -> None:
    if seen.previous is None:
        output.print_note("this event has no revision before it")
        return
    for line in looking.difference(seen):
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.echo(output.colour(printable(line), fg=colour))


# -- tail ----------------------------------------------------------------------------------------------------


@events.command("tail", epilog="Example: webhooks events tail --type 'activity.**' --json | jq .type")
@selection_options
@click.option("-n", "--lines", type=click.IntRange(0, 1000), default=10, show_default=True, help="Begin with so many.")
@click.option("--no-follow", is_flag=True, help="Stop after those.")
@json_option
def tail(conditions: Mapping[str, Any], lines: int, no_follow: bool, as_json: bool) -> None:
    """Follow events as they are stored, until Ctrl-C."""
    selection = parse_selection(conditions)

    def pause() -> bool:
        if not no_follow:
            time.sleep(TAIL_INTERVAL.total_seconds())
        return not no_follow

    for found in looking.follow(read_only().store, selection, backlog=lines, pause=pause):
        for summary in found:
            if as_json:
                output.emit_json_line(records.event_json(summary))
                continue
            words = (
                output.when(summary.received_at), printable(summary.source), printable(summary.type), printable(summary.dedup_key),
                output.coloured(summary.receipt), str(summary.id),
            )  # fmt: skip
            click.echo("  ".join(words))


# -- export --------------------------------------------------------------------------------------------------


@events.command("export", epilog="Example: webhooks events export --since 30d > events.jsonl")
@click.argument("event", nargs=-1)
@selection_options
@click.option("--after", metavar="PLACE", help="Continue after this place, which an interrupted export printed.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--fixtures", metavar="DIR", help="Write a file an event into DIR, for tests, its values replaced.")
@click.option("--redact", metavar="NAME", help="With --fixtures: by the rules of this source, or: strict.")
@click.option("--raw", is_flag=True, help="With --fixtures: as they came, personal data included.")
@click.option("--yes", is_flag=True, help="With --raw: do not ask.")
def export(
    event: tuple[str, ...],
    conditions: Mapping[str, Any],
    after: str | None,
    limit: int | None,
    fixtures: str | None,
    redact: str | None,
    raw: bool,
    yes: bool,
) -> None:
    """Print events with their payloads as JSON lines, the oldest first.

    When it ends, or is interrupted, the place to continue from is printed on standard error.

    With --fixtures they become files, in which everything is replaced by values of the same kind but words of the sender's
    protocol; ids stay alike within a run.
    """
    selection = parse_selection(conditions, event)
    if fixtures is not None:
        _write_fixtures(selection, Path(fixtures), limit, redact, raw=raw, yes=yes)
        return
    if redact is not None or raw:
        raise Failure("--redact and --raw are for --fixtures; without it payloads are printed as they came", 2)
    place = None if after is None else looking.parse_place(after)
    store = read_only().store
    lines = looking.export(store, selection, place)
    number = 0
    try:
        with (
            Journal(store).doing(Verb.EXPORT, actor(), "events", selection=selection.to_mapping()) as entry,
            output.progress(None, "exporting") as progress,
        ):
            for here, line in itertools.islice(lines, limit):
                output.emit_json_line(line)
                place, number = here, number + 1
                entry.changed = number
                if number % 100 == 0:
                    progress(number)
    finally:
        if place is not None:
            output.print_note(f"{output.counted(number, 'event')}; continue with --after {looking.place_text(place)}")
        else:
            output.print_note("no events match")


def _write_fixtures(
    selection: Selection, directory: Path, limit: int | None, redact: str | None, *, raw: bool, yes: bool
) -> None:
    """Write a file an event, and say which could not be written; exit code 1 when there are such."""
    from webhooks.operations.fixtures import write_fixtures

    at = read_only()
    if raw and not yes:
        if not sys.stdin.isatty():
            raise Failure("--raw writes personal data as it came; add --yes if you mean it", 2)
        click.confirm("Write events as they came, personal data included?", abort=True, err=True)
    rules = None if raw else _rules(at.sources, redact)
    options = {"fixtures": True, "raw": raw}
    with Journal(at.store).doing(
        Verb.EXPORT, actor(), "events", selection=selection.to_mapping(), options=options
    ) as entry:
        for one in write_fixtures(at.store, selection, directory, rules, limit):
            if one.path is not None:
                entry.changed += 1
                click.echo(printable(str(one.path)))
            else:
                entry.skipped += 1
                output.print_note(f"event {one.event_id}: {one.why_not}")
    output.print_note(f"{output.counted(entry.changed, 'event')} written, {entry.skipped} not")
    if entry.skipped:
        raise SystemExit(1)


def _rules(sources: Mapping[str, Source], redact: str | None) -> Callable[[str], FixtureRules]:
    """{source: what stays of its events}. redact: of which source the rules are for all; "strict": none. Raises `Failure`."""
    from webhooks.formats import did_you_mean
    from webhooks.formats.redaction import STRICT

    if redact is not None and redact != "strict" and redact not in sources:
        known = ["strict", *sources]
        raise Failure(f"no rules named {redact!r}{did_you_mean(redact, known)}; there are: {', '.join(known)}", 2)
    if redact is not None:
        of_all = sources[redact].fixture_rules if redact in sources else STRICT
        return lambda name: of_all
    return lambda name: sources[name].fixture_rules if name in sources else STRICT
