"""`webhooks alarms`: which stand and who was told; mute them; try a target."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from webhooks.cli import LazyGroup, output
from webhooks.cli.context import actor, json_option, read_only
from webhooks.errors import SelectionError
from webhooks.formats import did_you_mean, span
from webhooks.operations import records
from webhooks.selection import parse_duration

if TYPE_CHECKING:
    from webhooks.settings import AlarmTarget
    from webhooks.store import AlarmRow, TargetState

COLUMNS = ("SEVERITY", "ALARM", "SUBJECT", "SINCE", "TOLD", "MUTED UNTIL", "WHAT")
TARGET_COLUMNS = ("TARGET", "KIND", "HEARS", "STATE")


@click.group(cls=LazyGroup, invoke_without_command=True, epilog="Example: webhooks alarms mute dead crm.sync --for 2h")
@json_option
@click.pass_context
def alarms(ctx: click.Context, as_json: bool) -> None:
    """Show the alarms that stand or are muted, who was told, and how each target takes what it is sent."""
    if ctx.invoked_subcommand is not None:
        return
    at = read_only()
    rows = [row for row in at.store.alarms.rows().values() if row.ended_at is None]
    states, targets = at.store.alarms.targets(), at.settings.alarms
    looked = _last_look()
    if as_json:
        output.emit_json(
            {
                "alarms": [records.alarm_json(row) for row in rows],
                "targets": [records.alarm_target_json(target, states.get(name)) for name, target in targets.items()],
                "looked_at": output.iso(looked),
            }
        )
        return
    output.emit_table(COLUMNS, [_cells(row) for row in rows], empty="no alarm stands")
    if targets:
        output.emit_table(
            TARGET_COLUMNS, [_target_cells(target, states.get(name)) for name, target in targets.items()], empty=""
        )
    else:
        output.print_note("no target is configured, so no alarm is told: docs/alarms.md")
    if targets and looked is None:
        output.print_note("no process has looked at alarms yet; a worker does: webhooks worker")
    elif looked is not None and at.store.database.now() - looked > at.settings.alarm_interval * 4:
        output.print_note(
            f"no process has looked at alarms since {output.when(looked)}; a worker does: webhooks worker"
        )


def _last_look() -> datetime | None:
    last = read_only().store.alarms.last_round("alarms")
    return last[1] if last is not None else None


def _cells(row: AlarmRow) -> tuple[str, ...]:
    from webhooks.operations.alarms import Severity

    severity = Severity(row.severity).word if row.since is not None else ""
    return (
        severity, row.name, row.subject, output.when(row.since), ", ".join(sorted(row.told)), output.when(row.muted_until),
        row.text,
    )  # fmt: skip


def _target_cells(target: AlarmTarget, state: TargetState | None) -> tuple[str, ...]:
    hears = ", ".join(target.only) or "all"
    how = "not tried yet"
    if state is not None and state.failing_since is not None:
        how = f"failing since {output.when(state.failing_since)}: {state.error}"
    elif state is not None:
        how = f"told {output.when(state.tried_at)}"
    return target.name, target.kind, f"{hears}, from {target.severity} on", how


@alarms.command("mute", epilog="Example: webhooks alarms mute dead crm.sync --for 2h")
@click.argument("name")
@click.argument("subject", required=False)
@click.option("--for", "lasting", default="2h", show_default=True, metavar="TIME", help="For so long.")
@click.option("--off", is_flag=True, help="End a mute.")
@json_option
def mute(name: str, subject: str | None, lasting: str, off: bool, as_json: bool) -> None:
    """Say nothing of an alarm for a while: of one SUBJECT (a handler or source), or of all.

    That it is over is told even so, to those who heard of it. The dead man's switch passes a muted alarm over, too.
    """
    from webhooks.operations.alarms import mute as muted

    duration = parse_duration(lasting, "for")
    until = muted(read_only().store, name, subject, lasting=None if off else duration, actor=actor())
    what = f"{name} {subject}" if subject is not None else name
    if as_json:
        output.emit_json({"name": name, "subject": subject, "muted_until": output.iso(until)})
    elif until is None:
        output.print_note(f"{what} is told again")
    else:
        output.print_note(f"{what} is muted for {span(duration)}, until {output.when(until)} UTC")


@alarms.command("test", epilog="Example: webhooks alarms test ops")
@click.argument("target")
@json_option
def trial(target: str, as_json: bool) -> None:
    """Send a target a message that says nothing is wrong; whether it was answered."""
    from webhooks.app.alarms import make_watch
    from webhooks.cli import Failure
    from webhooks.operations.alarms import NotTold

    at = read_only()
    found = at.settings.alarms.get(target)
    if found is None:
        known = at.settings.alarms
        raise SelectionError(
            f"no target named {target!r}{did_you_mean(target, known)}; configured: {', '.join(known) or 'none'}"
        )
    try:
        make_watch(at.settings, at.store, None).test(found, at.clock())
    except NotTold as error:
        raise Failure(f"target {target} was not told: {error}") from error
    if as_json:
        output.emit_json({"target": target, "is_told": True})
    else:
        output.print_note(f"target {target} was told")


__all__ = ["alarms"]
