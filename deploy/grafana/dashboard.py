"""The dashboard of `webhooks.json`, a panel a row of this table, for Grafana 11 and later.

`python -m deploy.grafana` writes the file anew, so that a change can be read here. `tests/unit/test_deploy.py` checks that
the file is the one that this makes, and that every expression names metrics of ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Panel:
    """One picture. kind: Grafana's type of panel. queries: (PromQL, legend). unit: Grafana's name of it."""

    title: str
    kind: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    width: int = 8


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Is it well",
        (
            Panel(
                "Alarms",
                "stat",
                "none",
                (('count(ALERTS{alertname=~"Webhooks.*",alertstate="firing"}) or vector(0)', ""),),
                4,
            ),
            Panel("Database", "stat", "bool_yes_no", (("max(webhooks_database_up)", ""),), 4),
            Panel(
                "Time since a source sent something",
                "timeseries",
                "s",
                (
                    ("time() - max by (source) (webhooks_source_last_received_timestamp_seconds)", "{{source}}"),
                    ("max by (source) (webhooks_source_expect_within_seconds)", "{{source}}, expected within"),
                ),
            ),
            Panel(
                "Refused requests",
                "timeseries",
                "reqps",
                (
                    (
                        'sum by (source, status) (rate(webhooks_requests_total{status!~"2.."}[5m]))',
                        "{{source}} {{status}}",
                    ),
                    ("max by (source) (webhooks_rejections_unexplained) > 0", "{{source}} unexplained within an hour"),
                ),
            ),
        ),
    ),
    (
        "Intake",
        (
            Panel(
                "Events by what became of them",
                "timeseries",
                "ops",
                (("sum by (source, receipt) (rate(webhooks_events_total[5m]))", "{{source}} {{receipt}}"),),
            ),
            Panel(
                "Time to the answer",
                "heatmap",
                "s",
                (("sum by (le) (increase(webhooks_request_seconds_bucket[$__rate_interval]))", "{{le}}"),),
            ),
            Panel(
                "Events a transaction, and who waits",
                "timeseries",
                "none",
                (
                    (
                        "sum(rate(webhooks_commit_events_sum[5m])) / sum(rate(webhooks_commit_events_count[5m]))",
                        "events a transaction",
                    ),
                    ("sum(webhooks_waiting_requests)", "requests that wait"),
                ),
            ),
            Panel(
                "Transactions, 95 of 100 within",
                "timeseries",
                "s",
                (("histogram_quantile(0.95, sum by (le) (rate(webhooks_commit_seconds_bucket[5m])))", "commit"),),
            ),
            Panel(
                "Body, half within",
                "timeseries",
                "bytes",
                (
                    (
                        "histogram_quantile(0.5, sum by (le, source) (rate(webhooks_body_bytes_bucket[5m])))",
                        "{{source}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Running",
        (
            Panel(
                "Attempts by outcome",
                "timeseries",
                "ops",
                (("sum by (handler, outcome) (rate(webhooks_attempts_total[5m])) > 0", "{{handler}} {{outcome}}"),),
            ),
            Panel(
                "Wait from due to start",
                "timeseries",
                "s",
                (
                    (
                        "histogram_quantile(0.5, sum by (le, class) (rate(webhooks_wait_seconds_bucket[5m])))",
                        "{{class}}, half within",
                    ),
                    (
                        "histogram_quantile(0.95, sum by (le, class) (rate(webhooks_wait_seconds_bucket[5m])))",
                        "{{class}}, 95 of 100 within",
                    ),
                ),
            ),
            Panel(
                "Runs, 95 of 100 within",
                "timeseries",
                "s",
                (
                    (
                        "histogram_quantile(0.95, sum by (le, handler) (rate(webhooks_attempt_seconds_bucket[5m])))",
                        "{{handler}}",
                    ),
                ),
            ),
            Panel(
                "Slots",
                "timeseries",
                "none",
                (
                    ("sum(webhooks_slots)", "there are"),
                    ("sum(webhooks_slots_busy)", "busy"),
                    ("sum(webhooks_abandoned_threads)", "threads past their time-out"),
                ),
            ),
            Panel(
                "Claims",
                "timeseries",
                "ops",
                (
                    ("sum(rate(webhooks_claimed_total[5m]))", "deliveries"),
                    ("sum(rate(webhooks_claim_seconds_count[5m]))", "claims"),
                ),
            ),
        ),
    ),
    (
        "Behind",
        (
            Panel(
                "Due",
                "timeseries",
                "none",
                (("max by (handler, class) (webhooks_deliveries_due)", "{{handler}} {{class}}"),),
            ),
            Panel(
                "Oldest due",
                "timeseries",
                "s",
                (
                    ("max by (handler, class) (webhooks_deliveries_oldest_due_seconds)", "{{handler}} {{class}}"),
                    ("max by (handler) (webhooks_handler_max_wait_seconds)", "{{handler}}, alarm beyond"),
                ),
            ),
            Panel(
                "Scheduled and running",
                "timeseries",
                "none",
                (
                    ("max by (handler) (webhooks_deliveries_scheduled)", "{{handler}} scheduled"),
                    ("max by (handler) (webhooks_deliveries_running)", "{{handler}} running"),
                ),
            ),
            Panel("Dead", "timeseries", "none", (("max by (handler) (webhooks_deliveries_dead)", "{{handler}}"),)),
            Panel(
                "Held back",
                "timeseries",
                "none",
                (
                    ("max by (handler) (webhooks_lanes_blocked) > 0", "{{handler}} lanes blocked"),
                    ("max by (handler) (webhooks_handler_paused) > 0", "{{handler}} paused"),
                    ("max by (handler) (webhooks_handler_circuit_open) > 0", "{{handler}} circuit open"),
                    ("max by (source) (webhooks_quarantine_held) > 0", "{{source}} in quarantine"),
                    ("max by (source) (webhooks_subscriptions_unhealthy) > 0", "{{source}} subscriptions paused"),
                ),
            ),
            Panel(
                "Failing at every attempt since",
                "timeseries",
                "s",
                (("max by (handler) (webhooks_handler_failing_seconds) > 0", "{{handler}}"),),
            ),
        ),
    ),
    (
        "Machines",
        (
            Panel(
                "Live workers by version",
                "timeseries",
                "none",
                (("max by (version) (webhooks_workers)", "{{version}}"),),
            ),
            Panel(
                "Live workers of a handler",
                "timeseries",
                "none",
                (("max by (handler) (webhooks_handler_workers)", "{{handler}}"),),
            ),
            Panel(
                "Workers of a queue, and seconds of work that wait for them",
                "timeseries",
                "none",
                (
                    ("max by (queue) (webhooks_queue_workers)", "{{queue}} workers"),
                    ("max by (queue) (webhooks_due_seconds)", "{{queue}} seconds"),
                ),
            ),
            Panel("What is scraped", "table", "none", (("sum by (kind, version, instance) (webhooks_info)", ""),)),
            Panel("Bytes of tables", "timeseries", "bytes", (("max by (table) (webhooks_table_bytes)", "{{table}}"),)),
            Panel(
                "Event log read up to, ago",
                "timeseries",
                "s",
                (("time() - max by (source) (webhooks_catch_up_mark_timestamp_seconds)", "{{source}}"),),
            ),
            Panel("Celery silent for", "stat", "s", (("max(webhooks_engine_offered_age_seconds)", ""),)),
            Panel("Partitions end in", "stat", "s", (("min(webhooks_partition_ahead_seconds)", ""),)),
            Panel("Oldest partition held for", "stat", "s", (("max(webhooks_partition_held_seconds)", ""),)),
        ),
    ),
)

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 24, 8


def as_json() -> str:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": []}
            | {"gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": y}}
        )
        y, x = y + 1, 0
        for panel in row:
            if x + panel.width > _WIDTH:
                x, y = 0, y + _HEIGHT
            panels.append(_panel(panel, len(panels) + 1, x, y))
            x += panel.width
        y += _HEIGHT
    dashboard = {
        "uid": "webhooks",
        "title": "webhooks",
        "tags": ["webhooks"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }
    return json.dumps(dashboard, indent=1) + "\n"


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    form = "heatmap" if panel.kind == "heatmap" else "table" if panel.kind == "table" else "time_series"
    targets = [
        {
            "refId": chr(ord("A") + n),
            "datasource": _SOURCE,
            "expr": expression,
            "legendFormat": legend,
            "format": form,
            "instant": panel.kind == "table",
            "range": panel.kind != "table",
        }
        for n, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {},
        "targets": targets,
    }
