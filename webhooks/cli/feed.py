"""`webhooks feed`: offer deliveries to Celery, which runs them in place of `webhooks worker`."""

from __future__ import annotations

import os

import click

from webhooks.cli.first_process import stand_in
from webhooks.cli.process_group import flask_environment
from webhooks.cli.worker import stoppable


@click.command(epilog="Example: webhooks feed --celery shop.celery:app")
@click.option("--celery", metavar="MODULE:ATTRIBUTE", help="The Celery application; default: the setting celery_app.")
def feed(celery: str | None) -> None:
    """Offer deliveries to Celery until SIGTERM or Ctrl-C. Of several, one does; the others wait to take over.

    It also has the duties of a worker that run no handler: rescue, retention, catching up, alarms.
    """
    from webhooks.cli.context import webhooks
    from webhooks.contrib.celery import make_feeder
    from webhooks.settings import set_up_logging

    stand_in()
    os.environ.update(flask_environment())
    instance = webhooks(role="worker")
    instance.become("worker")
    set_up_logging(instance.settings.log_level, instance.settings.log_format)
    stoppable(instance, lambda: make_feeder(instance, celery or ""), "feeder").run()


__all__ = ["feed"]
