"""`webhooks requeue`: run the very deliveries that are there again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import click

from webhooks.cli import output
from webhooks.cli.changing import (
    count_asked,
    dry_run_option,
    print_count,
    require_one_way,
    require_something,
    require_yes,
    yes_option,
)
from webhooks.cli.context import actor, json_option, parse_selection, read_id, selection_options, webhooks
from webhooks.model import DeliveryState
from webhooks.operations import Requeued, Requeuer, parse_rate
from webhooks.selection import Selection


@click.command(epilog="Example: webhooks requeue --handler whatsapp.mirror --error '*Timeout*'")
@click.argument("delivery", nargs=-1)
@selection_options
@click.option("--rate", metavar="N/s", help="At most so many due per second, e.g. 20/s, rather than all now.")
@dry_run_option
@yes_option
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
        require_one_way(conditions, all_)
        named = requeuer.named([read_id(one, "delivery") for one in delivery])
        if dry_run:
            print_count(len(named), "requeued", as_json=as_json, done=False)
        else:
            _print(requeuer.these(named, actor=actor(), rate=per_second), "requeued", as_json)
        return
    chosen = parse_selection(conditions)
    require_something(chosen, all_, "requeue")
    _requeue_selected(requeuer, requeuer.narrowed(chosen), per_second, dry_run=dry_run, yes=yes, as_json=as_json)


def _requeue_selected(
    requeuer: Requeuer, chosen: Selection, rate: float | None, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    number = count_asked(lambda limit: requeuer.count(chosen, limit))
    verb = "made due now" if chosen.states == (DeliveryState.PENDING,) and not rate else "requeued"
    if dry_run:
        print_count(number, verb, as_json=as_json, done=False)
        return
    require_yes(number, yes, "requeue")
    with output.progress(None, "requeueing") as progress:
        done = requeuer.requeue(chosen, actor=actor(), rate=rate, progress=progress)
    _print(done, verb, as_json)
    if rate and len(done.ids) > 1 and not as_json:
        output.print_note(f"the last is due in {output.span(timedelta(seconds=(len(done.ids) - 1) / rate))}")


def _print(done: Requeued, verb: str, as_json: bool) -> None:
    for id, why in done.left.items():
        output.print_note(f"delivery {id} stays dead: {why}")
    print_count(len(done.ids), verb, as_json=as_json)
