"""Several hosts: three for workers, one for the web, one for PostgreSQL. What is promised holds while they are cut off,
delayed, shown the wrong time, and lose power; and how long each takes to recover is measured and printed.

Runs in `make test-hosts`, as root on Linux; `-s` shows the figures.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from tests.acceptance.fleet import Fleet
from tests.acceptance.hosts.network import WORKERS, Network, network
from tests.acceptance.support import Process, Processes, send
from tests.acceptance.test_server import SOURCE
from tests.support import ROOT, allowed, wait_until
from webhooks.database import tables as schema
from webhooks.model import DeliveryState
from webhooks.store.deliveries import OUTCOMES

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(900), pytest.mark.usefixtures("can_make_hosts")]

#: Shorter than the default of 30 s, so that a run takes minutes; the server notices a dead peer as it always does.
LEASE = 6.0

HANDLERS = """
@on("**", name="session", retry=SOON)
def session_(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)
    time.sleep(0.05)


@on("**", name="other", retry=SOON)
def other(event, delivery):
    note("start", delivery, event)


@on("**", name="laned", ordered_by="object_id", retry=SOON)
def laned(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)


@on("**", name="counting", retry=SOON)
def counting(event, session, delivery):
    note("start", delivery, event)
    time.sleep(0.5)
    effect(session, event, delivery)
    session.execute(text("update counter set n = n + 1"))
"""


def event_body(key: str, n: int) -> bytes:
    event = {
        "id": key,
        "object_type": "lead",
        "object_id": f"lead_{n % 7}",
        "action": "updated",
        "date_updated": f"2026-03-10T14:{n // 60 % 60:02d}:{n % 60:02d}.417000",
        "data": {"n": n},
    }
    return json.dumps({"event": event, "subscription_id": "whsub_1", "key": key, "n": n}).encode()


class Installation(Fleet):
    """A fleet whose workers are on hosts of their own, and a web process on another."""

    def __init__(self, hosts: Network, url: str, handlers: str) -> None:
        self.hosts = hosts
        super().__init__(hosts.processes, url, handlers, lease=LEASE)
        for name in ("wsgi.py", "gunicorn.conf.py"):
            (hosts.processes.directory / name).write_text((ROOT / name).read_text())
        self.web = f"http://{hosts.address('web')}:8000"
        self.execute("create table counter (n bigint)")
        self.execute("insert into counter values (0)")

    def start_web(self) -> None:
        """Serve on the host `web`, and wait until it is ready."""
        served = self.hosts.start("web", "gunicorn", "wsgi:app", "--bind", "0.0.0.0:8000", env=self.env)
        served.wait_for("Booting worker", timedelta(seconds=40))
        try:
            wait_until(lambda: self.get("/readyz") == 200, timedelta(seconds=40), "the web host")
        except AssertionError as error:
            raise AssertionError(f"{error}; {served} wrote:\n{served.output}") from None

    def get(self, path: str) -> int | None:
        with contextlib.suppress(OSError):
            return send(self.web + path).status
        return None

    def start_worker(self, host: str, *options: str) -> Process:
        """Start a worker on a host, and wait until it claims."""
        worker = self.hosts.start(host, "webhooks", "worker", *options, env=self.env)
        worker.wait_for(r"started with \d+ handlers", timedelta(seconds=40))
        return worker

    def post(self, key: str, n: int) -> tuple[int, float]:
        """Post one event; (status, seconds)."""
        content = event_body(key, n)
        began = time.monotonic()
        headers = dict(SOURCE.sign(content, datetime.now(UTC)))
        answer = send(self.web + "/webhooks/close", content, headers, timeout=timedelta(seconds=20))
        return answer.status, time.monotonic() - began

    def counter(self) -> int:
        return int(self.read(text("select n from counter"))[0].n)


@pytest.fixture
def made(processes: Processes) -> Iterator[Installation]:
    with network(processes) as (hosts, url):
        installation = Installation(hosts, url, HANDLERS)
        try:
            yield installation
        finally:
            hosts.heal()
            installation.database.dispose()


class Sender:
    """Posts events at a pace from several threads, each again until it is answered 2xx, as a sender does."""

    def __init__(self, made: Installation, per_second: float) -> None:
        self.made = made
        self.answered: dict[str, int] = {}
        self.refused: list[tuple[int, float]] = []
        self.slowest = 0.0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._number = 0
        threads = 4
        self._pause = threads / per_second
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            with self._lock:
                self._number += 1
                n = self._number
            key = f"ev_{n}"
            while True:
                status, seconds = self.made.post(key, n)
                with self._lock:
                    self.slowest = max(self.slowest, seconds)
                    if 200 <= status < 300:
                        self.answered[key] = n
                        break
                    self.refused.append((status, seconds))
                time.sleep(0.2)
            self._over.wait(self._pause * random.uniform(0.5, 1.5))

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)


def say(what: str, seconds: float) -> None:
    """One measured figure, for docs/scaling.md."""
    print(f"measured: {what}: {seconds:.1f} s")


def check(made: Installation, sender: Sender) -> None:
    """What docs/guarantees.md promises of intake and running."""
    stored = {row.dedup_key: row.n for row in made.read(
        text("select dedup_key, count(*) as n from webhooks_events group by 1")
    )}  # fmt: skip
    assert sender.answered.keys() - stored.keys() == set(), "an answered 2xx is never lost"
    assert set(stored.values()) == {1}, "a resend is a duplicate"
    assert made.dead() == [], "no delivery is dead that never failed by itself"
    starts = made.journal("start")
    effects = made.effects()
    keys: dict[int, set[str]] = {}
    runs: Counter[int] = Counter()
    for run in starts:
        keys.setdefault(run.delivery, set()).add(run.key)
        runs[run.delivery] += 1
    for handler in ("session", "laned", "counting"):
        expected = {run.key for run in starts if run.handler == handler}
        assert len(expected) == len(stored), f"{handler}: every event was delivered"
        assert {key: effects[key] for key in expected} == dict.fromkeys(expected, 1), f"{handler}: one effect each"
    assert {run.handler for run in starts} == {"session", "other", "laned", "counting"}
    assert made.counter() == len(stored)
    assert all(len(found) == 1 for found in keys.values()), "the idempotency key stays the same"
    attempts = made.attempts()
    states = made.states()
    assert states[DeliveryState.SUCCEEDED] == 4 * len(stored) == sum(states.values())
    unrecorded = {id: n for id, n in runs.items() if len(attempts.get(id, ["kept"])) < n}
    assert unrecorded == {}, "every run is on record"


def taken_over(made: Installation, at: datetime) -> list[float]:
    """For each attempt that was lost after that instant, after how many seconds it was rescued, by the database's clock."""
    table = schema.attempts.c
    rows = made.read(select(table.outcome, table.finished_at))
    lost = [row.finished_at for row in rows if str(OUTCOMES[row.outcome]) == "lost"]
    return sorted((when - at).total_seconds() for when in lost if when > at)


