"""`webhooks worker`: run deliveries, once the database and its tables are there."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

import click

from webhooks.cli import output
from webhooks.cli.first_process import stand_in
from webhooks.cli.process_group import flask_environment
from webhooks.errors import StorageUnavailable

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.delivery import Worker

#: The pauses between two tries to start begin with the first and double up to the second.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0


@click.command(epilog="Example: webhooks worker --queues video --concurrency 16")
@click.option("-c", "--concurrency", type=click.IntRange(1, 1000), help="Handlers run at once; default: the setting.")
@click.option("--queues", metavar="NAME,…", help="Only handlers of these queues; default: the setting worker_queues.")
@click.option("--without", metavar="NAME,…", help="All handlers but those of these queues.")
@click.option("--health", is_flag=True, help="Only say whether a worker of this machine is alive: 0, or 1 if none is.")
@click.pass_context
def worker(ctx: click.Context, concurrency: int | None, queues: str | None, without: str | None, health: bool) -> None:
    """Run deliveries until SIGTERM or Ctrl-C; a second one stops at once."""
    if health:
        ctx.exit(_say_health())
    from webhooks.cli.context import webhooks
    from webhooks.delivery import REPLACE
    from webhooks.settings import set_up_logging

    stand_in()
    os.environ.update(flask_environment())  # for the processes of single attempts
    instance = webhooks(role="worker")
    instance.become("worker")
    options = _Options(concurrency, _names(queues), _names(without))
    instance.choose_queues(options.queues, options.without)  # before the database is waited for
    set_up_logging(instance.settings.log_level, instance.settings.log_format)
    made: Worker | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        if made is None:
            raise SystemExit(0)  # it still waits for its database
        made.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    made = _make_worker(instance, options)
    if made.run() == REPLACE:
        # threads that never end are left behind with the old program
        os.environ.update(made.to_be_replaced())
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    gc.freeze()  # the process ends: its last collection passes over what is there now


def _say_health() -> int:
    """Print whether a worker of this machine is alive; the exit code."""
    from webhooks.cli.context import read_only
    from webhooks.operations import examine_worker

    is_well, reason = examine_worker(read_only().store, socket.gethostname())
    click.echo(reason)
    return 0 if is_well else 1


class _Options(NamedTuple):
    """What was typed."""

    concurrency: int | None
    queues: tuple[str, ...]
    without: tuple[str, ...]


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in re.split(r"[,\s]+", text or "") if name)


def _make_worker(instance: Webhooks, options: _Options) -> Worker:
    """The worker, once the database can be reached: one that starts before its database, or its tables, waits for them."""
    from webhooks.cli import NO_SCHEMA
    from webhooks.database.migrations import run as migrate

    if instance.settings.has_default_database:
        instance.prepare_database()
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            if migrate.is_current(instance.database):
                return instance.make_worker(slots=options.concurrency, queues=options.queues, without=options.without)
            reason = NO_SCHEMA
        except StorageUnavailable as error:
            reason = f"the database cannot be reached: {error.reason}"
        output.print_note(f"the worker cannot start yet, trying again in {pause:g} s: {reason}")
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


__all__ = ["worker"]
