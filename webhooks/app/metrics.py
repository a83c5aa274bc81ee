"""Where metrics meet the other objects; nothing of `http.metrics` is imported unless the settings ask for it.

A web process has them when `metrics` is true, a worker when it has a `metrics_port`; commands never.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from webhooks.errors import ConfigurationError
from webhooks.version import VERSION, install

if TYPE_CHECKING:
    from flask import Flask

    from webhooks.app.webhooks import Webhooks
    from webhooks.delivery import Worker
    from webhooks.http.metrics import Autoscale, Meter
    from webhooks.intake import GroupCommit
    from webhooks.routing import Registry
    from webhooks.settings import Settings
    from webhooks.store import Store

logger = logging.getLogger(__name__)

#: The database has so long to answer for its figures.
PATIENCE = timedelta(seconds=2)


def prepare(settings: Settings, role: str) -> bool:
    """Whether a process of that role counts; to be asked before handlers are loaded, which may count as well.

    Raises `ConfigurationError` when prometheus-client is missing.
    """
    works = role in ("worker", "child")
    if not (settings.metrics if role == "web" else works and settings.metrics_port is not None):
        return False
    require_library()
    if works:
        from webhooks.http.metrics import begin_group

        begin_group()
    elif os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn") and not os.environ.get(
        "PROMETHEUS_MULTIPROC_DIR"
    ):
        logger.warning(
            "each process of gunicorn counts for itself, so a scrape sees one of them: say metrics = true in webhooks.toml "
            "or the environment, where gunicorn's master reads it, and start it by `webhooks run` or our settings"
        )
    return True


def require_library() -> None:
    """Raise `ConfigurationError` when prometheus-client is missing."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise ConfigurationError(f"metrics need prometheus-client, which is missing: {install('metrics')}")


def make_meter(settings: Settings, kind: str, sources: Iterable[str], registry: Registry) -> Meter:
    """The meter of this process, which observes from now on.

    kind: the role of this process.
    sources: names of the configured ones.
    registry: its handlers have series of their own.
    """
    require_library()
    from webhooks.http.metrics import meter_of_process

    meter = meter_of_process()
    meter.learn(sources, [handler.name for handler in registry.handlers()], limit=settings.metrics_handlers)
    meter.say_what_runs("web" if kind == "web" else "worker", VERSION)
    meter.connect()
    return meter


def metered_commit(meter: Meter, record: Callable[..., Any], **options: Any) -> GroupCommit:
    """The group commit of a process that counts. record, options: as `GroupCommit`'s."""
    from webhooks.http.metrics import MeteredCommit

    return MeteredCommit(record, meter=meter, **options)


def figures_of(store: Store, webhooks: Webhooks) -> Callable[[], Iterator[Any]]:
    """What asks a store how the installation of an application stands."""
    from webhooks.app.alarms import bounds_of
    from webhooks.http.metrics import as_samples

    bounds, limit = bounds_of(webhooks.settings, webhooks.registry), webhooks.settings.metrics_handlers
    return lambda: as_samples(store.gauges.read(), webhooks.sources, limit=limit, bounds=bounds)


def autoscale_of(webhooks: Webhooks, read: Callable[[], Any], concurrency: int) -> Autoscale:
    """What answers scalers.

    read: asks the database how the installation stands.
    concurrency: handlers that a worker runs at once.
    """
    from webhooks.http.metrics import Autoscale

    queues = {handler.queue for handler in webhooks.registry.handlers()}
    return Autoscale(read, queues=queues, concurrency=concurrency)


def add_routes(webhooks: Webhooks, app: Flask, prefix: str | None) -> None:
    """Give an application `/metrics`, `/metrics/database` and `/autoscale` below `prefix`, behind the token."""
    from webhooks.http.metrics import Exposition, make_metrics_blueprint

    figures = figures_of(webhooks.store, webhooks)
    exposition = Exposition(lambda: webhooks.call(lambda: list(figures())))
    token = webhooks.settings.metrics_token or ""
    autoscale = autoscale_of(webhooks, lambda: webhooks.call(webhooks.store.gauges.read), webhooks.settings.concurrency)
    blueprint = make_metrics_blueprint(exposition, autoscale, token=token, name=f"{webhooks.name}_metrics")
    app.register_blueprint(blueprint, url_prefix=prefix)


def serve(webhooks: Webhooks, worker: Worker) -> None:
    """Count what a worker does, and serve that on a port of its own. Call before it runs.

    Its figures come by a connection of their own: they wait for no handler, and for no longer than `PATIENCE`.
    """
    from webhooks.app.assembly import make_store
    from webhooks.database.connect import connect
    from webhooks.http.metrics import Exposition, MetricsPort, worker_gauges

    settings = webhooks.settings
    # there is none in an application that was made for the web, and works now
    meter = webhooks.meter or make_meter(settings, "worker", webhooks.sources, webhooks.registry)
    webhooks.metrics_database = connect(
        settings.database_url,
        schema=settings.database_schema,
        clock=webhooks.clock,
        patience=PATIENCE,
        pool_size=1,
        application="webhooks metrics",
        pooler=settings.database_pooler,
    )
    worker.claim_observer = meter.time_claim
    store = make_store(webhooks.metrics_database, {})
    exposition = Exposition(figures_of(store, webhooks), before=worker_gauges(meter, worker), folds=True)
    webhooks.metrics_port = MetricsPort(
        exposition,
        autoscale_of(webhooks, store.gauges.read, worker.settings.slots),
        host=settings.metrics_host,
        port=settings.metrics_port or 0,
        token=settings.metrics_token or "",
    )
    webhooks.metrics_port.start()


__all__ = [
    "PATIENCE",
    "add_routes",
    "autoscale_of",
    "figures_of",
    "make_meter",
    "metered_commit",
    "prepare",
    "require_library",
    "serve",
]
