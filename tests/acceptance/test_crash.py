"""kill -9, SIGSTOP and commit boundaries: nothing is lost, stuck or done twice.

Short forms run in `make test`, from a seed that is printed when they fail; `make crash` runs the long ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.acceptance.fleet import Fleet, fleet
from tests.acceptance.support import Process, Processes
from tests.support import ROOT, allowed, either_database, examples, pairs, patience, some, wait_until
from webhooks import failpoints
from webhooks.errors import StorageUnavailable
from webhooks.model import DeliveryState
from webhooks.operations import Actor, Requeuer, Via
from webhooks.routing import Registry
from webhooks.selection import Selection

pytestmark = pytest.mark.forks

SEED = int(os.environ.get("WEBHOOKS_TEST_SEED", "20260310"))

HANDLERS = """
@on("**", name="session", retry=SOON)
def session_(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)


@on("**", name="other", retry=SOON)
def other(event, delivery):
    note("start", delivery, event)


@on("**", name="flaky", retry=SOON)
def flaky(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)
    if delivery.failures == 0 and json.loads(event.raw)["n"] % 7 == 0:  # seldom: ten in a row would open its breaker
        raise LookupError("the first time")


@on("**", name="laned", ordered_by="object_id", retry=SOON)
def laned(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)


@on("**", name="shared", effects="session", retry=SOON)
def shared(event, session, delivery):
    note("shared", delivery, event)
    effect(session, event, delivery)
    if delivery.failures == 0 and json.loads(event.raw)["n"] % 7 == 0:
        raise LookupError("the first time")


@on("**", name="batched", batch=10, retry=SOON)
def batched(events, session, deliveries):
    for event, delivery in zip(events, deliveries, strict=True):
        note("batched", delivery, event)
        effect(session, event, delivery)
    if any(one.failures == 0 and json.loads(event.raw)["n"] % 7 == 0 for event, one in zip(events, deliveries)):
        raise LookupError("the first time")


@on("**", name="newest", latest="object_id", effects="session", retry=SOON)
def newest(event, session, delivery):
    note("newest", delivery, event)
    effect(session, event, delivery)


@on("**", name="killer", retry=RetryPolicy(max_attempts=3, base=timedelta(0), cap=timedelta(0)))
def killer(event, delivery):
    note("start", delivery, event)
    os.kill(os.getpid(), signal.SIGKILL)


@on("**", name="dying", retry=RetryPolicy(max_attempts=1))
def dying(event, delivery):
    note("start", delivery, event)
    raise LookupError("always")
