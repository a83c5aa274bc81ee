"""Fixtures for tests with real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.support import Processes


@pytest.fixture(autouse=True, scope="session")
def _hears_sigint() -> None:
    """Undo what a shell does to `make test &`: it has SIGINT ignored, and every program under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def processes(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Start processes that run in the test's own directory; all of them, and all they started, are ended afterwards."""
    processes = Processes(tmp_path, tmp_path_factory.mktemp("logs"))
    yield processes
    processes.end()
