"""Which statements of runs that share a transaction are held back: what was silent before, with values that stay as they are."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.pq import ExecStatus
from psycopg.types.json import Jsonb

from webhooks.session.postgresql_held import HELD_AT_MOST, HeldWrites, SilentStatements

TEXT = "insert into notes values (%(what)s)"


def result(tag: bytes, status: int = ExecStatus.COMMAND_OK) -> Any:
    return SimpleNamespace(status=status, command_status=tag)


@pytest.mark.parametrize(
    ("text", "answer", "holds"),
    [
        (TEXT, result(b"INSERT 0 1"), True),
        (TEXT, result(b"UPDATE 3"), True),
        (TEXT, result(b"DELETE 0"), True),
        (TEXT, result(b"INSERT 0 1", ExecStatus.TUPLES_OK), False),
        (TEXT, result(b"SELECT 1", ExecStatus.TUPLES_OK), False),
        (TEXT, result(b"MERGE 1"), False),
        (TEXT.encode(), result(b"INSERT 0 1"), False),
    ],
)
def test_held_back_is_what_answered_without_rows_before(text: Any, answer: Any, holds: bool) -> None:
    silent = SilentStatements()
    assert not silent.may_hold(text, {"what": 1})
    silent.note(text, answer)
    assert silent.may_hold(text, {"what": 1}) is holds


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ({}, True),
        ({"what": None, "when": datetime.now(UTC), "n": 1.5}, True),
        ({"what": ["a list may change"]}, False),
        ({"what": Jsonb({"may": "change"})}, False),
        ({"what": bytearray(b"may change")}, False),
        (("a", 1), False),
        (None, False),
    ],
)
def test_a_value_that_may_change_until_it_is_sent_is_sent_at_once(values: object, holds: bool) -> None:
    silent = SilentStatements()
    silent.note(TEXT, result(b"INSERT 0 1"))
    assert silent.may_hold(TEXT, values) is holds


def test_what_was_asked_for_its_rows_is_never_held_back_again() -> None:
    silent = SilentStatements()
    silent.note(TEXT, result(b"INSERT 0 1"))
    silent.forget(TEXT)
    silent.note(TEXT, result(b"INSERT 0 1"))
    assert not silent.may_hold(TEXT, {})


def test_no_more_texts_are_known_than_fit_however_many_there_are() -> None:
    silent = SilentStatements()
    for n in range(600):
        silent.note(f"insert {n}", result(b"INSERT 0 1"))
        silent.forget(f"update {n}")
    assert silent.may_hold("insert 0", {})
    assert len(silent._silent) == 500


def test_one_text_is_held_at_a_time_and_not_without_end() -> None:
    held = HeldWrites()
    assert held.fits("a")
    for n in range(HELD_AT_MOST):
        assert held.fits("a")
        held.add("a", {"n": n})
    assert not held.fits("a")
    assert not held.fits("b")
    text, rows = held.take()
    assert (text, rows[0], len(rows)) == ("a", {"n": 0}, HELD_AT_MOST)
    assert held.fits("b")
