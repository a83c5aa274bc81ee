"""The instruments of one process: what prometheus-client makes of `table`.

They are in its default registry, where handlers have theirs, so they are made once a process.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from webhooks.http.metrics.table import PROCESS, Metric, MetricKind


@functools.cache
def instruments() -> Mapping[str, Any]:
    """{name of a metric's part in the code: its Counter, Histogram or Gauge}. Raises ImportError without the extra."""
    return {key: _make(metric) for key, metric in PROCESS.items()}


def _make(metric: Metric) -> Any:
    import prometheus_client

    if metric.kind is MetricKind.COUNTER:
        return prometheus_client.Counter(metric.name.removesuffix("_total"), metric.text, metric.labels)
    if metric.kind is MetricKind.HISTOGRAM:
        return prometheus_client.Histogram(metric.name, metric.text, metric.labels, buckets=metric.buckets)
    mode: Any = metric.mode
    return prometheus_client.Gauge(metric.name, metric.text, metric.labels, multiprocess_mode=mode)


__all__ = ["instruments"]