"""


def check_shared(made: Fleet, ids: list[int], handler: str = "shared") -> None:
    """What must be true of deliveries that share transactions; of runs that were taken back nothing is on record."""
    effects = made.effects()
    expected = {run.key for run in made.journal(handler)}
    assert {key: effects[key] for key in expected} == dict.fromkeys(expected, 1), "one effect each"
    assert {run.delivery for run in made.journal(handler)} == set(ids), "every delivery ran"
    attempts = made.attempts()
    assert {attempts[id].count("succeeded") for id in ids} == {1}
    assert {attempts[id].count("failed") for id in ids} <= {0, 1}, "only runs that count are on record"


def check_newest(made: Fleet, put: list[tuple[int, str, int]]) -> None:
    """What must be true of deliveries of which the newest of a key runs. put: (id, key, place) of each, in order."""
    effects, states = made.effects(), made.states_of([id for id, _, _ in put])
    keys = {run.delivery: run.key for run in made.journal("newest")}
    assert set(states.values()) <= {DeliveryState.SUCCEEDED, DeliveryState.CANCELLED}
    for id, state in states.items():
        ran = state is DeliveryState.SUCCEEDED
        assert effects[keys.get(id, "")] == ran, "an effect of what succeeded, and of nothing else"
    last: dict[str, tuple[int, int, int]] = {}
    for number, (id, key, place) in enumerate(put):
        last[key] = max(last.get(key, (-1, -1, -1)), (place, number, id))
    assert {states[id] for _, _, id in last.values()} == {DeliveryState.SUCCEEDED}, "the newest of each key ran"


def check(made: Fleet, ids: list[int]) -> None:
    """What must be true of every handler that works, whatever was done to the workers."""
    innocent = [entry for entry in made.dead() if entry[0] not in ("killer", "dying")]
    assert innocent == [], "no delivery is dead that never failed by itself"
    effects = made.effects()
    starts = made.journal("start")
    for handler in ("session", "flaky", "laned"):
        expected = {run.key for run in starts if run.handler == handler}
        assert {key: effects[key] for key in expected} == dict.fromkeys(expected, 1), f"{handler}: one effect each"
    attempts = made.attempts()
    by_delivery: dict[int, int] = {}
    keys: dict[int, set[str]] = {}
    for run in starts:
        by_delivery[run.delivery] = by_delivery.get(run.delivery, 0) + 1
        keys.setdefault(run.delivery, set()).add(run.key)
    unrecorded = {id: (n, attempts.get(id)) for id, n in by_delivery.items() if len(attempts.get(id, [])) < n}
    assert unrecorded == {}, "every run is on record"
    assert all(len(found) == 1 for found in keys.values()), "the idempotency key stays the same"
    assert set(by_delivery) == set(ids), "every delivery ran"


def storm(made: Fleet, *, events: int, faults: int, seed: int) -> None:
    """Deliver while workers are killed and frozen at random."""
    chance = random.Random(seed)
    ids: list[int] = []
    shared: list[int] = []
    batched: list[int] = []
    newest: list[tuple[int, str, int]] = []
    made.keep(3)
    share = events // (faults + 1)
    for fault in range(faults):
        bodies = [{"n": n, "key": f"k{n % 20}"} for n in range(share)]
        ids += made.put(bodies, "session", "other", "flaky")
        ids += made.put(bodies[: share // 4], "laned", lane=True)
        shared += made.put(bodies, "shared")
        batched += made.put(bodies, "batched")
        found = made.put(bodies, "newest", lane=True)
        newest += [(id, f"k{n % 20}", n) for n, id in enumerate(found)]
        time.sleep(chance.uniform(0.05, 0.4))
        if fault % 3 == 2:
            made.freeze(chance, made.lease * 1.3)
        else:
            made.kill(chance)
    killers = made.put([{"n": 0}], "killer")
    ids += made.put([{"n": n} for n in range(events - share * faults)], "session", "other")
    made.wait_until_finished(15, but="killer")
    made.wait_until_finished(30)
    check(made, ids + killers)
    check_shared(made, shared)
    check_shared(made, batched, "batched")
    check_newest(made, newest)
    assert made.attempts()[killers[0]][-3:] == ["lost"] * 3
    assert made.dead() == [("killer", "its process died while it ran alone (attempt 3 of 3)")]
    runs = [run.alone for run in made.journal("start", "killer")]
    assert runs[-3:] == [True] * 3, "it dies after three runs alone"
    made.stop()


@pytest.mark.parametrize("database_url", some("postgresql", "sqlite"), indirect=True)
def test_workers_are_killed_and_frozen_and_every_effect_happens_once(processes: Processes, database_url: str) -> None:
    with fleet(processes, database_url, HANDLERS) as made:
        storm(made, events=examples(300, 2), faults=5, seed=SEED)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_thirty_kills_over_three_thousand_events(processes: Processes, database_url: str, seed: int) -> None:
    with fleet(processes, database_url, HANDLERS) as made:
        storm(made, events=3000, faults=30, seed=seed)


# -- commit boundaries -------------------------------------------------------------------------------------

#: Places that a worker passes; the commands pass the others.
OF_WORKERS = [name for name in failpoints.NAMES if not name.startswith(("replay.", "action.", "prune."))]


def die_at(made: Fleet, names: list[str], chance: random.Random) -> None:
    ids: list[int] = []
    shared: list[int] = []
    batched: list[int] = []
    for name in names:
        bodies = [{"n": n, "key": f"{name}{n % 2}"} for n in range(6)]
        ids += made.put(bodies, "session", "other", "flaky")
        ids += made.put(bodies, "laned", lane=True)
        ids += made.put(bodies[:1], "dying")
        shared += made.put(bodies, "shared")
        batched += made.put(bodies, "batched")
        passage = 1 if name.startswith("rescue.") else chance.randrange(1, 3)
        env = {failpoints.VARIABLE: f"{name}:{passage}"}
        if name.startswith("rescue."):
            victim = made.start(1, **{failpoints.VARIABLE: "run.after_handler:1"})[0]
            assert victim.wait() == -signal.SIGKILL
        worker = made.processes.start("webhooks", "worker", env={**made.env, **env})
        made.workers.append(worker)
        assert worker.wait() == -signal.SIGKILL, f"{name} was not passed:\n{worker.output}"
    made.start()
    made.wait_until_finished(20)
    made.stop()
    check(made, ids)
    check_shared(made, shared)
    check_shared(made, batched, "batched")
    assert {handler for handler, _ in made.dead()} == {"dying"}


@pytest.mark.one_database
def test_a_worker_that_dies_at_a_commit_boundary_loses_and_doubles_nothing(
    processes: Processes, database_url: str
) -> None:
    chance = random.Random(SEED)
    names = ["run.before_commit", "run.after_commit", *chance.sample(OF_WORKERS, 4)]
    with fleet(processes, database_url, HANDLERS, lease=1.0) as made:
        die_at(made, names, chance)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_worker_dies_at_every_commit_boundary(processes: Processes, database_url: str) -> None:
    with fleet(processes, database_url, HANDLERS, lease=1.0) as made:
        die_at(made, OF_WORKERS, random.Random(SEED))


@pytest.mark.parametrize(
    ("name", "database_url"), pairs("replay.before_commit", "replay.after_commit"), indirect=["database_url"]
)
def test_a_replay_that_dies_makes_no_delivery_twice_when_it_goes_on(
    processes: Processes, database_url: str, name: str
) -> None:
    with fleet(processes, database_url, HANDLERS) as made:
        made.put([{"n": n} for n in range(5)], "session")
        command = ("webhooks", "replay", "--handler", "session", "--all", "--yes")
        killed = processes.run(*command, env={**made.env, failpoints.VARIABLE: name})
        assert killed.wait() == -signal.SIGKILL, killed.output
        again = processes.run(*command, env=made.env)
        assert again.wait() == 1, "it says that the first one is there"
        if number := re.search(r"webhooks replay resume (\d+)", again.output):
            assert processes.run("webhooks", "replay", "resume", number[1], env=made.env).wait() == 0
        assert sum(made.states().values()) == 10, "five fresh ones, and each once more"
        made.start()
        made.wait_until_finished(15)
        assert made.dead() == []
        made.stop()


@pytest.mark.parametrize(
    ("name", "database_url"), pairs("replay.before_commit", "replay.after_commit"), indirect=["database_url"]
)
def test_a_worker_that_dies_while_it_makes_a_replay_is_followed_by_another(
    processes: Processes, database_url: str, name: str
) -> None:
    with fleet(processes, database_url, HANDLERS, lease=1.0) as made:
        made.put([{"n": n} for n in range(5)], "session")
        (first,) = made.start(1, **{failpoints.VARIABLE: name})
        command = ("webhooks", "replay", "--handler", "session", "--all", "--detach")
        detached = processes.run(*command, env=made.env)
        assert detached.wait() == 0, detached.output
        assert first.wait() == -signal.SIGKILL, first.output
        made.start()
        wait_until(lambda: sum(made.states().values()) == 10, what="five fresh ones, and each once more")
        made.wait_until_finished(15)
        assert made.dead() == []
        made.stop()


@pytest.mark.parametrize(
    ("name", "database_url"), pairs("action.before_commit", "action.after_commit"), indirect=["database_url"]
)
def test_a_worker_that_dies_at_an_action_is_followed_by_another(
    processes: Processes, database_url: str, name: str
) -> None:
    """kill -9 in the second of three steps of a requeue that a page asked for: every delivery is requeued once."""
    with fleet(processes, database_url, HANDLERS, lease=1.0) as made:
        ids = made.put([{"n": n} for n in range(1_200)], "session")
        made.execute("update webhooks_deliveries set state = 3, finished_at = created_at, attempts = 1, failures = 1")
        store = made.store
        action = Requeuer(store=store, registry=Registry()).begin(Selection(), actor=Actor("ada", Via.DASHBOARD))
        (first,) = made.start(1, **{failpoints.VARIABLE: f"{name}:2"})
        assert first.wait() == -signal.SIGKILL, first.output
        half = store.actions.get(action.id)
        assert half is not None
        assert half.changed == (500 if name == "action.before_commit" else 1_000)
        made.start()
        wait_until(lambda: not store.actions.unfinished(), timedelta(seconds=60), "another worker to end it")
        made.wait_until_finished(60)
        done = store.actions.get(action.id)
        assert done is not None
        assert (done.state.label, done.changed, done.skipped) == ("done", 1_200, 0)
        assert len(made.effects()) == len(ids)
        assert set(made.effects().values()) == {1}, "each had its effect once"
        made.stop()


@pytest.mark.parametrize(
    ("name", "database_url"), pairs("prune.before_commit", "prune.after_commit"), indirect=["database_url"]
)
def test_a_prune_that_dies_is_whole_batches_and_goes_on(processes: Processes, database_url: str, name: str) -> None:
    with fleet(processes, database_url, HANDLERS) as made:
        made.put([{"n": n} for n in range(5)], "other")
        made.start()
        made.wait_until_finished(15)
        made.stop()
        command = ("webhooks", "prune", "--older-than", "0s", "--yes")
        killed = processes.run(*command, env={**made.env, failpoints.VARIABLE: name})
        assert killed.wait() == -signal.SIGKILL
        left = sum(made.states().values())
        assert left == (5 if name == "prune.before_commit" else 0)
        assert processes.run(*command, env=made.env).wait() == 0
        assert sum(made.states().values()) == 0
        assert made.attempts() == {}


# -- stopping and replacing --------------------------------------------------------------------------------


@either_database
def test_sigterm_finishes_or_gives_back_within_the_grace_period(processes: Processes, database_url: str) -> None:
    handlers = """
    @on("**", name="slow", timeout=timedelta(seconds=60))
    def slow(event, delivery):
        note("start", delivery, event)
        time.sleep(float(json.loads(event.raw)["seconds"]))
        note("end", delivery, event)
    """
    with fleet(processes, database_url, handlers, WEBHOOKS_GRACE="2s") as made:
        ids = made.put([{"seconds": 0.5}, {"seconds": 60}, *[{"seconds": 0.1}] * 20], "slow")
        (worker,) = made.start(1)
        # its threads begin in any order
        wait_until(lambda: {run.delivery for run in made.journal("start")} >= set(ids[:2]), what="both to run")
        before = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - before < allowed(5)
        states = made.states()
        assert states[DeliveryState.RUNNING] == 0
        assert made.attempts()[ids[0]] == ["succeeded"]
        assert made.attempts()[ids[1]] == ["released"]


@either_database
def test_a_worker_with_abandoned_threads_executes_itself_anew(processes: Processes, database_url: str) -> None:
    handlers = """
    @on("**", name="hangs", timeout=timedelta(milliseconds=200), retry=RetryPolicy(1))
    def hangs(event, delivery):
        note("start", delivery, event)
        time.sleep(600)


    @on("**", name="fine", retry=SOON)
    def fine(event, session, delivery):
        effect(session, event, delivery)
    """
    with fleet(processes, database_url, handlers, WEBHOOKS_ABANDONED_THREADS="4") as made:
        (worker,) = made.start()
        made.put([{"n": n} for n in range(4)], "hangs")
        worker.wait_for(r"(?s)replaces itself.*started with 2 handlers")
        made.put([{"n": n} for n in range(10)], "fine")
        made.wait_until_finished(10)
        assert len(made.effects()) == 10
        assert worker.stop() == 0
        assert sorted(made.attempts().values())[0] == ["succeeded"]
        assert [reason for _, reason in made.dead()] == [
            "AttemptTimeout: it ran longer than its timeout of 0.2 s (attempt 1 of 1)"
        ] * 4


@pytest.mark.forks("none")
@pytest.mark.parametrize(
    "command",
    some(
        "webhooks worker --concurrency 6",
        "python -W ignore -m webhooks worker --concurrency 6",
        "python -m webhooks worker --concurrency 6",
        "python -m flask --app wsgi webhooks worker --concurrency 6",
        "flask --app wsgi webhooks worker --concurrency 6",
    ),
)
def test_a_worker_executes_itself_anew_as_it_was_started(processes: Processes, sqlite_url: str, command: str) -> None:
    """The same process, with the same arguments, handlers and settings; it works on, and still heeds a signal."""
    handlers = """
    @on("**", name="hangs", timeout=timedelta(milliseconds=200), retry=RetryPolicy(1))
    def hangs(event, delivery):
        time.sleep(600)


    @on("**", name="fine", retry=SOON)
    def fine(event, session, delivery):
        effect(session, event, delivery)
    """
    with fleet(processes, sqlite_url, handlers, WEBHOOKS_ABANDONED_THREADS="4") as made:
        (worker,) = made.start(command=command.split())
        program = Path(f"/proc/{worker.pid}/cmdline")
        before = program.read_bytes()
        made.put([{"n": n} for n in range(4)], "hangs")
        worker.wait_for(r"(?s)replaces itself.*started with 2 handlers")
        assert program.read_bytes().split(b"\0")[1:] == before.split(b"\0")[1:]
        made.put([{"n": 1}], "fine")
        made.wait_until_finished(10)
        assert len(made.effects()) == 1
        assert worker.stop() == 0


@either_database
def test_a_handler_with_a_process_of_its_own_is_killed_with_all_it_started(
    processes: Processes, database_url: str
) -> None:
    handlers = """
    import subprocess, sys


    @on("**", name="native", isolation="process", timeout=timedelta(seconds=TIMEOUT), retry=RetryPolicy(max_attempts=1))
    def native(event, session, delivery):
        how = json.loads(event.raw)["how"]
        note("start", delivery, event)
        if how == "loops":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "grandchild"])
            while True:
                pass
        effect(session, event, delivery)
        if how == "exits":
            os._exit(3)
        if how == "raises":
            raise SystemExit("out")
    """.replace("TIMEOUT", f"{patience(1):.1f}")  # its process is started within it, too
    with fleet(processes, database_url, handlers) as made:
        (worker,) = made.start()
        ids = made.put([{"how": how} for how in ("loops", "exits", "raises", "works")], "native")
        made.wait_until_finished(20)
        outcomes = made.attempts()
        assert [outcomes[id] for id in ids] == [["timed-out"], ["lost"], ["failed"], ["succeeded"]]
        assert len(made.effects()) == 1
        starts = {run.delivery: run for run in made.journal("start")}
        assert set(starts) == set(ids)
        assert worker.stop() == 0
        wait_until(lambda: not worker.members(), timedelta(seconds=5), "its children to end")


def freeze_between_writes(made: Fleet, worker: Process) -> None:
    """SIGSTOP, at a moment when it does not hold SQLite's lock."""
    while True:
        worker.signal(signal.SIGSTOP)
        with contextlib.suppress(StorageUnavailable):
            return made.execute("update webhooks_leases set name = name where name = ''")
        worker.signal(signal.SIGCONT)


