"""Beside Celery: hand events over to tasks, or let Celery's processes run our deliveries.

Promises: the broker is never in the way of a request; what it loses, doubles or delays loses and doubles nothing, since
rows say what is to be run and messages are hints. Not here: what a delivery is (`delivery`), who runs it otherwise
(`webhooks worker`).

`recipe` makes a handler that calls a task; that needs nothing else of this package. As an engine: `application` puts our task
on an application of Celery's, `feeder` offers ids of deliveries to it by the plan of `offers` and the threads of `publisher`,
and `engine` runs them where the task is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.contrib.celery.application import TaskSender as TaskSender
    from webhooks.contrib.celery.application import attach as attach
    from webhooks.contrib.celery.application import find_app as find_app
    from webhooks.contrib.celery.application import make_app as make_app
    from webhooks.contrib.celery.application import make_feeder as make_feeder
    from webhooks.contrib.celery.application import task_of as task_of
    from webhooks.contrib.celery.engine import Engine as Engine
    from webhooks.contrib.celery.feeder import Feeder as Feeder
    from webhooks.contrib.celery.feeder import FeederSettings as FeederSettings
    from webhooks.contrib.celery.publisher import BrokerUnavailable as BrokerUnavailable
    from webhooks.contrib.celery.publisher import Publisher as Publisher
    from webhooks.contrib.celery.recipe import hand_over as hand_over
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "application": ["TaskSender", "attach", "find_app", "make_app", "make_feeder", "task_of"],
            "engine": ["Engine"],
            "feeder": ["Feeder", "FeederSettings"],
            "publisher": ["BrokerUnavailable", "Publisher"],
            "recipe": ["hand_over"],
        },
    )
