"""Our task on an application of Celery's: `attach` for theirs, `make_app` for those without one.

What surprises: the task acknowledges early, is never tried again by Celery and keeps no result. A delivery that is lost
with its process is taken over when its lease ends, as from any worker; late acknowledgements would only bring the
broker's own time-outs and delivery limits.

The configuration of an application is not touched: only options of the one task are set, and no queue is declared beyond
what the application declares when it publishes.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from webhooks.contrib.celery.engine import Engine, longest_timeout, require_postgresql
from webhooks.contrib.celery.feeder import Feeder, FeederSettings
from webhooks.contrib.celery.publisher import PATIENCE, Publisher
from webhooks.errors import ConfigurationError, WebhooksError
from webhooks.formats import DEFAULT_QUEUE
from webhooks.version import install

if TYPE_CHECKING:
    from celery import Celery

    from webhooks.app import Webhooks
    from webhooks.settings import Settings

logger = logging.getLogger(__name__)

TASK = "webhooks.run"
#: The queue of Celery that `DEFAULT_QUEUE` is offered to, unless `attach` is told otherwise.
QUEUE = "webhooks"
#: Pools whose behaviour with our threads is tested.
TESTED_POOLS = ("prefork", "thread", "solo")


def attach(
    celery_app: Celery,
    *,
    queues: Mapping[str, str] | None = None,
    flask_app: str = "",
) -> Any:
    """Register the task `webhooks.run` on an application of yours, and return it.

    queues: {queue of handlers: queue of Celery}; default {"default": "webhooks"}. Handlers in other queues are not offered.
    flask_app: the application of Flask that has the consumer, as `flask --app` takes it; default: none, and settings are those of
        the working directory. It is imported in processes of `celery worker` only.
    """
    engine = Engine(functools.partial(_load, flask_app))
    mapping = dict(queues or {DEFAULT_QUEUE: QUEUE})
    options = {
        "shared": False,  # Celery puts it on every other application of the process else
        "acks_late": False,
        "ignore_result": True,
        "store_errors_even_if_ignored": False,
        "serializer": "json",
        "max_retries": 0,
        "webhooks_queues": mapping,
    }

    def run(ids: Any) -> None:
        """Run those of the deliveries that may be run."""
        engine.run(ids)

    _listen(celery_app, engine, mapping)
    return celery_app.task(name=TASK, **options)(run)


def make_app(settings: Settings) -> Celery:
    """An application of ours, for those without one: the broker of the setting `celery_broker_url`, and our task alone.

    Raises `ConfigurationError` without the setting, or without Celery.
    """
    celery = _library()
    if not settings.celery_broker_url:
        raise ConfigurationError(
            ["set celery_broker_url, such as amqp://… or redis://…, or celery_app to an application of yours"]
        )
    app = celery.Celery("webhooks", broker=settings.celery_broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,  # what waits in a process cannot be given to another
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    names = {DEFAULT_QUEUE, *settings.queues.values()}
    attach(app, queues={name: QUEUE if name == DEFAULT_QUEUE else f"{QUEUE}.{name}" for name in names})
    return app


def find_app(name: str) -> Celery:
    """The application `module:attribute`. Raises `ConfigurationError`."""
    _library()
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute or "app")
    except (ImportError, AttributeError) as error:
        raise ConfigurationError([f"there is no Celery application {name!r} (module:attribute): {error}"]) from error
    return found


def task_of(app: Celery) -> Any:
    """Our task on an application. Raises `ConfigurationError` where `attach` was not called, or tasks would run in place."""
    app.finalize()
    task = app.tasks.get(TASK)
    if task is None:
        raise ConfigurationError(
            [
                f"the Celery application {app.main!r} has no task {TASK}; call webhooks.contrib.celery.attach(app) where it is made"
            ]
        )
    if app.conf.task_always_eager:
        raise ConfigurationError(
            [f"the Celery application {app.main!r} has task_always_eager, so nothing reaches a broker"]
        )
    return task


def make_feeder(webhooks: Webhooks, app: str = "", *, with_maintenance: bool = True) -> Feeder:
    """What offers the deliveries of a consumer to Celery.

    app: `module:attribute` in place of the setting `celery_app`.
    with_maintenance: not beside a worker, which has these duties.

    Raises `ConfigurationError`.
    """
    from webhooks.app import make_maintenance

    require_postgresql(webhooks)
    settings = webhooks.settings
    name = app or settings.celery_app
    task = task_of(find_app(name) if name else make_app(settings))
    return Feeder(
        store=webhooks.store,
        handlers={handler.name: handler for handler in webhooks.registry.handlers()},
        publisher=Publisher(lambda: TaskSender(task)),
        settings=FeederSettings(
            queues=task.webhooks_queues,
            window=settings.engine_window,
            again=settings.engine_again,
            poll_interval=settings.poll_interval,
            heartbeat=settings.heartbeat,
        ),
        maintenance=make_maintenance(webhooks) if with_maintenance else None,
    )


class TaskSender:
    """Publishes our task by a connection of its own, which answers soon or not at all. task: see `attach`."""

    def __init__(self, task: Any) -> None:
        timeouts = ("socket_timeout", "socket_connect_timeout", "read_timeout", "write_timeout")
        self._task = task
        # whichever of them the transport knows; it passes over the others
        self._connection = task.app.connection_for_write(
            connect_timeout=PATIENCE, transport_options=dict.fromkeys(timeouts, PATIENCE)
        )
        self._producer = task.app.amqp.Producer(self._connection, auto_declare=False)

    def send(self, queue: str, ids: Sequence[int]) -> None:
        """Have a message out; Celery does not try again."""
        self._task.apply_async((list(ids),), queue=queue, producer=self._producer, retry=False)

    def close(self) -> None:
        """Drop the connection, without a word to the broker."""
        self._connection.collect(PATIENCE)


def _load(flask_app: str) -> Webhooks:
    from webhooks.app import APPLICATION, application, load

    if not flask_app:
        return load(role="worker")
    os.environ[APPLICATION] = flask_app  # also for handlers that run in processes of their own
    consumer: Webhooks = application().extensions["webhooks"]
    return consumer


def _library() -> Any:
    try:
        return importlib.import_module("celery")
    except ImportError:
        raise ConfigurationError([f"Celery is not installed: {install('celery')}"]) from None


# -- the life of Celery's processes ------------------------------------------------------------------------------


def _listen(app: Celery, engine: Engine, mapping: Mapping[str, str]) -> None:
    """Load in the process that forks, begin in each that runs tasks, and end with it. mapping: see `attach`."""
    from celery import signals

    def begin(sender: Any, **_: Any) -> None:
        consumed = app.amqp.queues.consume_from
        queues = frozenset(ours for ours, theirs in mapping.items() if theirs in consumed)
        if sender.app is not app or not queues:
            return  # a worker for other tasks
        try:
            engine.begin(sender.concurrency if isinstance(sender.concurrency, int) else 1, queues)
        except WebhooksError as error:
            logger.critical("this Celery worker cannot run deliveries: %s", error)
            raise SystemExit(1) from error  # signals swallow anything less
        _advise(app, engine, str(sender.pool_cls))

    def begin_child(**_: Any) -> None:
        if engine.is_used:
            engine.begin_soon()

    def end(**_: Any) -> None:
        if engine.is_used:
            engine.end()

    signals.worker_init.connect(begin, weak=False)
    signals.worker_process_init.connect(begin_child, weak=False)
    signals.worker_process_shutdown.connect(end, weak=False)
    signals.worker_shutdown.connect(end, weak=False)


def _advise(app: Celery, engine: Engine, pool: str) -> None:
    """Say what of the worker's own options is at odds with our handlers."""
    longest, limit = longest_timeout(engine.webhooks), app.conf.task_time_limit
    if limit and limit < longest.total_seconds():
        logger.warning(
            "task_time_limit is %s s, and a handler may run for %g s: Celery would kill the process first, which costs an "
            "attempt of everything in it; raise it above that",
            limit,
            longest.total_seconds(),
        )
    if not any(name in pool for name in TESTED_POOLS):
        logger.warning("the pool %s is not tested with webhooks; take prefork or threads", pool)


__all__ = ["QUEUE", "TASK", "TaskSender", "attach", "find_app", "make_app", "make_feeder", "task_of"]
