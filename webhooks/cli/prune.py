"""`webhooks prune`: delete old events now, rather than when the workers get to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, output
from webhooks.cli.context import json_option

if TYPE_CHECKING:
    from datetime import datetime

    from webhooks.app import Webhooks
    from webhooks.delivery import Pruned

STATES = ("succeeded", "cancelled", "dead")


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> object:
    from webhooks.settings import read_duration

    if value is None:
        return None
    try:
        return read_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(epilog="Example: webhooks prune --state dead --older-than 90d --dry-run")
@click.option("--older-than", metavar="AGE", callback=_age, help="Received longer ago; default: payload_retention.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="With a delivery in this state.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--trust-clock", is_flag=True, help="Delete although the clock may be wrong.")
@json_option
def prune(
    older_than: object, states: tuple[str, ...], dry_run: bool, yes: bool, trust_clock: bool, as_json: bool
) -> None:
    """Delete old events, with their deliveries and attempts.

    Refused, as the workers' own pruning, within an hour after the database's clock jumped. Where no worker has watched the
    clock and nothing came for an hour, ages count from the newest row, not from now, so that a clock that is ahead deletes
    nothing too early. --trust-clock goes by the clock in both cases.

    Kept whatever their age: events with a delivery that waits or runs or holds its lane, those that an open replay
    names, and those with a dead delivery unless --state dead is given. Their dedup keys stay for dedup_retention.
    """
    from datetime import timedelta

    from webhooks.cli.context import actor, webhooks
    from webhooks.delivery import prune as run
    from webhooks.model import DeliveryState
    from webhooks.operations import Journal, Verb

    instance = webhooks()
    settings = instance.settings
    now = instance.database.now() if trust_clock else _believed_now(instance, must_be_right=not dry_run)
    age = older_than if isinstance(older_than, timedelta) else settings.payload_retention
    chosen = tuple(DeliveryState[state.upper()] for state in states)
    if not dry_run and not yes:
        would = run(instance.store, payloads_before=now - age, states=chosen, dry_run=True)
        click.confirm(f"Delete {would.events} events and {would.deliveries} deliveries?", abort=True, err=True)
    terms: dict[str, Any] = {
        "payloads_before": now - age,
        "dedup_before": now - settings.dedup_retention,
        "states": chosen,
    }
    if dry_run:
        done = run(instance.store, **terms, dry_run=True)
    else:
        options = {"before": output.iso(now - age), "states": list(states)}
        with Journal(instance.store).doing(Verb.PRUNE, actor(), options=options) as entry:
            done = run(instance.store, **terms)
            entry.changed, entry.skipped = done.events, done.kept
    if as_json:
        output.emit_json(_as_json(done, dry_run))
    else:
        _tell(done, "would go" if dry_run else "deleted")


def _believed_now(instance: Webhooks, *, must_be_right: bool) -> datetime:
    """From when ages count: now, or the newest row where nothing else is known of the clock.

    must_be_right: raise Failure while the clock, or its watch, had a break less than an hour ago.
    """
    from webhooks.store import MAINTENANCE

    doubt = instance.store.pruning.clock_doubt(MAINTENANCE)
    if doubt is None:
        return instance.database.now()
    if doubt.newest_at is not None:
        output.print_note(
            f"{doubt}; ages count from that row, made {output.when(doubt.newest_at)}; "
            "if the clock is right: webhooks prune --trust-clock"
        )
        return doubt.newest_at
    if must_be_right:
        raise Failure(
            f"nothing was deleted, because the database's clock may be wrong: {doubt}. By it, it is "
            f"{output.when(doubt.now)} now; if that is right: webhooks prune --trust-clock"
        )
    return doubt.now


def _as_json(done: Pruned, dry_run: bool) -> dict[str, object]:
    return {
        "events": done.events,
        "deliveries": done.deliveries,
        "kept": done.kept,
        "dedup_keys": done.dedup_keys,
        "lanes": done.lanes,
        "quarantined": done.quarantined,
        "dry_run": dry_run,
    }


def _tell(done: Pruned, verb: str) -> None:
    events, deliveries = output.counted(done.events, "event"), output.counted(done.deliveries, "delivery")
    output.print_note(f"{events} and {deliveries} {verb}; {done.kept} kept, which are needed still")
    if done.dedup_keys:
        output.print_note(f"{output.counted(done.dedup_keys, 'dedup key')} {verb}")


__all__ = ["prune"]
