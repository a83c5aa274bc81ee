"""Attempts in processes of their own: what their parent records, however they end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration import isolated_parts
from tests.integration.rig import Rig, rig
from tests.support import ROOT, wait_until
from webhooks.delivery import IsolatedPool, RunningAttempt, isolation
from webhooks.delivery.attempt import Cause, Phase
from webhooks.errors import NoConnection
from webhooks.model import AttemptOutcome, DeliveryState
from webhooks.store.deliveries import Finished

pytestmark = pytest.mark.one_database

COMMAND = [sys.executable, "-m", "webhooks.delivery.isolation", "tests.integration.isolated_parts:make"]


class Isolated:
    """A pool over a rig whose handlers run in processes of their own, and what these told."""

    def __init__(self, made: Rig, notes: Path) -> None:
        self.made = made
        self.notes = notes
        self.pool = IsolatedPool(command=COMMAND, dispatcher=made.dispatcher, store=made.store)

    def attempt(self, handler: str, body: bytes = b"{}") -> RunningAttempt:
        self.made.put(1, handler, body=body)
        attempt = self.made.attempt(handler)
        attempt.begin()
        return attempt

    def run(self, handler: str, body: bytes = b"{}") -> tuple[RunningAttempt, Finished | None]:
        attempt = self.attempt(handler, body)
        return attempt, self.pool.run(attempt)

    def told(self, start: str = "") -> list[str]:
        lines = self.notes.read_text(encoding="utf-8").splitlines() if self.notes.exists() else []
        return [line for line in lines if line.startswith(start)]

    def in_thread(self, handler: str, body: bytes) -> tuple[RunningAttempt, threading.Thread, list[Finished | None]]:
        """Begin one that hangs; its thread, and where the answer will be."""
        attempt, answers = self.attempt(handler, body), list[Finished | None]()
        thread = threading.Thread(target=lambda: answers.append(self.pool.run(attempt)))
        thread.start()
        wait_until(lambda: self.told("hangs"), timedelta(seconds=60))
        return attempt, thread, answers


@pytest.fixture
def isolated(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Isolated]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(isolated_parts.URL, database_url)
    monkeypatch.setenv(isolated_parts.NOTES, str(tmp_path / "notes"))
    with rig(database_url) as made:
        isolated_parts.put_handlers(made)
        found = Isolated(made, tmp_path / "notes")
        yield found
        found.pool.close()


def test_one_process_serves_one_attempt_after_the_other_and_says_what_came_of_each(isolated: Isolated) -> None:
    attempt, finished = isolated.run("s")
    assert finished is not None
    assert (attempt.committed, finished.verdict.outcome) == (True, AttemptOutcome.SUCCEEDED)
    assert isolated.made.count_effects() == 1
    assert isolated.made.row(attempt.delivery.id).state == DeliveryState.SUCCEEDED

    attempt, finished = isolated.run("h")
    assert finished is not None
    assert (attempt.committed, finished.verdict.outcome) == (False, AttemptOutcome.SUCCEEDED)

    attempt, finished = isolated.run("s", b"fail")
    assert finished is not None
    assert (attempt.committed, finished.verdict.reason) == (False, "LookupError: gone")
    assert "raise LookupError" in (finished.verdict.error or "")
    assert isolated.made.count_effects() == 1
    pids = isolated.told("pid ")
    assert len(pids) == 3
    assert len(set(pids)) == 1
    assert f"pid {os.getpid()}" not in pids


def test_data_of_another_type_fails_there_before_the_handler_is_called(isolated: Isolated) -> None:
    _, finished = isolated.run("typed")
    assert finished is not None
    assert (finished.verdict.outcome, finished.ran) == (AttemptOutcome.FAILED, True)
    assert finished.verdict.error == "PayloadMismatch: data: expected object, got null"
    assert isolated.told() == ["raised typed PayloadMismatch('data: expected object, got null') failed"]


def test_what_a_handler_raises_is_signalled_in_its_process(isolated: Isolated) -> None:
    _, finished = isolated.run("h", b"fail")
    assert finished is not None
    assert isolated.told("raised") == ["raised h LookupError('gone') failed"]


def test_a_process_is_replaced_after_so_many_runs(isolated: Isolated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "RUNS_OF_A_CHILD", 1)
    isolated.run("h")
    isolated.run("h")
    assert len(set(isolated.told("pid "))) == 2


def test_a_death_is_recorded_as_the_attempts_own(isolated: Isolated) -> None:
    attempt, finished = isolated.run("s", b"die")
    assert finished is not None
    assert (finished.verdict.outcome, finished.verdict.counts) == (AttemptOutcome.LOST, True)
    assert finished.alone
    assert finished.verdict.reason == "its process died while it ran alone (attempt 1 of 3)"
    assert (attempt.phase, attempt.cause) == (Phase.REVOKED, Cause.DIED)
    assert attempt.end(), "its thread reports it"
    assert isolated.made.store.deliveries.finish([finished])
    assert isolated.made.count_effects() == 0
    _, finished = isolated.run("h")
    assert finished is not None, "the next one gets another process"


def test_one_that_runs_too_long_is_killed_and_timed_out(isolated: Isolated) -> None:
    isolated.run("s")  # its process has started: only the handler's own time counts
    isolated.made.dispatcher.outcomes.default_timeout = timedelta(seconds=0.2)
    attempt, finished = isolated.run("s", b"hang")
    assert finished is not None
    assert (finished.verdict.outcome, finished.verdict.counts) == (AttemptOutcome.TIMED_OUT, True)
    assert finished.delivery.token == attempt.delivery.token + 1
    assert isolated.made.store.deliveries.finish([finished])
    assert isolated.made.count_effects() == 1
    pid = int(isolated.told("pid ")[-1].split()[1])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_stop_kills_what_runs_and_answers_for_it(isolated: Isolated) -> None:
    attempt, thread, answers = isolated.in_thread("h", b"hang")
    assert attempt.revoke(Cause.STOPPED)
    thread.join(timeout=30)
    assert answers == [None]
    assert not attempt.end()


def test_a_pool_that_closes_gives_back_what_runs(isolated: Isolated) -> None:
    attempt, thread, answers = isolated.in_thread("h", b"hang")
    isolated.pool.close()
    thread.join(timeout=30)
    (finished,) = answers
    assert finished is not None
    assert (finished.verdict.outcome, finished.verdict.counts) == (AttemptOutcome.RELEASED, False)
    assert attempt.end()
    _, finished = isolated.run("h")
    assert finished is not None
    assert finished.verdict.reason == "its process could not be started: EOFError"


def test_a_delivery_that_is_another_workers_by_now_is_not_run(isolated: Isolated) -> None:
    attempt = isolated.attempt("s")
    assert isolated.made.store.deliveries.fence(attempt.delivery) is not None
    assert isolated.pool.run(attempt) is None
    assert isolated.told() == []


# -- without a process ---------------------------------------------------------------------------------------


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        yield made


def claimed(made: Rig) -> RunningAttempt:
    made.on(isolation="process")(lambda: None)
    made.put()
    return made.attempt()


@pytest.mark.parametrize(
    ("command", "reason"),
    [(["/nowhere/python"], "FileNotFoundError"), ([sys.executable, "-c", "", "--"], "EOFError")],
    ids=["no program", "ends at once"],
)
def test_a_process_that_does_not_start_is_no_failure_of_the_handler(made: Rig, command: list[str], reason: str) -> None:
    pool = IsolatedPool(command=command, dispatcher=made.dispatcher, store=made.store)
    finished = pool.run(claimed(made))
    pool.close()
    assert finished is not None
    assert (finished.verdict.outcome, finished.verdict.counts, finished.ran) == (AttemptOutcome.LOST, False, False)
    assert finished.verdict.reason == f"its process could not be started: {reason}"


def test_without_a_command_the_attempt_runs_here(made: Rig) -> None:
    pool = IsolatedPool(command=None, dispatcher=made.dispatcher, store=made.store)
    finished = pool.run(claimed(made))
    assert finished is not None
    assert finished.verdict.outcome is AttemptOutcome.SUCCEEDED


def test_a_child_that_cannot_read_what_it_is_to_run_says_so(made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = claimed(made)

    def refuse(id: int) -> Any:
        raise NoConnection("too many connections")

    monkeypatch.setattr(isolation, "LOAD_SECONDS", 0.0)
    monkeypatch.setattr(made.store.deliveries, "load", refuse)
    order = isolation.IsolatedOrder(attempt.delivery.id, attempt.delivery.token)
    report = isolation.run_order(made.dispatcher, made.store, order)
    assert report == isolation.IsolatedReport(no_connection="too many connections")
