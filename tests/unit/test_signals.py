"""Observers are told, and whatever they do nobody else notices."""

from __future__ import annotations

import ast
import gc
import inspect
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blinker import NamedSignal

from tests.support import ROOT
from webhooks import signals


@pytest.fixture(autouse=True)
def _no_observers_left() -> Iterator[None]:
    yield
    for signal in signals.all_signals():
        signal._clear_state()


def test_an_observer_gets_the_sender_and_the_arguments() -> None:
    seen: list[Any] = []
    signals.connect(signals.delivery_dead, lambda sender, **arguments: seen.append((sender, arguments)))

    signals.emit(signals.delivery_dead, "handlers.x", reason="boom")

    assert seen == [("handlers.x", {"reason": "boom"})]


def test_an_observer_of_one_sender_hears_of_no_other() -> None:
    seen: list[str] = []
    signals.connect(signals.event_stored, lambda sender, **_: seen.append(sender), sender="close")

    signals.emit(signals.event_stored, "stripe")
    signals.emit(signals.event_stored, "close")

    assert seen == ["close"]


def test_a_local_function_is_not_forgotten() -> None:
    seen: list[str] = []

    def connect() -> None:
        @signals.observe(signals.worker_started, signals.worker_stopping)
        def note(sender: str, **_: Any) -> None:
            seen.append(sender)

    connect()
    gc.collect()
    signals.emit(signals.worker_started, "w")
    signals.emit(signals.worker_stopping, "w")

    assert seen == ["w", "w"]


def test_an_observer_that_raises_is_logged_and_the_next_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def explode(sender: str, **_: Any) -> None:
        raise RuntimeError("broken alert")

    signals.connect(signals.event_stored, explode)
    for number in range(5):
        signals.connect(signals.event_stored, lambda sender, number=number, **_: seen.append(str(number)))

    with caplog.at_level(logging.ERROR):
        signals.emit(signals.event_stored, "close", event_id=1)

    assert sorted(seen) == ["0", "1", "2", "3", "4"]
    assert "an observer of event_stored failed" in caplog.text
    assert "broken alert" in caplog.text


def test_an_observer_that_takes_too_few_arguments_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    signals.connect(signals.event_stored, lambda sender: None)

    signals.emit(signals.event_stored, "close", event_id=1)

    assert "an observer of event_stored failed" in caplog.text


def test_an_async_observer_is_told_apart_instead_of_doing_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def observer(sender: str, **_: Any) -> None: ...

    signals.connect(signals.event_stored, observer)
    signals.emit(signals.event_stored, "close")

    assert "'async def' is never awaited here" in caplog.text


def test_an_observer_may_disconnect_itself() -> None:
    seen: list[str] = []

    def once(sender: str, **_: Any) -> None:
        seen.append(sender)
        signals.event_stored.disconnect(once)

    signals.connect(signals.event_stored, once)
    signals.emit(signals.event_stored, "close")
    signals.emit(signals.event_stored, "close")

    assert seen == ["close"]


def test_a_muted_signal_is_silent() -> None:
    seen: list[str] = []
    signals.connect(signals.event_stored, lambda sender, **_: seen.append(sender))

    with signals.event_stored.muted():
        signals.emit(signals.event_stored, "close")

    assert seen == []


def test_every_signal_of_the_module_stands_in_the_table() -> None:
    public = {name for name, value in vars(signals).items() if isinstance(value, NamedSignal)}

    assert public == set(signals.TABLE)
    for signal in signals.all_signals():
        assert getattr(signals, signal.name) is signal
        assert signals.TABLE[signal.name].text.endswith(".")
        assert signals.TABLE[signal.name].text in (inspect.getdoc(signal) or "")


def _emitted() -> Iterator[tuple[Path, str, set[str]]]:
    """(file, signal, keyword arguments) of every `signals.emit(signals.…)` in the house."""
    for path in sorted((ROOT / "webhooks").rglob("*.py")):
        source = path.read_text("utf-8")
        if "signals.emit" not in source:
            continue  # most of the house; to parse all of it takes seconds
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "signals.emit":
                yield path, ast.unparse(node.args[0]), {keyword.arg or "" for keyword in node.keywords}


def test_what_is_sent_is_what_the_table_says() -> None:
    for path, expression, given in _emitted():
        # ingest chooses among the four receipts
        name = expression.removeprefix("signals.") if expression.startswith("signals.") else "event_stored"
        assert given == set(signals.TABLE[name].arguments), f"{path.name}: {name}"


def test_every_signal_of_the_table_is_sent_by_somebody() -> None:
    ingest = {"event_stored", "event_duplicate", "event_revision", "event_stale"}  # chosen by the receipt
    sent = {expression.removeprefix("signals.") for _, expression, _ in _emitted()}

    assert set(signals.TABLE) - ingest <= sent
