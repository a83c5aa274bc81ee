"""`webhooks deliveries`: list, group, show and cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, LazyGroup, cells, output
from webhooks.cli.changing import (
    count_asked,
    dry_run_option,
    print_count,
    require_one_way,
    require_something,
    require_yes,
    yes_option,
)
from webhooks.cli.context import (
    actor,
    json_option,
    parse_selection,
    patience_option,
    read_id,
    read_only,
    selection_options,
    shown_ids,
)
from webhooks.errors import NotFound
from webhooks.formats import printable
from webhooks.operations import Canceller, records
from webhooks.selection import parse_id

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.listings import BlockedLane, DeliverySummary, FailureGroup, Page


@click.group(cls=LazyGroup)
def deliveries() -> None:
    """List, show and cancel deliveries."""


@deliveries.command("list", epilog="Example: webhooks deliveries list --state dead --group")
@click.argument("event", nargs=-1)
@selection_options
@click.option("--replay", "replay_id", metavar="ID", help="Made by this replay.")
@click.option("--group", is_flag=True, help="Group those that failed alike, dead or tried again, with counts.")
@click.option("--blocked", is_flag=True, help="Ordered lanes that a dead delivery holds, and what frees them.")
@click.option("--before", metavar="ID", help="Made before this delivery.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@patience_option
@json_option
def list_(
    event: tuple[str, ...],
    conditions: Mapping[str, Any],
    replay_id: str | None,
    group: bool,
    blocked: bool,
    before: str | None,
    limit: int,
    patience: timedelta,
    as_json: bool,
) -> None:
    """List deliveries, the latest first. EVENT: only those of these events.

    What no index finds (--error, and what speaks of the event) is looked for delivery by delivery; when the time is over, it
    says how far it came.
    """
    if (blocked or group) and before is not None:
        raise Failure("--before continues a list; leave it out beside --group and --blocked", 2)
    if blocked and (group or replay_id is not None or "state" in conditions):
        raise Failure(
            "--blocked lists lanes, by the dead delivery that holds each; leave out --group, --replay, --state", 2
        )
    selection = parse_selection(conditions, event)
    listings = read_only().store.listings
    if blocked:
        _list_blocked(listings.blocked_lanes(selection, limit=limit), limit, as_json)
        return
    if group:
        _list_failures(listings.failures(selection, limit=limit, with_retrying=True).groups, as_json)
        return
    wanted = None if replay_id is None else parse_id(replay_id, "replay")
    last = None if before is None else parse_id(before, "delivery")
    page = listings.look_at_deliveries(selection, deadline=patience, limit=limit, before=last, replay_id=wanted)
    if as_json:
        listed = [records.delivery_json(delivery) for delivery in page.rows]
        output.emit_json({"deliveries": listed} | records.look_json(page))
        return
    _list_page(page, limit, empty=f"no deliveries match ({selection})")


def _list_page(page: Page[DeliverySummary, int], limit: int, empty: str) -> None:
    found = page.rows
    if not page.is_complete:
        output.incomplete(output.counted(page.looked_at, "delivery"), page.back_to, f"--before {page.at}")
        if not found:
            return
    now, shown = read_only().clock(), shown_ids("delivery", [delivery.id for delivery in found])
    of_event = shown_ids("event", {delivery.event_id for delivery in found})
    rows = [cells.delivery_cells(delivery, now, shown, of_event) for delivery in found]
    output.emit_table(cells.DELIVERY_COLUMNS, rows, empty=empty, spare=("DUE", "EVENT", "TRIES", "REASON"))
    if len(found) == limit:
        output.print_note(f"the first {limit}; --limit shows more, --before {found[-1].id} older ones")


def _list_failures(groups: Sequence[FailureGroup], as_json: bool) -> None:
    if as_json:
        output.emit_json({"failures": [records.failure_json(one) for one in groups]})
        return
    shown = shown_ids("delivery", {one.example_id for one in groups})
    rows = [cells.failure_cells(one, shown) for one in groups]
    output.emit_table(cells.FAILURE_COLUMNS, rows, empty="no failed deliveries match")


def _list_blocked(found: Sequence[BlockedLane], limit: int, as_json: bool) -> None:
    if as_json:
        output.emit_json({"lanes": [records.blocked_json(blocked) for blocked in found]})
        return
    shown = shown_ids("delivery", {blocked.holder.id for blocked in found})
    rows = [cells.blocked_cells(blocked, shown) for blocked in found]
    output.emit_table(cells.BLOCKED_COLUMNS, rows, empty="no lane is blocked", spare=("SINCE",))
    if len(found) == limit:
        output.print_note(f"the first {limit}; --limit shows more")
    if found:
        again, give_up = records.freeing(found[0])
        which = "the lane continues" if len(found) == 1 else "a lane continues (here the first)"
        output.print_note(f"{which} when the dead delivery is run again, once its cause is gone: {again}")
        output.print_note(f"or when it is given up: {give_up}")


@deliveries.command("show", epilog="Example: webhooks deliveries show 889211340439552")
@click.argument("delivery")
@json_option
def show(delivery: str, as_json: bool) -> None:
    """Show one delivery with its attempts."""
    store = read_only().store
    id = read_id(delivery, "delivery")
    found = store.listings.delivery(id)
    if found is None:
        raise NotFound(f"no delivery {id}{_perhaps_event(store, id)}")
    attempts = store.deliveries.attempts([id])
    if as_json:
        output.emit_json(records.delivery_json(found) | {"attempt_list": [records.attempt_json(a) for a in attempts]})
        return
    fields = [
        ("id", str(found.id)), ("event", f"{found.event_id}  {found.type or '(pruned)'}"), ("handler", found.handler),
        ("state", found.state.label), ("class", found.delivery_class.name.lower()),
        ("replay", str(found.replay_id or "")), ("lane", found.lane or ""),
        ("attempts", f"{found.attempts}, {found.failures} failed"), ("created", output.when(found.created_at)),
        ("due", output.when(found.due_at)), ("finished", output.when(found.finished_at)),
        ("worker", found.worker or ""), ("reason", found.reason or ""),
    ]  # fmt: skip
    output.emit_fields(fields)
    for attempt in attempts:
        took = "" if attempt.finished_at is None else output.span(attempt.finished_at - attempt.started_at)
        output.heading(f"Attempt {attempt.number}: {attempt.outcome}, {output.when(attempt.started_at)}, {took}")
        if attempt.error:
            click.echo(printable(attempt.error))


def _perhaps_event(store: Store, id: int) -> str:
    return f"; {id} is an event: webhooks events show {id}" if store.events.get(id) is not None else ""


@deliveries.command("cancel", epilog="Example: webhooks deliveries cancel 889211340439552")
@click.argument("delivery", nargs=-1)
@selection_options
@click.option("--reason", default="", metavar="TEXT", help="Kept with each delivery.")
@dry_run_option
@yes_option
@click.option("--all", "all_", is_flag=True, help="Every pending delivery.")
@json_option
def cancel(
    delivery: tuple[str, ...],
    conditions: Mapping[str, Any],
    reason: str,
    dry_run: bool,
    yes: bool,
    all_: bool,
    as_json: bool,
) -> None:
    """End pending deliveries unrun (and dead ones that hold an ordered lane). DELIVERY: ids, instead of a selection."""
    canceller = Canceller(read_only().store)
    if delivery:
        require_one_way(conditions, all_)
        named = canceller.named([read_id(one, "delivery") for one in delivery])
        _cancel_named(canceller, named, reason, dry_run=dry_run, as_json=as_json)
        return
    chosen = parse_selection(conditions)
    require_something(chosen, all_, "deliveries cancel")
    chosen = canceller.narrowed(chosen)
    number = count_asked(lambda limit: canceller.count(chosen, limit))
    if dry_run:
        print_count(number, "cancelled", as_json=as_json, done=False)
        return
    require_yes(number, yes, "cancel")
    with output.progress(None, "cancelling") as progress:
        changed = canceller.cancel(chosen, actor=actor(), why=reason, progress=progress)
    print_count(changed, "cancelled", as_json=as_json)


def _cancel_named(
    canceller: Canceller, named: Sequence[DeliverySummary], reason: str, *, dry_run: bool, as_json: bool
) -> None:
    if dry_run:
        print_count(len(named), "cancelled", as_json=as_json, done=False)
        return
    changed = canceller.these(named, actor=actor(), why=reason)
    print_count(len(changed), "cancelled", as_json=as_json)
    if left := [str(delivery.id) for delivery in named if delivery.id not in changed]:
        raise Failure(f"not cancelled, because they are not pending (any more): {', '.join(left)}")
