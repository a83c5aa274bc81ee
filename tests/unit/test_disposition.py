"""What became of an event: one code, one text, and what follows from each."""

from __future__ import annotations

import pytest

from webhooks.model import UNDELIVERED, DeliveryCause, Disposition

#: What databases in use hold, what listings show, what the sender is told, whether it is kept, whether it is delivered.
#: A line of it never changes.
TABLE = [
    (0, "stored", "stored", True, True),
    (1, "duplicate", "duplicate", False, False),
    (2, "revision", "revision", True, True),
    (3, "stale", "stale", True, False),
    (4, "conflict", "duplicate", True, False),
    (5, "stripped", "stored", True, False),
    (6, "stale-unkept", "stale", False, False),
    (7, "conflict-unkept", "duplicate", False, False),
    (8, "quarantined", "quarantined", False, False),
]


def test_every_disposition_has_its_line() -> None:
    assert [str(member) for member in Disposition] == [line[1] for line in TABLE]


@pytest.mark.parametrize(("code", "text", "answer", "kept", "delivered"), TABLE)
def test_what_follows_from_a_disposition(code: int, text: str, answer: str, kept: bool, delivered: bool) -> None:
    member = Disposition(text)
    assert (member.code, Disposition.of_code(code)) == (code, member)
    assert (member.answer, member.is_kept, member.is_delivered) == (answer, kept, delivered)
    assert member.is_conflict == (text.partition("-")[0] == "conflict")


def test_what_is_kept_and_never_delivered() -> None:
    assert UNDELIVERED == (Disposition.STALE, Disposition.CONFLICT, Disposition.STRIPPED)


def test_causes_have_the_numbers_that_databases_hold() -> None:
    assert [(int(cause), cause.name, cause.is_not_for_it) for cause in DeliveryCause] == [
        (1, "FILTERED", True),
        (2, "STALE", True),
        (3, "OWN_CHANGE", True),
        (4, "ORDERING_FAILED", False),
        (5, "TIME_WAS_UP", False),
        (6, "WAS_STOPPED", False),
        (7, "DIED", False),
        (8, "DIED_ALONE", False),
        (9, "SUPERSEDED", True),
    ]
