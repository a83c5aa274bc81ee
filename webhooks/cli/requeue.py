"""`webhooks requeue`: run the very deliveries that are there again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, output
from webhooks.cli.context import json_option, parse_selection, selection_options, webhooks
from webhooks.cli.deliveries import UNASKED, require_something, require_yes
from webhooks.errors import NotFound
from webhooks.model import DeliveryState
from webhooks.operations import REQUEUEABLE, Requeued, Requeuer, parse_rate, waits
from webhooks.selection import parse_id

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.listings import DeliverySummary


@click.command(epilog="Example: webhooks requeue --handler whatsapp.mirror --error '*Timeout*'")
@click.argument("delivery", nargs=-1)
@selection_options
@click.option("--rate", metavar="N/s", help="At most so many due per second, e.g. 20/s, rather than all now.")
@click.option("--dry-run", is_flag=True, help="Only say how many.")
@click.option("--yes", is_flag=True, help=f"Also more than {UNASKED:,}.")
@click.option("--all", "all_", is_flag=True, help="Every dead delivery.")
@json_option
def requeue(
    delivery: tuple[str, ...],
    conditions: Mapping[str, Any],
    rate: str | None,
    dry_run: bool,
    yes: bool,
    all_: bool,
    as_json: bool,
) -> None:
    """Put dead deliveries back to pending, due now, their failures forgotten. DELIVERY: ids, instead of a selection.

    --state cancelled requeues cancelled ones. --state pending makes those that wait for a retry due now, with their
    counts as they are; a pause or an open circuit breaker still holds them back.
    """
    instance = webhooks()
    requeuer = Requeuer(store=instance.store, registry=instance.registry)
    per_second = parse_rate(rate) if rate else None
    if delivery:
        if conditions or all_:
            raise Failure("give ids or a selection, not both", 2)
        named = _named(instance.store, [parse_id(one, "delivery") for one in delivery])
        if dry_run:
            _say("would be requeued", len(named), as_json)
            return
        _say_requeued(requeuer.these(named, rate=per_second), "requeued", as_json)
        return
    chosen = parse_selection(conditions)
    require_something(chosen, all_, "requeue")
    chosen = requeuer.narrowed(chosen)
    number = requeuer.count(chosen, UNASKED + 1)
    verb = "made due now" if chosen.states == (DeliveryState.PENDING,) and not per_second else "requeued"
    if dry_run:
        _say(f"would be {verb}", number, as_json)
        return
    require_yes(number, yes, "requeue")
    with output.progress(None, "requeueing") as progress:
        done = requeuer.run(chosen, rate=per_second, progress=progress)
    _say_requeued(done, verb, as_json)
    if per_second and len(done.ids) > 1 and not as_json:
        output.print_note(f"the last is due in {output.span(timedelta(seconds=(len(done.ids) - 1) / per_second))}")


def _named(store: Store, ids: list[int]) -> list[DeliverySummary]:
    """These deliveries, each of which can be requeued; refused otherwise, before anything is changed."""
    now = store.database.now()
    named: list[DeliverySummary] = []
    for id in ids:
        found = store.listings.delivery(id)
        if found is None:
            near = f"; {id} is an event: webhooks replay {id}" if store.events.get(id) is not None else ""
            raise NotFound(f"no delivery {id}{near}; nothing was changed")
        if found.state not in REQUEUEABLE:
            raise Failure(
                f"delivery {id} is {found.state.label}; only dead, cancelled and waiting ones are requeued; nothing was "
                "changed"
                + (f"; to run it again: webhooks replay {found.event_id}" if found.finished_at is not None else "")
            )
        if not waits(found, now):
            raise Failure(
                f"delivery {id} is pending and due already; nothing was changed; what holds it back: webhooks doctor"
                if found.due_at <= now
                else f"delivery {id} is pending and paced by replay {found.replay_id}; nothing was changed"
            )
        named.append(found)
    return named


def _say_requeued(done: Requeued, verb: str, as_json: bool) -> None:
    for id, why in done.left.items():
        output.print_note(f"delivery {id} stays dead: {why}")
    _say(verb, len(done.ids), as_json)


def _say(what: str, number: int, as_json: bool) -> None:
    would = what.startswith("would")
    if as_json:
        output.emit_json({"deliveries": number, "done": not would})
    else:
        at_least = would and number > UNASKED
        output.print_note(
            ("more than " if at_least else "")
            + f"{output.counted(min(number, UNASKED) if at_least else number, 'delivery')} {what}"
        )
