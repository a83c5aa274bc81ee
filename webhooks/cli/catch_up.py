"""`webhooks catch-up`: read a sender's event log, and accept what never reached us."""

from __future__ import annotations

import os
import socket
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import click

from webhooks.cli import output
from webhooks.cli.context import actor, json_option, tell_instant, webhooks
from webhooks.errors import SelectionError
from webhooks.formats import did_you_mean, printable
from webhooks.operations import caught_up, records
from webhooks.selection import parse_time

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.operations import Report
    from webhooks.sources import SourceWithLog


@click.command("catch-up", epilog="Example: webhooks catch-up close --since 6h")
@click.argument("source", required=False)
@click.option("--source", "named", metavar="NAME", help="The same as SOURCE. Default: the only one that can be asked.")
@click.option(
    "--since",
    metavar="TIME",
    help="Changed at or after: 6h, yesterday, or ISO 8601. Default: where the last complete run ended.",
)
@click.option("--until", metavar="TIME", help="Changed up to here. Default: now.")
@click.option("--dry-run", is_flag=True, help="Only say what would be added.")
@json_option
def catch_up(
    source: str | None, named: str | None, since: str | None, until: str | None, dry_run: bool, as_json: bool
) -> None:
    """Accept what happened according to SOURCE's event log and never reached us; known events stay as they are.

    A sender whose log holds no events (PayPal, GitHub) is asked to deliver again what never came. May be run at any time and again: what is stored already is not stored twice. An interrupted run continues where it was.
    """
    instance = webhooks()
    report = run(instance, source or named or only_log(instance), since, until, dry_run=dry_run)
    if as_json:
        output.emit_json(records.report_json(report))
    else:
        tell(report)
    if report.stripped:
        raise SystemExit(1)


def run(instance: Webhooks, name: str, since: str | None, until: str | None, *, dry_run: bool = False) -> Report:
    """Catch up with a source, showing progress. Raises SelectionError, ConfigurationError, ApiError, Busy."""
    source = source_with_log(instance, name)
    now = instance.clock()
    begin = None if since is None else parse_time(since, now, "since")
    end = None if until is None else parse_time(until, now, "until")
    tell_instant("since", since, begin)
    tell_instant("until", until, end)
    if begin is not None and begin >= (end or now):
        raise SelectionError(f"since {output.when(begin)} is not before until {output.when(end or now)}")
    with source.connect() as client, LogProgress(begin, end or now) as progress:
        made = instance.make_catch_up(source, client, holder(), progress)
        if dry_run:
            return made.run(begin, end, dry_run=True)
        return caught_up(
            instance.store, source.name, lambda: made.run(begin, end), actor=actor(), since=begin, until=end
        )


def only_log(instance: Webhooks) -> str:
    """The name of the only source whose sender can be asked. Raises SelectionError where there is not exactly one."""
    from webhooks.sources import with_log

    logs = sorted(each.name for each in instance.sources.values() if with_log(each) is not None)
    if len(logs) != 1:
        raise SelectionError(f"say with which source; there are: {', '.join(logs) or 'none that can be asked'}")
    return logs[0]


def holder() -> str:
    """By which name this command holds the duty."""
    return f"cli:{socket.gethostname()}:{os.getpid()}"


def source_with_log(instance: Webhooks, name: str) -> SourceWithLog:
    """The source of that name. Raises SelectionError when there is none, or its sender keeps no log."""
    from webhooks.sources import with_log

    logs = sorted(each.name for each in instance.sources.values() if with_log(each) is not None)
    found = instance.sources.get(name)
    if found is None:
        raise SelectionError(
            f"no source named {name!r}{did_you_mean(name, instance.sources)}; configured: {', '.join(sorted(instance.sources))}"
        )
    log = with_log(found)
    if log is None:
        if found.log_kind is not None:  # it would, with a key
            cast("SourceWithLog", found).connect()
        raise SelectionError(
            f"the sender of source {name!r} keeps no event log that can be read; sources with one: {', '.join(logs) or 'none'}"
        )
    return log


class LogProgress:
    """The bar of a catch-up on a terminal, in minutes of log; called with the instant up to which it is read."""

    def __init__(self, since: datetime | None, until: datetime) -> None:
        self._since = since
        self._until = until
        self._bar: Any = None
        self._show: Any = None

    def __enter__(self) -> LogProgress:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)

    def __call__(self, at: datetime) -> None:
        if self._bar is None:
            self._since = self._since or at
            total = max(1, int((self._until - self._since).total_seconds() // 60))
            self._bar = output.progress(total, "minutes of log")
            self._show = self._bar.__enter__()
        assert self._since is not None
        self._show(int((at - self._since).total_seconds() // 60))


#: {(the sender is asked again, it is a dry run): what becomes of what was missing}
_VERBS = {
    (False, False): "added",
    (False, True): "would be added",
    (True, False): "asked for again; they come as webhooks do",
    (True, True): "would be asked for again",
}


def tell(report: Report) -> None:
    """The report for people: what was added on stdout, the rest on stderr."""
    added = [(str(count), type) for type, count in sorted(report.added.items())]
    output.emit_table(("N", "TYPE"), added, empty="nothing was missing")
    verb = _VERBS[report.is_asked_again, report.is_dry]
    if report.is_resumed:
        output.print_note(f"continued an interrupted run, from {output.when(report.since)}")
    output.print_note(
        f"{report.source}: {output.when(report.since)} to {output.when(report.until)} UTC: "
        f"{report.fetched:,} entries read, {report.chosen:,} for us, {report.repaired:,} {verb}, "
        f"{report.duplicates:,} known already"
    )
    if report.repaired and report.cause:
        output.print_note(f"likely cause: {printable(report.cause)}")
    for number, words in (
        (report.stale, "older than what is known"),
        (report.held, "held back, because they may still grow; the next run takes them"),
        (report.unreadable, "could not be read" + ("" if report.is_asked_again else " (webhooks quarantine list)")),
        (report.refused, f"are not delivered again by {report.words.sender}; the log says why"),
    ):
        if number:
            output.print_note(f"{output.counted(number, 'entry')} {words}")
    if report.stripped:
        output.print_note(
            f"{output.counted(report.stripped, 'entry')} came without content, because the API key is not an admin's: not "
            "delivered, and the mark waits for them; set an admin's key as api_key and run this again"
        )
    if report.lost_before is not None:
        output.print_note(
            f"the log no longer reaches back to the last complete run at {output.when(report.lost_before)}: what was between is lost"
        )
    if report.gap_from is not None:
        output.print_note(
            f"the mark stays at {output.when(report.gap_from)}, because this window began after it; close the gap with: "
            f"webhooks catch-up {report.source}"
        )


__all__ = ["catch_up", "run", "tell"]
