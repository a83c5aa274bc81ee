"""What a target is sent: the command to type and names, and nothing that a sender wrote."""

from __future__ import annotations

import json
from datetime import timedelta

from tests.support import START
from webhooks.operations.alarms.messages import Notice, notice, trial_notice
from webhooks.operations.alarms.telling import Tell, TellKind
from webhooks.store import AlarmRow

ROW = AlarmRow("dead", "crm", START - timedelta(minutes=5), 2, "handler crm: 2 deliveries died", 2, 77)
SAID = "KeyError: 'card 4242'\nand more"


def made(kind: TellKind = TellKind.RAISED, **options: object) -> Notice:
    return notice([Tell(kind, ROW)], START, **options)  # type: ignore[arg-type]


def test_a_message_says_what_to_type() -> None:
    assert made(link="https://grafana.example/d/1").lines() == [
        "[warning] dead crm",
        "handler crm: 2 deliveries died",
        "since 2026-03-10T14:00:12Z, for 5 min",
        "for example: webhooks deliveries show 77",
        "type: webhooks deliveries list --state dead --handler crm",
        "https://grafana.example/d/1",
    ]


def test_an_error_is_told_only_where_it_was_asked_for() -> None:
    assert "4242" not in str(made().lines()) + json.dumps(made().document())
    told = made(errors={ROW.key: SAID})
    assert "error: KeyError: 'card 4242' and more" in told.lines()
    assert told.document()["data"]["error"] == "KeyError: 'card 4242' and more"


def test_an_end_has_no_command_and_no_example() -> None:
    ended = made(TellKind.RESOLVED, errors={ROW.key: SAID})
    assert ended.lines() == ["[resolved] dead crm", "over: handler crm: 2 deliveries died", "since 2026-03-10T14:00:12Z, for 5 min"]  # fmt: skip
    assert ended.document()["type"] == "alarm.resolved"


def test_a_second_attempt_at_one_message_has_the_same_id() -> None:
    later = notice([Tell(TellKind.RAISED, ROW)], START + timedelta(minutes=3))
    assert made().id == later.id
    assert made().id != made(TellKind.RESOLVED).id
    again = notice([Tell(TellKind.AGAIN, ROW)], START + timedelta(hours=4))
    assert again.id not in (made().id, notice([Tell(TellKind.AGAIN, ROW)], START + timedelta(hours=8)).id)


def test_an_id_can_be_signed_whatever_the_subject() -> None:
    """Standard Webhooks: the id has no dot, since it is signed as `id.timestamp.body`."""
    row = AlarmRow("dead", "crm.sync:" + "x" * 190, START, 2, "2 died", 2)
    found = notice([Tell(TellKind.RAISED, row)], START).id
    assert "." not in found
    assert len(found) <= 64


def test_a_summary_names_some_and_counts_all() -> None:
    many = [Tell(TellKind.RAISED, AlarmRow("dead", f"h{n}", START, 2)) for n in range(12)]
    over = [Tell(TellKind.RESOLVED, AlarmRow("no-worker", "crm", START, 3))]
    summary = notice([*many, *over], START)
    assert summary.title == "[critical] summary"
    assert summary.text.startswith("12 more alarms: dead h0, dead h1,")
    assert summary.text.endswith("dead h9 and 2 more; 1 are over")
    assert summary.command == "webhooks alarms"
    assert len(summary.document()["data"]["alarms"]) == 13


def test_a_document_is_one_for_all() -> None:
    assert made().document() == {
        "id": made().id,
        "type": "alarm.raised",
        "timestamp": "2026-03-10T14:05:12Z",
        "data": {
            "alarm": "dead",
            "subject": "crm",
            "severity": "warning",
            "text": "handler crm: 2 deliveries died",
            "since": "2026-03-10T14:00:12Z",
            "count": 2,
            "example": "77",
            "error": None,
            "command": "webhooks deliveries list --state dead --handler crm",
            "link": None,
            "alarms": [],
        },
    }


def test_a_subject_cannot_break_a_line() -> None:
    row = AlarmRow("dead", "crm\n[critical] all", START, 2, "handler crm\nx\x1b[31m", 1)
    for line in notice([Tell(TellKind.RAISED, row)], START).lines():
        assert "\n" not in line
        assert "\x1b" not in line


def test_a_trial_says_that_nothing_is_wrong() -> None:
    assert trial_notice(START).title == "[test] test"
