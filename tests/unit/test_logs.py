"""One record a line, whatever was logged; exceptions below theirs, with nothing in them that could be another line."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from webhooks.settings import set_up_logging
from webhooks.settings.logs import print_safely

HOSTILE = "a\n2026-01-01T00:00:00Z [error] forged\x1b[31m\x7f\x85\x9b2J\u202e\u2066\u2028"
ACTS = set("\x1b\x7f\x85\x9b\u202e\u2066\u2028")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], io.StringIO]]:
    """Set logging up in a style; what it writes. Undone afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook

    def set_up(style: str) -> io.StringIO:
        written = io.StringIO()
        monkeypatch.setattr(sys, "stderr", written)
        set_up_logging("info", style)
        return written

    yield set_up
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook = hooks


@pytest.mark.parametrize("style", ["console", "json"])
def test_texts_fields_and_exceptions_are_inert(log: Callable[[str], io.StringIO], style: str) -> None:
    written = log(style)
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        logging.getLogger("x").exception(
            "failed: %s", HOSTILE, extra={"handler": HOSTILE, "error": error, "many": [HOSTILE]}
        )
    text = written.getvalue()
    assert not ACTS & set(text)
    assert not any(line.startswith("2026-01-01") for line in text.splitlines())
    if style == "json":
        (line,) = text.splitlines()
        assert "forged" in json.loads(line)["exception"]
    else:
        assert text.count("Traceback") == 1


def test_what_nobody_caught_is_printed_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        print_safely(ValueError, error, thread=HOSTILE)
    assert not ACTS & set(written.getvalue())
    assert "ValueError: a 2026" in written.getvalue()


def test_lines_carry_the_ids_of_the_current_span(log: Callable[[str], io.StringIO]) -> None:
    from opentelemetry import context, trace

    ids = trace.SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=False)
    written = log("json")
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(ids)))
    logging.getLogger("x").info("within")
    context.detach(token)
    logging.getLogger("x").info("without")
    within, without = map(json.loads, written.getvalue().splitlines())
    assert within["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert within["span_id"] == "b7ad6b7169203331"
    assert "trace_id" not in without


def test_lines_for_who_develops_are_short_and_leave_out_what_the_screen_tells(
    log: Callable[[str], io.StringIO],
) -> None:
    written = log("dev")
    handlers = logging.getLogger("handlers.hello")
    handlers.info("from %s", "Ada\x1b[31m", extra={"handler": "hello", "delivery_id": 7})
    ours = logging.getLogger("webhooks.delivery.worker")
    ours.info("worker started", extra={"action": "start"})
    ours.warning("the database is away")
    ours.error("is dead", extra={"action": "fail"})
    refusals = logging.getLogger("webhooks.intake.refusals")
    refusals.warning("refused", extra={"action": "reject", "source": "close"})
    refusals.warning("refused: no source", extra={"action": "reject", "source": ""})
    try:
        raise ValueError("broken")
    except ValueError:
        handlers.exception("it broke")
    lines = [line[9:] for line in written.getvalue().splitlines()]
    assert lines[:4] == [
        "log        hello: from Ada\\x1b[31m",
        "warning    the database is away",
        "warning    refused: no source",
        "error      it broke",
    ]
    assert (
        lines[4]
        .strip()
        .endswith(
            'in test_lines_for_who_develops_are_short_and_leave_out_what_the_screen_tells: raise ValueError("broken")'
        )
    )
    assert lines[5].strip() == "ValueError: broken"
