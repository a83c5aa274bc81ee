"""As the first process of a container: orphans are reaped, signals come through, exit codes are those of the work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.fleet import Fleet
from tests.acceptance.support import SCRIPTS, Processes
from tests.support import wait_until
from webhooks.model import DeliveryState

HANDLERS = """
    import subprocess

    @on("**", name="orphans")
    def leave_an_orphan(event):
        subprocess.run(["sh", "-c", "sleep 0.1 & exit 0"], check=True)
        assert subprocess.run(["sh", "-c", "exit 7"]).returncode == 7
"""
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def may_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not may_unshare(), reason="no process may make a PID namespace here (unshare --pid, root)"
)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


@pytest.mark.one_database
def test_a_worker_that_is_the_first_process_reaps_orphans_and_stops_as_told(
    database_url: str, processes: Processes
) -> None:
    with closing(Fleet(processes, database_url, HANDLERS)) as fleet:
        [outer] = fleet.start(command=(*UNSHARE, str(SCRIPTS / "webhooks"), "worker"))
        [first] = children_of(outer.pid)

        fleet.put([{"n": n} for n in range(6)], "orphans")
        fleet.wait_until_finished(30)

        assert fleet.states() == {DeliveryState.SUCCEEDED: 6}
        wait_until(lambda: len(children_of(first)) == 1, what="the orphans to be reaped")
        os.kill(first, signal.SIGTERM)
        assert outer.wait() == 0, outer.output
        assert "stopped" in outer.output
