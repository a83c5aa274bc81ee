"""`webhooks stats`: rates, latencies and backlog."""

from __future__ import annotations

import click

from webhooks.cli import output
from webhooks.cli.context import json_option, read_only
from webhooks.operations import records, statistics
from webhooks.selection import parse_duration
from webhooks.store.listings import Stats

SOURCE_COLUMNS = ("SOURCE", "EVENTS", "PER MINUTE", "LAST RECEIVED")
HANDLER_COLUMNS = (
    "HANDLER",
    "SUCCEEDED",
    "DEAD",
    "CANCELLED",
    "PENDING",
    "RUNNING",
    "RETRYING",
    "OLDEST UNHANDLED",
    "P50",
    "P95",
    "P99",
)


def source_rows(stats: Stats) -> list[tuple[str, ...]]:
    """One row a source, in the order of `SOURCE_COLUMNS`."""
    return [(s.source, f"{s.events:,}", f"{s.per_minute:.1f}", output.when(s.last_received_at)) for s in stats.sources]


def handler_rows(stats: Stats) -> list[tuple[str, ...]]:
    """One row a handler, in the order of `HANDLER_COLUMNS`."""
    from datetime import timedelta

    rows = []
    for h in stats.handlers:
        age = "" if h.oldest_unhandled_at is None else output.span(stats.now - h.oldest_unhandled_at)
        waits = [output.span(timedelta(milliseconds=h.wait_ms[p])) if p in h.wait_ms else "" for p in (50, 95, 99)]
        ended = (f"{n:,}" for n in (h.succeeded, h.dead, h.cancelled))
        stand = (f"{n:,}" for n in (h.pending, h.running))
        more = "+" if h.is_more else ""  # counts stop
        retrying = f"{h.retrying:,}, all fail" if h.failing_since is not None and h.retrying else f"{h.retrying:,}"
        rows.append((h.handler, *ended, *(n + more for n in stand), retrying, age, *waits))
    return rows


@click.command(epilog="Example: webhooks stats --window 15m")
@click.option("--window", default="1h", show_default=True, metavar="TIME", help="Of the last so long.")
@json_option
def stats(window: str, as_json: bool) -> None:
    """Rates, latency percentiles (commit of the event to end of the delivery), backlog, oldest unhandled."""
    found = statistics.stats(read_only().store, parse_duration(window, "window"))
    if as_json:
        output.emit_json(records.stats_json(found))
        return
    output.emit_table(SOURCE_COLUMNS, source_rows(found), empty=f"no events in the last {output.span(found.window)}")
    output.emit_table(
        HANDLER_COLUMNS,
        handler_rows(found),
        empty="no deliveries in that time, and none waits",
        spare=("CANCELLED", "P95", "RUNNING"),
    )
    if found.is_tallied:
        output.print_note(
            "about: counted as it happened, over HTTP and of what ended in that time, in whole points of time"
        )
    if not found.is_complete:
        output.print_note(
            "more deliveries were made in that time than are looked at: the figures are of the latest 100,000"
        )