def test_promises_hold_while_hosts_are_cut_off_delayed_and_lose_power(made: Installation) -> None:
    """Two of the worker hosts are shown another time, four hours apart, and the web host one that is late."""
    hosts = made.hosts
    for host, seconds in (("two", 7200), ("three", -7200), ("web", -90)):
        if not hosts.set_clock(host, seconds):
            print(f"the host {host} is not shown another time: there is no C compiler (cc)")
    for host in WORKERS:
        made.start_worker(host)
    made.start_web()
    sender = Sender(made, 8)
    time.sleep(4)

    for host in ("one", "web"):
        hosts.disturb(host, "db", delay=0.04, jitter=0.02, loss=0.02)
    time.sleep(12)
    hosts.heal()

    hosts.cut("two", "db")
    time.sleep(LEASE * 1.5)
    hosts.heal()
    hosts.cut("one", "db", both=False)  # it hears, and is not heard
    time.sleep(LEASE * 1.5)
    hosts.heal()

    hosts.cut("web", "db")
    time.sleep(6)
    healed = time.monotonic()
    hosts.heal()
    accepted = len(sender.answered)
    wait_until(lambda: len(sender.answered) > accepted, timedelta(seconds=20), "an answer after the cut")
    say("from the end of a cut between web and database to the next 200", time.monotonic() - healed)

    died = hosts.lose_power("three")
    time.sleep(LEASE + 2)
    hosts.heal()
    made.start_worker("three")
    time.sleep(3)
    sender.stop()
    made.wait_until_finished(120)
    check(made, sender)
    assert {status for status, _ in sender.refused} <= {503}
    assert max((seconds for _, seconds in sender.refused), default=0.0) < allowed(2.5) + 0.5
    print(
        f"measured: {len(sender.answered)} events, {len(sender.refused)} answers of 503, "
        f"the slowest answer {sender.slowest:.1f} s, {time.monotonic() - died:.0f} s after the power was lost all is done"
    )


