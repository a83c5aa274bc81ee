"""Celery as an engine, over real brokers, pools and processes: whatever happens to them, every effect is there once.

Each row of the table of faults in docs/celery.md is a test here. Short forms run in `make test-brokers`; with `make crash` the
long ones run 5,000 deliveries over each broker.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.brokers import Broker, OwnBroker, broker_of, silent_server
from tests.acceptance.fleet import KEY, Fleet, fleet, percentile
from tests.acceptance.support import Process, Processes, free_port, send
from tests.support import allowed, wait_until
from webhooks.model import DeliveryState
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source

pytestmark = [pytest.mark.brokers, pytest.mark.timeout(240)]

SEED = int(os.environ.get("WEBHOOKS_TEST_SEED", "20261129"))

#: `long_` holds a claim long enough to be killed in it, after its insert.
HANDLERS = """
@on("**", name="session", retry=SOON)
def session_(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)


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


@on("**", name="held", retry=SOON)
def held(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)
    time.sleep(0.25)


@on("**", name="limited", concurrency=1, retry=SOON)
def limited(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)
    time.sleep(0.05)
    note("end", delivery, event)


@on("**", name="coroutine", retry=SOON)
async def coroutine(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)


@on("**", name="isolated", isolation="process", retry=SOON)
def isolated(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)


@on("**", name="killer", retry=RetryPolicy(max_attempts=3, base=timedelta(0), cap=timedelta(0)))
def killer(event, delivery):
    note("start", delivery, event)
    os.kill(os.getpid(), signal.SIGKILL)


@on("**", name="hanging", timeout=timedelta(seconds=1), retry=RetryPolicy(max_attempts=1))
def hanging(event, delivery):
    note("start", delivery, event)
    time.sleep(20)
"""


#: A handler that routes what is posted, of which nothing is run.
ROUTED = """
@on("**", name="routed")
def routed(event, delivery):
    pass
