"""The kernel as a witness: before the first byte of each 2xx, the database's log was flushed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import synced
from benchmarks.databases import Unavailable


@pytest.mark.release
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("worker_class", ["gevent", "gthread"])
def test_each_2xx_follows_a_flush_of_the_log(tmp_path: Path, worker_class: str) -> None:
    """On SQLite, whose server does it all itself; `python -m benchmarks.synced` asks a PostgreSQL server too."""
    try:
        verdict = synced.trace("sqlite", None, worker_class, tmp_path)
    except Unavailable as error:
        pytest.skip(str(error))  # not everywhere may one trace
    assert verdict.answers >= 440
    assert verdict.unsynced == []
    assert 40 <= verdict.flushes <= verdict.answers + 10, "one flush for each lone request, shared ones for the others"
