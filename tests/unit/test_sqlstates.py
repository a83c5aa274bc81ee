"""Errors of a database: whose fault they may be, and that their texts hold no value."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest
from sqlalchemy import exc

from webhooks.formats import error_summary, exception_text, sqlstates, text_of

SECRET = "hunter2-hunter2"


def sqlite(script: str, statement: str, *parameters: object) -> sqlite3.Error:
    connection = sqlite3.connect(":memory:")
    connection.executescript(script)
    try:
        connection.execute(statement, parameters)
    except sqlite3.Error as error:
        return error
    finally:
        connection.close()
    raise AssertionError("nothing was refused")


CASES: dict[str, tuple[Callable[[], sqlite3.Error], bool, str]] = {
    # what: (the error, may it be the row's, what its text says)
    "unique": (
        lambda: sqlite("create table t (a unique); insert into t values ('x')", "insert into t values ('x')"),
        True,
        "t.a",
    ),
    "check": (lambda: sqlite("create table t (a check (a > 1))", "insert into t values (0)"), True, "CHECK"),
    "not null": (lambda: sqlite("create table t (a not null)", "insert into t values (null)"), True, "t.a"),
    "strict": (
        lambda: sqlite("create table t (a int) strict", "insert into t values (?)", SECRET),
        True,
        "cannot store TEXT value",
    ),
    "mismatch": (
        lambda: sqlite("create table t (a integer primary key)", "insert into t values (?)", SECRET),
        True,
        "SQLITE_MISMATCH",
    ),
    "trigger": (
        lambda: sqlite(
            f"create table t (a); create trigger r before insert on t begin select raise(abort, '{SECRET}'); end",
            "insert into t values (1)",
        ),
        False,
        "a trigger raised it",
    ),
    "no table": (lambda: sqlite("", "insert into t values (1)"), False, "no such table: t"),
    "no column": (lambda: sqlite("create table t (a)", "insert into t (b) values (1)"), False, "no column named b"),
    "syntax": (lambda: sqlite("", f"selct '{SECRET}'"), False, "syntax error"),
    "quoted": (lambda: sqlite("", f"""select "{SECRET}" '{SECRET}' x y"""), False, "syntax error"),
    "json path": (lambda: sqlite("", "select json_extract('{}', ?)", SECRET), False, "SQLITE_ERROR"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_of_sqlite_is_judged_by_its_code_and_shown_without_values(case: str) -> None:
    make, is_the_rows, says = CASES[case]
    error = make()
    assert sqlstates.may_be_the_rows(error) is is_the_rows
    for shown in (
        sqlstates.describe(error),
        error_summary(error),
        error_summary(exc.IntegrityError(f"insert '{SECRET}'", {"a": SECRET}, error)),
        exception_text(exc.IntegrityError(f"insert '{SECRET}'", {"a": SECRET}, error)),
    ):
        assert SECRET not in shown
        assert says in shown


def test_what_sqlalchemy_says_of_a_value_is_without_it() -> None:
    error = exc.StatementError(
        f"'{SECRET}' is not among the enum values", "insert", {}, LookupError(f"'{SECRET}' is not")
    )
    assert SECRET not in error_summary(error)
    assert "LookupError" in error_summary(error)


def test_a_text_that_was_taken_out_once_stays_as_it_is() -> None:
    error = CASES["unique"][0]()
    error.args = (sqlstates.text_without_values(error),)
    assert sqlstates.text_without_values(error) == str(error)


def test_other_errors_are_nobodys_here() -> None:
    assert sqlstates.text_without_values(ValueError("x")) is None
    assert text_of(ValueError("as it is")) == "as it is"
    assert not sqlstates.may_be_the_rows(ValueError("x"))


def test_an_exception_for_the_log_shows_what_led_to_it_and_forges_no_line() -> None:
    try:
        try:
            raise ValueError("first\n2026-01-01 [error] forged \x1b[31m\u202e")
        except ValueError as error:
            raise RuntimeError("second") from error
    except RuntimeError as error:
        text = exception_text(error)
    assert "which led to" in text
    assert "test_sqlstates.py" in text
    assert text.rstrip().endswith("RuntimeError: second")
    assert "\n2026" not in text
    assert not {"\x1b", "\u202e"} & set(text)
