"""A line for each event, when it is asked for: ids and what became of it, and nothing that a sender wrote in its body."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.integration.conftest import Consumer
from tests.support import PAYLOADS
from webhooks.intake import event_log

BODY = (PAYLOADS / "whatsapp_message_created_incoming.json").read_bytes()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[logging.LogRecord]]]:
    caplog.set_level(logging.INFO)
    yield lambda: [record for record in caplog.records if record.name == event_log.__name__]
    for signal, observer in event_log.OBSERVERS.items():
        signal.disconnect(observer)


def test_an_event_has_a_line_when_it_is_asked_for(
    make_consumer: Callable[..., Consumer], lines: Callable[[], list[logging.LogRecord]]
) -> None:
    consumer = make_consumer(log_events=True)
    make_consumer(log_events=True, name="again")  # what listens is the process's, and listens once
    first = consumer.post(BODY).json
    consumer.post(BODY)
    found = [vars(record) for record in lines()]
    assert [each["receipt"] for each in found] == ["stored", "duplicate"]
    assert {each["event_id"] for each in found} == {int(first["event_id"])}
    assert lines()[0].getMessage() == "stored activity.whatsapp_message.created of close"
    assert found[0]["request_id"] == first["request_id"]


def test_without_the_setting_there_is_none_and_nothing_of_it_is_loaded(
    make_consumer: Callable[..., Consumer], lines: Callable[[], list[logging.LogRecord]]
) -> None:
    consumer = make_consumer()
    assert consumer.post(BODY).status_code == 200
    assert lines() == []
    code = "import sys, webhooks.app.assembly, webhooks.intake; assert 'webhooks.intake.event_log' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
