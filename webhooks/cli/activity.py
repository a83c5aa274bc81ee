"""`webhooks activity`: what people did, by which door, with what result; take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from webhooks.cli import Failure, LazyGroup, output
from webhooks.cli.context import actor, json_option, read_only, webhooks
from webhooks.operations.actions import Verb, action_json, sentence
from webhooks.selection import parse_id, parse_time

if TYPE_CHECKING:
    from webhooks.operations.actions import Undo
    from webhooks.store import Action

COLUMNS = ("ID", "WHEN", "BY", "VIA", "STATE", "WHAT", "WHY")


@click.group(cls=LazyGroup, epilog="Example: webhooks activity list --since 2d")
def activity() -> None:
    """What people did, by command, page, token or program; and take it back."""


@activity.command("list", epilog="Example: webhooks activity list --verb requeue --by ada")
@click.option("--verb", "verbs", multiple=True, type=click.Choice([str(verb) for verb in Verb]), help="Of this kind.")
@click.option("--by", metavar="NAME", help="Of this user.")
@click.option("--since", metavar="TIME", help="From then on: 6h, yesterday, or ISO 8601.")
@click.option("--before", metavar="ID", help="Older than this one.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@json_option
def list_(
    verbs: tuple[str, ...], by: str | None, since: str | None, before: str | None, limit: int, as_json: bool
) -> None:
    """List what was done, the latest first."""
    at = read_only()
    found = at.store.actions.page(
        limit,
        before=None if before is None else parse_id(before, "action"),
        verbs=verbs,
        by=by,
        since=None if since is None else parse_time(since, at.clock(), "since"),
    )
    if as_json:
        output.emit_json({"actions": [action_json(one) for one in found]})
        return
    output.emit_table(COLUMNS, [_cells(one) for one in found], empty="nothing was done yet", spare=("VIA", "WHY"))


def _cells(one: Action) -> tuple[str, ...]:
    return (
        str(one.id), output.when(one.at), one.by, one.via, one.state.label, sentence(one), one.why or "",
    )  # fmt: skip


@activity.command("show", epilog="Example: webhooks activity show 889211340439552")
@click.argument("action_id", metavar="ID")
@json_option
def show(action_id: str, as_json: bool) -> None:
    """Show one action: for whom, on what, how far it is, and what takes it back."""
    from webhooks.errors import NotFound
    from webhooks.operations.actions.undo import undo_of

    store = read_only().store
    id = parse_id(action_id, "action")
    found = store.actions.get(id)
    if found is None:
        raise NotFound(f"no action {id}; see: webhooks activity list")
    undo = undo_of(store, found)
    if as_json:
        output.emit_json(action_json(found, undo))
        return
    fields = [
        ("id", str(found.id)), ("what", sentence(found)), ("state", found.state.label), ("by", found.by),
        ("via", found.via + (f", from {found.address}" if found.address else "")), ("at", output.when(found.at)),
        ("why", found.why or ""), ("selection", _pairs(found.selection)), ("options", _pairs(found.options)),
        ("changed", f"{found.changed:,}"), ("skipped", f"{found.skipped:,}"), ("error", found.error or ""),
        ("result", _pairs(found.result)), ("undoes", str(found.undoes or "")), ("finished", output.when(found.finished_at)),
        ("undo", _undo(undo)),
    ]  # fmt: skip
    output.emit_fields([(name, value) for name, value in fields if value])
    if undo.is_possible:
        output.print_note(f"take it back: webhooks activity undo {found.id}")
    if found.verb in (Verb.REQUEUE, Verb.CANCEL):
        output.print_note(f"see its deliveries: webhooks deliveries list --action {found.id}")


def _undo(undo: Undo) -> str:
    return undo.why_not or undo.says


def _pairs(mapping: object) -> str:
    if not isinstance(mapping, dict):
        return ""
    return ", ".join(f"{name} {value}" for name, value in mapping.items() if value not in (None, "", [], {}))


@activity.command("undo", epilog="Example: webhooks activity undo 889211340439552")
@click.argument("action_id", metavar="ID")
@click.option("--why", default="", metavar="TEXT", help="Kept on record.")
@json_option
def undo(action_id: str, why: str, as_json: bool) -> None:
    """Take an action back, as far as that is possible still; exit code 1 when it is not."""
    made = webhooks().make_activity().undo(parse_id(action_id, "action"), actor=actor(), why=why)
    if as_json:
        output.emit_json(action_json(made))
    else:
        output.print_note(f"{sentence(made)}; action {made.id}")
    if made.error:
        raise Failure(made.error)


__all__ = ["activity"]
