"""What ended processes counted is added up, exactly, whatever ends the process that does it."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, values
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from webhooks.http.metrics import Exposition, folding, master


@pytest.fixture
def gone() -> list[int]:
    """Ids of processes that have ended."""
    found = []
    for _ in range(3):
        process = subprocess.Popen(["true"])
        process.wait()
        found.append(process.pid)
    return found


def write(path: Path, name: str, amount: float, labels: dict[str, str] | None = None) -> None:
    file: Any = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    key = mmap_key(name, name, list(labels or {}), list((labels or {}).values()), "what it is")
    file.write_value(key, file.read_value(key)[0] + amount, 0.0)
    file.close()


def total(directory: Path, name: str) -> float:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    return registry.get_sample_value(name) or 0.0


def scraped(directory: Path, name: str) -> float:
    """The same as `/metrics` tells it."""
    for line in Exposition(lambda: iter(())).process().decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return 0.0


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*") if path.name != "lock")


def test_counters_of_the_gone_become_one_file_and_the_total_stays(tmp_path: Path, gone: list[int]) -> None:
    for n, pid in enumerate([*gone, os.getpid()]):
        write(tmp_path / f"counter_{pid}.db", "c_total", n + 1)
        write(tmp_path / f"histogram_{pid}.db", "h_sum", 10)
    before = total(tmp_path, "c_total"), total(tmp_path, "h_sum")
    assert folding.fold(tmp_path) == 6
    assert (total(tmp_path, "c_total"), total(tmp_path, "h_sum")) == before == (10, 40)
    own = os.getpid()
    assert names(tmp_path) == sorted(["counter_0.db", f"counter_{own}.db", "histogram_0.db", f"histogram_{own}.db"])
    write(tmp_path / f"counter_{gone[0]}.db", "c_total", 5)
    folding.fold(tmp_path)
    assert total(tmp_path, "c_total") == 15
    assert folding.fold(tmp_path) == 0


def test_a_file_that_its_process_had_just_made_counts_nothing(tmp_path: Path, gone: list[int]) -> None:
    write(tmp_path / f"counter_{gone[0]}.db", "c_total", 2)
    (tmp_path / f"counter_{gone[1]}.db").touch()
    folding.fold(tmp_path)
    assert names(tmp_path) == ["counter_0.db"]
    assert total(tmp_path, "c_total") == 2


def test_live_gauges_of_the_gone_are_removed_and_others_stay(tmp_path: Path, gone: list[int]) -> None:
    for name in (f"gauge_livesum_{gone[0]}.db", f"gauge_livesum_{os.getpid()}.db", f"gauge_max_{gone[0]}.db"):
        write(tmp_path / name, "g", 1)
    folding.fold(tmp_path)
    assert names(tmp_path) == sorted([f"gauge_livesum_{os.getpid()}.db", f"gauge_max_{gone[0]}.db"])


@pytest.mark.parametrize("at", ["beside", "journal", "taken", "half"])
def test_a_kill_at_any_step_loses_nothing_and_counts_nothing_twice(tmp_path: Path, gone: list[int], at: str) -> None:
    """The directory as a kill leaves it: before the journal, after it, after the sum took its place, while removing."""
    write(tmp_path / "counter_0.db", "c_total", 100)
    for pid in gone:
        write(tmp_path / f"counter_{pid}.db", "c_total", 1)
    write(tmp_path / "counter_0.db.next", "c_total", 103)
    if at != "beside":
        folded = [f"counter_{pid}.db" for pid in gone]
        (tmp_path / "journal.json").write_text(json.dumps({"sums": ["counter"], "folded": folded}))
    if at in ("taken", "half"):
        (tmp_path / "counter_0.db.next").rename(tmp_path / "counter_0.db")
    if at == "half":
        (tmp_path / f"counter_{gone[0]}.db").unlink()
    with folding.reading(tmp_path):
        assert total(tmp_path, "c_total") == 103
    folding.fold(tmp_path)
    assert total(tmp_path, "c_total") == 103
    assert names(tmp_path) == ["counter_0.db"]


def count(directory: str, n: int) -> None:
    write(Path(directory) / f"counter_{os.getpid()}.db", "c_total", n)


def test_totals_never_fall_while_processes_end_and_are_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "webhooks-metrics-x"
    directory.mkdir()
    monkeypatch.setenv(master.VARIABLE, str(directory))
    monkeypatch.setattr(values.ValueClass, "_multiprocess", True)
    spawn = multiprocessing.get_context("fork")
    seen: list[float] = []
    over = threading.Event()

    def scrape() -> None:
        while not over.is_set():
            seen.append(scraped(directory, "c_total"))

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        for _ in range(12):
            process = spawn.Process(target=count, args=(str(directory), 7))
            process.start()
            process.join()
            folding.fold(directory)
    finally:
        over.set()
        thread.join()
    assert seen == sorted(seen)
    assert total(directory, "c_total") == 84
    assert names(directory) == ["counter_0.db"]


def test_folding_is_a_program_that_imports_nothing_of_ours(tmp_path: Path, gone: list[int]) -> None:
    write(tmp_path / f"counter_{gone[0]}.db", "c_total", 3)
    code = f"import runpy, sys; sys.argv = ['x', {str(tmp_path)!r}]\nrunpy.run_path({str(master.FOLDING)!r}, run_name='__main__')\n"
    code += "assert not any(name.startswith('webhooks') for name in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, cwd="/", env={})
    assert names(tmp_path) == ["counter_0.db"]
    subprocess.run([sys.executable, "-P", str(master.FOLDING), str(tmp_path / "not there")], check=True, env={})


def test_a_directory_whose_master_was_killed_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master, "SHARED_MEMORY", tmp_path)
    left, used = tmp_path / "webhooks-metrics-a", tmp_path / "webhooks-metrics-b"
    for path in (left, used, tmp_path / "somebody-elses"):
        path.mkdir()
        (path / master.IN_USE).touch()
    held = master.hold(used / master.IN_USE)
    made = master.Directory()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["somebody-elses", "webhooks-metrics-b", made.path.name]
    )
    made.remove()
    os.close(held)
    assert not made.path.exists()
