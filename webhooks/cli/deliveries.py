"""`webhooks deliveries`: list, group, show and cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, LazyGroup, output
from webhooks.cli.context import (
    json_option,
    operator_name,
    parse_selection,
    patience_option,
    read_only,
    selection_options,
)
from webhooks.errors import NotFound
from webhooks.formats import printable
from webhooks.model import DeliveryState
from webhooks.selection import Selection, parse_id

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.listings import BlockedLane

#: More than so many are changed only with --yes.
UNASKED = 1_000


@click.group(cls=LazyGroup)
def deliveries() -> None:
    """List, show and cancel deliveries."""


@deliveries.command("list", epilog="Example: webhooks deliveries list --state dead --group")
@click.argument("event", nargs=-1)
@selection_options
@click.option("--replay", "replay_id", metavar="ID", help="Made by this replay.")
@click.option("--group", is_flag=True, help="Group those that failed alike, with counts.")
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
    from webhooks.cli import records

    if (blocked or group) and before is not None:
        raise Failure("--before goes on with a list; leave it out beside --group and --blocked", 2)
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
        groups = listings.failures(selection, limit=limit)
        if as_json:
            output.emit_json({"failures": [records.failure_json(one) for one in groups]})
            return
        rows = [records.failure_cells(one) for one in groups]
        output.emit_table(records.FAILURE_COLUMNS, rows, empty="no failed deliveries match")
        return
    wanted = None if replay_id is None else parse_id(replay_id, "replay")
    last = None if before is None else parse_id(before, "delivery")
    page = listings.look_at_deliveries(selection, deadline=patience, limit=limit, before=last, replay_id=wanted)
    found = page.rows
    if as_json:
        listed = [records.delivery_json(delivery) for delivery in found]
        output.emit_json({"deliveries": listed} | records.look_json(page))
        return
    if not page.is_complete:
        output.incomplete(output.counted(page.looked_at, "delivery"), page.back_to, f"--before {page.at}")
        if not found:
            return
    rows = [records.delivery_cells(delivery) for delivery in found]
    output.emit_table(
        records.DELIVERY_COLUMNS, rows, empty=f"no deliveries match ({selection})", spare=("DUE", "TRIES", "EVENT")
    )
    if len(found) == limit:
        output.print_note(f"the first {limit}; --limit shows more, --before {found[-1].id} older ones")


def _list_blocked(found: Sequence[BlockedLane], limit: int, as_json: bool) -> None:
    from webhooks.cli import records

    if as_json:
        output.emit_json({"lanes": [records.blocked_json(blocked) for blocked in found]})
        return
    rows = [records.blocked_cells(blocked) for blocked in found]
    output.emit_table(records.BLOCKED_COLUMNS, rows, empty="no lane is blocked", spare=("SINCE",))
    if len(found) == limit:
        output.print_note(f"the first {limit}; --limit shows more")
    if found:
        again, give_up = records.freeing(found[0])
        which = "the lane goes on" if len(found) == 1 else "a lane goes on (here the first)"
        output.print_note(f"{which} when the dead delivery is run again, once its cause is gone: {again}")
        output.print_note(f"or when it is given up: {give_up}")


@deliveries.command("show", epilog="Example: webhooks deliveries show 889211340439552")
@click.argument("delivery")
@json_option
def show(delivery: str, as_json: bool) -> None:
    """Show one delivery with its attempts."""
    from webhooks.cli import records

    store = read_only().store
    id = parse_id(delivery, "delivery")
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


# -- changing many -------------------------------------------------------------------------------------------


def cancellable(selection: Selection) -> Selection:
    """The selection narrowed to what `cancel` can change."""
    states = selection.states or (DeliveryState.PENDING,)
    return selection.only(states=states)


def change(store: Store, selection: Selection, act: Any, progress: Any) -> int:
    """Call `act(deliveries)` for all that are selected, a step at a time; how many it changed."""
    changed = 0
    for step in store.listings.walk_deliveries(selection):
        if step:
            changed += len(act(step))
            progress(changed)
    return changed


def count(store: Store, selection: Selection, limit: int) -> int:
    """How many deliveries are selected, counted up to `limit`."""
    total = 0
    for step in store.listings.walk_deliveries(selection):
        total += len(step)
        if total >= limit:
            break
    return total


def require_something(selection: Selection, all_: bool, command: str) -> None:
    """Refuse to change everything unless that was typed."""
    if selection.is_empty and not all_:
        raise Failure(
            f"nothing is selected; say which (see webhooks {command} --help), or type --all for everything", 2
        )
    if all_ and not selection.is_empty:
        raise Failure("--all means everything; leave it out beside a selection", 2)


def require_yes(number: int, yes: bool, what: str) -> None:
    """Refuse to change many unless that was typed."""
    if number > UNASKED and not yes:
        raise Failure(
            f"this would {what} more than {UNASKED:,} deliveries; nothing was changed; add --yes if you mean it", 2
        )


@deliveries.command("cancel", epilog="Example: webhooks deliveries cancel 889211340439552")
@click.argument("delivery", nargs=-1)
@selection_options
@click.option("--reason", default="", metavar="TEXT", help="Kept with each delivery.")
@click.option("--dry-run", is_flag=True, help="Only say how many.")
@click.option("--yes", is_flag=True, help=f"Also more than {UNASKED:,}.")
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
    store = read_only().store
    text = f"cancelled by {operator_name()}" + (f": {reason}" if reason else "")

    def act(ids: list[int]) -> set[int]:
        return store.deliveries.cancel(ids, text)

    if delivery:
        if conditions or all_:
            raise Failure("give ids or a selection, not both", 2)
        _cancel_named(store, [parse_id(one, "delivery") for one in delivery], act, dry_run, as_json)
        return
    chosen = parse_selection(conditions)
    require_something(chosen, all_, "deliveries cancel")
    chosen = cancellable(chosen)
    wrong = [state.label for state in chosen.states if state not in (DeliveryState.PENDING, DeliveryState.DEAD)]
    if wrong:
        raise Failure(f"{wrong[0]} deliveries cannot be cancelled, only pending and dead ones", 2)
    number = count(store, chosen, UNASKED + 1)
    if dry_run:
        _say_count("would be cancelled", number, as_json)
        return
    require_yes(number, yes, "cancel")
    with output.progress(None, "cancelling") as progress:
        changed = change(store, chosen, lambda found: act([delivery.id for delivery in found]), progress)
    _say_count("cancelled", changed, as_json)


def _cancel_named(store: Store, ids: list[int], act: Any, dry_run: bool, as_json: bool) -> None:
    for id in ids:
        found = store.listings.delivery(id)
        if found is None:
            raise NotFound(f"no delivery {id}{_perhaps_event(store, id)}; nothing was changed")
        if found.state not in (DeliveryState.PENDING, DeliveryState.DEAD):
            raise Failure(
                f"delivery {id} is {found.state.label}; only pending ones can be cancelled; nothing was changed"
            )
    if dry_run:
        _say_count("would be cancelled", len(ids), as_json)
        return
    changed = act(ids)
    _say_count("cancelled", len(changed), as_json)
    if len(changed) < len(ids):
        left = ", ".join(str(id) for id in ids if id not in changed)
        raise Failure(f"not cancelled, because they are not pending (any more): {left}")


def _say_count(what: str, number: int, as_json: bool) -> None:
    if as_json:
        output.emit_json({"deliveries": number, "done": what == "cancelled" or what == "requeued"})
    else:
        at_least = "more than " if what.startswith("would") and number > UNASKED else ""
        output.print_note(
            f"{at_least}{output.counted(min(number, UNASKED) if at_least else number, 'delivery')} {what}"
        )
