"""`webhooks events`: list, show, follow and export what was stored."""

from __future__ import annotations

import difflib
import itertools
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import LazyGroup, output
from webhooks.cli.context import json_option, parse_selection, patience_option, read_only, selection_options
from webhooks.errors import NotFound, SelectionError
from webhooks.formats import json as jsonio
from webhooks.formats import printable
from webhooks.model import Attempt
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.listings import DeliverySummary, EventSummary, Place

#: Lines of a payload's difference that are shown at most.
LONGEST_DIFF = 200
#: How often `tail` looks.
TAIL_INTERVAL = timedelta(milliseconds=500)
#: Ids are drawn before the commit, so an event may appear behind younger ones; `tail` looks back this far.
TAIL_OVERLAP = timedelta(seconds=10)


@click.group(cls=LazyGroup)
def events() -> None:
    """List, show, follow and export stored events."""


@events.command("list", epilog="Example: webhooks events list --type 'lead.**' --since 2d --state dead")
@click.argument("event", nargs=-1)
@selection_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--oldest-first", is_flag=True, help="The eldest first, rather than the latest.")
@click.option("--after", metavar="PLACE", help="Go on after this place, where a look that was over stood.")
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
    from webhooks.cli import records

    selection = parse_selection(conditions, event)
    place = None if after is None else parse_place(after)
    page = read_only().store.listings.look(
        selection, deadline=patience, limit=limit, newest_first=not oldest_first, after=place
    )
    found = page.rows
    if as_json:
        on = None if page.at is None else written(page.at)
        listed = [records.event_json(summary) for summary in found]
        output.emit_json({"events": listed} | records.look_json(page) | {"after": on})
        return
    if not page.is_complete:
        assert page.at is not None
        output.incomplete(output.counted(page.looked_at, "event"), page.back_to, f"--after {written(page.at)}")
        if not found:
            return
    rows = [records.event_cells(summary) for summary in found]
    output.emit_table(
        records.EVENT_COLUMNS,
        rows,
        empty=f"no events match ({selection}); post one with: webhooks trigger",
        spare=("SOURCE", "RECEIPT", "KEY"),
    )
    if len(found) == limit:
        output.print_note(
            f"the first {limit}; --limit shows more, --until {output.iso(found[-1].received_at)} older ones"
        )


# -- show ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """All that is known of one event. previous: the revision before it, where there is one."""

    summary: EventSummary
    deliveries: Sequence[DeliverySummary]
    attempts: Mapping[int, Sequence[Attempt]]
    previous: EventSummary | None


def view(store: Store, id: int) -> View:
    """Gather an event, its deliveries and their attempts. Raises `NotFound`."""
    summary = store.listings.event(id)
    if summary is None:
        raise NotFound(f"no event {id}: it was never stored here, or has been pruned")
    found = store.listings.of_event(id)
    attempts: dict[int, list[Attempt]] = {}
    for attempt in store.deliveries.attempts([delivery.id for delivery in found]):
        attempts.setdefault(attempt.delivery_id, []).append(attempt)
    previous = store.listings.event(summary.previous_id) if summary.previous_id is not None else None
    return View(summary, found, attempts, previous)


def timeline(view: View) -> list[tuple[str, str]]:
    """What happened to an event, in order: (when, what)."""
    moments = [
        (view.summary.occurred_at, "occurred, by the sender's word"),
        (view.summary.received_at, f"received ({view.summary.receipt}) from source {view.summary.source}"),
    ]
    for delivery in view.deliveries:
        if delivery.replay_id:
            moments.append((delivery.created_at, f"{delivery.handler}: replayed (replay {delivery.replay_id})"))
        for attempt in view.attempts.get(delivery.id, ()):
            took = (
                "" if attempt.finished_at is None else f" after {output.span(attempt.finished_at - attempt.started_at)}"
            )
            moments.append(
                (
                    attempt.finished_at or attempt.started_at,
                    f"{delivery.handler}: attempt {attempt.number} {attempt.outcome}{took}",
                )
            )
        if delivery.state.label in ("dead", "cancelled") and delivery.finished_at is not None:
            moments.append(
                (delivery.finished_at, f"{delivery.handler}: {delivery.state.label}: {delivery.reason or ''}")
            )
    return [(output.when(at), what) for at, what in sorted(moments, key=lambda moment: moment[0])]


