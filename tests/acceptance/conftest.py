"""Fixtures for tests with real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.support import Processes
from tests.forkserver import ForkServer


@pytest.fixture(autouse=True, scope="session")
def _hears_sigint() -> None:
    """Undo what a shell does to `make test &`: it has SIGINT ignored, and every program under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def processes(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer
) -> Iterator[Processes]:
    """Start processes that run in the test's own directory; all of them, and all they started, are ended afterwards.

    The marker `forks` has them forked from a process that has imported everything; with "run" only those whose end
    `Processes.run` waits for, with "none" none of them.
    """
    marker = request.node.get_closest_marker("forks")
    which = "none" if marker is None else marker.args[0] if marker.args else "all"
    processes = Processes(tmp_path, tmp_path_factory.mktemp("logs"), fork_server, which)
    yield processes
    processes.end()
