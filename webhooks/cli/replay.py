"""`webhooks replay`: make new deliveries for stored events; the plan first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from time import sleep
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, LazyGroup, cells, output
from webhooks.cli.changing import UNASKED, require_something, require_yes
from webhooks.cli.context import actor, json_option, parse_selection, selection_options, webhooks
from webhooks.errors import StorageUnavailable
from webhooks.formats import did_you_mean, printable
from webhooks.operations import (
    Journal,
    Options,
    Order,
    Plan,
    Progress,
    Replayer,
    ReplayError,
    Verb,
    parse_rate,
    records,
    words,
)
from webhooks.selection import Selection, parse_id

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.store import Store
    from webhooks.store.replays import Replay

COLUMNS = ("ID", "CREATED", "STATE", "EVENTS", "DELIVERIES", "BY", "SELECTION", "WHY")


class ReplayGroup(LazyGroup):
    """`replay EVENT… --option` beside `replay list|show|cancel|resume`: the first word decides."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The hidden command, or the subcommand that was typed."""
        if args and args[0] == START:
            return START, start, args[1:]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the hidden command before what begins with no subcommand."""
        if not args or args[0] not in (*self.commands, "-h", "--help"):
            # options and ids are the hidden command's
            args = [START, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands that can be typed."""
        return [name for name in super().list_commands(ctx) if name != START]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both ways to call it."""
        formatter.write_usage(ctx.command_path, "[EVENT]... [OPTIONS]", "Usage: ")
        formatter.write_usage(ctx.command_path, "list | show ID | cancel ID | resume ID", "       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the hidden command's options, and the subcommands."""
        with formatter.section("Options"):
            formatter.write_dl(
                [record for p in start.get_params(ctx) if (record := p.get_help_record(ctx)) is not None]
            )
        self.format_commands(ctx, formatter)


class Start(click.Command):
    """The command behind `webhooks replay` without a subcommand; its name is not to be typed, nor shown."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write it as the group's own."""
        assert ctx.parent is not None
        formatter.write_usage(ctx.parent.command_path, "[EVENT]... [OPTIONS]")


START = "start"
#: How often `--wait` looks.
LOOK_EVERY = timedelta(seconds=0.5)

wait_option = click.option("--wait", is_flag=True, help="Until workers have run them; exit code 1 if one failed.")


@click.group(
    cls=ReplayGroup,
    epilog="Example: webhooks replay --type 'activity.whatsapp_message.**' --since 2d --dry-run",
)
def replay() -> None:
    """Make new deliveries for stored events: the plan first, then, if it is agreed, the deliveries.

    EVENT: ids, or senders' keys. Fresh events go before replayed ones. Where the selection speaks of --state or
    --error, only handlers whose delivery matches get a new one; else --handler NAME narrows to one.
    """


@click.command(START, cls=Start, add_help_option=False)
@click.argument("event", nargs=-1)
@selection_options
@click.option("--original", is_flag=True, help="To the handlers of then, rather than today's.")
@click.option(
    "--order",
    type=click.Choice([str(order) for order in Order]),
    default="occurred",
    show_default=True,
    help="As events occurred, or arrived.",
)
@click.option("--rate", metavar="N/s", help="At most so many deliveries due per second, e.g. 20/s.")
@click.option("--limit", type=click.IntRange(1), help="At most so many events, the first in order.")
@click.option("--fresh-keys", is_flag=True, help="With new idempotency keys, rather than those of the first time.")
@click.option("--why", metavar="TEXT", help="Kept on record.")
@click.option("--rehearse", is_flag=True, help="Run rehearsable handlers, roll back, and show what they would write.")
@click.option("--dry-run", is_flag=True, help="Only show the plan.")
@click.option(
    "--detach", is_flag=True, help="A worker makes the deliveries; this command only puts the replay on record."
)
@click.option("--yes", is_flag=True, help=f"Also more than {UNASKED:,} deliveries.")
@click.option("--all", "all_", is_flag=True, help="Every stored event.")
@wait_option
@json_option
def start(event: tuple[str, ...], conditions: Mapping[str, Any], as_json: bool, **given: Any) -> None:
    """The plan, then what was asked for: a rehearsal, nothing, or the replay."""
    instance = webhooks()
    _refuse_misspelt(event)
    selection = parse_selection(conditions, event)
    # --handler says who gets the deliveries; it selects events only beside --state or --error
    require_something(Replayer.for_handler(selection, Options()), given["all_"], "replay")
    replayer = instance.make_replayer()
    plan = replayer.plan(selection, _options(selection, given))
    if not as_json:
        for line in words.plan_lines(plan):
            output.print_note(line)
    if given["rehearse"]:
        rehearse(instance, plan, as_json)
        return
    if given["dry_run"] or not plan.deliveries:
        _emit_plan(plan, as_json, is_dry=given["dry_run"])
        return
    require_yes(plan.deliveries, given["yes"], "make")
    made = replayer.start(plan, actor=actor(), why=given["why"], detached=given["detach"])
    if not given["detach"]:
        made = _run(replayer, made, plan.events)
    _report(instance, made, plan, as_json, given["wait"])


