"""The drill: seven things go wrong in one installation of real processes; each is told once, in time, and resolved once.

A handler fails and opens its circuit breaker; the sender pauses a subscription; a source falls silent; the worker is killed;
the disk is full; the database is unavailable. The last two cannot be written down anywhere, so the dead man's switch tells
them, by its silence or by its call for trouble. Settings make looks frequent and let conditions be told at once; how long a
worker must be silent (two minutes) and a circuit breaker stays open (half a minute) is as it always is.

Run with `-s`, it prints how long each took.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import postgresql
from tests.acceptance.pager import SIGNING, Pager
from tests.acceptance.support import Process, Processes, free_port, send
from tests.acceptance.test_postmaster import Postmaster
from tests.support import allowed, wait_until
from webhooks.sandbox import World, serve
from webhooks.sandbox.accounts import ADMIN_KEY
from webhooks.sandbox.server import subscribe_all, write_secret
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

CAN_MOUNT = hasattr(os, "geteuid") and os.geteuid() == 0

HANDLERS = """
from pathlib import Path
from datetime import timedelta
from webhooks import RetryPolicy, on

@on("**", source="close", name="crm.sync",
    retry=RetryPolicy(max_attempts=1000, base=timedelta(seconds=1), cap=timedelta(seconds=1)))
def sync(event):
    if Path("broken").exists():
        raise ValueError("card 4242")
"""

SETTINGS = """
database_url = "{database}"
alarm_interval = "1s"
heartbeat_url = "{pager}/beat"

[alarm_after]
no-worker = "0s"
failing = "0s"
circuit-open = "0s"

[alarms.ops]
kind = "webhook"
url_file = "url.txt"
secret_file = "key.txt"
only = ["no-worker", "failing", "circuit-open", "source-silent", "subscription-unhealthy", "not-accepting"]

[sources.close]
secret_file = "keys.json"
api_key = "{api_key}"
api_url = "{api}"
public_url = "{url}/webhooks/close"

[sources.meter]
scheme = "standard"
secret = "{signing}"
expect_within = "{silence}s"
"""

#: What is told is told within this after its condition's own time.
A_MINUTE = timedelta(minutes=1)
#: For how long a source may be silent. Its last arrival is on record up to a minute late, and the stages in which nothing
#: can be stored must not look like silence.
SILENCE = timedelta(seconds=120)
#: A worker that was killed counts as gone after this.
GONE = timedelta(minutes=2)
#: The switch is called every two seconds, and calls somebody after this.
GRACE = timedelta(seconds=15)
#: Where a source that is silent, or a worker that is gone, is critical, the switch is down too.
METER = make_source(SourceSettings("meter", "standard", (Secret(SIGNING),)))


# -- what goes wrong -----------------------------------------------------------------------------------------


class Disk:
    """A small disk of its own, mounted below `place`."""

    def __init__(self, place: Path, size: str) -> None:
        self.place = place
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", place], check=True)

    def fill(self) -> None:
        """Leave no room."""
        with (self.place / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(65536))
        with (self.place / "ballast").open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"0")

    def free(self) -> None:
        """Make room again."""
        (self.place / "ballast").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.place], check=True)
        self.place.rmdir()


class Database:
    """What the installation keeps its rows in. url: of it; disk: on which it lies."""

    url: str
    disk: Disk

    @contextlib.contextmanager
    def unavailable(self) -> Iterator[None]:
        """No process of ours can use it meanwhile."""
        raise NotImplementedError

    def recover(self) -> None:
        """Do what an operator does after the disk was full."""


class SqliteDatabase(Database):
    """Unavailable is a file whose lock another program holds."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.file = disk.place / "webhooks.db"
        self.url = f"sqlite:///{self.file}"

    @contextlib.contextmanager
    def unavailable(self) -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(self.file, timeout=30, isolation_level=None)) as other:
            other.execute("begin immediate")
            yield
            other.execute("rollback")