@pytest.mark.one_database
def test_what_died_with_a_worker_is_finished_soon(processes: Processes, database_url: str) -> None:
    """Within lease + 2 s + twice the time that it needs otherwise: in ordinary threads, not in processes made for it."""
    handlers = """
    @on("**", name="busy", retry=SOON)
    def busy(event, session, delivery):
        note("start", delivery, event)
        time.sleep(0.3)
        while Path("held").exists():
            time.sleep(0.01)
        effect(session, event, delivery)
    """
    with fleet(processes, database_url, handlers) as made:
        other, victim = made.start(2)
        bodies = [{"n": n} for n in range(16)]
        freeze_between_writes(made, other)
        began = time.monotonic()
        made.put(bodies, "busy")
        made.wait_until_finished(30)
        undisturbed = time.monotonic() - began
        held = processes.directory / "held"  # else they could end before this process sees that they run
        held.touch()
        ids = made.put(bodies, "busy")
        wait_until(lambda: made.states()[DeliveryState.RUNNING] >= 8)
        killed = time.monotonic()
        victim.kill()
        held.unlink()
        other.signal(signal.SIGCONT)
        made.wait_until_finished(30)
        took = time.monotonic() - killed
        attempts = made.attempts()
        died = [id for id in ids if attempts[id] == ["lost", "succeeded"]]
        assert len(died) >= 8
        assert set(made.effects().values()) == {1}
        assert len(other.members()) == 1, "no process was started for them"
        assert took < made.lease + allowed(2) + 2 * undisturbed
        assert other.stop() == 0


