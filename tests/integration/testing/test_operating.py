"""What operators do, in a test: requeue, replay, figures, a real worker; and a local Close beside the kit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.support import patience
from webhooks.errors import NotFound, SelectionError
from webhooks.operations import WrongState
from webhooks.routing import Registry, RetryPolicy
from webhooks.testing import Kit, StillBusy

pytestmark = pytest.mark.one_database


def fail_until_dead(kit: Kit) -> None:
    kit.post("contact.created")
    kit.drain(raises=False)
    kit.advance()
    kit.drain(raises=False)


def test_a_dead_delivery_is_requeued_by_its_run_by_itself_or_by_a_selection(kit: Kit) -> None:
    fail_until_dead(kit)
    [dead] = kit.deliveries(state="dead")
    assert kit.requeue(dead) == 1
    [run] = kit.drain(raises=False)
    assert (run.handler, run.state, run.attempt) == ("broken", "pending", 3)
    kit.advance()
    [run] = kit.drain(raises=False)
    assert kit.requeue(run) == 1
    assert [run.handler for run in kit.drain(raises=False)] == ["broken"]
    kit.advance()
    kit.drain(raises=False)
    assert kit.requeue(handler="broken", type="contact.*") == 1
    assert kit.requeue(handler="welcome") == 0


def test_what_cannot_be_requeued_is_said_as_the_command_does(kit: Kit) -> None:
    kit.post("lead.created")
    [run] = kit.drain()
    with pytest.raises(WrongState, match="succeeded; only dead, cancelled and waiting ones are requeued"):
        kit.requeue(run)
    with pytest.raises(NotFound):
        kit.requeue(1)
    with pytest.raises(SelectionError, match=r"'handlers' is not a condition \(did you mean 'handler'\?\)"):
        kit.requeue(handlers="welcome")


def test_stored_events_are_replayed(kit: Kit) -> None:
    first, second = kit.post("lead.created"), kit.post("lead.created")
    kit.drain()
    assert kit.replay(event=first.event_id) == 1
    [run] = kit.drain()
    assert run.event is not None
    assert run.event.id == first.event_id
    assert kit.replay(type="lead.*", handler="welcome") == 2
    assert {run.event.id for run in kit.drain() if run.event} == {first.event_id, second.event_id}


def test_figures_are_those_of_this_kit(make: Callable[..., Kit]) -> None:
    one, other = make(overrides={"metrics": True}), make(overrides={"metrics": True})
    other.post("lead.created", times=2)
    other.drain()
    found = other.metrics()
    assert found['webhooks_events_total{receipt="stored",source="close"}'] == 1
    assert found['webhooks_events_total{receipt="duplicate",source="close"}'] == 1
    assert found['webhooks_attempts_total{handler="welcome",outcome="succeeded"}'] == 1
    assert found["webhooks_database_up"] == 1
    again = make(overrides={"metrics": True})
    assert again.metrics().get('webhooks_attempts_total{handler="welcome",outcome="succeeded"}', 0) == 0
    assert one.webhooks.meter is not None
    one.webhooks.meter.disconnect()


# -- a real worker ---------------------------------------------------------------------------------------------


def test_a_worker_runs_what_is_posted_in_threads_of_its_own(make: Callable[..., Kit]) -> None:
    registry, seen = Registry(), list[Any]()

    @registry.on(
        "lead.created", name="slow", timeout=timedelta(seconds=patience(0.2)), retry=RetryPolicy(max_attempts=1)
    )
    def slow(event: Any) -> None:
        seen.append(threading.current_thread())
        released.wait()

    @registry.on("lead.created", name="quick")
    def quick(event: Any) -> None:
        seen.append(threading.current_thread())

    released = threading.Event()
    kit = make(registry=registry)
    with kit.running_worker() as worker:
        kit.post("lead.created")
        worker.settle()
        released.set()
    kit.assert_delivered("quick")
    kit.assert_dead("slow", reason="AttemptTimeout: it ran longer than its timeout of *")
    assert len(seen) == 2
    assert threading.current_thread() not in seen


def test_a_worker_that_is_not_done_in_time_is_said(make: Callable[..., Kit]) -> None:
    registry, released = Registry(), threading.Event()
    registry.on("lead.created", name="waits")(lambda event: released.wait())
    kit = make(registry=registry)
    with kit.running_worker() as worker:
        kit.post("lead.created")
        with pytest.raises(StillBusy, match=r"after 0 s the worker has not done 1 deliveries; there are:\n  HANDLER "):
            worker.settle(seconds=0)
        released.set()
        worker.settle()
    kit.assert_delivered("waits")


# -- a local Close ---------------------------------------------------------------------------------------------


def test_a_local_close_posts_what_happens_there(make: Callable[..., Kit]) -> None:
    kit = make(sandbox=True)
    lead = kit.sandbox.world.create("lead", {"name": "Quayside"})
    kit.sandbox.world.update("lead", lead["id"], {"name": "Quay"})
    assert [each.status for each in kit.sandbox.deliver()] == ["stored", "stored"]
    assert kit.now() >= kit.sandbox.world.now()
    runs = {run.handler: run for run in kit.drain()}
    assert set(runs) == {"welcome", "limited"}
    assert runs["welcome"].event is not None
    assert runs["welcome"].event.object_id == lead["id"]


def test_what_never_arrived_is_read_from_its_log(make: Callable[..., Kit]) -> None:
    kit = make(sandbox=True)
    kit.sandbox.world.create("lead", {"name": "Quayside"})
    report = kit.sandbox.catch_up(timedelta(hours=1))
    assert dict(report.added) == {"lead.created": 1}
    assert [run.handler for run in kit.drain()] == ["welcome"]
    assert [each.status for each in kit.sandbox.deliver()] == ["duplicate"]


def test_its_api_is_asked_by_the_kit_s_source(make: Callable[..., Kit]) -> None:
    kit = make(sandbox=True)
    source: Any = kit.webhooks.sources["close"]
    with source.connect() as client:
        [subscription] = client.subscriptions()
    assert subscription.id in source.labels()
