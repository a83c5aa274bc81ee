"""Where a process keeps its numbers: in its own memory, or in the directory of its group.

gunicorn's workers find the directory that their master made (`master`). A worker of deliveries makes one for itself and
for the processes that run single attempts for it, which inherit its environment. The operator's own
PROMETHEUS_MULTIPROC_DIR is used as it is.

Has to be asked before prometheus-client is imported, which decides by the environment.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from pathlib import Path

from webhooks.http.metrics.master import PREFIX, VARIABLE, Directory

logger = logging.getLogger(__name__)

#: Names the directory that a worker made, and its process: {process id}:{path}. Handed on over exec, and to children.
OURS = "_WEBHOOKS_METRICS"


def begin_group() -> None:
    """Make a directory for this worker and the processes that it starts, unless there is one already."""
    found = os.environ.get(VARIABLE, "")
    owner, _, ours = os.environ.get(OURS, "").partition(":")
    if found and found == ours:
        if owner == str(os.getpid()):  # this program was executed anew; the lock ended with the one before
            _keep(Directory(Path(found)))
        return
    if found and not os.environ.get("WEBHOOKS_EMBEDDED"):
        return  # the operator's; an embedded worker leaves it to the server beside it
    if "prometheus_client" in sys.modules:
        logger.warning("attempts in processes of their own are not counted: prometheus_client was imported too early")
        return
    try:
        made = Directory()
    except OSError as error:
        logger.warning("attempts in processes of their own are not counted: no directory can be made: %s", error)
        return
    os.environ[VARIABLE] = str(made.path)
    os.environ[OURS] = f"{os.getpid()}:{made.path}"
    _keep(made)


def _keep(directory: Directory) -> None:
    """Remove the directory when this process ends, but not when a fork of it does."""
    owner = os.getpid()
    atexit.register(lambda: directory.remove() if os.getpid() == owner else None)


def group() -> Path | None:
    """The directory of this process's group; None when its numbers are in its memory."""
    path = os.environ.get(VARIABLE)
    return Path(path) if path else None


def is_ours(directory: Path) -> bool:
    """Whether a directory was made by this package, so that folding is its business as well."""
    return directory.name.startswith(PREFIX)


__all__ = ["begin_group", "group", "is_ours"]
