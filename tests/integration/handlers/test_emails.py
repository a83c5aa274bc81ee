"""The plugin `emails`: states, senders that are missing, and mail that really left."""

from __future__ import annotations

import itertools
import logging
from datetime import datetime
from typing import Any

import pytest

from handlers import emails
from tests.integration.handlers.histories import LOG, Bench, handlers_of, made, sample
from tests.support import Clock
from webhooks import Discard
from webhooks.model import Event

pytestmark = pytest.mark.one_database

PLUGINS = ("emails",)

DRAFT, OUTBOX, SENT = "email_created_draft_without_sender", "email_updated_draft_to_outbox", "email_sent"


def email(action: str, at: int, status: str, sender: str | None = None, id: str = "acti_1", **rest: Any) -> Event:
    return made(emails.OBJECT_TYPE, action, id, at, {"status": status, "sender": sender, **rest})


def alert(bench: Bench, event: Event) -> None:
    bench.run(lambda event, session: emails.alert(event, session, LOG), event)


def flagged(bench: Bench) -> list[str]:
    return [row["id"] for row in bench.ask(emails.flagged)]


def alerts(bench: Bench) -> list[tuple[str, str]]:
    with bench.database.read() as connection:
        return [(row.email_id, row.status) for row in connection.execute(emails.alerts.select())]


@pytest.mark.parametrize("order", range(6))
def test_an_email_from_draft_to_sent_ends_as_sent_in_every_order(bench: Bench, order: int) -> None:
    events = [sample(name) for name in (DRAFT, OUTBOX, SENT)]
    for event in list(itertools.permutations(events))[order]:
        bench.run(emails.track, event)

    ((_, shown),) = bench.ask(emails.mirrors)[emails.OBJECT_TYPE].items()
    assert shown["status"] == "sent"
    assert shown["sender"] == events[2].data["sender"]
    assert bench.ask(emails.has_left, events[2].object_id) == datetime.fromisoformat(events[2].data["date_sent"])


def test_a_mail_that_was_only_logged_as_sent_has_not_left(bench: Bench) -> None:
    bench.run(emails.track, email("created", 0, "sent"))

    assert bench.ask(emails.has_left, "acti_1") is None
    assert flagged(bench) == []


def test_that_a_mail_left_is_known_even_when_it_was_deleted_before_or_after(bench: Bench) -> None:
    sent, deleted = email("sent", 1, "sent", id="acti_1"), email("deleted", 2, "sent", id="acti_1")
    bench.run_all(emails.track, [sent, deleted])
    sent, deleted = email("sent", 1, "sent", id="acti_2"), email("deleted", 2, "sent", id="acti_2")
    bench.run_all(emails.track, [deleted, sent])

    assert bench.ask(emails.has_left, "acti_1") == sent.occurred_at
    assert bench.ask(emails.has_left, "acti_2") == sent.occurred_at


@pytest.mark.parametrize("status", ["inbox", "scheduled", "outbox", "error"])
def test_an_email_without_a_required_sender_is_flagged_until_it_has_one(bench: Bench, status: str) -> None:
    bench.run(emails.track, email("created", 0, status))
    assert flagged(bench) == ["acti_1"]

    bench.run(emails.track, email("updated", 1, status, "rosa@quayside.example"))
    bench.run(emails.track, email("created", 0, status))  # a late duplicate
    assert flagged(bench) == []


@pytest.mark.parametrize("status", ["draft", "sent", "parked"])
def test_an_email_that_needs_no_sender_is_not_flagged(bench: Bench, status: str) -> None:
    bench.run(emails.track, email("created", 0, status))

    assert flagged(bench) == []


def test_a_blank_sender_is_none(bench: Bench) -> None:
    bench.run(emails.track, email("created", 0, "outbox", "  "))

    assert flagged(bench) == ["acti_1"]


def test_a_deleted_email_is_not_flagged(bench: Bench) -> None:
    bench.run(emails.track, email("created", 0, "outbox"))
    bench.run(emails.track, email("deleted", 1, "outbox"))

    assert flagged(bench) == []


# -- the alarm -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "runs"),
    [
        (email("created", 0, "outbox"), True),
        (email("updated", 0, "inbox", " "), True),
        (email("created", 0, "outbox", "rosa@quayside.example"), False),
        (email("created", 0, "draft"), False),
        (email("created", 0, "sent"), False),
        (sample(DRAFT), False),
        (sample(OUTBOX), False),
    ],
)
def test_the_alarm_runs_only_for_an_email_that_lacks_its_sender(event: Event, runs: bool) -> None:
    (handler,) = [each for each in handlers_of(emails) if each.name == "emails.alert"]
    assert handler.where is not None

    assert handler.where(event) is runs


def test_an_alarm_is_raised_once_for_each_status(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "handlers"):
        for event in (email("created", 0, "outbox"), email("created", 0, "outbox"), email("updated", 1, "error")):
            alert(bench, event)

    assert alerts(bench) == [("acti_1", "outbox"), ("acti_1", "error")]
    assert [record.getMessage() for record in caplog.records] == [
        "email acti_1 has the status outbox and no sender; Close will not send it",
        "email acti_1 has the status error and no sender; Close will not send it",
    ]


def test_an_alarm_that_comes_too_late_is_discarded(bench: Bench) -> None:
    bench.run(emails.track, email("updated", 5, "outbox", "rosa@quayside.example"))

    with pytest.raises(Discard, match="the email is outbox since, and its sender is given"):
        alert(bench, email("created", 0, "outbox"))

    assert alerts(bench) == []


def test_an_alarm_for_a_deleted_email_is_discarded(bench: Bench) -> None:
    bench.run(emails.track, email("deleted", 5, "outbox"))

    with pytest.raises(Discard, match="the email was deleted since"):
        alert(bench, email("created", 0, "outbox"))


def test_an_alarm_is_raised_when_the_state_that_was_seen_is_older_or_as_bad(bench: Bench) -> None:
    bench.run(emails.track, email("created", 0, "outbox", "rosa@quayside.example"))
    alert(bench, email("updated", 1, "outbox"))
    bench.run(emails.track, email("updated", 3, "error", id="acti_2"))
    alert(bench, email("updated", 2, "outbox", id="acti_2"))

    assert alerts(bench) == [("acti_1", "outbox"), ("acti_2", "outbox")]


def test_the_rules_of_the_local_close_never_let_an_alarm_happen(bench: Bench, clock: Clock) -> None:
    """What is flagged here is what Close refuses: it comes from elsewhere, or from a Close that has changed."""
    from tests.integration.handlers.histories import record
    from webhooks.sandbox import World
    from webhooks.sandbox.histories import by_seed

    events = record(World(clock, seed=3), by_seed(3), 80)
    for event in events:
        bench.dispatch(handlers_of(emails), event)

    assert (flagged(bench), alerts(bench)) == ([], [])