def _options(selection: Selection, given: Mapping[str, Any]) -> Options:
    return Options(
        handler=selection.handler,
        original=given["original"],
        order=Order(given["order"]),
        rate=parse_rate(given["rate"]) if given["rate"] else None,
        limit=given["limit"],
        fresh_keys=given["fresh_keys"],
    )


replay.add_command(start)


def _refuse_misspelt(events: tuple[str, ...]) -> None:
    """`replay shwo` is more likely a command than a sender's key."""
    known = [name for name in replay.commands if name != START]
    if events and events[0] not in known and (near := did_you_mean(events[0], known)):
        raise Failure(f"no event {events[0][:40]!r}{near}", 2)


def _emit_plan(plan: Plan, as_json: bool, *, is_dry: bool) -> None:
    """The plan of a replay that is not made."""
    if as_json:
        output.emit_json({"plan": records.plan_json(plan), "replay": None})
        return
    if not is_dry:
        output.print_note("nothing to replay")
        return
    rows = [
        (handler.name, f"{handler.deliveries:,}", f"{handler.added:,}", f"{handler.left_out:,}")
        for handler in plan.handlers
    ]
    output.emit_table(("HANDLER", "DELIVERIES", "NEW TO IT", "LEFT OUT"), rows, empty="no handler would get anything")
    output.print_note("nothing was changed (--dry-run)")


def _run(replayer: Replayer, made: Replay, total: int) -> Replay:
    try:
        with output.progress(total, "replaying") as progress:

            def on_progress(state: Progress) -> None:
                progress(state.events)

            return replayer.run(made, on_progress)
    except KeyboardInterrupt:
        output.print_note(f"interrupted; continue with: webhooks replay resume {made.id}")
        raise


def _report(instance: Webhooks, made: Replay, plan: Plan | None, as_json: bool, wait: bool) -> None:
    """Say what was made and, if that is asked for, wait for what comes of it; exit code 1 when something failed."""
    if not as_json:
        if made.state.label == "open":
            output.print_note("a worker makes its deliveries, and runs them after fresh ones")
        else:
            output.print_note(f"{output.counted(made.deliveries, 'delivery')} made, which workers run after fresh ones")
        output.print_note(f"follow it: webhooks replay show {made.id}")
        click.echo(str(made.id))
    if not any(process.is_worker for process in instance.store.processes.running()):
        output.print_note("no worker runs; start one: webhooks worker")
    stand = _wait(instance.store, made) if wait else None
    if stand is not None and made.state.label == "open":  # a worker has made it meanwhile
        made = instance.make_replayer().get(made.id)
    if as_json:
        plan_json = None if plan is None else records.plan_json(plan)
        output.emit_json({"plan": plan_json, "replay": records.replay_json(made, stand)})
    elif stand is not None:
        output.print_note(words.states(stand) or "nothing to run")
    if stand is not None and (stand.get("dead") or instance.make_replayer().get(made.id).state.label == "cancelled"):
        raise SystemExit(1)


def _wait(store: Store, made: Replay) -> dict[str, int]:
    """How its deliveries stand once all are made and none waits or runs: {state: how many}."""
    try:
        with output.progress(made.deliveries or None, "running") as progress:
            while True:
                now = store.replays.get(made.id) or made
                stand = {state.label: number for state, number in store.replays.progress(made.id).items()}
                left = stand.get("pending", 0) + stand.get("running", 0)
                progress(now.deliveries - left)
                if not left and now.state.label != "open":
                    return stand
                sleep(LOOK_EVERY.total_seconds())
    except (KeyboardInterrupt, StorageUnavailable):
        output.print_note(f"no longer waiting; replay {made.id} continues all the same: webhooks replay show {made.id}")
        raise


#: Events that a rehearsal takes when no --limit is given.
REHEARSED = 100


