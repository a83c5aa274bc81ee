"""A worker's thread, played by the test: it claims, runs in groups, records, and returns."""

from __future__ import annotations

from typing import Any

from tests.integration.rig import Rig
from webhooks.delivery import IsolatedPool, Runner, RunnerSettings
from webhooks.model import DeliveryClass


class Hand:
    """Runs deliveries of a rig's handlers as one thread of a worker would, one claim after another.

    mean: what it knows of how long a run takes, in seconds.
    """

    def __init__(self, made: Rig, *, mean: float = 0.0001, slots: int = 1) -> None:
        self.made = made
        self.runner = Runner(
            store=made.store,
            registry=made.registry,
            dispatcher=made.dispatcher,
            settings=RunnerSettings(slots=slots),
            version="test",
            isolated=IsolatedPool(command=None, dispatcher=made.dispatcher, store=made.store),
        )
        for name in self.runner.handlers:
            self.runner.buffer.note_run(name, mean)
        self.runner.buffer.note_run = lambda name, seconds: None  # type: ignore[method-assign]  # on a busy machine, too

    def claim(self, n: int = 50, handler: str = "h") -> list[Any]:
        """Claim what is due, up to n, and have it wait for a thread; the attempts."""
        quotas = {(handler, kind): n for kind in DeliveryClass}
        lease = self.runner.settings.lease
        claimed = self.made.store.deliveries.claim(quotas, lease=lease, worker=self.runner.id)
        return self.runner.accept(claimed, self.runner.lease_until())

    def serve(self) -> int:
        """Run what waits, groups first; how many turns that took."""
        turns = 0
        while (attempt := self.runner.buffer.next_now()) is not None:
            turns += 1
            if not self.runner.serve(attempt):
                break
        self.runner.recorder.record(self.runner.recorder.gathered())
        return turns

    def run_due(self, handler: str = "h") -> None:
        """Until nothing waits and nothing is due."""
        self.serve()
        while self.claim(handler=handler):
            self.serve()
