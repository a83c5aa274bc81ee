"""Whether a machine's worker is alive, for whatever watches containers: `webhooks worker --health`."""

from __future__ import annotations

from webhooks.errors import StorageUnavailable
from webhooks.store import Store


def examine_worker(store: Store, host: str) -> tuple[bool, str]:
    """(whether the workers of a machine are to be left alone, a sentence that says why).

    A database that cannot be asked is no reason to start a worker anew: it waits for it, and continues.

    host: the machine's name, with which the names of its processes begin.
    """
    try:
        running = store.processes.running()
    except StorageUnavailable as error:
        return True, f"the database cannot be asked, which a new worker would not change: {error.reason}"
    ours = [process for process in running if process.is_worker and process.id.startswith(f"{host}:")]
    if not ours:
        return False, f"no worker of {host} has reported within two minutes"
    return True, f"{ours[0].id} reported at {ours[0].heartbeat_at:%H:%M:%S} UTC"


__all__ = ["examine_worker"]
