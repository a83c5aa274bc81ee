"""Sources: when each sent last, and one of them with its keys, charts and what it was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from flask import Response

from webhooks.dashboard import figures, looks, remedies
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.charts import Chart
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.figures import Sums, sums
from webhooks.dashboard.services import Services
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound
from webhooks.formats import did_you_mean
from webhooks.operations import records
from webhooks.operations import sources as known
from webhooks.operations.examinations import SUBSCRIPTIONS
from webhooks.sources import with_log
from webhooks.sources.samples import samples_of
from webhooks.store.listings import SourceStats
from webhooks.store.tallies import WINDOWS, Kind, quantile_ms

PAGES = Pages()


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One source in a table. view: as `webhooks sources` has it. sums: of the window. expect_within: what the operator says."""

    view: known.SourceView
    sums: Sums
    p95: float | None
    expect_within: timedelta | None

    def is_silent(self, now: datetime) -> bool:
        """Whether it has sent nothing for longer than it may."""
        if self.expect_within is None:
            return False
        return self.view.last_received_at is None or now - self.view.last_received_at > self.expect_within

    @property
    def key_used_at(self) -> datetime | None:
        """When any of its keys last verified a request."""
        return max((at for at in self.view.secrets.values() if at is not None), default=None)


def lines_of(services: Services, measured: looks.Summed) -> list[SourceLine]:
    """Every configured source. Raises StorageUnavailable."""
    seen = looks.kept(services, "sources", lambda: figures_of(services), 5.0)
    found = []
    for view in known.view(services.sources, services.settings.url_prefix, seen):
        mine = measured.sums(view.name)
        expected = services.sources[view.name].settings.expect_within
        found.append(SourceLine(view, mine, quantile_ms(mine.answered, 0.95), expected))
    return found


def figures_of(services: Services) -> known.SourceFigures:
    """As `webhooks sources` has them, but for the number of events, which is the tally's: counting a million takes half a second."""
    day, store = timedelta(days=1), services.store
    counted = looks.totals(services, WINDOWS["24h"])
    found = {}
    for name, last in store.listings.last_received(day).items():
        number = sums(counted, 24 * 60, name).events
        found[name] = SourceStats(name, number, number / (24 * 60), last)
    return known.SourceFigures(found, store.key_uses.every(services.sources))


class KeyStep(NamedTuple):
    """A step of changing a key. is_done: as far as can be seen from here. command: to type on the machine with the keys."""

    is_done: bool
    text: str
    command: str = ""


def key_steps(view: known.SourceView, file: str, subscriptions: Sequence[Mapping[str, Any]]) -> list[KeyStep]:
    """How the key of a source is changed without losing an event, and how far that is. Pure.

    view: of the source, with when each key was used last.
    file: with its keys; "" where they are in the settings.
    subscriptions: at its sender, as it said last; empty for a sender without any.
    """
    used = [at for at in view.secrets.values() if at is not None]
    has_two, both_used = len(view.secrets) > 1, len(used) > 1 and len(used) == len(view.secrets)
    if subscriptions:
        (first, *more) = sorted(subscriptions, key=lambda each: each["created_at"] or "")
        is_held = bool(more) and all(each["is_key_held"] for each in more)
        is_used = bool(more) and all(each["key_last_used_at"] for each in more)
        return [
            KeyStep(
                bool(more), "A second subscription is made beside the first", f"subscriptions rotate {first['id']}"
            ),
            KeyStep(is_held, f"Its key is held{f', in {file}' if file else ''}"),
            KeyStep(is_used, "A delivery under the new key was seen; until then both are accepted"),
            KeyStep(
                False, f"{first['id']} and its key are removed; the same command does it, also when it was interrupted"
            ),
        ]
    both = '{"old": "…", "new": "…"}'
    place = f"into {file}, as JSON: {both}" if file else f"into the settings, secret = {both}, and restart"
    return [
        KeyStep(has_two, f"Write the new key {place}; the old one stays valid beside it"),
        KeyStep(both_used, "Set the new key at the sender, and see here that it was used"),
        KeyStep(False, "Take the old key out, once the sender's retries are over"),
    ]


@PAGES.get("/sources", needs=UserRole.VIEWER, forms=("html", "json"))
def sources(visit: Visit) -> Response:
    """Every configured sender."""
    services = visit.services
    if visit.form == "json":
        views = known.view(
            services.sources, services.settings.url_prefix, known.read_figures(visit.store, services.sources)
        )
        return visit.json({"sources": [records.source_json(view) for view in views]})
    window = looks.window_of(visit.text("window", "24h"))
    measured = looks.summed(services, window)
    return visit.page(
        "sources.html",
        lines=lines_of(services, measured),
        unknown=measured.sums("").refused,
        window=window,
        window_list=list(WINDOWS.values()),
    )


@PAGES.get("/sources/<path:name>", needs=UserRole.VIEWER, forms=("html", "json"))
def source(visit: Visit, name: str) -> Response:
    """One sender: its address, keys, figures, log and subscriptions."""
    services = visit.services
    if name not in services.sources:
        raise NotFound(f"no source is named {name!r}{did_you_mean(name, services.sources)}")
    if visit.form == "json":
        view = known.view(
            {name: services.sources[name]}, services.settings.url_prefix, known.read_figures(visit.store, [name])
        )
        return visit.json(records.source_json(view[0]))
    window = looks.window_of(visit.text("window", "24h"))
    measured = looks.measure(services, window, name)
    line = next(line for line in lines_of(services, looks.summed(services, window)) if line.view.name == name)
    has_log = with_log(services.sources[name]) is not None
    snapshot = looks.snapshots(services).get(SUBSCRIPTIONS)
    said: Mapping[str, Any] = snapshot.body.get(name, {}) if snapshot is not None else {}
    return visit.page(
        "source.html",
        line=line,
        source=services.sources[name],
        key_problem=services.sources[name].key_problem,
        key_steps=key_steps(
            line.view, str(services.sources[name].settings.secret_file or ""), said.get("subscriptions") or ()
        ),
        key_file=services.sources[name].settings.secret_file,
        sample=next((each.type for each in samples_of(services.sources[name])), ""),
        public_url=services.sources[name].settings.public_url,
        findings=remedies.with_remedies(visit, looks.about_source(services, name, visit.now)),
        window=window,
        window_list=list(WINDOWS.values()),
        measured=measured,
        charts=charts_of(measured),
        table=visit.text("table"),
        mark=visit.store.marks.get(name) if has_log else None,
        has_log=has_log,
        subscriptions=said,
        refused=[each for each in visit.store.rejections.latest(100, name) if each.status >= 400][:10],
    )


def charts_of(measured: looks.Measured) -> list[tuple[str, str, str, Chart]]:
    """[(name in the address, title, what it shows, chart)]."""
    points = measured.points
    return [
        ("accepted", "Accepted", "by receipt", figures.taken(points)),
        ("answered", "From request to answer", "about", figures.handled(points, kind=Kind.REQUESTS)),
    ]


__all__ = ["PAGES", "SourceLine", "charts_of", "lines_of"]
