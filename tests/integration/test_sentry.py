"""What Sentry gets of failing handlers, through its own client and a transport that keeps it."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from tests.integration.rig import Rig, rig
from tests.support import ROOT
from webhooks.contrib import sentry
from webhooks.contrib.sentry import place
from webhooks.errors import Discard, Retry
from webhooks.routing import RetryPolicy

pytestmark = pytest.mark.one_database

SECRET = "payload-4711"


class Keeps(Transport):
    """Keeps every event instead of sending it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.sent = ""

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(dict(event))
            self.sent += envelope.serialize().decode()


def documented() -> dict[str, Any]:
    """What docs/errors.md tells to give `init` besides the address."""
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    (init,) = [call for call in calls if ast.unparse(call.func) == "sentry_sdk.init"]
    return {str(each.arg): ast.literal_eval(each.value) for each in init.keywords if each.arg != "dsn"}


def initialised(**options: Any) -> Keeps:
    keeps = Keeps()
    sentry_sdk.init(dsn="https://key@sentry.invalid/1", transport=keeps, auto_enabling_integrations=False, **options)
    return keeps


@pytest.fixture
def kept() -> Iterator[Keeps]:
    keeps = initialised(**documented())
    sentry.connect()
    yield keeps
    sentry.disconnect()
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        yield made


def fail(event: Any) -> None:
    body = event.raw
    raise LookupError(f"nothing for {len(body)} bytes")


def run(made: Rig, times: int = 1) -> None:
    """Run the delivery, record it and tell that, as a worker does."""
    for _ in range(times):
        finished = made.run_one()
        assert finished is not None
        made.dispatcher.announcements.recorded(finished)


def put(made: Rig) -> None:
    made.put(body=f'{{"text": "{SECRET}"}}'.encode())


def test_a_handler_that_fails_until_death_is_two_events_of_one_issue_with_its_own_frame(
    made: Rig, kept: Keeps, caplog: pytest.LogCaptureFixture
) -> None:
    made.on()(fail)
    put(made)
    with caplog.at_level(logging.ERROR):
        run(made, 3)
    assert "is dead" in caplog.text
    first, death = kept.events
    assert [each["level"] for each in kept.events] == ["warning", "error"]
    assert [each["tags"]["attempt"] for each in kept.events] == ["1", "3"]
    assert first["fingerprint"] == death["fingerprint"]
    assert first["fingerprint"] == ["h", "builtins.LookupError", f"{__name__}.fail"]
    assert first["tags"] == {"handler": "h", "attempt": "1", "source": "close", "event_type": "lead.updated"}
    assert set(first["contexts"]["webhooks"]) == {"event_id", "delivery_id", "replay_id", "attempt"}
    (exception,) = first["exception"]["values"]
    assert exception["type"] == "LookupError"
    assert exception["stacktrace"]["frames"][-1]["function"] == "fail"


@pytest.mark.parametrize("careful", [True, False])
def test_no_event_has_anything_of_the_payload(made: Rig, kept: Keeps, careful: bool) -> None:
    """Local variables are taken out even where `init` was not told to leave them out."""
    keeps = kept if careful else initialised()
    made.on()(fail)
    put(made)
    run(made, 3)
    assert len(keeps.events) == 2
    assert SECRET not in keeps.sent
    assert '"vars"' not in keeps.sent


def test_each_failure_is_captured_where_that_is_asked_for(made: Rig, kept: Keeps) -> None:
    sentry.connect(level_retried="info", every_attempt=True)
    made.on()(fail)
    put(made)
    run(made, 3)
    assert [each["level"] for each in kept.events] == ["info", "info", "error"]


@pytest.mark.parametrize("error", [Retry("busy"), Discard("spam")], ids=lambda error: type(error).__name__)
def test_what_a_handler_meant_is_no_event(made: Rig, kept: Keeps, error: Exception) -> None:
    @made.on()
    def h() -> None:
        raise error

    put(made)
    run(made)
    assert kept.events == []


def test_a_death_without_an_exception_of_the_handlers_is_one_event(made: Rig, kept: Keeps) -> None:
    @made.on(retry=RetryPolicy(max_attempts=1))
    def h() -> None:
        raise Retry("busy")

    put(made)
    run(made)
    (event,) = kept.events
    assert event["level"] == "error"
    assert event["fingerprint"] == ["h", "retry"]
    assert event["tags"]["handler"] == "h"


def test_different_kinds_of_failure_are_different_issues(made: Rig, kept: Keeps) -> None:
    errors = iter([LookupError("a"), KeyError("b")])

    @made.on()
    def h() -> None:
        raise next(errors)

    put(made)
    run(made)
    sentry.connect(every_attempt=True)
    run(made)
    one, other = (each["fingerprint"] for each in kept.events)
    assert one != other


def test_after_disconnect_nothing_is_captured(made: Rig, kept: Keeps) -> None:
    sentry.disconnect()
    made.on()(fail)
    put(made)
    run(made)
    assert kept.events == []


def test_an_async_handler_has_its_own_frame(made: Rig, kept: Keeps) -> None:
    @made.on()
    async def h() -> None:
        raise LookupError("later")

    put(made)
    run(made)
    (event,) = kept.events
    assert event["fingerprint"][2].endswith(".<locals>.h")


def test_the_place_is_in_the_handlers_module_even_when_a_library_raised() -> None:
    def handler() -> None:
        json.loads("{")

    with pytest.raises(ValueError, match="Expecting") as caught:
        handler()
    assert place(caught.value, "other.name").endswith(".<locals>.handler")
    assert place(ValueError("never raised"), "h") == "?"
