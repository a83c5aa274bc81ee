"""Every metric of ours, once: its name, kind, labels, unit and meaning.

The code makes its instruments from this table, `docs/metrics.md`, `deploy/prometheus` and `deploy/grafana` are checked
against it. Imports nothing, so that all of them may read it.

Labels have closed sets of values: `source` is a configured source or "", `handler` a registered handler or "other",
`queue` one that such a handler is in, `class`, `outcome`, `receipt` and `status` are ours. Never a type, tenant, id, lane, path or key.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """What Prometheus calls the type of a metric."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


class Endpoint(StrEnum):
    """Where a metric is scraped."""

    PROCESS = "/metrics"
    DATABASE = "/metrics/database"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    name: as it is scraped; a histogram's without `_bucket`, `_sum` and `_count`.
    kind: counter, histogram or gauge.
    text: one sentence, for the scrape and the documentation.
    labels: names of its labels.
    buckets: upper bounds of a histogram, in the unit that ends its name.
    mode: of a gauge, what prometheus-client makes of the values of several processes.
    place: at which path it is scraped.
    """

    name: str
    kind: MetricKind
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    mode: str = "livesum"
    place: Endpoint = Endpoint.PROCESS

    @property
    def series(self) -> tuple[str, ...]:
        """The names by which a query may ask for it."""
        if self.kind is MetricKind.HISTOGRAM:
            return tuple(f"{self.name}_{end}" for end in ("bucket", "sum", "count"))
        return (self.name,)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, MetricKind.COUNTER, text, labels)


def _histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, MetricKind.HISTOGRAM, text, labels, buckets)


def _gauge(name: str, text: str, *, mode: str = "livesum", labels: tuple[str, ...] = ()) -> Metric:
    return Metric(name, MetricKind.GAUGE, text, labels, mode=mode)


def _figure(name: str, text: str, *labels: str) -> Metric:
    """A gauge of the installation."""
    return Metric(name, MetricKind.GAUGE, text, labels, place=Endpoint.DATABASE)


#: Seconds of an answer, a commit or a claim.
ANSWER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
#: Bytes of a body.
BODY_BYTES = tuple(1024.0 * 4**n for n in range(6))
#: Events of a transaction.
BATCH_EVENTS = tuple(2.0**n for n in range(9))
#: Seconds of a handler's run.
RUN_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Seconds that a delivery was due before it started.
WAIT_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)

#: {name of a metric's part in the code: metric}: what a process did.
PROCESS = {
    "requests": _counter(
        "webhooks_requests_total",
        'Requests answered, refusals included; source "": for no configured source.',
        "source",
        "status",
    ),
    "request_seconds": _histogram(
        "webhooks_request_seconds",
        "Seconds from an accepted request that was read to its answer.",
        "source",
        buckets=ANSWER_SECONDS,
    ),
    "events": _counter(
        "webhooks_events_total",
        "Events received by what became of them: stored, duplicate, revision, stale, quarantined, conflict.",
        "source",
        "receipt",
    ),
    "body_bytes": _histogram(
        "webhooks_body_bytes", "Bytes of the bodies of accepted requests.", "source", buckets=BODY_BYTES
    ),
    "commit_seconds": _histogram(
        "webhooks_commit_seconds",
        "Seconds of a transaction that stores events, waiting for its turn included.",
        buckets=ANSWER_SECONDS,
    ),
    "commit_events": _histogram("webhooks_commit_events", "Events that shared a transaction.", buckets=BATCH_EVENTS),
    "waiting": _gauge(
        "webhooks_waiting_requests", "Requests that wait for a commit (setting waiting_room bounds them)."
    ),
    "attempts": _counter(
        "webhooks_attempts_total",
        "Attempts by outcome: succeeded, failed, timed_out, retry, discarded, filtered, lost, released.",
        "handler",
        "outcome",
    ),
    "attempt_seconds": _histogram(
        "webhooks_attempt_seconds", "Seconds that attempts ran.", "handler", buckets=RUN_SECONDS
    ),
    "wait_seconds": _histogram(
        "webhooks_wait_seconds",
        "Seconds from when a delivery was due to the start of its handler.",
        "handler",
        "class",
        buckets=WAIT_SECONDS,
    ),
    "slots": _gauge("webhooks_slots", "Handlers that a worker runs at once, at most."),
    "slots_busy": _gauge("webhooks_slots_busy", "Handlers that a worker runs now."),
    "abandoned": _gauge(
        "webhooks_abandoned_threads", "Threads of a worker that ran past their time-out and still run."
    ),
    "claim_seconds": _histogram("webhooks_claim_seconds", "Seconds of a worker's claim.", buckets=ANSWER_SECONDS),
    "claimed": _counter("webhooks_claimed_total", "Deliveries that a worker claimed."),
    "info": _gauge(
        "webhooks_info", "1 for each kind of process and version that runs.", mode="livemax", labels=("kind", "version")
    ),
}

#: The same: how the installation stands, asked of its database.
DATABASE = {
    "up": _figure("webhooks_database_up", "Whether the database could be asked; 0 comes with nothing else."),
    "due": _figure(
        "webhooks_deliveries_due", "Deliveries that wait and are due; counting stops at 10,000.", "handler", "class"
    ),
    "oldest_due": _figure(
        "webhooks_deliveries_oldest_due_seconds",
        "Seconds for which the oldest of these has been due.",
        "handler",
        "class",
    ),
    "scheduled": _figure(
        "webhooks_deliveries_scheduled", "Deliveries that are due later; counting stops at 10,000.", "handler"
    ),
    "running": _figure("webhooks_deliveries_running", "Deliveries that run; counting stops at 10,000.", "handler"),
    "dead": _figure("webhooks_deliveries_dead", "Dead deliveries; counting stops at 10,000.", "handler"),
    "failing": _figure(
        "webhooks_handler_failing_seconds",
        "Seconds since the first failure of a handler that has succeeded with nothing since; 0 when it has.",
        "handler",
    ),
    "lanes_blocked": _figure("webhooks_lanes_blocked", "Lanes that a dead delivery holds.", "handler"),
    "paused": _figure("webhooks_handler_paused", "Whether an operator paused the handler.", "handler"),
    "circuit_open": _figure(
        "webhooks_handler_circuit_open", "Whether the handler's circuit breaker is open.", "handler"
    ),
    "max_wait": _figure(
        "webhooks_handler_max_wait_seconds",
        "How long a fresh delivery may wait before an alarm, of the handlers that this process knows.",
        "handler",
    ),
    "handler_workers": _figure("webhooks_handler_workers", "Live workers that know the handler and run it.", "handler"),
    "workers": _figure("webhooks_workers", "Live workers by version.", "version"),
    "due_seconds": _figure(
        "webhooks_due_seconds",
        "Seconds of work that is due or runs, as far as more workers could do it within 30 s; see docs/scaling.md.",
        "queue",
    ),
    "queue_workers": _figure("webhooks_queue_workers", "Live workers that run the queue.", "queue"),
    "engine_age": _figure(
        "webhooks_engine_offered_age_seconds",
        "Seconds for which nothing has come of the deliveries offered to Celery; 0 while all is well, absent where none are.",
    ),
    "last_received": _figure(
        "webhooks_source_last_received_timestamp_seconds",
        "When a source last sent something signed rightly, at most 60 s late.",
        "source",
    ),
    "expect_within": _figure(
        "webhooks_source_expect_within_seconds",
        "How often a source sends at least, where expect_within says so.",
        "source",
    ),
    "subscriptions_unhealthy": _figure(
        "webhooks_subscriptions_unhealthy",
        "Subscriptions to us that the sender has paused, as it said last to a worker that looks at alarms, or to doctor.",
        "source",
    ),
    "catch_up_mark": _figure(
        "webhooks_catch_up_mark_timestamp_seconds",
        "Up to when the source's event log was read without a gap.",
        "source",
    ),
    "quarantine": _figure("webhooks_quarantine_held", "Requests in quarantine; counting stops at 10,000.", "source"),
    "unexplained": _figure(
        "webhooks_rejections_unexplained",
        "Requests refused within an hour, of the sample that is kept, of which nothing says why.",
        "source",
    ),
    "partition_held": _figure(
        "webhooks_partition_held_seconds",
        "Seconds for which the oldest partition of events could have been dropped; 0 when it is not old enough.",
    ),
    "partition_ahead": _figure(
        "webhooks_partition_ahead_seconds", "Seconds until the last partition of events ends (PostgreSQL, partitioned)."
    ),
    "table_bytes": _figure("webhooks_table_bytes", "Bytes of a table with its indexes (PostgreSQL).", "table"),
}

#: Every metric, in the order of the documentation.
METRICS: tuple[Metric, ...] = (*PROCESS.values(), *DATABASE.values())

#: Values of the label `outcome`.
OUTCOMES = ("succeeded", "failed", "timed_out", "retry", "discarded", "filtered", "lost", "released")
#: Values of the label `receipt`.
RECEIPTS = ("stored", "duplicate", "revision", "stale", "quarantined", "conflict")
#: Values of the label `class`.
CLASSES = ("fresh", "retry", "replay")
#: The label of handlers beyond the setting `metrics_handlers`.
OTHER = "other"

__all__ = [
    "CLASSES",
    "DATABASE",
    "METRICS",
    "OTHER",
    "OUTCOMES",
    "PROCESS",
    "RECEIPTS",
    "Endpoint",
    "Metric",
    "MetricKind",
]
