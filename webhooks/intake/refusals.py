"""What is left behind by a request that is not accepted: a count, a line in the log, and a sample for `explain`.

`Refusals.record` is the one place for it, for the routes, a server that reads posts itself, and Flask. All of it is
bounded, whatever a client sends: counts by source and `Refusal`, two closed sets; a few lines a minute of each
pair, then one that says how many more there were; of the rows one a second, kept by `observations`.

What a client sent (a path, a method) is escaped and cut before it reaches a line or a row; of a body nothing is shown.

Not here: why a request is refused (`errors`), what it is answered (`http`), rows (`store.rejections`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from webhooks import signals
from webhooks.errors import Refusal, Rejected, StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.formats import error_summary, error_text, one_line
from webhooks.model import Headers, InboundRequest
from webhooks.store.tallies import TallyCounter

logger = logging.getLogger(__name__)

#: Of one source and reason so many lines are logged a minute, then how many more there were.
LINES_A_MINUTE = 5
WINDOW_SECONDS = 60.0
#: The status of an answer for which no `Rejected` or `StorageUnavailable` says one.
_FAULT_STATUS = 503


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """One request that was not accepted. source: "" for none that is configured. text: why, for people, on one line."""

    refusal: Refusal
    status: int
    text: str
    source: str
    request: InboundRequest
    received_at: datetime


class Sampler(Protocol):
    """What keeps a sample of what was refused; never raises, never waits."""

    def refused(self, refused: RefusedRequest) -> None:
        """Keep it, perhaps."""

    def wake(self) -> None:
        """Call `Refusals.turn` soon, and again until it says that no lines are held back."""


class RequestMeter(Protocol):
    """What counts requests; never raises, never waits."""

    def accepted(self, source: str, status: int, size: int, seconds: float) -> None:
        """A body of so many bytes was accepted and got its answer, so many seconds after it was read."""

    def counted(self, source: str, status: int) -> None:
        """A request got another answer: a refusal, or what asks for no event."""


class Refusals:
    """The refusals of one process.

    sources: names of those that are configured.
    clock: aware UTC now.
    sampler: keeps rows for `explain`.
    sample: 0 logs every one (setting `sample_rejected`).
    monotonic: seconds, for tests.
    """

    def __init__(
        self,
        sources: Collection[str],
        *,
        clock: Callable[[], datetime],
        sampler: Sampler | None = None,
        sample: timedelta = timedelta(seconds=1),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._clock = clock
        self._sampler = sampler
        self.lines = SampledLines(
            logger,
            limit=LINES_A_MINUTE if sample else None,
            monotonic=monotonic,
            on_held=sampler.wake if sampler else None,
        )
        self._own = PerProcess(_Counts)
        #: counts every request, where metrics are on
        self.meter: RequestMeter | None = None
        #: counts for charts, where tallies are on
        self.tally: TallyCounter | None = None

    def turn(self) -> bool:
        """Say what was held back in minutes that are over; whether more is."""
        self.lines.flush()
        return self.lines.is_holding

    def counts(self) -> Mapping[tuple[str, Refusal], int]:
        """{(source, or "" for none that is configured; reason): how many since this process began}."""
        own = self._own.get()
        with own.lock:
            return dict(own.numbers)

    def record(self, error: Exception, *, source: str, request_id: str, request: InboundRequest | None = None) -> None:
        """Count, log and sample one request that was refused by `error`. Raises nothing.

        source: the name that was asked for.
        request_id: as the sender was told it.
        request: as far as it was read.
        """
        try:
            self._record(error, source, request_id, request)
        except Exception:
            logger.exception("a refusal was not recorded")

    def _record(self, error: Exception, source: str, request_id: str, request: InboundRequest | None) -> None:
        source = source if source in self._sources else ""
        request = request or InboundRequest(Headers(), b"", id=request_id)
        if isinstance(error, Rejected):
            error.request = request
        if isinstance(error, (Rejected, StorageUnavailable)):
            refusal, status = error.refusal, error.status
            text = told = one_line(error.reason)
        else:
            refusal, status = Refusal.FAULT, _FAULT_STATUS
            text, told = error_summary(error), error_text(error)  # the log alone has the traceback
        own = self._own.get()
        with own.lock:
            own.numbers[source, refusal] = own.numbers.get((source, refusal), 0) + 1
        if self.meter is not None:
            self.meter.counted(source, status)
        if self.tally is not None:
            self.tally.refused(source, status)
        whom = f"source {source!r}" if source else "no source"
        self.lines.say(
            (source, refusal),
            logging.ERROR if status >= 500 else logging.WARNING,
            f"refused a request to {whom} ({refusal}, {status})",
            told,
            {"source": source, "request_id": request_id, "bytes": len(request.body), "action": "reject"},
        )
        now = self._clock()
        if self._sampler is not None:
            self._sampler.refused(RefusedRequest(refusal, status, text, source, request, now))
        if source and isinstance(error, Rejected):
            signals.emit(
                signals.request_rejected, source, request=request, error=error, request_id=request_id, received_at=now
            )


class _Counts:
    """What one process has refused."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.numbers: dict[tuple[str, Refusal], int] = {}


