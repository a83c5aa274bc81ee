"""Sources: the configured senders as the settings have them, and what the database knows of each.

`view` asks no database, so that there is something to show while it cannot be asked; key files are read. Secrets appear by
their labels only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from webhooks.operations.keys import KeyView
from webhooks.operations.keys import of_source as keys_of

if TYPE_CHECKING:
    from webhooks.sources import Source
    from webhooks.store import Store
    from webhooks.store.listings import SourceStats


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """What the database knows.

    events: {source: figures of the last day}.
    key_uses: {source: {label of a key: when it was last used}}.
    """

    events: Mapping[str, SourceStats]
    key_uses: Mapping[str, Mapping[str, datetime]]


@dataclass(frozen=True, slots=True)
class SourceView:
    """One source.

    path: where posts to it go, below this server.
    secrets: {label: when it was last used, or None}.
    keys: the same with what a rotation asks: whether it is held, since when, and whether it may go.
    tolerance: how far the signed time may be from now; None where no time is signed.
    events_last_day: None when the database cannot be asked.
    last_received_at: within the last day.
    """

    name: str
    scheme: str
    path: str
    secrets: Mapping[str, datetime | None]
    tolerance: timedelta | None
    signs_whole_body: bool
    events_last_day: int | None
    last_received_at: datetime | None
    keys: Sequence[KeyView] = ()


def read_figures(store: Store, names: Collection[str]) -> SourceFigures:
    """Ask the database about these sources."""
    figures = store.listings.received(timedelta(days=1))
    return SourceFigures({one.source: one for one in figures}, store.key_uses.every(names))


def view(sources: Mapping[str, Source], url_prefix: str, figures: SourceFigures | None) -> list[SourceView]:
    """The configured sources by name. figures: None when the database cannot be asked."""
    return [_view(name, source, url_prefix, figures) for name, source in sorted(sources.items())]


def _view(name: str, source: Source, url_prefix: str, figures: SourceFigures | None) -> SourceView:
    stats = figures.events.get(name) if figures is not None else None
    used = figures.key_uses.get(name, {}) if figures is not None else {}
    keys = keys_of(source, used)
    return SourceView(
        name=name,
        scheme=source.scheme or source.settings.scheme,
        path=f"{url_prefix.rstrip('/')}/{name}",
        secrets={key.label: key.last_used_at for key in keys},
        tolerance=source.tolerance,
        signs_whole_body=source.signs_whole_body,
        events_last_day=stats.events if stats else None if figures is None else 0,
        last_received_at=stats.last_received_at if stats else None,
        keys=keys,
    )


__all__ = ["SourceFigures", "SourceView", "read_figures", "view"]
