"""What is looked at in the database when a process starts and while it serves, and what is said of it.

The default SQLite file is brought to head at the start; any other database is left as it is, and the command to run is
named. A database that cannot be reached is no reason not to start: posts are answered 503 until it is back.

`Probe` is behind /readyz. What the database said names hosts, ports and roles, so strangers get a word of it and the log
the rest.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from webhooks.database import describe
from webhooks.errors import ConfigurationError, StorageUnavailable
from webhooks.formats import one_line

if TYPE_CHECKING:
    from webhooks.app.screen import Screen
    from webhooks.app.webhooks import Webhooks

logger = logging.getLogger(__name__)

#: A reason for not being ready that has not changed is logged again after so long.
AGAIN_SECONDS = 60.0


def prepare_database(webhooks: Webhooks) -> None:
    """Apply the schema to the default SQLite file; elsewhere only say what to run.

    Raises `ConfigurationError` where events that were answered 2xx are lost for sure.
    """
    from webhooks.database.migrations import compare as migrations

    if webhooks.settings.has_default_database:
        if not migrations.is_current(webhooks.database, webhooks.plugins):
            from webhooks.database.migrations import run as migrate

            migrate.upgrade(webhooks.database, plugins=webhooks.plugins)
        require_durable(webhooks)
        webhooks.leave_nothing_open()
        return
    try:
        current = migrations.is_current(webhooks.database)
        plugins_are_current = migrations.is_current(webhooks.database, webhooks.plugins)
        if current:
            require_durable(webhooks)
    except StorageUnavailable as error:
        logger.error("the database is unavailable, answering 503 until it is back: %s", error.reason)
        return
    upgrade = webhooks.command("db upgrade")
    if not current:
        logger.error("the database schema is not at head: run `%s`; answering 503 until then", upgrade)
    elif not plugins_are_current:
        # events are accepted all the same; it is the handlers that fail, and are tried again
        logger.error("the tables of a plugin are not at head: run `%s`", upgrade)
    webhooks.leave_nothing_open()


def name_unmigrated(webhooks: Webhooks) -> None:
    """Say which tables of plugins no migration makes: handlers that use them fail.

    The database is asked only where there may be such a table, and need not be there.
    """
    from webhooks.database.migrations import compare as migrations

    with contextlib.suppress(StorageUnavailable):
        for table in migrations.unmigrated(webhooks.database, webhooks.histories):
            logger.error(
                "%s, so its handlers fail: run `%s`, then `%s`",
                table.text,
                webhooks.command(table.command.removeprefix("webhooks ")),
                webhooks.command("db upgrade"),
            )
    webhooks.leave_nothing_open()


def require_durable(webhooks: Webhooks) -> None:
    """Warn of what may lose events that were answered 2xx. Raises `ConfigurationError` for what loses them for sure."""
    doubts = webhooks.store.durability.doubts()
    if losses := [doubt.text for doubt in doubts if doubt.is_loss]:
        raise ConfigurationError(losses)
    for doubt in doubts:
        logger.warning("%s%s", doubt.text, f": {doubt.command}" if doubt.command else "")


class Probe:
    """Whether this process can take events in now; a reason why not is logged when it changes and once a minute."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._last = ("", 0.0)

    def __call__(self) -> tuple[Sequence[str], datetime | None]:
        """(what keeps it from accepting events, fit for strangers; the last heartbeat of any worker)."""
        beat: datetime | None = None
        try:
            problem, beat = self._webhooks.call(self._look)
            reason = problem
        except StorageUnavailable as error:
            problem, reason = "database unavailable", error.reason
        except Exception as error:  # a right that is missing, say; who asked learns no more than that
            problem, reason = "database unavailable", describe(error)
        self._log(reason)
        return ((problem,) if problem else ()), beat

    def _look(self) -> tuple[str, datetime | None]:
        from webhooks.database.migrations import compare as migrations

        webhooks = self._webhooks
        if not migrations.is_current(webhooks.database):
            return f"the database schema is not at head; run `{webhooks.command('db upgrade')}`", None
        webhooks.store.processes.require_writable()  # each time: the trial below is only now and then
        webhooks.ingest.require_writable()
        return "", webhooks.store.processes.last_worker_beat()

    def _log(self, reason: str) -> None:
        now = time.monotonic()
        last, at = self._last
        if reason and (reason != last or now - at >= AGAIN_SECONDS):
            logger.error("not ready, /readyz answers 503: %s", one_line(reason))
            self._last = (reason, now)
        elif not reason:
            self._last = ("", now)


def require_own(webhooks: Webhooks) -> None:
    """Raise `ConfigurationError` where a handler leaves out our own changes and no source says which ids are ours."""
    problems = [
        f"handler {handler.name!r} has ignore_own=True, but no source says which ids are ours; set "
        f'own = ["api_…"] in [sources.{handler.source or next(iter(webhooks.sources))}]'
        for handler in webhooks.registry.handlers()
        if handler.ignore_own
        and not any(source.settings.own for name, source in webhooks.sources.items() if handler.source in (None, name))
    ]
    if problems:
        raise ConfigurationError(problems)


def connect_screen(webhooks: Webhooks) -> Screen | None:
    """What tells on the screen of `webhooks dev` from now on; None elsewhere."""
    if webhooks.settings.log_format != "dev":
        return None
    from webhooks.app.screen import Screen

    screen = Screen(webhooks, is_whole=webhooks.settings.log_level in ("debug", "info"))
    screen.connect()
    return screen


__all__ = ["Probe", "connect_screen", "name_unmigrated", "prepare_database", "require_durable", "require_own"]
