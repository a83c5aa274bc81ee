"""Catch-up by itself: in one elected worker, after a start, on request (a resumed subscription), and every hour."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from webhooks.errors import StorageUnavailable
from webhooks.formats import one_line
from webhooks.operations.background import BackgroundDuty
from webhooks.operations.catch_up.exclusive import Busy
from webhooks.operations.catch_up.report import log_report
from webhooks.operations.catch_up.run import CatchUp
from webhooks.operations.catch_up.window import FRESH, is_due
from webhooks.sources import ApiError, SourceWithLog
from webhooks.store import Store

logger = logging.getLogger(__name__)


class CatchUpDuty(BackgroundDuty):
    """Runs catch-up by itself in a worker. make: the `CatchUp` of a source, an open client of it and a holder's name.

    `tick` costs a look at the clock, and now and then one at the mark; the run itself has a thread of its own,
    because it may take minutes. One process at a time runs it: the database says which.
    """

    #: How often the mark is looked at.
    LOOK_EVERY = timedelta(seconds=5)

    def __init__(
        self,
        sources: Sequence[SourceWithLog],
        make: Callable[[SourceWithLog, Any, str], CatchUp],
        store: Store,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("webhooks-catch-up", self.LOOK_EVERY, monotonic)
        self._sources = list(sources)
        self._make = make
        self._store = store
        self._clock = clock
        self._started_at: datetime | None = None

    def tick(self, holder: str) -> None:
        """Start what is due; called every second or so. Raises StorageUnavailable."""
        if not self.may_look():
            return
        at = self._store.database.now()
        self._started_at = self._started_at or at
        due = [source for source in self._sources if is_due(self._store.marks.get(source.name), self._started_at, at)]
        if due:
            self.begin(lambda: self._run(due, holder))

    def _run(self, sources: Sequence[SourceWithLog], holder: str) -> None:
        for source in sources:
            try:
                with source.connect() as client:
                    log_report(self._make(source, client, holder).run(until=self._clock() - FRESH))
            except Busy:
                continue
            except (ApiError, StorageUnavailable) as error:
                logger.warning(
                    "catch-up of %s failed and is tried again: %s",
                    source.name,
                    one_line(str(error)),
                    extra={"source": source.name, "action": "catch-up"},
                )
            except Exception:
                logger.exception("catch-up of %s failed", source.name, extra={"source": source.name})
                with suppress(StorageUnavailable):
                    self._store.marks.fail(source.name, "a fault of ours; the log has the traceback")


__all__ = ["CatchUpDuty"]
