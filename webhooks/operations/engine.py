"""Whether Celery, where it runs deliveries, does. A pure function of the processes that reported; alarms and doctor say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from webhooks.formats import span
from webhooks.store import Process

#: Nothing came of what is offered for so long: a busy machine has shorter pauses.
ENGINE_SILENT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class EngineTrouble:
    """Why deliveries that Celery should run wait. since: from when on; None: the processes do not say."""

    text: str
    since: datetime | None = None


def silence_of(processes: Sequence[Process], at: datetime) -> timedelta | None:
    """For how long nothing has come of what the feeders offer; None without a feeder, nothing while all is well."""
    feeders = [process for process in processes if process.kind == "feeder"]
    if not feeders:
        return None
    since = min((each.silent_since for each in feeders if each.silent_since is not None), default=at)
    return max(timedelta(0), at - since)


def engine_trouble(processes: Sequence[Process], at: datetime, *, is_due: bool) -> EngineTrouble | None:
    """What keeps Celery from running deliveries; None: nothing does, or it is not used.

    processes: those that reported lately.
    is_due: whether any delivery could run now.
    """
    kinds = {process.kind for process in processes}
    silence = silence_of(processes, at)
    if silence is not None and silence >= ENGINE_SILENT:
        text = (
            f"nothing has come of the deliveries offered to Celery for {span(silence)}: its broker takes no messages, or its "
            "processes claim none; look at both, and restart the Celery workers; `webhooks worker` runs everything meanwhile"
        )
        return EngineTrouble(text, at - silence)
    if is_due and "celery" in kinds and not kinds & {"feeder", "worker"}:
        return EngineTrouble("Celery's processes run, and nothing is offered to them: no `webhooks feed` runs")
    return None


__all__ = ["ENGINE_SILENT", "EngineTrouble", "engine_trouble", "silence_of"]