class PostgresqlDatabase(Database):
    """Unavailable is a server that is not there."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.server = Postmaster(disk.place / "data")
        self.url = self.server.url.replace("postgresql://", "postgresql+psycopg://")

    @contextlib.contextmanager
    def unavailable(self) -> Iterator[None]:
        self.server.kill()
        yield
        self.server.start()

    def recover(self) -> None:
        self.server.start()  # it has ended itself where it could write no log


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if not CAN_MOUNT:
        pytest.skip("the drill fills a disk, which only root can mount")
    is_sqlite = request.param == "sqlite"
    if not is_sqlite and os.environ.get(postgresql.SKIP) == "1":
        pytest.skip(f"{postgresql.SKIP}=1")
    request.node.user_properties.append(("database", "SQLite" if is_sqlite else "PostgreSQL"))
    directory = Path(tempfile.mkdtemp(prefix="webhooks-drill-"))
    directory.chmod(0o755)
    disk = Disk(directory / "disk", "48m" if is_sqlite else "400m")
    guard = None if is_sqlite else postgresql.start_guard(disk.place)
    try:
        yield SqliteDatabase(disk) if is_sqlite else PostgresqlDatabase(disk)
    finally:
        if guard is not None:
            guard.communicate()
        disk.close()
        directory.rmdir()


# -- the installation ----------------------------------------------------------------------------------------


class Drill:
    """One installation, those who send to it, and who is told."""

    def __init__(self, processes: Processes, pager: Pager, database: Database, close: Any, world: World) -> None:
        self.processes = processes
        self.pager = pager
        self.database = database
        self.close = close
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        here = processes.directory
        self.subscription = subscribe_all(world, f"{self.url}/webhooks/close")
        write_secret(here / "keys.json", self.subscription)
        self.source = make_source(
            SourceSettings(name="close", scheme="close", secrets=[Secret(self.subscription.signature_key)])
        )
        (here / "handlers").mkdir()
        (here / "handlers" / "sync.py").write_text(HANDLERS)
        (here / "url.txt").write_text(f"{pager.url}/alarms\n")
        (here / "key.txt").write_text(SIGNING)
        (here / "webhooks.toml").write_text(
            SETTINGS.format(
                database=database.url,
                pager=pager.url,
                api_key=ADMIN_KEY,
                api=close.url,
                url=self.url,
                signing=SIGNING,
                silence=int(SILENCE.total_seconds()),
            )
        )
        self.broken = here / "broken"
        self.statuses: list[int] = []
        self.took: dict[str, float] = {}
        self._sends = threading.Event()
        self._over = threading.Event()
        self._meter = threading.Thread(target=self._read_meter)

    def start(self) -> None:
        assert self.processes.run("webhooks", "db", "upgrade").wait() == 0
        server = self.processes.start("webhooks", "run", "--", "--bind", f"127.0.0.1:{self.port}")
        server.wait_for("(?s)(no worker runs in this process.*){2}")
        self.worker = self.start_worker()
        self.meter_sends(True)
        self._meter.start()
        wait_until(lambda: self.pager.beats and not self.is_down(), what="the switch to be called")

    def stop(self) -> None:
        self._over.set()
        if self._meter.is_alive():
            self._meter.join()

    def start_worker(self) -> Process:
        worker = self.processes.start("webhooks", "worker")
        worker.wait_for("started with 1 handlers")
        return worker

    def is_down(self) -> bool:
        return self.pager.is_down(GRACE)

    # -- who sends ---------------------------------------------------------------------------------------------

    def _post(self, source: Any, name: str, event: dict[str, Any]) -> int:
        body = json.dumps(event).encode()
        try:
            status = send(f"{self.url}/webhooks/{name}", body, dict(source.sign(body, datetime.now(UTC)))).status
        except OSError:
            status = 0
        self.statuses.append(status)
        return status

    def post(self, size: int = 0) -> int:
        """One event of Close, of about so many bytes."""
        event = {
            "id": f"ev_{secrets.token_hex(8)}",
            "object_type": "lead",
            "object_id": "lead_1",
            "action": "updated",
            "date_updated": datetime.now(UTC).isoformat(),
            "data": {"text": secrets.token_hex(size // 2)},
        }
        return self._post(self.source, "close", {"event": event, "subscription_id": self.subscription.id})

    def meter_sends(self, sends: bool) -> None:
        """Whether the source that may fall silent sends."""
        (self._sends.set if sends else self._sends.clear)()

    def _read_meter(self) -> None:
        while not self._over.wait(2):
            if self._sends.is_set():
                self._post(METER, "meter", {"type": "meter.read"})

    # -- the stages ----------------------------------------------------------------------------------------------

    def begin(self) -> float:
        """Wait until all is well again; the time."""
        wait_until(lambda: not self.is_down(), A_MINUTE, "the switch to be called with good news")
        return time.monotonic()

    def told(self, what: str, since: float, own: timedelta) -> None:
        """Wait until it was told: within a minute after its condition's own time."""
        self.pager.wait_for(f"raised {what}", own + A_MINUTE)
        self._note(what, since, own)

    def switch_falls(self, what: str, since: float) -> None:
        """Wait until the switch would call somebody."""
        wait_until(self.is_down, GRACE + A_MINUTE, f"the switch to notice: {what}")
        self._note(what, since, GRACE)

    def _note(self, what: str, since: float, own: timedelta) -> None:
        self.took[what] = time.monotonic() - since
        print(f"{what}: told after {self.took[what]:.1f} s, its own time being {own.total_seconds():.0f} s")
        assert self.took[what] <= allowed((own + A_MINUTE).total_seconds())

    def switch_rises(self, since: float) -> None:
        """Wait until it is called again with good news; since `since` it fell once."""
        wait_until(lambda: not self.is_down(), A_MINUTE, "the switch to be called again")
        assert self.pager.falls(since, GRACE) == 1


