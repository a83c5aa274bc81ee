"""The alarms of `webhooks.rules.yml`, a row each, and how they are written.

`python -m deploy.prometheus` writes the file anew. Every expression names only metrics of `webhooks.http.metrics.table`;
`tests/unit/test_deploy.py` checks that, and that the file is the one that this makes. Thresholds are meant to be changed in
the copy that you deploy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One alarm.

    alarm: its name, with dashes.
    severity: critical (wake a person), warning (today) or info.
    expression: in PromQL; the alarm stands while it has a result.
    lasting: how long before it is told.
    summary: one sentence, with the labels of the expression.
    command: what to type first.
    """

    alarm: str
    severity: str
    expression: str
    lasting: str
    summary: str
    command: str

    @property
    def name(self) -> str:
        """As Prometheus shows it: WebhooksSourceSilent."""
        return "Webhooks" + "".join(word.capitalize() for word in self.alarm.split("-"))


RULES = (
    Rule(
        "absent",
        "critical",
        "absent(webhooks_database_up) or max(webhooks_database_up) == 0",
        "2m",
        "No process can ask the database, or none is scraped.",
        "webhooks doctor",
    ),
    Rule(
        "not-accepting",
        "critical",
        'sum by (source) (rate(webhooks_requests_total{status="503"}[3m]))'
        " / sum by (source) (rate(webhooks_requests_total[3m])) > 0.02",
        "3m",
        "{{ $value | humanizePercentage }} of the requests of source {{ $labels.source }} get 503.",
        "curl -s localhost:8000/readyz",
    ),
    Rule(
        "source-silent",
        "critical",
        "time() - max by (source) (webhooks_source_last_received_timestamp_seconds)"
        " > on (source) max by (source) (webhooks_source_expect_within_seconds)",
        "0m",
        "Source {{ $labels.source }} has sent nothing for {{ $value | humanizeDuration }}.",
        "webhooks doctor",
    ),
    Rule(
        "subscription-unhealthy",
        "critical",
        "max by (source) (webhooks_subscriptions_unhealthy) > 0",
        "0m",
        "The sender of source {{ $labels.source }} has paused {{ $value | humanize }} of the subscriptions to us.",
        "webhooks subscriptions list --source {{ $labels.source }}",
    ),
    Rule(
        "refusing",
        "critical",
        'sum by (source) (increase(webhooks_requests_total{status="401",source!=""}[15m])) >= 20'
        ' and on (source) sum by (source) (increase(webhooks_events_total{receipt="stored"}[15m])) == 0',
        "0m",
        "Source {{ $labels.source }}: {{ $value | humanize }} requests were refused in 15 minutes, none stored; "
        "probably a wrong key.",
        "webhooks explain",
    ),
    Rule(
        "no-worker",
        "critical",
        "sum by (handler) (max by (handler, class) (webhooks_deliveries_due)) > 0"
        " unless on (handler) max by (handler) (webhooks_handler_workers) > 0"
        " unless on (handler) max by (handler) (webhooks_handler_paused) == 1",
        "2m",
        "Deliveries of handler {{ $labels.handler }} are due, and no live worker runs it.",
        "webhooks handlers",
    ),
    Rule(
        "queue-without-worker",
        "critical",
        "(max by (queue) (webhooks_due_seconds) > 0"
        " unless on (queue) max by (queue) (webhooks_queue_workers) > 0)"
        " and on () sum(max by (version) (webhooks_workers)) > 0",
        "2m",
        "Deliveries of queue {{ $labels.queue }} are due, and no live worker runs it.",
        "webhooks worker --queues {{ $labels.queue }}",
    ),
    Rule(
        "engine-silent",
        "critical",
        "max(webhooks_engine_offered_age_seconds) > 60",
        "2m",
        "Nothing has come of the deliveries offered to Celery for {{ $value | humanizeDuration }}.",
        "webhooks worker",
    ),
    Rule(
        "backlog-old",
        "warning",
        'max by (handler) (webhooks_deliveries_oldest_due_seconds{class="fresh"})'
        " > on (handler) max by (handler) (webhooks_handler_max_wait_seconds)"
        " unless on (handler) max by (handler) (webhooks_handler_paused) == 1",
        "2m",
        "A fresh delivery of handler {{ $labels.handler }} has been due for {{ $value | humanizeDuration }}.",
        "webhooks stats",
    ),
    Rule(
        "dead",
        "warning",
        "max by (handler) (delta(webhooks_deliveries_dead[15m])) > 0",
        "0m",
        "Deliveries of handler {{ $labels.handler }} died in the last 15 minutes.",
        "webhooks deliveries list --state dead --group",
    ),
    Rule(
        "failing",
        "warning",
        'sum by (handler) (rate(webhooks_attempts_total{outcome=~"failed|timed_out|lost"}[10m]))'
        ' / sum by (handler) (rate(webhooks_attempts_total{outcome!~"filtered|released"}[10m])) > 0.2'
        " or max by (handler) (webhooks_handler_failing_seconds) > 600",
        "10m",
        "Handler {{ $labels.handler }} fails often, or at every attempt.",
        "webhooks stats",
    ),
    Rule(
        "circuit-open",
        "warning",
        "max by (handler) (webhooks_handler_circuit_open) == 1",
        "5m",
        "The circuit breaker of handler {{ $labels.handler }} stays open.",
        "webhooks handlers",
    ),
    Rule(
        "lane-blocked",
        "warning",
        "max by (handler) (webhooks_lanes_blocked) > 0",
        "5m",
        "Dead deliveries hold {{ $value | humanize }} lanes of handler {{ $labels.handler }}.",
        "webhooks deliveries list --blocked",
    ),
    Rule(
        "quarantine",
        "warning",
        "max by (source) (webhooks_quarantine_held) > 0",
        "5m",
        "{{ $value | humanize }} requests of source {{ $labels.source }} are in quarantine.",
        "webhooks quarantine list",
    ),
    Rule(
        "partition-ending",
        "warning",
        "min(webhooks_partition_ahead_seconds) < 259200",
        "15m",
        "The last partition of events ends in {{ $value | humanizeDuration }}.",
        "webhooks db partition",
    ),
    Rule(
        "partition-held",
        "warning",
        "max(webhooks_partition_held_seconds) > 900",
        "15m",
        "The oldest partition of events could have been dropped {{ $value | humanizeDuration }} ago.",
        "webhooks db partition --status",
    ),
    Rule(
        "paused-long",
        "info",
        "max by (handler) (webhooks_handler_paused) == 1",
        "1h",
        "Handler {{ $labels.handler }} has been paused for an hour.",
        "webhooks handlers resume {{ $labels.handler }}",
    ),
)


def as_yaml() -> str:
    """The rule file. Strings are written as JSON, which YAML reads."""
    lines = [
        "# Made by `python -m deploy.prometheus` from deploy/prometheus/rules.py. Checked by promtool check rules.",
        "groups:",
        "  - name: webhooks",
        "    rules:",
    ]
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {json.dumps(rule.expression)}",
            *([f"        for: {rule.lasting}"] if rule.lasting != "0m" else []),
            "        labels:",
            f"          severity: {rule.severity}",
            f"          alarm: {rule.alarm}",
            "        annotations:",
            f"          summary: {json.dumps(rule.summary)}",
            f"          command: {json.dumps(rule.command)}",
        ]
    return "\n".join([*lines, ""])
