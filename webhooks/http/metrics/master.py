"""gunicorn's part in metrics: a directory for the numbers of its workers, and the folding of what ended ones left.

This runs in gunicorn's master, before any worker is forked, so it imports nothing but the standard library: a master
that had imported prometheus-client would hold its locks where signals arrive. The folding is done by a small process.

PROMETHEUS_MULTIPROC_DIR set by the operator wins: then the directory is the operator's, and nothing here happens.

What surprises: the master holds a lock on its directory, which its workers inherit with the fork. A directory whose
lock is free belongs to a master that was killed with all its workers; the next start removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

#: What prometheus-client reads.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: Memory is where these files belong: they are mapped, and end with the machine.
SHARED_MEMORY = Path("/dev/shm")
PREFIX = "webhooks-metrics-"
#: Held by the processes that use a directory.
IN_USE = "in-use"
#: Held exclusively while files are folded, and shared while they are read.
LOCK = "lock"
#: The program that folds.
FOLDING = Path(__file__).with_name("folding.py")


class Directory:
    """A directory for the numbers of one group of processes, held by this one.

    path: one that is there already.
    owner: user and group of the processes, where this one is root and they are not.
    """

    def __init__(self, path: Path | None = None, owner: tuple[int, int] | None = None) -> None:
        if path is None:
            base = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
            remove_left(base)
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        self.path = path
        self._in_use = hold(path / IN_USE)
        if owner is not None:
            (path / LOCK).touch(0o600)
            for each in (path, path / IN_USE, path / LOCK):
                os.chown(each, *owner)

    def remove(self) -> None:
        """Take the directory away, at the end of the group."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._in_use)


def hold(path: Path) -> int:
    """A descriptor that holds the file of that path exclusively, for as long as it or a copy in a fork is open.

    Raises BlockingIOError when another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_left(base: Path) -> None:
    """Remove the directories of groups that ended without removing theirs."""
    for path in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, or another user's
            if path.is_dir() and not path.is_symlink() and (path / IN_USE).exists():
                descriptor = hold(path / IN_USE)
                shutil.rmtree(path, ignore_errors=True)
                os.close(descriptor)


def begin(server: Any) -> None:
    """Make the directory of an arbiter that is starting, before it has workers."""
    if os.environ.get(VARIABLE):
        return
    try:
        owner = (server.cfg.uid, server.cfg.gid)
        server.webhooks_metrics = Directory(owner=owner if owner[0] != os.geteuid() else None)
    except OSError as error:
        server.log.error("There will be no metrics: no directory for them can be made: %s", error)
        return
    os.environ[VARIABLE] = str(server.webhooks_metrics.path)


def fold(server: Any) -> None:
    """Start the folding of what an ended worker left; its end is not waited for."""
    directory: Directory | None = getattr(server, "webhooks_metrics", None)
    if directory is None:
        return
    try:
        subprocess.Popen(
            # -P: modules beside the program are not the standard library's
            [sys.executable, "-P", str(FOLDING), str(directory.path)],
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        ).returncode = 0  # the arbiter reaps it with its own children
    except OSError as error:
        server.log.error("The numbers of an ended worker are not folded: %s", error)


def end(server: Any) -> None:
    """Remove the directory of an arbiter that stops."""
    directory: Directory | None = getattr(server, "webhooks_metrics", None)
    if directory is not None:
        directory.remove()


__all__ = ["IN_USE", "LOCK", "VARIABLE", "Directory", "begin", "end", "fold", "hold"]
