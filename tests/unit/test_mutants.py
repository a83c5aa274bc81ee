"""`make mutants` takes minutes and runs at night; that a change left one of its mistakes without its place is said here."""

from __future__ import annotations

from tests.mutation.mutants import MUTANTS


def test_each_mutant_still_applies() -> None:
    assert [(mutant.mistake, mutant.file) for mutant in MUTANTS if not mutant.applies()] == []