"""


class Engine:
    """A fleet whose deliveries are run by Celery; every process of it is killed or stopped by the test."""

    def __init__(self, made: Fleet, broker: Broker) -> None:
        self.made = made
        self.broker = broker
        broker.write_application(made.processes.directory)
        self.workers: list[Process] = []

    def feed(self) -> Process:
        """Start a feeder, and wait until it offers or stands by."""
        process = self.made.processes.start("webhooks", "feed", "--celery", "theirs:app", env=self.made.env)
        process.wait_for(r"feeder:\S+ started with \d+ queues")
        return process

    def work(self, pool: str = "prefork", concurrency: int = 2) -> Process:
        """Start a Celery worker with its pool, and wait until it consumes."""
        options = ["-Q", self.broker.queue, "-P", pool, "-c", str(concurrency), "-n", f"w{time.monotonic_ns()}@%h"]
        process = self.made.processes.start(
            "celery", "-A", "theirs", "worker", "-l", "INFO", "--without-gossip", "--without-mingle", *options,
            env=self.made.env,
        )  # fmt: skip
        process.wait_for(r"ready\.", timedelta(seconds=40))
        self.workers.append(process)
        return process

    def kill(self, worker: Process) -> None:
        """kill -9 to a whole worker group."""
        worker.end()
        self.workers.remove(worker)

    def publish(self, *messages: list[int]) -> None:
        """Publish messages as the feeder does, from elsewhere."""
        celery: Any = importlib.import_module("celery")
        app = celery.Celery("elsewhere", broker=self.broker.url, set_as_current=False)
        app.conf.broker_transport_options = self.broker.options
        app.conf.task_default_queue = self.broker.queue
        with app.connection_for_write() as connection:
            for ids in messages:
                app.send_task(
                    "webhooks.run", (ids,), queue=self.broker.queue, connection=connection, ignore_result=True
                )
        app.close()


@pytest.fixture(params=["rabbitmq", "redis"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    broker = broker_of(request.param)
    yield broker
    broker.remove()


@pytest.fixture
def engine(broker: Broker, processes: Processes, postgresql_url: str) -> Iterator[Engine]:
    # a lost message is offered again soon; a second lies between that and a claim on this machine
    with fleet(processes, postgresql_url, HANDLERS, WEBHOOKS_ENGINE_AGAIN="4s") as made:
        yield Engine(made, broker)


def check(made: Fleet, ids: list[int]) -> None:
    """Every effect once, nothing left, nothing dead, and every run on record."""
    states = made.states()
    assert states == {DeliveryState.SUCCEEDED: len(ids)}, states
    effects = made.effects()
    assert len(effects) == len(ids)
    assert set(effects.values()) == {1}, "an effect each"
    attempts = made.attempts()
    starts: dict[int, int] = {}
    for run in made.journal("start"):
        if run.handler in ("hanging", "killer"):
            continue
        starts[run.delivery] = starts.get(run.delivery, 0) + 1
    assert set(starts) == set(ids), "every delivery ran"
    unrecorded = {id: (n, attempts[id]) for id, n in starts.items() if len(attempts[id]) < n}
    assert unrecorded == {}, "every run is on record"
    assert all(outcomes[-1] == "succeeded" for outcomes in attempts.values())


def bodies(n: int) -> list[dict[str, Any]]:
    return [{"n": n, "key": f"k{n % 10}"} for n in range(n)]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_celery_runs_what_is_stored_in_order_within_limits_and_time_outs(engine: Engine, pool: str) -> None:
    made = engine.made
    worker, feeder = engine.work(pool, 3), engine.feed()
    ids = made.put(bodies(60), "session", "flaky") + made.put(bodies(40), "laned", lane=True)
    ids += made.put(bodies(10), "limited", "coroutine") + made.put(bodies(2), "isolated")
    (hanging,) = made.put(bodies(1), "hanging")
    made.wait_until_finished(60)
    assert made.attempts()[hanging] == ["timed-out"]
    made.execute("delete from webhooks_deliveries where handler = 'hanging'")
    made.execute("delete from webhooks_attempts where delivery_id = :id", id=hanging)
    check(made, ids)
    places: dict[str, list[int]] = {}
    for run in made.journal("start", "laned"):
        places.setdefault(run.body["key"], []).append(run.body["n"])
    assert all(order == sorted(order) for order in places.values()), places
    limited = [run.what for run in made.journal(handler="limited")]
    assert limited == ["start", "end"] * 10, "one at a time over all processes"
    found = [process for process in made.store.processes.running() if process.kind == "celery"]
    assert len(found) == (3 if pool == "prefork" else 1)
    feeder.stop()
    assert worker.stop(timedelta(seconds=40)) == 0
    assert made.store.processes.running() == [], "each took itself off the list"
    assert "Traceback" not in worker.output + feeder.output


def test_a_handler_that_kills_its_process_ends_dead_and_takes_no_other_along(engine: Engine) -> None:
    made = engine.made
    worker, feeder = engine.work("prefork", 2), engine.feed()
    (killer,) = made.put(bodies(1), "killer")
    ids = made.put(bodies(60), "session")
    made.wait_until_finished(70)
    outcomes = made.attempts()
    assert outcomes.pop(killer)[-3:] == ["lost"] * 3
    assert made.dead() == [("killer", "its process died while it ran alone (attempt 3 of 3)")]
    assert [run.alone for run in made.journal("start", "killer")][-3:] == [True] * 3
    assert {id: found[-1] for id, found in outcomes.items()} == dict.fromkeys(ids, "succeeded")
    assert set(made.effects().values()) == {1}
    assert worker.is_running
    feeder.stop()


def test_a_child_full_of_abandoned_threads_is_replaced(engine: Engine) -> None:
    made = engine.made
    made.env["WEBHOOKS_ABANDONED_THREADS"] = "2"
    worker, feeder = engine.work("prefork", 1), engine.feed()
    made.put(bodies(3), "hanging")
    worker.wait_for("abandoned threads fill this process; it ends", timedelta(seconds=40))
    ids = made.put(bodies(10), "session")
    made.wait_until_finished(40)
    assert len(made.effects()) == len(ids)
    assert {outcome for id, outcomes in made.attempts().items() if id not in ids for outcome in outcomes} == {
        "timed-out"
    }
    feeder.stop()


# -- each fault --------------------------------------------------------------------------------------------------


def storm(engine: Engine, *, deliveries: int, kills: int, seed: int) -> None:
    """Deliver while whole worker groups and feeders are killed, queues purged and messages doubled."""
    made, chance = engine.made, random.Random(seed)
    pools = ["prefork", "threads"]
    engine.work("prefork")
    feeder = engine.feed()
    ids: list[int] = []
    share = deliveries // (kills + 1)
    for number in range(kills):
        ids += made.put(bodies(share // 2), "session")
        ids += made.put(bodies(share // 5), "flaky")
        ids += made.put(bodies(share // 5), "laned", lane=True)
        ids += made.put(bodies(share // 10), "held")
        time.sleep(chance.uniform(0.2, 0.8))
        engine.kill(chance.choice(engine.workers))
        if number % 2:
            engine.broker.purge()
        if number % 3 == 1:
            feeder.end()
            feeder = engine.feed()
        doubled = chance.sample(ids, min(len(ids), 40))
        engine.publish(*(doubled[start : start + 8] for start in range(0, len(doubled), 8)))
        engine.work(pools[number % 2])
    ids += made.put(bodies(deliveries - len(ids)), "session")
    made.wait_until_finished(max(60.0, deliveries / 20))
    check(made, ids)
    lost = sum(outcomes.count("lost") for outcomes in made.attempts().values())
    assert lost, "something was killed while it ran"


@pytest.mark.timeout(400)
def test_worker_groups_and_feeders_are_killed_and_every_effect_happens_once(engine: Engine) -> None:
    storm(engine, deliveries=400, kills=5, seed=SEED)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_twenty_five_kills_over_five_thousand_deliveries(engine: Engine) -> None:
    storm(engine, deliveries=5000, kills=25, seed=SEED)


def test_a_queue_that_is_purged_costs_time_only(engine: Engine) -> None:
    made = engine.made
    feeder = engine.feed()
    ids = made.put(bodies(50), "session")
    # no worker yet, so messages wait in the broker
    wait_until(lambda: engine.broker.waiting() >= 50, timedelta(seconds=20), "50 messages")
    engine.broker.purge()
    assert engine.broker.waiting() < 50
    engine.work()
    made.wait_until_finished(40)
    check(made, ids)
    assert feeder.is_running


@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
def test_a_broker_that_is_killed_and_forgets_costs_time_only(
    name: str, processes: Processes, postgresql_url: str
) -> None:
    pytest.importorskip("celery", reason="Celery is not installed; it is the extra celery")
    own = OwnBroker(processes, name)
    own.start()
    with fleet(processes, postgresql_url, HANDLERS, WEBHOOKS_ENGINE_AGAIN="4s") as made:
        engine = Engine(made, own.broker)
        feeder, worker = engine.feed(), engine.work()
        ids = made.put(bodies(60), "session", "held")
        wait_until(lambda: len(made.effects()) >= 10, timedelta(seconds=20))
        own.kill()
        ids += made.put(bodies(60), "session")
        feeder.wait_for("the broker takes no messages", timedelta(seconds=30))
        own.start()
        feeder.wait_for("the broker takes messages again", timedelta(seconds=30))
        made.wait_until_finished(70)
        check(made, ids)
        assert feeder.output.count("the broker takes no messages") == 1
        assert worker.is_running, "Celery connects again by itself"


def test_a_feeder_that_is_killed_is_followed_by_another(engine: Engine) -> None:
    made = engine.made
    engine.work()
    first = engine.feed()
    ids = made.put(bodies(20), "session")
    made.wait_until_finished(30)
    second = engine.feed()
    first.kill()
    ids += made.put(bodies(40), "session")
    made.wait_until_finished(40)
    check(made, ids)
    assert second.is_running


def test_messages_that_come_twice_late_or_for_what_is_done_do_nothing(engine: Engine) -> None:
    made = engine.made
    ids = made.put(bodies(60), "session")
    messages = [ids[start : start + 6] for start in range(0, 60, 6)]
    engine.publish(*messages, *messages, *messages)  # and no feeder at all
    engine.work("threads", 4)
    made.wait_until_finished(30)
    engine.publish(*messages, [1, 2, 3], [2**63 - 1], [2**70])
    wait_until(lambda: engine.broker.waiting() == 0, timedelta(seconds=20), "all messages to be consumed")
    more = made.put(bodies(1), "session")
    engine.publish(more)
    made.wait_until_finished(20)
    check(made, ids + more)
    assert all(outcomes == ["succeeded"] for outcomes in made.attempts().values())


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_says_nothing_holds_up_nothing_but_its_feeder(
    scheme: str, processes: Processes, postgresql_url: str
) -> None:
    """Rows wait, one line is written, `doctor` says what to do, and a worker of ours finishes it all."""
    pytest.importorskip("celery", reason="Celery is not installed; it is the extra celery")
    name = {"amqp": "rabbitmq", "redis": "redis"}[scheme]
    with silent_server() as server, fleet(processes, postgresql_url, HANDLERS) as made:
        engine = Engine(made, Broker(name, f"{scheme}://127.0.0.1:{server.port}/0"))
        feeder = engine.feed()
        ids = made.put(bodies(30), "session")
        feeder.wait_for("the broker takes no messages: .*; deliveries wait", timedelta(seconds=30))
        wait_until(lambda: len(server.connections) >= 3, timedelta(seconds=60), "it to be tried again")
        (process,) = [each for each in made.store.processes.running() if each.kind == "feeder"]
        assert process.silent_since is not None
        assert made.states() == {DeliveryState.PENDING: 30}
        made.execute("update webhooks_processes set silent_since = now() - interval '2 minutes' where kind = 'feeder'")
        doctor = made.processes.run("webhooks", "doctor", env=made.env)
        assert "nothing has come of the deliveries offered to Celery for 2 min" in doctor.output, doctor.output
        began = time.monotonic()
        made.start(1)
        made.wait_until_finished(30)
        check(made, ids)
        assert feeder.output.count("the broker takes no messages") == 1
        assert feeder.stop(timedelta(seconds=20)) == 0
        assert time.monotonic() - began < allowed(60)


def test_posts_are_answered_alike_while_the_broker_hangs(processes: Processes, postgresql_url: str) -> None:
    """The web process opens no connection to the broker: a stopped feeder is the only one that would."""
    pytest.importorskip("celery", reason="Celery is not installed; it is the extra celery")
    source = make_source(SourceSettings("close", "close", secrets=[Secret(KEY)]))
    with silent_server() as server, fleet(processes, postgresql_url, ROUTED) as made:
        engine = Engine(made, Broker("redis", f"redis://127.0.0.1:{server.port}/0"))
        made.env["WEBHOOKS_CELERY_APP"] = "theirs:app"
        port = free_port()
        web = processes.start("webhooks", "run", "--", "-b", f"127.0.0.1:{port}", env=made.env)
        web.wait_for("Booting worker")
        feeder = engine.feed()

        def post(number: int) -> float:
            event = {
                "id": f"ev_{number}",
                "object_type": "lead",
                "action": "updated",
                "date_updated": "2026-03-10T14:05:00",
            }
            body = json.dumps({"event": event, "subscription_id": "whsub_1"}).encode()
            began = time.monotonic()
            answer = send(f"http://127.0.0.1:{port}/webhooks/close", body, dict(source.sign(body, datetime.now(UTC))))
            assert answer.status == 200, answer
            return time.monotonic() - began

        post(0)
        feeder.wait_for("the broker takes no messages", timedelta(seconds=30))
        hanging, stopped = [], []
        for turn in range(4):
            hanging += [post(1 + turn * 100 + n) for n in range(50)]
            feeder.signal(signal.SIGSTOP)
            seen = len(server.connections)
            stopped += [post(51 + turn * 100 + n) for n in range(50)]
            assert len(server.connections) == seen, "no other process asks the broker"
            feeder.signal(signal.SIGCONT)
        assert made.states() == {DeliveryState.PENDING: 401}
        print(
            f"p99 while it hangs {percentile(hanging, 0.99):.4f} s, without a feeder {percentile(stopped, 0.99):.4f} s"
        )


def test_a_pool_that_consumes_no_more_is_found_silent(engine: Engine) -> None:
    made = engine.made
    worker, feeder = engine.work(), engine.feed()
    ids = made.put(bodies(5), "session")
    made.wait_until_finished(30)
    for pid in worker.members():
        os.kill(pid, signal.SIGSTOP)
    ids += made.put(bodies(5), "session")

    def silent() -> bool:
        found = [each for each in made.store.processes.running() if each.kind == "feeder"]
        return bool(found and found[0].silent_since)

    wait_until(silent, timedelta(seconds=40), "the feeder to notice")
    for pid in worker.members():
        os.kill(pid, signal.SIGCONT)
    made.wait_until_finished(30)
    wait_until(lambda: not silent(), timedelta(seconds=20), "all to be well")
    check(made, ids)
    feeder.stop()


def test_from_workers_of_ours_to_celery_and_back_under_load_nothing_is_lost(engine: Engine) -> None:
    made = engine.made
    ids: list[int] = []

    def load() -> None:
        ids.extend(made.put(bodies(40), "session", "flaky"))
        ids.extend(made.put(bodies(10), "laned", lane=True))

    (ours,) = made.start(1)
    load()
    worker, feeder = engine.work(), engine.feed()  # beside it
    load()
    ours.stop()
    load()
    made.start(1)
    load()
    feeder.stop()
    worker.stop(timedelta(seconds=40))
    load()
    made.wait_until_finished(60)
    check(made, ids)
    by = {row.worker.partition(":")[0] for row in made.read(workers())}
    assert "celery" in by, "both ran some"
    assert len(by) > 1


def workers() -> Any:
    from sqlalchemy import text

    return text("select distinct worker from webhooks_deliveries")


def test_without_an_application_of_ones_own_the_settings_are_enough(processes: Processes, postgresql_url: str) -> None:
    pytest.importorskip("celery", reason="Celery is not installed; it is the extra celery")
    own = OwnBroker(processes, "redis")
    own.start()
    broker = {"WEBHOOKS_CELERY_BROKER_URL": own.broker.url, "WEBHOOKS_METRICS_PORT": str(free_port())}
    with fleet(processes, postgresql_url, HANDLERS, **broker) as made:
        feeder = processes.start("webhooks", "feed", env=made.env)
        worker = processes.start(
            "celery",
            "-A",
            "webhooks.contrib.celery.app",
            "worker",
            "-Q",
            "webhooks",
            "-c",
            "2",
            "-l",
            "INFO",
            env=made.env,
        )
        ids = made.put(bodies(40), "session", "flaky")
        made.wait_until_finished(60)
        check(made, ids)
        assert feeder.stop() == 0
        assert worker.stop(timedelta(seconds=40)) == 0
        assert "Traceback" not in worker.output + feeder.output, worker.output + feeder.output


#: An application of Flask's that has the consumer, beside the one of Celery's.
FLASK = """
from flask import Flask
from webhooks import Webhooks

