"""Metrics for Prometheus: what this process did, and how the installation stands.

Promises: nothing of this is imported unless the settings ask for it; label values come from closed sets, whatever a
client sends; totals never fall while gunicorn's master lives, also when a worker is killed. Not here: the signals that
are observed (`signals`), the figures of the installation (`store.gauges`), alarms.

`table` names every metric once, for the code, the documentation, `deploy/prometheus` and `deploy/grafana`. A process makes
`instruments` of it, which `observer` moves by their `cells`. `directory` is where the processes of one group keep their numbers, `master`
is gunicorn's part in that, `folding` adds up what ended processes left. `exposition` writes what a scrape gets, which
`routes` answers on the web port and `port` on a worker's own, as `autoscale` does scalers.

What surprises: prometheus-client decides when it is imported whether the numbers are one process's or a group's. So
`directory` has to be asked before anything imports it, handlers included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.http.metrics.autoscale import Autoscale as Autoscale
    from webhooks.http.metrics.directory import begin_group as begin_group
    from webhooks.http.metrics.exposition import Exposition as Exposition
    from webhooks.http.metrics.figures import as_samples as as_samples
    from webhooks.http.metrics.observer import Meter as Meter
    from webhooks.http.metrics.observer import MeteredCommit as MeteredCommit
    from webhooks.http.metrics.observer import meter_of_process as meter_of_process
    from webhooks.http.metrics.observer import worker_gauges as worker_gauges
    from webhooks.http.metrics.port import MetricsPort as MetricsPort
    from webhooks.http.metrics.routes import make_metrics_blueprint as make_metrics_blueprint
    from webhooks.http.metrics.table import METRICS as METRICS
    from webhooks.http.metrics.table import Metric as Metric
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "autoscale": ["Autoscale"],
            "directory": ["begin_group"],
            "exposition": ["Exposition"],
            "figures": ["as_samples"],
            "observer": ["Meter", "MeteredCommit", "meter_of_process", "worker_gauges"],
            "port": ["MetricsPort"],
            "routes": ["make_metrics_blueprint"],
            "table": ["METRICS", "Metric"],
        },
    )
