"""Cells: what they add is in the file at once, exactly, and in a file of its own after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import each

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed; it is the extra metrics")

#: What each program begins with. prometheus-client decides when it is imported whether numbers are a group's.
BEGIN = """
import os, sys, threading
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from webhooks.http.metrics.cells import Cell

def read():
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        from prometheus_client import REGISTRY as registry
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, _, value in (l.rpartition(" ") for l in lines if not l.startswith("#"))}

counter = Counter("a", "text", ["x"])
histogram = Histogram("h", "text", buckets=(1, 2, 4))
gauge = Gauge("g", "text", multiprocess_mode="livesum")
count, observed, level = Cell(counter.labels("one")), Cell(histogram), Cell(gauge)
"""


def run(program: str, directory: Path | None) -> None:
    env = {**os.environ, **({"PROMETHEUS_MULTIPROC_DIR": str(directory)} if directory else {})}
    done = subprocess.run([sys.executable, "-c", BEGIN + program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@each("grouped", [True, False])
def test_a_cell_says_what_prometheus_client_would(tmp_path: Path, grouped: bool) -> None:
    program = """
values = [0, 0.5, 1, 1.5, 2, 3, 4, 4.5, 100]
theirs = Histogram("theirs", "text", buckets=(1, 2, 4))
for value in values:
    observed.observe(value)
    theirs.observe(value)
count.inc(); count.inc(2.5); level.set(7); level.set(3)
found = read()
assert found['a_total{x="one"}'] == 3.5 and found["g"] == 3, found
assert found["h_count"] == len(values)
for name in [name for name in found if name.startswith("h_") and "created" not in name]:
    assert found[name] == found["theirs_" + name[2:]], name
assert count._is_plain == (not GROUPED)
"""
    run(program.replace("GROUPED", str(grouped)), tmp_path if grouped else None)


def test_a_child_of_a_fork_counts_for_itself_and_the_parent_goes_on(tmp_path: Path) -> None:
    run(
        """
count.inc(); observed.observe(1)
if (child := os.fork()) == 0:
    count.inc(10); count.inc(10); observed.observe(2)
    os._exit(0 if count._view is not None else 1)
assert os.waitpid(child, 0)[1] == 0
count.inc()
found = read()
assert found['a_total{x="one"}'] == 22 and found["h_sum"] == 3, found
assert len([name for name in os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"]) if name.startswith("counter")]) == 2
""",
        tmp_path,
    )


def test_numbers_that_are_new_later_on_and_two_cells_of_one_number_lose_nothing(tmp_path: Path) -> None:
    run(
        """
count.inc()
more = [Cell(counter.labels("a label of some length, for the file to grow, " * 4 + str(n))) for n in range(6000)]
for cell in more:
    cell.inc()
count.inc(); Cell(counter.labels("one")).inc(); count.inc()
found = read()
assert found['a_total{x="one"}'] == 4 and len(found) > 6000
assert all(value == 1 for name, value in found.items() if "length" in name)
""",
        tmp_path,
    )


def test_threads_that_count_at_once_lose_nothing(tmp_path: Path) -> None:
    run(
        """
sys.setswitchinterval(1e-6)
def work():
    for _ in range(20_000):
        count.inc(); observed.observe(3)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
found = read()
assert found['a_total{x="one"}'] == found["h_count"] == 80_000 and found["h_sum"] == 240_000, found
""",
        tmp_path,
    )
