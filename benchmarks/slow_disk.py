"""Build and use slow_disk.c: a shim that makes each flush of a program take longer.

Only programs that we start can be slowed, so it is for SQLite; a PostgreSQL server has to be started with it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.databases import Unavailable

SOURCE = Path(__file__).with_suffix(".c")


class Shim:
    """The shared object, built into `directory` when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._library = directory / "slow_disk.so"

    def environ(self, milliseconds: float) -> dict[str, str]:
        """What to add to a program's environment. Raises `Unavailable` without a compiler."""
        if not self._library.exists():
            compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
            if compiler is None:
                raise Unavailable("a slow disk needs a C compiler (cc) to build its shim")
            command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE), "-ldl"]
            subprocess.run(command, check=True)
        return {"LD_PRELOAD": str(self._library), "FLUSH_DELAY_US": str(int(milliseconds * 1000))}