def test_what_a_host_without_power_had_in_hand_is_rescued_within_lease_and_two_seconds(made: Installation) -> None:
    """Nothing says goodbye: no worker, no connection. Handlers without a transaction that others wait for."""
    doomed = made.start_worker("three")
    made.start_worker("one")
    made.put([{"n": n, "key": f"k{n}"} for n in range(120)], "counting")

    def run_there() -> bool:
        return sum(run.pid == doomed.pid for run in made.journal("start")) >= 4

    wait_until(run_there, timedelta(seconds=30), "runs on the host")
    at = datetime.now(UTC)
    made.hosts.lose_power("three")
    made.wait_until_finished(90)
    delays = taken_over(made, at)
    assert delays, "something died with the host"
    say(f"from the loss of power to the last of {len(delays)} rescues, lease {LEASE:g} s", delays[-1])
    assert delays[-1] <= allowed(LEASE + 2.0) + 1.0
    assert set(made.effects().values()) == {1}
    assert made.counter() == 120


HOLDING = """
@on("**", name="holding", retry=SOON)
def holding(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)
    session.execute(text("update counter set n = n + 1"))
    time.sleep(3 if delivery.number == 1 else 0)
    note("end", delivery, event)
"""


def test_locks_of_a_host_without_power_are_given_up(processes: Processes) -> None:
    """Its transaction has a row that the next attempt needs, and its server is told nothing of its end."""
    with network(processes) as (hosts, url):
        made = Installation(hosts, url, HOLDING)
        made.start_worker("three")
        made.put([{"n": 1}], "holding")
        wait_until(lambda: made.journal("start"), timedelta(seconds=30), "the run")
        made.start_worker("one")
        time.sleep(0.5)
        at = hosts.lose_power("three")
        made.wait_until_finished(120)
        say(
            "from the loss of power to the end of a run that needs a row which the lost one had locked",
            time.monotonic() - at,
        )
        assert time.monotonic() - at < allowed(40)
        assert (made.counter(), list(made.effects().values())) == (1, [1])
        made.database.dispose()


def test_a_worker_hears_of_new_deliveries_soon_after_its_database_comes_back(made: Installation) -> None:
    """The database host loses power, with all that is connected to it, and comes up again: within seconds no one polls."""
    hosts = made.hosts
    worker = made.start_worker("one", "--concurrency", "4")
    made.put([{"n": 0}], "other")
    wait_until(lambda: len(made.journal("start")) == 1, timedelta(seconds=30), "the first run")
    hosts.lose_power("db")
    made.database.dispose()
    time.sleep(3)
    hosts.heal()
    hosts.database.start()
    began = time.monotonic()
    made.put([{"n": 1}], "other")
    wait_until(lambda: len(made.journal("start")) == 2, timedelta(seconds=60), "a run after the database's return")
    say("from the database's return to the next run", time.monotonic() - began)

    def listens() -> bool:
        query = "select count(*) as n from pg_stat_activity where application_name = 'webhooks listen' and backend_type = 'client backend'"
        return bool(made.read(text(query))[0].n)

    wait_until(listens, timedelta(seconds=60), "the listener")
    say("from the database's return until its commits are heard of again", time.monotonic() - began)
    assert time.monotonic() - began < allowed(40)
    assert worker.is_running


def test_a_host_that_is_cut_off_finishes_nothing_and_works_again_when_it_is_back(made: Installation) -> None:
    hosts = made.hosts
    cut_off = made.start_worker("two")
    made.put([{"n": n} for n in range(8)], "counting", "other")
    wait_until(lambda: len(made.journal("start", "counting")) >= 2, timedelta(seconds=30), "runs on the host")
    hosts.cut("two", "db")
    made.start_worker("one")
    made.wait_until_finished(90)
    assert made.counter() == 8
    assert set(made.effects().values()) == {1}
    healed = time.monotonic()
    hosts.heal()
    made.put([{"n": n} for n in range(40)], "other")

    def runs_again() -> bool:
        return any(run.pid == cut_off.pid and run.at > healed for run in made.journal("start"))

    def put_more() -> bool:
        made.put([{"n": n} for n in range(20)], "other")
        return runs_again()

    wait_until(put_more, timedelta(seconds=60), "runs on the host that is back")
    say("from the end of a cut to the next run on that host", time.monotonic() - healed)
    made.wait_until_finished(60)
    assert cut_off.is_running