@pytest.fixture
def drill(processes: Processes, database: Database) -> Iterator[Drill]:
    pager = Pager()
    world = World(lambda: datetime.now(UTC), seed=7)
    with contextlib.ExitStack() as stack:
        stack.callback(pager.close)
        close = serve(world).start()
        stack.callback(close.stop)
        made = Drill(processes, pager, database, close, world)
        stack.callback(made.stop)
        stack.callback(processes.end)
        made.start()
        yield made


def a_handler_fails(drill: Drill) -> None:
    began = drill.begin()
    drill.broken.touch()
    for _ in range(10):  # in a row, they open the circuit breaker
        assert drill.post() == 200
    drill.told("failing", began, timedelta(0))
    drill.told("circuit-open", began, timedelta(0))
    drill.broken.unlink()
    drill.pager.wait_for("resolved circuit-open", timedelta(minutes=2))
    drill.pager.wait_for("resolved failing")


def a_subscription_is_paused(drill: Drill) -> None:
    began = drill.begin()
    body = json.dumps({"subscription_id": drill.subscription.id, "reason": "failing"}).encode()
    assert send(drill.close.url.replace("/api/v1/", "/sandbox/pause"), body).status == 200
    drill.told("subscription-unhealthy", began, timedelta(seconds=20))  # senders are asked at each twentieth look
    done = drill.processes.run("webhooks", "subscriptions", "resume", drill.subscription.id)
    assert done.wait() == 0, done.output
    drill.pager.wait_for("resolved subscription-unhealthy", A_MINUTE + timedelta(seconds=20))


def a_source_falls_silent_and_the_worker_is_killed(drill: Drill) -> None:
    began = drill.begin()
    drill.meter_sends(False)
    drill.worker.signal(signal.SIGKILL)
    assert drill.post() == 200
    wait_until(drill.is_down, GRACE + A_MINUTE, "the switch to notice that no worker calls it")
    drill.told("no-worker", began, GONE)
    drill.told("source-silent", began, SILENCE)
    drill.worker = drill.start_worker()
    drill.meter_sends(True)
    drill.pager.wait_for("resolved no-worker")
    drill.pager.wait_for("resolved source-silent", A_MINUTE * 2)
    drill.switch_rises(began)


def the_disk_is_full(drill: Drill) -> None:
    began = drill.begin()
    drill.database.disk.fill()
    drill.statuses.clear()

    def refused_and_noticed() -> bool:
        drill.post(200_000)
        return 503 in drill.statuses and drill.is_down()

    wait_until(refused_and_noticed, GRACE + A_MINUTE, "the switch to notice that the disk is full")
    drill.switch_falls("disk full", began)
    drill.database.disk.free()
    drill.database.recover()
    wait_until(lambda: drill.post() == 200, A_MINUTE, "an event to be stored")
    resolved = drill.pager.counts()
    if resolved["raised not-accepting"]:
        drill.pager.wait_for("resolved not-accepting", timedelta(minutes=4))
    drill.switch_rises(began)


def the_database_is_unavailable(drill: Drill) -> None:
    began = drill.begin()
    with drill.database.unavailable():
        # backends of a killed server notice that a moment later
        wait_until(lambda: drill.post() in (0, 503), A_MINUTE, "events to be refused")
        drill.switch_falls("database unavailable", began)
    wait_until(lambda: drill.post() == 200, A_MINUTE, "an event to be stored")
    drill.switch_rises(began)


STAGES: tuple[Callable[[Drill], None], ...] = (
    a_handler_fails,
    a_subscription_is_paused,
    a_source_falls_silent_and_the_worker_is_killed,
    the_disk_is_full,
    the_database_is_unavailable,
)


def test_each_thing_that_goes_wrong_is_told_once_in_time_and_resolved_once(drill: Drill) -> None:
    for stage in STAGES:
        stage(drill)
    counts = drill.pager.counts()
    for name in ("failing", "circuit-open", "subscription-unhealthy", "source-silent", "no-worker"):
        assert (counts[f"raised {name}"], counts[f"resolved {name}"]) == (1, 1), counts
    assert counts["raised not-accepting"] == counts["resolved not-accepting"] <= 1, counts
    assert not [what for what in counts if what.startswith(("again", "worse", "summary"))], counts
    raised = [each["data"] for each in drill.pager.told if each["type"] == "alarm.raised"]
    assert all(each["command"].startswith(("webhooks ", "curl ")) for each in raised)
    assert "4242" not in json.dumps(drill.pager.told)