class _Windows:
    """The minutes of one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.windows: dict[Any, _Window] = {}


class _Window:
    """A minute of one kind of lines."""

    __slots__ = ("held", "last", "said", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.said = 0
        self.held = 0
        self.last: tuple[int, str, str, Mapping[str, Any]] = (0, "", "", {})


class SampledLines:
    """Lines of which a few a minute are logged of each kind, and then how many more there were.

    Kinds are the caller's closed set: for each a window is kept.

    limit: lines of a kind in a minute; None logs every line.
    monotonic: seconds, for tests.
    on_held: called when lines begin to be held back, so that `flush` is called once their minute is over.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        limit: int | None = LINES_A_MINUTE,
        monotonic: Callable[[], float] = time.monotonic,
        on_held: Callable[[], None] | None = None,
    ) -> None:
        self._logger = logger
        self._limit = limit
        self._monotonic = monotonic
        self._on_held = on_held
        self._own = PerProcess(_Windows)

    @property
    def is_holding(self) -> bool:
        """Whether lines are held back whose number has not been said."""
        return any(window.held for window in list(self._own.get().windows.values()))

    def say(self, kind: Any, level: int, what: str, text: str, extra: Mapping[str, Any]) -> None:
        """Log `what: text`, or count it. what: the same for the whole kind. Both are shown as they are."""
        if self._limit is None:
            self._logger.log(level, "%s: %s", what, text, extra=dict(extra))
            return
        now = self._monotonic()
        over: _Window | None = None
        own = self._own.get()
        with own.lock:
            window = own.windows.get(kind)
            if window is None or now - window.since >= WINDOW_SECONDS:
                over, window = window, _Window(now)
                own.windows[kind] = window
            is_said = window.said < self._limit
            if is_said:
                window.said += 1
            else:
                window.held += 1
                window.last = (level, what, text, extra)
            begins_to_hold = window.held == 1 and not is_said
        if over is not None and over.held:
            self._sum_up(over)
        if is_said:
            self._logger.log(level, "%s: %s", what, text, extra=dict(extra))
        if begins_to_hold and self._on_held is not None:
            self._on_held()

    def flush(self, *, at_once: bool = False) -> None:
        """Say how many lines were held back in every minute that is over. at_once: in the others, too."""
        now = self._monotonic()
        own = self._own.get()
        with own.lock:
            over = [kind for kind, window in own.windows.items() if at_once or now - window.since >= WINDOW_SECONDS]
            windows = [own.windows.pop(kind) for kind in over]
        for window in windows:
            if window.held:
                self._sum_up(window)

    def _sum_up(self, window: _Window) -> None:
        level, what, text, extra = window.last
        self._logger.log(
            level, "%s: and %d more in the last minute, the last: %s", what, window.held, text, extra=dict(extra)
        )
