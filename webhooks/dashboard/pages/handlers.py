"""Handlers: how each runs, and one of them with its charts, failures and latest deliveries."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from flask import Response

from webhooks.dashboard import figures, looks, redacting, remedies
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.charts import Chart
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.pages import failures as failing
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound
from webhooks.formats import did_you_mean
from webhooks.model import DeliveryState
from webhooks.operations import Verb, records
from webhooks.operations import handlers as known
from webhooks.routing import Handler
from webhooks.selection import Selection
from webhooks.store.tallies import WINDOWS

PAGES = Pages()

#: Attempts that the chart shows apart.
MOST_ATTEMPTS = 20


class CodePlace(NamedTuple):
    """Where a handler is written. file: below the working directory where it lies there."""

    file: str
    line: int


@PAGES.get("/handlers", needs=UserRole.VIEWER, forms=("html", "json"))
def handlers(visit: Visit) -> Response:
    """Every handler, those that are not well first."""
    services = visit.services
    if visit.form == "json":
        views = _views(visit)
        replies = [records.reply_json(each) for each in services.registry.replies.all()]
        return visit.json({"handlers": [records.handler_json(view) for view in views], "replies": replies})
    window = looks.window_of(visit.text("window", "1h"))
    return visit.page(
        "handlers.html",
        lines=looks.handler_lines(services, window),
        replies=services.registry.replies.all(),
        window=window,
        window_list=list(WINDOWS.values()),
        without_worker=looks.no_worker(services),
    )


@PAGES.get("/handlers/<path:name>", needs=UserRole.VIEWER, forms=("html", "json"))
def handler(visit: Visit, name: str) -> Response:
    """One handler: its state, what it asks for, how it ran, what failed."""
    services = visit.services
    if visit.form == "json":
        views = _views(visit)
        return visit.json(
            records.handler_json(next((view for view in views if view.name == name), None) or _unknown(name, views))
        )
    window = looks.window_of(visit.text("window", "1h"))
    lines = looks.handler_lines(services, window)
    line = next((line for line in lines if line.view.name == name), None)
    if line is None:
        _unknown(name, [line.view for line in lines])
    assert line is not None
    measured = looks.measure(services, window, name)
    failed = visit.store.health.latest_failures().get(name)
    ended = _ended(visit, name)
    listings, registered = visit.store.listings, services.registry.get(name)
    dead = listings.failures(Selection(handler=name), limit=10, look_at=looks.LOOK_AT, until=visit.now)
    return visit.page(
        "handler.html",
        line=line,
        handler=registered,
        place=place_of(registered),
        pause=visit.store.actions.latest(Verb.PAUSE, name) if line.view.state == "paused" else None,
        findings=remedies.with_remedies(visit, looks.about_handler(services, name)),
        window=window,
        window_list=list(WINDOWS.values()),
        measured=measured,
        charts=[*charts_of(measured), _attempts(ended)],
        table=visit.text("table"),
        failing_lines=failing.lines_of(visit, redacting.listed(visit, dead)),
        latest=redacting.deliveries(visit, listings.deliveries(Selection(handler=name), limit=10)),
        succeeded_at=max(
            (at for (_, state), (_, at) in ended.items() if state is DeliveryState.SUCCEEDED and at), default=None
        ),
        failed_at=failed[0] if failed is not None else None,
        error=redacting.kind_of(visit, failed[1]) if failed is not None else None,
        without_worker=looks.no_worker(services),
    )


def _views(visit: Visit) -> list[known.HandlerView]:
    """As the command shows them."""
    views = known.view(visit.services.registry.handlers(), known.on_record(visit.store))
    return [dataclasses.replace(view, error=redacting.kind_of(visit, view.error)) for view in views]


def charts_of(measured: looks.Measured) -> list[tuple[str, str, str, Chart]]:
    """[(name in the address, title, what it shows, chart)]."""
    points = measured.points
    return [
        ("ran", "Run", "by outcome", figures.ran(points)),
        ("handled", "From arrival to handled", "about", figures.handled(points)),
        ("waiting", "Waiting", "sampled each minute", figures.waiting(points)),
    ]


def _ended(visit: Visit, name: str) -> Mapping[tuple[int, DeliveryState], tuple[int, datetime | None]]:
    """{(attempts, state): (how many, the last)} of its latest deliveries."""
    listings = visit.store.listings
    return looks.kept(
        visit.services, f"ended {name}", lambda: listings.ended_at_attempt(name, look_at=looks.LOOK_AT), looks.WHILE
    )


def _attempts(ended: Mapping[tuple[int, DeliveryState], tuple[int, datetime | None]]) -> tuple[str, str, str, Chart]:
    """The chart of attempts."""
    numbers = {key: n for key, (n, _) in ended.items()}
    return "attempts", "Attempts", "after which its latest deliveries ended", figures.attempts(numbers, MOST_ATTEMPTS)


def place_of(handler: Handler | None) -> CodePlace | None:
    """Where its function is written; None where that is not known."""
    if handler is None:
        return None
    function = inspect.unwrap(handler.function)
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    file = Path(code.co_filename)
    here = Path.cwd()
    return CodePlace(str(file.relative_to(here) if file.is_relative_to(here) else file.name), code.co_firstlineno)


def _unknown(name: str, views: list[known.HandlerView]) -> known.HandlerView:
    names = [view.name for view in views]
    raise NotFound(f"no handler is named {name!r}{did_you_mean(name, names)}; known: {', '.join(names) or 'none'}")


__all__ = ["PAGES", "charts_of", "place_of"]
