"""What plugins decide without a database."""

from __future__ import annotations

import pytest

from handlers import emails, outcomes
from handlers.emails import Sender
from tests.support import each


@each(
    ("status", "sender", "judgement"),
    [
        ("inbox", "rosa@quayside.example", Sender.GIVEN),
        ("inbox", None, Sender.MISSING),
        ("scheduled", None, Sender.MISSING),
        ("outbox", None, Sender.MISSING),
        ("error", None, Sender.MISSING),
        ("outbox", "", Sender.MISSING),
        ("outbox", " \t", Sender.MISSING),
        ("outbox", '"Rosa" <rosa@quayside.example>', Sender.GIVEN),
        ("draft", None, Sender.OPTIONAL),
        ("draft", "rosa@quayside.example", Sender.GIVEN),
        ("sent", None, Sender.DEFAULT),
        ("sent", "rosa@quayside.example", Sender.GIVEN),
        ("parked", None, Sender.UNKNOWN),
        (None, None, Sender.UNKNOWN),
    ],
)
def test_a_sender_is_judged_by_the_status(status: str | None, sender: str | None, judgement: Sender) -> None:
    assert emails.judge(status, sender) is judgement


@pytest.mark.parametrize(
    ("type", "calls", "meetings", "applies"),
    [
        ("custom", False, False, ("calls", "meetings")),
        ("custom", True, False, ("calls", "meetings")),
        ("vm-dropped", False, False, ("calls",)),
        ("vm-dropped", True, True, ("calls",)),
        (None, False, False, ()),
        (None, True, False, ("calls",)),
        (None, False, True, ("calls", "meetings")),  # only a custom one can be on a meeting
        (None, True, True, ("calls", "meetings")),
        ("new-in-2027", False, True, ("meetings",)),
    ],
)
def test_where_an_outcome_applies_follows_from_its_type_or_from_where_it_was_seen(
    type: str | None, calls: bool, meetings: bool, applies: tuple[str, ...]
) -> None:
    assert outcomes.applies_to(type, calls, meetings) == applies
