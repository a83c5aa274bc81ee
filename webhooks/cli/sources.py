"""`webhooks sources`: the configured senders, as this directory's settings have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from webhooks.cli import output
from webhooks.cli.context import json_option, or_explain, read_only
from webhooks.operations import records
from webhooks.operations import sources as known

if TYPE_CHECKING:
    from webhooks.operations.sources import SourceView

COLUMNS = ("NAME", "SCHEME", "PATH", "SECRETS", "TOLERANCE", "SIGNS", "EVENTS", "LAST EVENT")


@click.command(epilog="Example: webhooks sources --json | jq -r '.sources[].name'")
@json_option
def sources(as_json: bool) -> None:
    """Show the configured sources: path, scheme, events of the last day, and when each secret was last used.

    A secret that is not used any more can go: that is how a rotation ends.
    """
    context = read_only()
    figures = or_explain(context.database, lambda: known.read_figures(context.store, context.sources))
    views = known.view(context.sources, context.settings.url_prefix, figures)
    if as_json:
        output.emit_json({"sources": [records.source_json(view) for view in views]})
        return
    output.emit_table(COLUMNS, [_cells(view) for view in views], empty="no sources are configured")


def _cells(view: SourceView) -> tuple[str, ...]:
    return (
        view.name,
        view.scheme,
        view.path,
        _secrets(view),
        "no time is signed" if view.tolerance is None else output.span(view.tolerance),
        "whole body" if view.signs_whole_body else "PART OF THE REQUEST ONLY",
        "unknown" if view.events_last_day is None else f"{view.events_last_day:,} in 24 h",
        output.iso(view.last_received_at) or "",
    )


def _secrets(view: SourceView) -> str:
    """The labels of its secrets, and when each was last used, to the second."""
    if view.events_last_day is None:
        return ", ".join(view.secrets) or "from a file"
    used = {label: (output.iso(at) or "")[:19] for label, at in view.secrets.items()}
    words = [f"{label} (last used {at})" if at else f"{label} (never used)" for label, at in used.items()]
    return ", ".join(words) or "from a file, not used yet"
