"""What an operator does: requeue, replay, look at the figures, and a real worker for few tests."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from webhooks.model import DeliveryState
from webhooks.testing.looking import Looking, table
from webhooks.testing.records import Run, StillBusy

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.delivery import Worker
    from webhooks.operations import Actor
    from webhooks.store.listings import DeliverySummary
    from webhooks.testing.clock import KitClock
    from webhooks.testing.sandbox import Sandbox

#: Who asks, as it is kept on record.
NAME = "webhooks.testing"
#: A worker that has ended by itself, or runs on after it was told to stop, is waited for so long, in seconds.
PATIENCE = 30.0
#: What a series of a counter ends with; the others are gauges.
_COUNTERS = ("_total", "_count", "_sum", "_bucket")


class Operating(Looking):
    """The part of a `Kit` that does what operators do."""

    def __init__(self, webhooks: Webhooks, clock: KitClock) -> None:
        super().__init__(webhooks, clock)
        self._sandbox: Sandbox | None = None
        #: what was counted in this process before
        self._counted: Mapping[str, float] = {}
        if webhooks.meter is not None:
            self._counted = self._figures()

    def requeue(self, delivery: Run | DeliverySummary | int | None = None, **selection: Any) -> int:
        """Put deliveries back to pending, as `webhooks requeue` does; how many. The next `drain` runs them.

        delivery: one, by a run of it, as `deliveries` lists it, or its id.
        selection: in its place, dead ones by the options of the command: `handler="broken"`, `type="lead.*"`.

        Raises `WrongState`, `NotFound` and `SelectionError`, as the command does.

        >>> kit.requeue(handler="welcome")
        0
        """
        from webhooks.operations import Requeuer
        from webhooks.selection import Selection

        requeuer = Requeuer(store=self.webhooks.store, registry=self.webhooks.registry)
        if delivery is not None:
            id = delivery if isinstance(delivery, int) else _id_of(delivery)
            return len(requeuer.these(requeuer.named([id]), actor=_actor()).ids)
        chosen = requeuer.narrowed(Selection.parse(selection, self._clock()))
        return len(requeuer.requeue(chosen, actor=_actor()).ids)

    def replay(self, **selection: Any) -> int:
        """Make new deliveries for stored events, as `webhooks replay` does; how many. The next `drain` runs them.

        selection: by the options of the command: `handler="welcome"`, `type="lead.*"`, `event=posted.event_id`.

        Raises `NotFound` and `SelectionError`, as the command does.

        >>> posted = kit.post("lead.created")
        >>> len(kit.drain())
        1
        >>> kit.replay(event=posted.event_id, handler="welcome")
        1
        >>> [run.outcome for run in kit.drain()]
        ['succeeded']
        """
        from webhooks.operations import Options
        from webhooks.selection import Selection

        chosen = Selection.parse(selection, self._clock())
        replayer = self.webhooks.make_replayer()
        plan = replayer.plan(chosen, Options(handler=chosen.handler))
        return replayer.run(replayer.start(plan, actor=_actor())).deliveries

    def metrics(self) -> dict[str, float]:
        """What a scraper would get, by name with labels; counters begin with this kit.

        Raises ValueError unless the test has them on: `@pytest.mark.webhooks(settings={"metrics": True})`.

        >>> kit.metrics()
        Traceback (most recent call last):
        ValueError: metrics are off; turn them on with settings={"metrics": True} of the marker, or overrides= of make_kit
        """
        if self.webhooks.meter is None:
            raise ValueError(
                'metrics are off; turn them on with settings={"metrics": True} of the marker, or overrides= of make_kit'
            )
        return {
            name: value - (self._counted.get(name, 0.0) if name.partition("{")[0].endswith(_COUNTERS) else 0.0)
            for name, value in self._figures().items()
        }

    def _figures(self) -> dict[str, float]:
        from webhooks.app.metrics import figures_of
        from webhooks.http.metrics import Exposition

        exposition = Exposition(figures_of(self.webhooks.store, self.webhooks))
        lines = f"{exposition.process().decode()}\n{exposition.database().decode()}".splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith("webhooks_"))
        return {name: float(value) for name, _, value in pairs if not name.partition("{")[0].endswith("_created")}

    @contextlib.contextmanager
    def running_worker(self, slots: int = 2) -> Iterator[RunningWorker]:
        """A real worker in threads of its own, for what `drain` leaves out: time-outs, limits, the circuit breaker.

        slots: handlers that run at once. `isolation="process"` runs in place. The kit's clock stands still for it as well:
        `advance` makes a retry due. Tests with it are slower; few need it.

        >>> with kit.running_worker() as worker:
        ...     posted = kit.post("lead.created")
        ...     worker.settle()
        >>> kit.assert_delivered("welcome")
        """
        made = self.webhooks.make_worker(slots=slots, isolates=False)
        thread = threading.Thread(target=made.run, name="webhooks.testing-worker")
        thread.start()
        try:
            yield RunningWorker(made, self._unfinished)
        finally:
            made.stop()
            thread.join(PATIENCE)

    def _unfinished(self) -> list[DeliverySummary]:
        now, pending, running = self.webhooks.database.now(), DeliveryState.PENDING, DeliveryState.RUNNING
        return [
            each for each in self._listed() if each.state is running or (each.state is pending and each.due_at <= now)
        ]

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox of a kit that has one: `make_kit(sandbox=True)`, or the fixture `webhooks_sandbox`.

        >>> kit.sandbox
        Traceback (most recent call last):
        ValueError: this kit has no sandbox; ask for the fixture webhooks_sandbox, or make_kit(sandbox=True)
        """
        if self._sandbox is None:
            raise ValueError("this kit has no sandbox; ask for the fixture webhooks_sandbox, or make_kit(sandbox=True)")
        return self._sandbox


class RunningWorker:
    """A worker that runs.

    worker: itself.
    unfinished: the deliveries that are due, or run.
    """

    def __init__(self, worker: Worker, unfinished: Callable[[], list[DeliverySummary]]) -> None:
        self.worker = worker
        self._unfinished = unfinished

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until nothing is due and nothing runs. seconds: at most; then `StillBusy` shows what there is."""
        until = time.monotonic() + seconds
        while busy := self._unfinished():
            if time.monotonic() > until:
                raise StillBusy(f"after {seconds:g} s the worker has not done {len(busy)} deliveries; {table(busy)}")
            time.sleep(0.02)


def _id_of(delivery: Any) -> int:
    id: int = delivery.delivery_id if isinstance(delivery, Run) else delivery.id
    return id


def _actor() -> Actor:
    from webhooks.operations import Actor

    return Actor(NAME)


__all__ = ["Operating", "RunningWorker"]
