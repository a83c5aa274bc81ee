"""Add up the files that ended processes left, so that a scrape reads few of them: `python folding.py DIRECTORY`.

prometheus-client keeps the numbers of each process in files of its own, and every restart leaves some. `fold` adds the
counters, histograms and summaries of processes that are gone to one file of each kind, and removes what their live gauges
said. Totals stay exactly the same.

A kill at any moment loses nothing and counts nothing twice: the sum is written beside the old one, then a journal names
what it replaces, then it takes its place. `fold` and `reading` first finish what a journal says.

This is a program of its own, started by gunicorn's master, so it imports nothing of ours. The numbers of a process
whose id another process has now are left for later; that one goes on counting in the same files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LOCK = "lock"
_JOURNAL = "journal.json"
_NEXT = ".next"
#: The number that stands for all processes that are gone; no process has it.
_ALL = 0
_FILE = re.compile(r"(counter|histogram|summary)_(\d+)\.db", re.ASCII)
_HEAD_BYTES = 8
_LIVE = re.compile(r"gauge_live[a-z]*_(\d+)\.db", re.ASCII)


def fold(directory: Path) -> int:
    """Fold the files of all processes that are gone; how many files that were."""
    with _locked(directory, fcntl.LOCK_EX):
        _recover(directory)
        return _fold(directory)


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Keep the files as they are while the body reads them. Others may read as well."""
    while True:
        with _locked(directory, fcntl.LOCK_SH):
            if not (directory / _JOURNAL).exists():
                yield
                return
        with _locked(directory, fcntl.LOCK_EX):
            _recover(directory)


@contextlib.contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _fold(directory: Path) -> int:
    left: dict[str, list[Path]] = {}
    gone = 0
    for path in sorted(directory.glob("*.db")):
        if (match := _LIVE.fullmatch(path.name)) and not _is_alive(int(match[1])):
            path.unlink()
            gone += 1
        elif (match := _FILE.fullmatch(path.name)) and int(match[2]) != _ALL and not _is_alive(int(match[2])):
            left.setdefault(match[1], []).append(path)
            gone += 1
    if not left:
        return gone
    for kind, paths in left.items():
        _add_up(directory / f"{kind}_{_ALL}.db", paths)
    journal = {"sums": sorted(left), "folded": [path.name for paths in left.values() for path in paths]}
    written = directory / f"{_JOURNAL}{_NEXT}"
    written.write_text(json.dumps(journal))
    written.rename(directory / _JOURNAL)  # from here on the sums are what counts
    _recover(directory)
    return gone


def _add_up(total: Path, paths: list[Path]) -> None:
    """Write the sum of `total` and `paths` beside `total`."""
    from prometheus_client import mmap_dict

    file: Any = mmap_dict.MmapedDict  # says nothing of its types
    sums: dict[str, float] = {}
    for path in [*([total] if total.exists() else []), *paths]:
        if path.stat().st_size < _HEAD_BYTES:
            continue  # its process was killed when it had just made it
        for key, value, _, _ in file.read_all_values_from_file(str(path)):
            sums[key] = sums.get(key, 0.0) + value
    beside = total.with_name(total.name + _NEXT)
    beside.unlink(missing_ok=True)
    written = file(str(beside))
    for key, value in sums.items():
        written.write_value(key, value, 0.0)
    written.close()


def _recover(directory: Path) -> None:
    """Finish what a journal says, and drop what none does. The lock is held exclusively."""
    journal = directory / _JOURNAL
    if journal.exists():
        found = json.loads(journal.read_text())
        for kind in found["sums"]:
            total = directory / f"{kind}_{_ALL}.db"
            with contextlib.suppress(FileNotFoundError):  # it took its place already
                total.with_name(total.name + _NEXT).rename(total)
        for name in found["folded"]:
            (directory / name).unlink(missing_ok=True)
        journal.unlink()
    for left in directory.glob(f"*{_NEXT}"):
        left.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


if __name__ == "__main__":
    with contextlib.suppress(FileNotFoundError):  # the group has ended, and its directory with it
        fold(Path(sys.argv[1]))

__all__ = ["fold", "reading"]
