"""What a scrape gets, as text for Prometheus.

`process` is what this process, or its group, did. `database` is how the installation stands: asked of the database at
the scrape, by one request at a time, and kept for ten seconds; when it cannot be asked, the answer is
`webhooks_database_up 0` and nothing else.

Under gevent files are read in a native thread, so that a scrape of many series stops no request.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from webhooks.errors import StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.formats import one_line
from webhooks.http.metrics import folding
from webhooks.http.metrics.directory import group, is_ours
from webhooks.http.metrics.table import DATABASE

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: A process that has just made a file of its numbers has not written its head yet; so the files are read again.
_TRIES = 5
_PAUSE_SECONDS = 0.02

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: One figure of the installation: (its name in `table.DATABASE`, values of its labels, value).
Figure = tuple[str, tuple[str, ...], float]


class Exposition:
    """The two texts.

    figures: asks the database for `Figure`s; raises `StorageUnavailable`.
    before: called before the numbers of the process are read, for gauges that are set only then.
    folds: whether to fold what ended processes left, where no master does.
    monotonic: seconds, for tests.
    """

    #: Figures are given again for so long, in seconds.
    KEPT = 10.0
    #: And so long, in seconds, where a request that asks anew has not heard yet.
    KEPT_AT_MOST = 30.0
    #: A request waits for another's question for so long, in seconds.
    PATIENCE = 2.0

    def __init__(
        self,
        figures: Callable[[], Iterator[Figure]],
        *,
        before: Callable[[], None] | None = None,
        folds: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._figures = figures
        self._before = before
        self._folds = folds
        self._monotonic = monotonic
        self._own = PerProcess(_KeptText)

    def process(self) -> bytes:
        """What this process group did."""
        from prometheus_client import REGISTRY, generate_latest, values

        if self._before is not None:
            self._before()
        directory = group()
        if directory is None or not values.ValueClass._multiprocess:
            return generate_latest(REGISTRY)
        for _ in range(_TRIES):
            with contextlib.suppress(struct.error, RuntimeError, FileNotFoundError):
                return natively(lambda: self._read(directory))
            time.sleep(_PAUSE_SECONDS)
        return natively(lambda: self._read(directory))

    def _read(self, directory: Path) -> bytes:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
        if not is_ours(directory):
            return generate_latest(registry)
        if self._folds:
            folding.fold(directory)
        with folding.reading(directory):
            return generate_latest(registry)

    def database(self) -> bytes:
        """How the installation stands."""
        own = self._own.get()
        if self._monotonic() - own.at <= self.KEPT:
            return own.text
        if not own.asking.acquire(timeout=self.PATIENCE):
            return own.text if self._monotonic() - own.at <= self.KEPT_AT_MOST else _DOWN
        try:
            if self._monotonic() - own.at > self.KEPT:
                own.text = self._ask(own)
                own.at = self._monotonic()
            return own.text
        finally:
            own.asking.release()

    def _ask(self, own: _KeptText) -> bytes:
        try:
            text = as_text([*self._figures(), ("up", (), 1.0)])
        except Exception as error:  # a right that is missing, too: the scrape is told, and the log has the reason
            reason = error.reason if isinstance(error, StorageUnavailable) else f"{type(error).__name__}: {error}"
            if not own.is_down:  # once, and not with each scrape
                logger.warning("the database cannot be asked for its figures: %s", one_line(reason))
            own.is_down = True
            return _DOWN
        own.is_down = False
        return text


class _KeptText:
    """What one process has asked the database."""

    def __init__(self) -> None:
        self.asking = threading.Lock()
        self.at = float("-inf")
        self.text = _DOWN
        self.is_down = False


def as_text(samples: list[Figure]) -> bytes:
    """Figures of the installation in Prometheus's text format, metric by metric."""
    found: dict[str, list[str]] = {}
    for part, values, value in samples:
        metric = DATABASE[part]
        labels = ",".join(f'{name}="{_escaped(text)}"' for name, text in zip(metric.labels, values, strict=True))
        found.setdefault(part, []).append(
            f"{metric.name}{{{labels}}} {value!r}" if labels else f"{metric.name} {value!r}"
        )
    lines: list[str] = []
    for part, metric in DATABASE.items():
        if part in found:
            lines += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} gauge", *found[part]]
    return "\n".join([*lines, ""]).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


_DOWN = as_text([("up", (), 0.0)])


def natively(read: Callable[[], T]) -> T:
    """Call `read`, under gevent in a native thread. It must touch nothing that greenlets lock."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return read()
    import gevent

    def attempt() -> tuple[Any, Exception | None]:
        try:
            return read(), None
        except Exception as error:  # raised in a thread of gevent's it would be printed as well
            return None, error

    result, error = gevent.get_hub().threadpool.apply(attempt)
    if error is not None:
        raise error
    found: T = result
    return found


__all__ = ["CONTENT_TYPE", "Exposition", "Figure", "as_text", "natively"]
