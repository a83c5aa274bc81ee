"""`webhooks worker`: run deliveries, once the database and its tables are there."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from webhooks.cli import describe, output
from webhooks.cli.first_process import stand_in
from webhooks.cli.process_group import flask_environment
from webhooks.errors import StorageUnavailable, WebhooksError

if TYPE_CHECKING:
    from webhooks.app import Webhooks


class Stoppable(Protocol):
    """What a process does until it is told to stop."""

    def stop(self) -> None:
        """End in order; called in a signal handler."""


Made = TypeVar("Made", bound=Stoppable)

#: The variable that names the descriptor on which `webhooks dev` hears that a worker has loaded its handlers.
READY_FD = "WEBHOOKS_READY_FD"
#: A feeder beside a worker has so long to end: a broker that hangs holds it for 5 s.
FEEDER_PATIENCE_SECONDS = 6.0
#: So many new objects that could be in a cycle have Python look for garbage; it would do so after 700.
#: What a delivery leaves is freed without that, and looking took a tenth of the time of what is run together.
LOOK_FOR_GARBAGE_AFTER = 10_000
#: The pauses between two tries to start begin with the first and double up to the second.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0


@click.command(epilog="Example: webhooks worker --queues video --concurrency 16")
@click.option("-c", "--concurrency", type=click.IntRange(1, 1000), help="Handlers run at once; default: the setting.")
@click.option("--queues", metavar="NAME,…", help="Only handlers of these queues; default: the setting worker_queues.")
@click.option("--without", metavar="NAME,…", help="All handlers but those of these queues.")
@click.option("--with-feeder", is_flag=True, help="Also offer deliveries to Celery, as `webhooks feed` does.")
@click.option("--health", is_flag=True, help="Only say whether a worker of this machine is alive: 0, or 1 if none is.")
@click.pass_context
def worker(
    ctx: click.Context,
    concurrency: int | None,
    queues: str | None,
    without: str | None,
    with_feeder: bool,
    health: bool,
) -> None:
    """Run deliveries until SIGTERM or Ctrl-C; a second one stops at once."""
    if health:
        ctx.exit(_say_health())
    from webhooks.cli.context import webhooks
    from webhooks.delivery import REPLACE
    from webhooks.settings import set_up_logging

    stand_in()
    os.environ.update(flask_environment())  # for the processes of single attempts
    chosen, left_out = _names(queues), _names(without)
    try:
        instance = webhooks(role="worker")
        instance.become("worker")
        instance.choose_queues(chosen, left_out)  # before the database is waited for
    except WebhooksError as error:
        _report({"problems": describe(error).splitlines()})
        raise
    set_up_logging(instance.settings.log_level, instance.settings.log_format)
    made = stoppable(
        instance,
        lambda: instance.make_worker(slots=concurrency, queues=chosen, without=left_out),
        "worker",
    )
    _say_ready(instance)
    _collect_seldom()
    with _feeding(instance) if with_feeder else contextlib.nullcontext():
        result = made.run()
    if result == REPLACE:
        # threads that never end are left behind with the old program
        os.environ.update(made.to_be_replaced())
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    gc.freeze()  # the process ends: its last collection passes over what is there now


def _collect_seldom() -> None:
    """Pass over what was loaded when garbage is looked for, and look less often than Python does by itself."""
    gc.freeze()
    young, *older = gc.get_threshold()
    if 0 < young < LOOK_FOR_GARBAGE_AFTER:  # 0: none is wanted
        gc.set_threshold(LOOK_FOR_GARBAGE_AFTER, *older)


def _say_ready(instance: Webhooks) -> None:
    """Tell `webhooks dev`, where that started this worker, which handlers and sources it loaded."""
    if READY_FD not in os.environ:
        return
    from webhooks.operations.trigger import suggestion

    _report({
        "handlers": [handler.name for handler in instance.registry.handlers()],
        "doubts": instance.doubts,
        "try": suggestion(instance.registry, instance.sources),
    })  # fmt: skip


def _report(report: Mapping[str, Any]) -> None:
    """Tell `webhooks dev`, where that listens, how loading went; once."""
    descriptor = os.environ.pop(READY_FD, "")
    if not descriptor:
        return
    with contextlib.suppress(OSError), os.fdopen(int(descriptor), "w") as pipe:
        json.dump(report, pipe)


def _say_health() -> int:
    """Print whether a worker of this machine is alive; the exit code."""
    from webhooks.cli.context import read_only
    from webhooks.operations import examine_worker

    is_well, reason = examine_worker(read_only().store, socket.gethostname())
    click.echo(reason)
    return 0 if is_well else 1


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name for name in re.split(r"[,\s]+", text or "") if name)


@contextlib.contextmanager
def _feeding(instance: Webhooks) -> Iterator[None]:
    """Offer deliveries to Celery while the body runs."""
    from webhooks.contrib.celery import make_feeder

    feeder = make_feeder(instance, with_maintenance=False)
    thread = threading.Thread(target=feeder.run, name="webhooks-feeder", daemon=True)
    thread.start()
    try:
        yield
    finally:
        feeder.stop()
        thread.join(FEEDER_PATIENCE_SECONDS)


def stoppable(instance: Webhooks, make: Callable[[], Made], what: str) -> Made:
    """Make a process's work once the database can be reached, and have SIGTERM and SIGINT stop it, or the wait for it.

    make: may raise `StorageUnavailable`.
    what: the process, for the note that is printed.
    """
    made: Made | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        if made is None:
            raise SystemExit(0)  # it still waits for its database
        made.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    made = _when_ready(instance, make, what)
    return made


def _when_ready(instance: Webhooks, make: Callable[[], Made], what: str) -> Made:
    """The same: a process that starts before its database, or the tables, waits for them."""
    from webhooks.cli import NO_SCHEMA
    from webhooks.database.migrations import run as migrate

    if instance.settings.has_default_database:
        instance.prepare_database()
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            if migrate.is_current(instance.database):
                return make()
            reason = NO_SCHEMA
        except StorageUnavailable as error:
            reason = f"the database cannot be reached: {error.reason}"
        output.print_note(f"the {what} cannot start yet, trying again in {pause:g} s: {reason}")
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


__all__ = ["stoppable", "worker"]
