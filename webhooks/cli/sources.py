"""`webhooks sources`: the configured senders, as this directory's settings have them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import output
from webhooks.cli.context import desk, json_option

if TYPE_CHECKING:
    from webhooks.cli.context import Desk

COLUMNS = ("NAME", "SCHEME", "PATH", "SECRETS", "TOLERANCE", "SIGNS", "EVENTS", "LAST EVENT")


def view(instance: Desk) -> list[dict[str, Any]]:
    """One mapping a source, ready for JSON; secrets by their labels only."""
    counted = {stats.source: stats for stats in instance.store.listings.stats(timedelta(days=1)).sources}
    views = []
    for name, source in sorted(instance.sources.items()):
        stats = counted.get(name)
        tolerance = source.tolerance
        used = instance.store.key_uses.of(name)
        # labels of a secret file, or of secrets that are gone, are known from their use only
        labels = list(dict.fromkeys([*(secret.label for secret in source.settings.secrets), *used]))
        views.append(
            {
                "name": name,
                "scheme": source.scheme or source.settings.scheme,
                "path": f"{instance.settings.url_prefix.rstrip('/')}/{name}",
                "secrets": labels,
                "secrets_last_used_at": {label: output.iso(used.get(label)) for label in labels},
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
    """Show the configured sources: path, scheme, events of the last day, and when each secret was last used.

    A secret that is not used any more can go: that is how a rotation ends.
    """
    views = view(desk())
    if as_json:
        output.emit_json({"sources": views})
        return
    rows = [
        (
            v["name"],
            v["scheme"],
            v["path"],
            ", ".join(
                f"{label} (last used {(v['secrets_last_used_at'][label] or 'never')[:19]})" for label in v["secrets"]
            )
            or "from a file, not used yet",
            "no time is signed"
            if v["tolerance_seconds"] is None
            else output.span(timedelta(seconds=v["tolerance_seconds"])),
            "whole body" if v["signs_whole_body"] else "PART OF THE REQUEST ONLY",
            f"{v['events_last_day']:,} in 24 h",
            v["last_received_at"] or "",
        )
        for v in views
    ]
    output.emit_table(COLUMNS, rows, empty="no sources are configured")