def difference(view: View) -> list[str]:
    """The payload against that of the revision before, as a unified diff; empty without one."""
    if view.previous is None or view.previous.event is None or view.summary.event is None:
        return []
    before, after = pretty(view.previous.event.raw).splitlines(), pretty(view.summary.event.raw).splitlines()
    lines = difflib.unified_diff(before, after, str(view.previous.id), str(view.summary.id), lineterm="", n=1)
    return list(itertools.islice(lines, LONGEST_DIFF))


def pretty(raw: bytes) -> str:
    """A body for people: indented JSON, else its text with what is not text escaped."""
    try:
        return json.dumps(jsonio.load(raw), indent=2, ensure_ascii=False)
    except ValueError:
        return raw.decode("utf-8", "backslashreplace")


def as_curl(raw: bytes, url: str, headers: Mapping[str, str]) -> str:
    """A command that posts these bytes; the body goes in as printf's octal escapes where it is not plain text."""
    options = "".join(f" \\\n  -H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items())
    if raw.isascii() and raw.translate(None, b"\n\t").decode().isprintable():
        return f"curl -sS {shlex.quote(url)}{options} \\\n  --data-binary {shlex.quote(raw.decode())}"
    octal = "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b"\\%'" else f"\\{byte:03o}" for byte in raw)
    return f"printf '{octal}' | curl -sS {shlex.quote(url)}{options} \\\n  --data-binary @-"


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
    seen = view(instance.store, ids[-1])
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
        click.echo(as_curl(raw, default_url(instance.settings, source.name), headers))
        output.print_note("the signature is made for now; it is refused when it is older than the source's tolerance")
    elif diff:
        _show_difference(seen)
    elif as_json:
        _show_json(seen)
    else:
        _show(seen, others=ids[:-1])


def _show_json(seen: View) -> None:
    from webhooks.cli import records

    assert seen.summary.event is not None
    output.emit_json(
        records.event_json(seen.summary)
        | records.payload_json(seen.summary.event)
        | {
            "attempts": [records.attempt_json(attempt) for attempts in seen.attempts.values() for attempt in attempts],
            "delivery_list": [records.delivery_json(delivery) for delivery in seen.deliveries],
        }
    )


def _show(seen: View, others: Sequence[int]) -> None:
    from webhooks.cli import records

    s = seen.summary
    assert s.event is not None
    fields = [
        ("id", str(s.id)), ("source", s.source), ("type", s.type), ("key", s.dedup_key), ("receipt", s.receipt),
        ("occurred", output.when(s.occurred_at)), ("received", output.when(s.received_at)), ("origin", s.origin),
        ("object", s.object_id or ""), ("signed with", s.key_label or ""), ("request", s.request_id or ""),
        ("bytes", str(s.body_bytes)), ("previous", str(s.previous_id or "")),
        ("other copies", ", ".join(str(id) for id in others)),
    ]  # fmt: skip
    output.emit_fields([(name, value) for name, value in fields if value])
    output.heading("Timeline")
    for at, what in timeline(seen):
        click.echo(f"{at}  {printable(what)}")
    output.heading("Deliveries")
    rows = [records.delivery_cells(delivery) for delivery in seen.deliveries]
    output.emit_table(
        records.DELIVERY_COLUMNS, rows, empty="none: no handler asked for this event", spare=("EVENT", "DUE", "TRIES")
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
    click.echo(printable(pretty(s.event.raw), limit=100_000))


def _show_difference(seen: View) -> None:
    if seen.previous is None:
        output.print_note("this event has no revision before it")
        return
    for line in difference(seen):
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.echo(output.colour(printable(line), fg=colour))


# -- tail ----------------------------------------------------------------------------------------------------


def follow(
    store: Store, selection: Selection, *, backlog: int, pause: Callable[[], bool]
) -> Iterator[list[EventSummary]]:
    """The latest `backlog` events, then new ones as they are committed, each once.

    pause: waits a little and says whether to go on.
    """
    listings = store.listings
    shown = listings.events(selection, limit=backlog)[::-1] if backlog else []
    yield shown
    seen = {summary.id for summary in shown}
    last = shown[-1].place if shown else None
    newest = last.received_at if last is not None else store.database.now()
    is_first = True
    while is_first or pause():
        window = selection.only(since=max(newest - TAIL_OVERLAP, selection.since or newest - TAIL_OVERLAP))
        recent = [summary for step in listings.walk(window) for summary in step]
        fresh = [summary for summary in recent if summary.id not in seen]
        if is_first:
            # what was there before the backlog is no news; what came after it, or while it was read, is
            fresh = [summary for summary in fresh if last is not None and summary.place > last]
            is_first = False
        seen = {summary.id for summary in recent}
        if fresh:
            newest = max(newest, fresh[-1].received_at)
            yield listings.with_deliveries(fresh)


@events.command("tail", epilog="Example: webhooks events tail --type 'activity.**' --json | jq .type")
@selection_options
@click.option("-n", "--lines", type=click.IntRange(0, 1000), default=10, show_default=True, help="Begin with so many.")
@click.option("--no-follow", is_flag=True, help="Stop after those.")
@json_option
def tail(conditions: Mapping[str, Any], lines: int, no_follow: bool, as_json: bool) -> None:
    """Follow events as they are stored, until Ctrl-C."""
    from webhooks.cli import records

    selection = parse_selection(conditions)

    def pause() -> bool:
        if not no_follow:
            time.sleep(TAIL_INTERVAL.total_seconds())
        return not no_follow

    for found in follow(read_only().store, selection, backlog=lines, pause=pause):
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


def export_lines(store: Store, selection: Selection, after: Place | None) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The selected events with their payloads, the eldest first, each with the place to go on from.

    Each step is a statement of its own, so no read transaction stays open, and memory holds one step.
    """
    from webhooks.cli import records

    for step in store.listings.walk(selection, after=after, step=100, with_event=True):
        for summary in store.listings.with_deliveries(step):
            assert summary.event is not None
            yield summary.place, records.event_json(summary) | records.payload_json(summary.event)


def written(place: Place) -> str:
    """A place as `parse_place` reads it."""
    return f"{output.iso(place.received_at)}/{place.id}"


def parse_place(text: str) -> Place:
    """A place as `export` prints it, `2026-03-10T14:05:12.417000Z/889…`. Raises `SelectionError`."""
    from datetime import UTC, datetime

    from webhooks.selection import parse_id
    from webhooks.store.listings import Place

    instant, slash, id = text.partition("/")
    try:
        at = datetime.fromisoformat(instant)
    except ValueError:
        at = None
    if not slash or at is None or at.tzinfo is None:
        raise SelectionError(f"after: {text[:80]!r} is not a place; give what an export printed last", text, 0)
    return Place(at.astimezone(UTC), parse_id(id))


@events.command("export", epilog="Example: webhooks events export --since 30d > events.jsonl")
@click.argument("event", nargs=-1)
@selection_options
@click.option("--after", metavar="PLACE", help="Go on after this place, which an interrupted export printed.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
def export(event: tuple[str, ...], conditions: Mapping[str, Any], after: str | None, limit: int | None) -> None:
    """Print events with their payloads as JSON lines, the eldest first.

    When it ends, or is interrupted, the place to go on from is printed on standard error.
    """
    selection = parse_selection(conditions, event)
    place = None if after is None else parse_place(after)
    lines = export_lines(read_only().store, selection, place)
    number = 0
    try:
        with output.progress(None, "exporting") as progress:
            for here, line in itertools.islice(lines, limit):
                output.emit_json_line(line)
                place, number = here, number + 1
                if number % 100 == 0:
                    progress(number)
    finally:
        if place is not None:
            output.print_note(f"{output.counted(number, 'event')}; go on with --after {written(place)}")
        else:
            output.print_note("no events match")