flask_app = Flask(__name__)
flask_app.config["WEBHOOKS_DATABASE_URL"] = {url!r}
flask_app.config["WEBHOOKS_SOURCES"] = {{"close": {{"secret": {key!r}}}}}
Webhooks(flask_app)
"""


def test_the_consumer_of_a_flask_application_is_run(engine: Engine) -> None:
    made = engine.made
    directory = made.processes.directory
    (directory / "shop.py").write_text(FLASK.format(url=made.url, key=KEY))
    source = (directory / "theirs.py").read_text()
    (directory / "theirs.py").write_text(source.replace("attach(app, ", 'attach(app, flask_app="shop:flask_app", '))
    for name in ("DATABASE_URL", "WEBHOOKS_SOURCES__close__SECRET"):
        del made.env[name]
    engine.work()
    feeder = made.processes.start(
        "flask", "--app", "shop:flask_app", "webhooks", "feed", "--celery", "theirs:app", env=made.env
    )
    ids = made.put(bodies(20), "session") + made.put(bodies(2), "isolated")
    made.wait_until_finished(60)
    check(made, ids)
    assert feeder.stop() == 0


def test_a_celery_worker_for_other_queues_loads_nothing_of_ours(engine: Engine) -> None:
    made = engine.made
    (made.processes.directory / "handlers" / "fleet.py").write_text("raise AssertionError('not for this worker')")
    queue, engine.broker.queue = engine.broker.queue, f"{engine.broker.queue}-other"
    worker = engine.work()
    assert "not for this worker" not in worker.output
    engine.kill(worker)
    engine.broker.remove()
    engine.broker.queue = queue
    engine.broker.write_application(made.processes.directory)
    worker = made.processes.start("celery", "-A", "theirs", "worker", "-Q", queue, "-l", "INFO", env=made.env)
    assert worker.wait(timedelta(seconds=40)) == 1
    assert "this Celery worker cannot run deliveries" in worker.output


def test_a_worker_with_a_feeder_of_its_own_offers_what_it_does_not_run(engine: Engine) -> None:
    made = engine.made
    command = ("webhooks", "worker", "--with-feeder", "-c", "1")
    engine.work("threads", 4)
    (ours,) = made.start(1, command, WEBHOOKS_CELERY_APP="theirs:app")
    ids = made.put(bodies(40), "held")
    made.wait_until_finished(40)
    check(made, ids)
    by = {row.worker.partition(":")[0] for row in made.read(workers())}
    assert "celery" in by
    assert ours.stop() == 0
