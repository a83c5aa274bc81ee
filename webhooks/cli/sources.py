"""`webhooks sources`: the configured senders, as this directory's settings have them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import output
from webhooks.cli.context import json_option, or_explain, read_only

if TYPE_CHECKING:
    from webhooks.app import ReadOnlyContext
    from webhooks.store.listings import SourceStats

COLUMNS = ("NAME", "SCHEME", "PATH", "SECRETS", "TOLERANCE", "SIGNS", "EVENTS", "LAST EVENT")


def view(instance: ReadOnlyContext) -> list[dict[str, Any]]:
    """One mapping a source, ready for JSON; secrets by their labels only. What the database cannot be asked is None."""
    answer = or_explain(instance.database, lambda: _read(instance))
    counted, uses = answer or ({}, {})
    views = []
    for name, source in sorted(instance.sources.items()):
        stats = counted.get(name)
        tolerance = source.tolerance
        used = uses.get(name, {})
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
                "events_last_day": stats.events if stats else None if answer is None else 0,
                "last_received_at": output.iso(stats.last_received_at) if stats else None,
            }
        )
    return views


def _read(instance: ReadOnlyContext) -> tuple[Mapping[str, SourceStats], Mapping[str, Mapping[str, datetime]]]:
    """({source: figures of the last day}, {source: {label of a key: when it was last used}})."""
    figures = instance.store.listings.stats(timedelta(days=1)).sources
    return {one.source: one for one in figures}, {name: instance.store.key_uses.of(name) for name in instance.sources}


@click.command(epilog="Example: webhooks sources --json | jq -r '.sources[].name'")
@json_option
def sources(as_json: bool) -> None:
    """Show the configured sources: path, scheme, events of the last day, and when each secret was last used.

    A secret that is not used any more can go: that is how a rotation ends.
    """
    views = view(read_only())
    if as_json:
        output.emit_json({"sources": views})
        return
    rows = [
        (
            v["name"],
            v["scheme"],
            v["path"],
            _secrets(v),
            "no time is signed"
            if v["tolerance_seconds"] is None
            else output.span(timedelta(seconds=v["tolerance_seconds"])),
            "whole body" if v["signs_whole_body"] else "PART OF THE REQUEST ONLY",
            "unknown" if v["events_last_day"] is None else f"{v['events_last_day']:,} in 24 h",
            v["last_received_at"] or "",
        )
        for v in views
    ]
    output.emit_table(COLUMNS, rows, empty="no sources are configured")


def _secrets(view: Mapping[str, Any]) -> str:
    if view["events_last_day"] is None:
        return ", ".join(view["secrets"]) or "from a file"
    used = view["secrets_last_used_at"]
    return (
        ", ".join(
            f"{label} (last used {used[label][:19]})" if used[label] else f"{label} (never used)"
            for label in view["secrets"]
        )
        or "from a file, not used yet"
    )
