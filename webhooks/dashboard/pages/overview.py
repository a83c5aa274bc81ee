"""The first page: what is wrong and what to press, then figures, charts, failures, events and handlers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from flask import Response

from webhooks.dashboard import figures, looks, redacting, remedies
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.charts import Chart
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.figures import Figure, Happened
from webhooks.dashboard.pages import failures as failing
from webhooks.dashboard.services import Services
from webhooks.dashboard.visit import Visit
from webhooks.operations.actions import FACTS, Verb
from webhooks.selection import Selection
from webhooks.store.tallies import WINDOWS, Points, instant_of_minute

PAGES = Pages()

#: What people did that may explain a chart, and how much of it is marked.
MARKED = (Verb.PAUSE, Verb.RESUME, Verb.REQUEUE, Verb.CANCEL, Verb.REPLAY, Verb.CATCH_UP)
MOST_MARKS = 6


@PAGES.get("/", needs=UserRole.VIEWER, forms=("html", "json"))
def overview(visit: Visit) -> Response:
    """What is broken, since when, and what to press."""
    services = visit.services
    window = looks.window_of(visit.text("window", "1h"))
    standing, measured = looks.stand(services), looks.measure(services, window)
    if visit.form == "json":
        return visit.json(looks.doctor_document(standing))
    happened = marks_of(services, measured.points)
    failures, lines = looks.failures(services), looks.handler_lines(services, window)
    events = looks.kept(services, "latest", lambda: services.store.listings.events(Selection(), limit=10))
    return visit.page(
        "overview.html",
        findings=remedies.with_remedies(visit, standing.problems),
        standing=standing,
        last_at=events[0].received_at if events else None,
        figures=_linked(visit, measured, standing),
        window=window,
        window_list=list(WINDOWS.values()),
        measured=measured,
        charts=_drawn(services, measured, happened),
        table=visit.text("table"),
        failures=failures,
        failing_lines=failing.lines_of(visit, redacting.listed(visit, failures, 5)),
        events=events,
        lines=lines,
        without_worker=looks.no_worker(services),
    )


def _drawn(services: Services, measured: looks.Measured, happened: list[Happened]) -> list[tuple[str, str, str, Chart]]:
    """As `charts_of`; drawn once for as long as the numbers and the marks are the same."""
    name = f"drawn {measured.window.name}"
    known = services.kept.peek(name)
    if known is not None and known[0] is measured and known[1] == happened:
        charts: list[tuple[str, str, str, Chart]] = known[2]
        return charts
    _, _, charts = services.kept.get(name, lambda: (measured, happened, charts_of(measured, happened)), 0.0)
    return charts


def charts_of(measured: looks.Measured, happened: list[Happened]) -> list[tuple[str, str, str, Chart]]:
    """[(name in the address, title, what it shows, chart)]."""
    points, step = measured.points, measured.window.span
    unit = {1: "a minute", 5: "in 5 minutes", 30: "in 30 minutes", 180: "in 3 hours", 720: "in 12 hours"}[step]
    return [
        ("accepted", "Accepted", f"{unit}, by receipt", figures.taken(points, happened)),
        ("ran", "Run", f"deliveries {unit}, by outcome", figures.ran(points, happened)),
        ("handled", "From arrival to handled", "all handlers, about", figures.handled(points, happened)),
        ("waiting", "Waiting", "deliveries, sampled each minute", figures.waiting(points, happened)),
    ]


def marks_of(services: Services, points: Points) -> list[Happened]:
    """What happened and may explain a chart: starts of versions, breakers that opened, and the latest of what people did."""
    found: dict[str, datetime] = {}
    for process in looks.on_record(services).processes:
        at = found.get(process.version)
        found[process.version] = process.started_at if at is None else min(at, process.started_at)
    since = instant_of_minute(points.since)
    done = looks.kept(
        services,
        f"done {points.since}",
        lambda: services.store.actions.page(MOST_MARKS, verbs=[verb.value for verb in MARKED], since=since),
        looks.WHILE,
    )
    states = looks.on_record(services).states.items()
    opened = [(state.breaker_opened_at, name) for name, state in states if state.breaker_opened_at is not None]
    return [
        *(Happened(at, f"the breaker of {name} opened") for at, name in sorted(opened)[-MOST_MARKS:]),
        *(Happened(at, f"version {version} started") for version, at in found.items()),
        *(Happened(each.at, f"{each.by} {FACTS[Verb(each.verb)].done} {each.subject}".strip()) for each in done),
    ]


def _linked(visit: Visit, measured: looks.Measured, standing: looks.Looks) -> list[Figure]:
    """The five figures, each with the address of what is behind it."""
    waits, is_more = standing.add_up(lambda backlog: backlog.pending)
    row = figures.row(
        measured.sums(),
        looks.before(visit.services, measured.window),
        measured.window,
        (waits, standing.oldest_due_at, is_more),
        standing.add_up(lambda backlog: backlog.dead),
        visit.now,
    )
    queries: list[tuple[str, dict[str, Any]]] = [
        ("events", {"q": f"since:{measured.window.name}"}),
        ("sources", {}),
        ("handlers", {}),
        ("deliveries", {"q": "state:pending"}),
        ("failures", {}),
    ]
    return [
        replace(figure, link=visit.url(name, **query) if visit.has(name) else visit.url("events"))
        for figure, (name, query) in zip(row, queries, strict=True)
    ]


__all__ = ["PAGES", "charts_of", "marks_of"]
