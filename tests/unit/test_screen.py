"""What the processes of `webhooks dev` tell: a line for each request and each run."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from webhooks.app.screen import Screen
from webhooks.errors import BadHost, SignatureError
from webhooks.formats import screen_line
from webhooks.model import AttemptOutcome, new_id
from webhooks.routing import Registry

AT = datetime(2026, 3, 10, 14, 5, 12)
DELIVERY: Any = SimpleNamespace(id=71, handler="shop.pay", number=3, event_id=70)


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.on("lead.created", name="leads.mirror")(_handler)
    registry.on("lead.delted", name="leads.forget", source="close")(lambda event: None)
    return registry


def _handler(event: Any) -> None: ...


class Source:
    """A source as far as a refusal asks it."""

    settings = SimpleNamespace(secret_file="close.secret")

    def diagnose(self, request: Any, now: Any, others: Any) -> str:
        return "it is signed for another"


@pytest.fixture
def told(registry: Registry) -> tuple[Screen, list[str]]:
    lines: list[str] = []
    webhooks: Any = SimpleNamespace(registry=registry, sources={"close": Source()}, histories=[])
    return Screen(webhooks, lines.append), lines


def tell(screen: Screen, name: str, *args: Any, **kwargs: Any) -> None:
    {signal.name: observer for signal, observer in screen.observers}[name](*args, **kwargs)


def event() -> dict[str, Any]:
    """What the signals of an event that comes now have."""
    return {"event_id": new_id(), "conflict": False, "request_id": "r"}


def test_a_stored_event_names_its_handlers(told: tuple[Screen, list[str]]) -> None:
    screen, lines = told
    tell(screen, "event_stored", "close", type="lead.created", **event())
    assert re.fullmatch(r"\d\d:\d\d:\d\d stored     lead\.created  -> leads\.mirror \(\S+ m?s, event \d+\)\n", lines[0])


def test_an_event_that_no_handler_gets_names_the_one_that_nearly_does(told: tuple[Screen, list[str]]) -> None:
    screen, lines = told
    tell(screen, "event_stored", "close", type="lead.deleted", **event())
    assert "no handler asks for it; leads.forget asks for 'lead.delted'; did it mean 'lead.deleted'?" in lines[0]
    tell(screen, "event_stored", "close", type="call.created", **event())
    assert "-> no handler asks for it (" in lines[1]
    tell(screen, "event_duplicate", "close", type="lead.created", **event())
    assert "duplicate  lead.created  of event" in lines[2]
    tell(screen, "event_stale", "close", type="lead.created", **{**event(), "conflict": True})
    assert "conflict   lead.created" in lines[3]


def test_a_refused_request_says_why_and_which_secret_was_tried(told: tuple[Screen, list[str]]) -> None:
    screen, lines = told
    request: Any = object()
    screen.refused("close", error=SignatureError("no"), request=request, received_at=AT, request_id="0c66")
    first, second, third = lines[0].splitlines()
    assert first.endswith("refused    401 for close: it is signed for another")
    assert "close.secret" in second
    assert third.strip() == "webhooks explain 0c66"
    screen.refused("close", error=BadHost("no host"), request=request, received_at=AT, request_id="0c67")
    assert lines[1].splitlines()[0].endswith("refused    400 for close: no host")


def test_a_failed_run_shows_the_authors_own_lines_and_what_to_type(
    told: tuple[Screen, list[str]], tmp_path: Path
) -> None:
    screen, lines = told
    error = (
        "Traceback (most recent call last):\n"
        f'  File "{tmp_path}/handlers/a.py", line 9, in run\n    pay(event)\n'
        '  File "/usr/lib/python3/site-packages/requests/api.py", line 1, in get\n    raise x\n'
        "KeyError: 'status'"
    )
    screen._here = tmp_path
    run = {"delivery": DELIVERY, "took": timedelta(milliseconds=3)}
    screen.failed("shop.pay", outcome=AttemptOutcome.FAILED, error=error, **run)
    assert lines == []
    screen.retried("shop.pay", delivery=DELIVERY, wait=timedelta(seconds=5))
    assert [line.strip() for line in lines[0].splitlines()[1:]] == [
        "handlers/a.py, line 9, in run: pay(event)",
        "again in 5 s; now: webhooks requeue 71",
        "all of it: webhooks deliveries show 71",
    ]
    assert lines[0].splitlines()[0].endswith("failed     shop.pay 3 ms  KeyError: 'status'")
    screen.failed("shop.pay", outcome=AttemptOutcome.FAILED, error=error, **run)
    screen.dead("shop.pay", delivery=DELIVERY)
    assert "dead after 3 attempts; once it is mended: webhooks requeue 71" in lines[1]


def test_where_only_what_goes_wrong_is_wanted_nothing_else_is_observed(registry: Registry) -> None:
    webhooks: Any = SimpleNamespace(registry=registry, sources={}, histories=[])
    names = {signal.name for signal, _ in Screen(webhooks, print, is_whole=False).observers}
    assert "event_stored" not in names
    assert "delivery_succeeded" not in names
    assert {"request_rejected", "delivery_failed"} <= names


def test_nothing_in_a_line_acts_on_a_terminal() -> None:
    line = screen_line("log", "a\x1b[2J\nforged", ["b\x07"], at=AT)
    assert line == "14:05:12 log        a\\x1b[2J\\nforged\n" + " " * 20 + "b\\x07\n"
    assert screen_line("failed", "x", at=AT, colours=True).count("\x1b[") == 4