@contextlib.contextmanager
def dripping(seconds: float) -> Iterator[int]:
    """The port of a server that answers a byte every so often, without end."""
    done = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n")
            while not done.wait(seconds):
                connection.sendall(b".")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=drip, args=(listener.accept()[0],)))
                threads[-1].start()

    listener = socket.create_server(("127.0.0.1", 0))
    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in list(threads):
            thread.join()


@either_database
def test_a_target_that_drips_has_its_handler_parked_and_replaces_no_worker(
    processes: Processes, database_url: str
) -> None:
    """No read of the shipped `forward` ever times out; its own time-out ends the attempt, but not the thread."""
    handlers = """
    @on("**", name="fine", retry=SOON)
    def fine(event, session, delivery):
        effect(session, event, delivery)
    """
    with dripping(0.3) as port:
        target = {
            "url": f"http://127.0.0.1:{port}/",
            "secret": f"whsec_{'A' * 32}",
            "types": ["**"],
            "timeout_seconds": 1,
        }
        with fleet(processes, database_url, handlers, FORWARD_TARGETS=json.dumps({"slow": target})) as made:
            shutil.copy(ROOT / "handlers" / "forward.py", processes.directory / "handlers")
            (worker,) = made.start()
            made.put([{"n": n} for n in range(14)], "forward.slow")
            worker.wait_for(r"circuit breaker of handler 'forward.slow' opened", timedelta(seconds=40))
            made.put([{"n": n} for n in range(20)], "fine")
            wait_until(lambda: len(made.effects()) == 20, timedelta(seconds=20))
            assert "replaces itself" not in worker.output
            assert worker.output.count("started with 2 handlers") == 1
            assert worker.stop() == 0


