"""One process at a time: a hold on a name in the database, kept while its holder is at work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from webhooks.errors import StorageUnavailable, WebhooksError
from webhooks.store import Store

#: How long a process keeps the hold after its last page. Longer than any pause between two.
LEASE = timedelta(minutes=5)


class Busy(WebhooksError):
    """Another process is catching up with the same source."""


class Exclusive:
    """The hold on one source's log. holder: the process that wants it, by a name of its own."""

    def __init__(self, store: Store, source: str, holder: str) -> None:
        self._store = store
        self._source = source
        self._holder = holder
        self._is_held = False
        self._kept_at: float | None = None

    @property
    def _name(self) -> str:
        return f"catch-up:{self._source}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it for the block. Raises `Busy` while another process does, and `StorageUnavailable`."""
        self._kept_at = None
        self._is_held = True
        try:
            self.keep()
            yield
        finally:
            self._is_held = False
            with suppress(StorageUnavailable):
                self._store.processes.resign(self._name, self._holder)

    def keep(self) -> None:
        """Keep it a while longer; called before every page, and asks the database now and then. Raises as `held` does."""
        now = time.monotonic()
        if not self._is_held or (self._kept_at is not None and now - self._kept_at < LEASE.total_seconds() / 5):
            return
        if not self._store.processes.acquire(self._name, self._holder, LEASE):
            raise Busy(
                f"another process is catching up with {self._source!r}; let it finish, or, if it was killed, try again in "
                f"{LEASE.total_seconds() / 60:g} minutes"
            )
        self._kept_at = time.monotonic()


__all__ = ["Busy", "Exclusive"]
