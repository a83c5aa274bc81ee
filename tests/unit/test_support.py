"""What makes a run of the tests shorter leaves nothing out."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import postgresql
from tests.support import SLOWNESS, allowed, crowd, each, examples, on_one_database, patience


def test_each_goes_through_all_values_and_tells_of_every_failure() -> None:
    seen: list[tuple[int, str, str]] = []

    @each("n", [1, 2, 3])
    @each(("a", "b"), [("x", "y"), ("z", "z")])
    def about(fixture: list[tuple[int, str, str]], n: int, a: str, b: str) -> None:
        fixture.append((n, a, b))
        assert a != b, "the same"
        if n == 3:
            pytest.fail("three")

    assert list(inspect.signature(about).parameters) == ["fixture"]
    with pytest.raises(ExceptionGroup, match="3 of 3") as caught:
        about(fixture=seen)
    assert seen == [(n, a, b) for n in (1, 2, 3) for a, b in (("x", "y"), ("z", "z"))]
    assert [len(group.exceptions) for group in caught.value.exceptions] == [1, 1, 2]
    told = str(caught.value.exceptions[2].exceptions)
    assert "three" in told
    assert "the same" in told


def test_bounds_and_waits_grow_with_the_slowness_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.crowd", lambda: 0.0)
    monkeypatch.setenv(SLOWNESS, "3")
    assert (allowed(2), patience(10), patience(60)) == (6, 30, 80)
    monkeypatch.setenv(SLOWNESS, "1")
    assert (allowed(2), patience(10)) == (2, 10)
    monkeypatch.setattr("tests.support.crowd", lambda: 1000.0)
    assert (allowed(2), patience(10), patience(100)) == (12, 60, 100)


def test_a_crowd_of_this_moment_counts_before_the_average_has_risen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("os.getloadavg", lambda: (1.0, 0.0, 0.0))
    monkeypatch.setattr("tests.support.LOAD", tmp_path / "loadavg")
    assert crowd() == 0.5
    (tmp_path / "loadavg").write_text("1.00 0.00 0.00 9/204 24000\n")
    assert crowd() == 4.5
    monkeypatch.setattr("os.getloadavg", lambda: (12.0, 0.0, 0.0))
    assert crowd() == 6.0


def test_the_full_profile_tries_every_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.PROFILE", "full")
    assert examples(90) == 90
    monkeypatch.setattr("tests.support.PROFILE", "quick")
    assert (examples(90), examples(1)) == (18, 1)


def item(
    name: str, database: str, *, is_marked: bool = True, parameter: str = "database_url", marker: str = "none"
) -> Any:
    """What pytest collected: a case of a test on a database."""
    return SimpleNamespace(
        nodeid=f"tests/test_a.py::test_b[{database}-{name}]",
        callspec=SimpleNamespace(params={parameter: database}),
        get_closest_marker={"one_database": is_marked, marker: True}.get,
    )


def test_of_a_file_that_is_marked_each_test_runs_on_one_database_and_a_third_on_postgresql() -> None:
    both = [(name, database) for name in map(str, range(100)) for database in ("sqlite", "postgresql")]
    kept: list[Any] = on_one_database([item(*each) for each in both])
    assert len({left.nodeid.partition("-")[2] for left in kept}) == len(kept) == 100
    assert 20 < sum(left.callspec.params["database_url"] == "postgresql" for left in kept) < 45


def test_a_test_of_one_database_stays_and_so_do_both_of_a_file_that_is_not_marked() -> None:
    alone = [item("a", "sqlite"), item("b", "postgresql")]
    unmarked = [item("c", "sqlite", is_marked=False), item("c", "postgresql", is_marked=False)]
    assert on_one_database([*alone, *unmarked]) == [*alone, *unmarked]


@pytest.mark.parametrize("parameter", ["database_url", "empty_database_url"])
def test_cases_of_a_test_that_is_not_marked_run_on_either_in_turn_whatever_the_order(parameter: str) -> None:
    both = [(name, database) for name in "abc" for database in ("sqlite", "postgresql")]
    cases = [item(*one, is_marked=False, parameter=parameter) for one in both]
    kept: list[Any] = on_one_database(cases)
    assert [left.nodeid.partition("-")[2] for left in kept] == ["a]", "b]", "c]"]
    on = [left.callspec.params[parameter] for left in kept]
    assert on[0] == on[2] != on[1]
    assert set(map(id, on_one_database(cases[::-1]))) == set(map(id, kept))


def test_what_runs_only_when_asked_for_runs_on_both() -> None:
    cases = [item(name, database, marker="long") for name in "ab" for database in ("sqlite", "postgresql")]
    assert on_one_database(cases) == cases


def test_the_tests_server_is_in_memory_where_there_is_enough_and_nobody_chose_another_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free = postgresql.ENOUGH
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(postgresql, "MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    assert postgresql.memory() == tmp_path
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert postgresql.memory() is None
    monkeypatch.delenv("TMPDIR")
    free -= 1  # as in a container, which has 64 MB unless told
    assert postgresql.memory() is None
    monkeypatch.setattr(postgresql, "MEMORY", tmp_path / "of Linux alone")
    assert postgresql.memory() is None
