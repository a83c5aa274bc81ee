"""`webhooks sources`: the configured senders, as this directory's settings have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import output
from webhooks.cli.context import desk, json_option

if TYPE_CHECKING:
    from webhooks.cli.context import Desk

COLUMNS = ("NAME", "SCHEME", "PATH", "SECRETS", "TOLERANCE", "SIGNS", "EVENTS", "LAST EVENT")


def view(instance: Desk) -> list[dict[str, Any]]:
    """One mapping a source, ready for JSON; secrets by their labels only."""
    from datetime import timedelta

    counted = {stats.source: stats for stats in instance.store.listings.stats(timedelta(days=1)).sources}
    views = []
    for name, source in sorted(instance.sources.items()):
        stats = counted.get(name)
        tolerance = source.settings.tolerance
        views.append(
            {
                "name": name,
                "scheme": source.scheme or source.settings.scheme,
                "path": f"{instance.settings.url_prefix.rstrip('/')}/{name}",
                "secrets": [secret.label for secret in source.settings.secrets],
                "tolerance_seconds": None if tolerance is None else tolerance.total_seconds(),
                "signs_whole_body": source.signs_whole_body,
                "events_last_day": stats.events if stats else 0,
                "last_received_at": output.iso(stats.last_received_at) if stats else None,
            }
        )
    return views


@click.command(epilog="Example: webhooks sources --json | jq -r '.sources[].name'")
@json_option
def sources(as_json: bool) -> None:
    """Show the configured sources: path, scheme, labels of their secrets, events of the last day."""
    views = view(desk())
    if as_json:
        output.emit_json({"sources": views})
        return
    rows = [
        (
            v["name"],
            v["scheme"],
            v["path"],
            ", ".join(v["secrets"]) or "from a file",
            "the scheme's own" if v["tolerance_seconds"] is None else f"{v['tolerance_seconds']:g} s",
            "whole body" if v["signs_whole_body"] else "PART OF THE REQUEST ONLY",
            f"{v['events_last_day']:,} in 24 h",
            v["last_received_at"] or "",
        )
        for v in views
    ]
    output.emit_table(COLUMNS, rows, empty="no sources are configured")
