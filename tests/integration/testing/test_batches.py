"""Handlers that take several deliveries at once, drained and called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from webhooks import Discard
from webhooks.routing import Registry, RetryPolicy
from webhooks.testing import Kit

pytestmark = pytest.mark.one_database


def test_a_drain_gives_a_batch_what_is_due(make: Callable[..., Kit]) -> None:
    registry, sizes = Registry(), list[int]()

    @registry.on("lead.created", name="several", batch=3)
    def several(events: Any, session: Any) -> None:
        sizes.append(len(events))

    kit = make(registry=registry)
    kit.post("lead.created")
    assert [run.outcome for run in kit.drain()] == ["succeeded"]
    for _ in range(5):
        kit.post("lead.created")
    assert [(run.handler, run.outcome, run.attempt) for run in kit.drain()] == [("several", "succeeded", 1)] * 5
    assert sizes == [1, 3, 2]


def test_a_drain_tries_halves_and_raises_what_one_event_raised(make: Callable[..., Kit]) -> None:
    registry = Registry()

    @registry.on("lead.created", name="several", batch=8, retry=RetryPolicy(max_attempts=1))
    def several(events: Any) -> None:
        named = {event.data["name"]: event for event in events}
        if "bad" in named:
            raise LookupError("gone")
        raise Discard("not ours", events=[named["no"]] if "no" in named else [])

    kit = make(registry=registry)
    for name in ("a", "b", "bad", "c", "no"):
        kit.post("lead.created", set={"data.name": name})
    with pytest.raises(LookupError, match="gone"):
        kit.drain()
    states = sorted(str(each.state.label) for each in kit.deliveries())
    assert states == ["cancelled", "dead", "succeeded", "succeeded", "succeeded"]
    kit.assert_dead("several")


def test_such_a_handler_is_called_with_one_event(make: Callable[..., Kit]) -> None:
    registry = Registry()

    @registry.on("lead.*", name="several", batch=3)
    def several(events: Any, deliveries: Any) -> tuple[int, int]:
        return len(events), deliveries[0].number

    assert make(registry=registry).call("several", "lead.created") == (1, 1)