def rehearse(instance: Webhooks, plan: Plan, as_json: bool) -> None:
    """Rehearse and print what each handler would have written; exit code 1 when one would fail, or did more than write."""
    from dataclasses import replace

    if plan.options.limit is None and plan.events > REHEARSED:
        output.print_note(f"rehearsing the first {REHEARSED} events; --limit takes more")
        plan = replace(plan, options=replace(plan.options, limit=REHEARSED))
    rehearser = instance.make_rehearser(is_watched=True)
    left_out = rehearser.not_rehearsable(plan)
    made = failed = left = 0
    untrue: set[str] = set()
    for one in rehearser.run(plan):
        left += one.outcome == "not run"
        made += one.outcome != "not run"
        failed += one.outcome == "would fail"
        if one.outside:
            untrue.add(one.handler)
        if as_json:
            output.emit_json_line(records.rehearsal_json(one))
            continue
        click.echo(
            printable(f"{one.event_id}  {one.handler}  {one.outcome}" + (f": {one.reason}" if one.reason else ""))
        )
        for line in cells.write_lines(one.writes):
            click.echo(f"    {printable(line)}")
        for line in one.outside:
            click.echo(f"    outside its session: {printable(line)}")
    for name in sorted(untrue):
        output.print_note(
            f"{name} does something outside its session, which was not rolled back; take effects='session' from it"
        )
    for name in left_out:
        output.print_note(
            f"{name} is not rehearsable: its author has not said @on(effects='session'), no effect outside session"
        )
    not_run = f", {left} not run" if left else ""
    output.print_note(
        f"{output.counted(made, 'run')} rehearsed, {failed} would fail{not_run}; everything was rolled back"
    )
    if failed or untrue:
        raise SystemExit(1)


# -- looking and stopping ------------------------------------------------------------------------------------------


@replay.command("list", epilog="Example: webhooks replay list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@json_option
def list_(limit: int, as_json: bool) -> None:
    """List replays, the latest first."""
    found = webhooks().store.replays.all(limit)
    if as_json:
        output.emit_json({"replays": [records.replay_json(one) for one in found]})
        return
    output.emit_table(COLUMNS, [_cells(one) for one in found], empty="no replays yet")


def _cells(one: Replay) -> tuple[str, ...]:
    selection = Selection.parse(one.selection, one.created_at)
    return (
        str(one.id), output.when(one.created_at), one.state.label, f"{one.events:,}", f"{one.deliveries:,}",
        one.created_by, str(selection), one.why or "",
    )  # fmt: skip


@replay.command("show", epilog="Example: webhooks replay show 889211340439552")
@click.argument("replay_id", metavar="ID")
@json_option
def show(replay_id: str, as_json: bool) -> None:
    """Show one replay and how its deliveries stand."""
    instance = webhooks()
    one = instance.make_replayer().get(parse_id(replay_id, "replay"))
    progress = {state.label: number for state, number in instance.store.replays.progress(one.id).items()}
    if as_json:
        output.emit_json(records.replay_json(one, progress))
        return
    options = ", ".join(f"{name} {value}" for name, value in sorted(one.options.items()))
    fields = [
        ("id", str(one.id)), ("state", one.state.label), ("created", output.when(one.created_at)),
        ("by", one.created_by), ("why", one.why or ""),
        ("selection", str(Selection.parse(one.selection, one.created_at))), ("options", options),
        ("events", f"{one.events:,}"), ("deliveries", f"{one.deliveries:,}"), ("stand", words.states(progress)),
        ("finished", output.when(one.finished_at)),
    ]  # fmt: skip
    output.emit_fields(fields)
    if one.pruned:
        output.print_note(words.pruned_line(one.pruned))
    if one.state.label == "open":
        maker = "a worker makes them; to do it here" if one.options.get("detached") else "if no process is at it"
        output.print_note(f"its deliveries are not all made; {maker}: webhooks replay resume {one.id}")
    if progress.get("dead"):
        output.print_note(f"see what failed: webhooks deliveries list --replay {one.id} --state dead")


@replay.command("cancel", epilog="Example: webhooks replay cancel 889211340439552")
@click.argument("replay_id", metavar="ID")
@json_option
def cancel(replay_id: str, as_json: bool) -> None:
    """Stop a replay: nothing more is made for it, and what has not run is cancelled."""
    id = parse_id(replay_id, "replay")
    cancelled = webhooks().make_replayer().cancel(id, actor=actor())
    if as_json:
        output.emit_json({"replay_id": str(id), "deliveries": cancelled})
    else:
        output.print_note(f"replay {id} is cancelled, with {output.counted(cancelled, 'delivery')} that had not run")


@replay.command("resume", epilog="Example: webhooks replay resume 889211340439552")
@click.argument("replay_id", metavar="ID")
@wait_option
@json_option
def resume(replay_id: str, wait: bool, as_json: bool) -> None:
    """Continue a replay whose process was stopped; nothing is made twice."""
    instance = webhooks()
    replayer = instance.make_replayer()
    one = replayer.get(parse_id(replay_id, "replay"))
    if one.state.label != "open":
        raise ReplayError(f"replay {one.id} is {one.state.label}; there is nothing to resume")
    Journal(instance.store).note(Verb.REPLAY_RESUME, actor(), str(one.id))
    _report(instance, _run(replayer, one, 0), None, as_json, wait)
