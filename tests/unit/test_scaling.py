"""How many workers a queue needs, and what a scaler makes of that: bursts, long runs, lanes and pauses, by the second.

The scaler here does what KEDA and Kubernetes' horizontal autoscaler do with `deploy/keda.yaml`, whose numbers it reads: it
asks at an interval, grows at once, shrinks to the most that was wanted within the stabilization window, and to none after the
cool-down. It takes away the busiest worker, which then claims no more, finishes what runs, and is killed after its grace.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ROOT, each
from webhooks.operations.scaling import QueueLoad, document, loads, places_for
from webhooks.store.gauges import HandlerStanding, Standing
from webhooks.store.health import COUNTED, Backlog, Gauges
from webhooks.store.processes import Process

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
TARGET = timedelta(seconds=30)
FREE = HandlerStanding(is_paused=False, is_held_back=False)


def standing(
    backlogs: Sequence[Backlog], states: dict[str, HandlerStanding], processes: Sequence[Process] = ()
) -> Standing:
    gauges = Gauges(NOW, {}, {backlog.handler: backlog for backlog in backlogs})
    return Standing(gauges, states, processes, {}, {}, {}, {}, {}, None, None, {})


# -- the signal --------------------------------------------------------------------------------------------


@each(
    ("backlog", "state", "places"),
    [
        (Backlog("h"), FREE, 0),
        (Backlog("h", due=60), FREE, 2),  # unknown: 1 s
        (Backlog("h", due=600, running=0), HandlerStanding(False, False, run_seconds=0.5), 10),
        (Backlog("h", due=50, running=10), HandlerStanding(False, False, run_seconds=1.0), 2),
        # ten minutes each: a place for each, not twenty
        (Backlog("h", due=3, running=1), HandlerStanding(False, False, run_seconds=600), 4),
        (Backlog("h", due=9000), HandlerStanding(False, False, concurrency=4, run_seconds=1.0), 4),
        (Backlog("h", due=9000), HandlerStanding(False, False, starts_per_second=2.0, run_seconds=3.0), 6),
        (Backlog("h", due=9000, running=8), HandlerStanding(False, False, starts_per_second=0.1, run_seconds=1.0), 8),
        # in one lane only its head is due
        (Backlog("h", due=1, pending=10_000), HandlerStanding(False, False, run_seconds=120), 1),
        (Backlog("h", due=500), HandlerStanding(True, False), 0),
        (Backlog("h", due=500, running=2), HandlerStanding(True, False, run_seconds=60), 2),
        (Backlog("h", due=500), HandlerStanding(False, True), 0),
    ],
)
def test_a_handler_asks_for_the_places_that_it_can_use(backlog: Backlog, state: HandlerStanding, places: float) -> None:
    assert places_for(backlog, state, TARGET) == pytest.approx(places)


def test_a_queue_is_the_sum_of_its_handlers() -> None:
    processes = [
        Process("a", "worker", NOW, NOW, "1", ("h",), queues=("video",)),
        Process("b", "worker", NOW, NOW, "1", ("h", "g")),
        Process("c", "web", NOW, NOW, "1", ()),
    ]
    backlogs = [
        Backlog("h", due=300, running=3, due_since=NOW - timedelta(minutes=2)),
        Backlog("g", due=30),
        Backlog("p", due=99, due_since=NOW - timedelta(hours=1)),
    ]
    states = {
        "h": HandlerStanding(False, False, "video"),
        "p": HandlerStanding(True, False, "video"),
        "idle": HandlerStanding(False, False, "mail"),
    }
    found = loads(standing(backlogs, states, processes), ["default", "unused"], TARGET)
    assert list(found) == ["default", "mail", "unused", "video"]
    assert found["video"] == QueueLoad("video", 300, 3, 120.0, 10.1, 303.0, 2)
    assert (found["default"].due, found["default"].workers) == (30, 1)
    assert document(found["video"], 4) == {
        "queue": "video",
        "due": 300,
        "running": 3,
        "oldest_due_seconds": 120.0,
        "due_seconds": 303.0,
        "workers": 2,
        "wanted": 3,
    }
    assert [found[name].wanted(8) for name in ("default", "mail", "unused")] == [1, 0, 0]


def test_a_circuit_breaker_that_is_open_needs_a_worker_that_lets_one_try() -> None:
    found = loads(standing([Backlog("h", due=500)], {"h": HandlerStanding(False, True)}))
    assert (found["default"].due_seconds, found["default"].wanted(8)) == (0.0, 1)


@given(
    st.integers(0, COUNTED),
    st.integers(0, 500),
    st.none() | st.floats(0.0001, 7200),
    st.none() | st.integers(1, 100),
    st.none() | st.floats(0.001, 1000),
    st.integers(1, 64),
)
def test_never_more_places_than_deliveries_and_a_worker_while_there_is_one(
    due: int, running: int, mean: float | None, concurrency: int | None, rate: float | None, slots: int
) -> None:
    state = HandlerStanding(False, False, "default", concurrency, rate, mean)
    (load,) = loads(standing([Backlog("h", due=due, running=running)], {"h": state})).values()
    assert 0 <= load.places <= due + running
    assert load.wanted(slots) <= math.ceil((due + running) / slots)
    assert (load.wanted(slots) >= 1) == (due + running > 0)


# -- a scaler that follows it ------------------------------------------------------------------------------


def manifest(pool: str) -> dict[str, int]:
    """The numbers of `deploy/keda.yaml` for a Deployment of that name."""
    parts = (ROOT / "deploy" / "keda.yaml").read_text().split("\n---\n")
    mine = "\n".join(part for part in parts if re.search(rf"^  name: {pool}$", part, re.MULTILINE))
    found = {name: int(number) for name, number in re.findall(r"^ *(\w+): (\d+)\b", mine, re.MULTILINE)}
    queried = re.search(r"target=(\d+)s&concurrency=(\d+)", mine)
    assert queried is not None
    grace = re.search(r'WEBHOOKS_GRACE, value: "(\d+)m"', mine)
    return {**found, "target": int(queried[1]), "slots": int(queried[2]), "grace": int(grace[1]) * 60 if grace else 25}


@dataclass
class Handler:
    """One handler of the simulation. seconds: of a run. lanes: how many; 0: none. waiting: pending deliveries."""

    name: str
    seconds: float
    lanes: int = 0
    concurrency: int | None = None
    is_paused: bool = False
    waiting: int = 0
    mean: float | None = None
    done: int = 0

    def ready(self, running: int) -> int:
        return min(self.waiting, max(0, self.lanes - running)) if self.lanes else self.waiting


@dataclass
class Worker:
    """One worker: from `ready_at` on it claims, until it is told to stop; it may then run on until `killed_at`."""

    ready_at: float
    killed_at: float | None = None
    runs: list[tuple[Handler, float, float]] = field(default_factory=list)  # handler, began, ends


START_SECONDS = 20
HEARTBEAT_SECONDS = 10
HPA_SECONDS = 15
TICK = 0.5


class Pool:
    """Handlers, workers, and what KEDA and the autoscaler do by the numbers of a manifest."""

    def __init__(self, name: str, *handlers: Handler) -> None:
        self.numbers = manifest(name)
        self.handlers = handlers
        self.workers: list[Worker] = []
        self.now = 0.0
        self.killed = 0
        self.replicas = self.numbers["minReplicaCount"]
        self.history: list[int] = []
        self._wanted: list[tuple[float, int]] = []
        self._active_at = -math.inf
        self._scale(self.replicas)

    def wanted(self) -> int:
        backlogs, states = [], {}
        for handler in self.handlers:
            running = self.running(handler)
            due = min(handler.ready(running), COUNTED)
            backlogs.append(Backlog(handler.name, due=due, running=running))
            states[handler.name] = HandlerStanding(
                handler.is_paused, False, "default", handler.concurrency, None, handler.mean
            )
        target = timedelta(seconds=self.numbers["target"])
        return loads(standing(backlogs, states), target=target)["default"].wanted(self.numbers["slots"])

    def running(self, handler: Handler) -> int:
        return sum(run[0] is handler for worker in self.workers for run in worker.runs)

    # -- scaling

    def _scale(self, replicas: int) -> None:
        alive = [worker for worker in self.workers if worker.killed_at is None]
        for _ in range(replicas - len(alive)):
            self.workers.append(Worker(self.now + START_SECONDS))
        busiest_first = sorted(alive, key=lambda worker: -len(worker.runs))
        for worker in busiest_first[: max(0, len(alive) - replicas)]:
            worker.killed_at = self.now + self.numbers["grace"]
        self.replicas = replicas

    def _autoscale(self) -> None:
        value, numbers = self.wanted(), self.numbers
        if value > 0:
            self._active_at = self.now
        if self.replicas == 0:
            if value > 0:
                self._scale(1)
            return
        self._wanted = [(at, n) for at, n in self._wanted if self.now - at < numbers["stabilizationWindowSeconds"]] + [
            (self.now, max(value, 1))
        ]
        least = max(numbers["minReplicaCount"], 1)
        if value > self.replicas:  # Kubernetes' default: at most twice as many, or four more, in 15 s
            grown = min(value, max(self.replicas * 2, self.replicas + 4), numbers["maxReplicaCount"])
            self._scale(max(grown, self.replicas))
        else:
            self._scale(min(self.replicas, max(least, max(n for _, n in self._wanted))))
        if value == 0 and numbers["minReplicaCount"] == 0 and self.now - self._active_at >= numbers["cooldownPeriod"]:
            self._scale(0)

    # -- running

    def _run(self) -> None:
        for worker in self.workers:
            for run in list(worker.runs):
                handler, began, ends = run
                if ends <= self.now:
                    worker.runs.remove(run)
                    took = ends - began
                    handler.mean = took if handler.done == 0 else (handler.mean or took) * 0.8 + took * 0.2
                    handler.done += 1
            if worker.killed_at is not None and worker.killed_at <= self.now:
                self.killed += len(worker.runs)
                for handler, _, _ in worker.runs:
                    handler.waiting += 1
                worker.runs.clear()
            if worker.killed_at is None and worker.ready_at <= self.now:
                self._claim(worker)
        self.workers = [worker for worker in self.workers if worker.killed_at is None or worker.runs]

    def _claim(self, worker: Worker) -> None:
        for handler in self.handlers:
            while len(worker.runs) < self.numbers["slots"] and not handler.is_paused:
                running = self.running(handler)
                if handler.ready(running) == 0 or running == (handler.concurrency or -1):
                    break
                handler.waiting -= 1
                worker.runs.append((handler, self.now, self.now + handler.seconds))

    def _beat(self) -> None:
        """As `Buffer.means`: until a first run has ended, for how long it runs already."""
        for worker in self.workers:
            for handler, began, _ in worker.runs:
                if handler.done == 0 and self.now - began > (handler.mean or 0):
                    handler.mean = self.now - began

    def steps(self, seconds: float) -> Iterator[float]:
        """Let that much time pass, a tick at a time."""
        end = self.now + seconds
        while self.now < end:
            if self.now % HEARTBEAT_SECONDS == 0:
                self._beat()
            if self.now % max(self.numbers["pollingInterval"], HPA_SECONDS) == 0:
                self._autoscale()
                self.history.append(self.replicas)
            self._run()
            yield self.now
            self.now += TICK

    def run(self, seconds: float) -> None:
        for _ in self.steps(seconds):
            pass

    def cleared_after(self, seconds: float) -> float:
        """When nothing waited or ran any more."""
        for now in self.steps(seconds):
            if not any(handler.waiting or self.running(handler) for handler in self.handlers if not handler.is_paused):
                return now
        raise AssertionError(f"left: {self.handlers}")

    def turns(self) -> int:
        """How often growing became shrinking, or the other way round."""
        moves = [b - a for a, b in itertools.pairwise(self.history) if b != a]
        return sum(a * b < 0 for a, b in itertools.pairwise(moves))


def test_the_manifest_says_what_the_page_says() -> None:
    assert manifest("webhooks-worker") == {
        "terminationGracePeriodSeconds": 35,
        "minReplicaCount": 1,
        "maxReplicaCount": 20,
        "pollingInterval": 15,
        "cooldownPeriod": 300,
        "stabilizationWindowSeconds": 300,
        "target": 30,
        "slots": 8,
        "grace": 25,
    }
    for name in ("webhooks-worker", "webhooks-worker-video"):
        numbers = manifest(name)
        assert numbers["terminationGracePeriodSeconds"] > numbers["grace"]
    assert manifest("webhooks-worker-video")["minReplicaCount"] == 0


def test_a_burst_is_cleared_and_the_pool_goes_back_once() -> None:
    burst = Handler("h", 0.5, waiting=20_000)
    pool = Pool("webhooks-worker", burst)
    assert pool.cleared_after(600) < 200, "10,000 s of work"
    assert max(pool.history) == 20
    pool.run(900)
    assert (pool.replicas, pool.killed, pool.turns()) == (1, 0, 1)


def test_runs_of_ten_minutes_get_a_place_each_and_none_of_them_is_killed() -> None:
    """From none, with a mean that nothing has told yet."""
    long = Handler("video.cut", 600, waiting=40)
    pool = Pool("webhooks-worker-video", long)
    assert pool.cleared_after(1800) < 800, "all of them at once, a minute after they came"
    assert max(pool.history) == 10, "four places each"
    pool.run(900)
    assert (pool.replicas, pool.killed, pool.turns()) == (0, 0, 1)

    long.waiting, began = 3, pool.now
    assert pool.cleared_after(900) - began < 700
    pool.run(900)
    assert (pool.replicas, pool.killed) == (0, 0)


def test_long_runs_that_end_one_by_one_are_not_killed_by_shrinking() -> None:
    long = Handler("video.cut", 600)
    pool = Pool("webhooks-worker-video", long)
    for n in range(60):
        long.waiting += 2 if n < 40 else 0
        pool.run(60)
    pool.run(1800)
    assert (long.done, pool.killed, pool.replicas) == (80, 0, 0)


def test_one_lane_of_ten_thousand_asks_for_one_worker() -> None:
    lane = Handler("ordered", 0.5, lanes=1, waiting=10_000)
    pool = Pool("webhooks-worker-video", lane)
    pool.cleared_after(7000)
    assert max(pool.history) == 1
    pool.run(600)
    assert (pool.replicas, pool.killed, pool.turns()) == (0, 0, 0)


def test_a_paused_handler_keeps_no_worker_and_its_backlog_is_cleared_when_it_is_resumed() -> None:
    paused = Handler("h", 0.5, waiting=5_000, is_paused=True)
    pool = Pool("webhooks-worker-video", paused)
    pool.run(600)
    assert max(pool.history) == 0
    paused.is_paused = False
    pool.cleared_after(600)
    paused.is_paused, paused.waiting = True, 100
    pool.run(900)
    assert (pool.replicas, pool.killed, paused.waiting) == (0, 0, 100)


def test_a_handler_with_a_limit_asks_for_no_more_than_it_may_use() -> None:
    limited = Handler("h", 1.0, concurrency=8, waiting=4_000)
    pool = Pool("webhooks-worker", limited)
    pool.cleared_after(1200)
    assert max(pool.history) == 1


def test_under_a_steady_load_the_pool_stands_still() -> None:
    """Twelve arrive a second, half a second each: six places of eight."""
    steady = Handler("h", 0.5)
    pool = Pool("webhooks-worker", steady)
    for _ in range(3600):
        steady.waiting += 12
        pool.run(1)
    assert pool.turns() <= 1
    assert max(pool.history) <= 2
    assert steady.waiting < 100