@pytest.mark.thorough
@pytest.mark.parametrize("connections", [4, 2])
def test_with_few_connections_everything_runs_slowly(
    processes: Processes, postgresql_url: str, connections: int
) -> None:
    """A role's limit, which superusers do not have; all that have no connection wait, and none of that is an attempt."""
    handlers = """
    @on("**", name="session", retry=SOON)
    def session_(event, session, delivery):
        effect(session, event, delivery)
        time.sleep(0.02)


    @on("**", name="other", retry=SOON)
    def other(event, delivery):
        time.sleep(0.01)
    """
    role = f"few_{os.getpid()}_{connections}"
    url = make_url(postgresql_url).set(username=role)
    with fleet(processes, postgresql_url, handlers) as made:
        try:
            made.execute(f"create role {role} login connection limit {connections}")
            made.execute(f"grant all on all tables in schema public to {role}")
            made.execute(f"grant all on all sequences in schema public to {role}")
            ids = made.put([{"n": n} for n in range(72)], "session", "other")
            (worker,) = made.start(DATABASE_URL=url.render_as_string(hide_password=False))
            made.wait_until_finished(45)
            assert set(made.effects().values()) == {1}
            assert len(made.effects()) == 72
            assert made.attempts() == {id: ["succeeded"] for id in ids}
            assert worker.output.count("no connection to the database") <= 2
            assert worker.stop() == 0
        finally:
            processes.end()
            made.execute(f"drop owned by {role}")
            made.execute(f"drop role {role}")
