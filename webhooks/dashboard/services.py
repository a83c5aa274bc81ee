"""What pages work on: one record, handed to the blueprint where objects meet (`app`).

A page takes from it what it needs and makes nothing itself. What may not be there (handlers that do not import, a
console) is None or empty, and a page says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.dashboard.kept import Remembered

if TYPE_CHECKING:
    from webhooks.intake import Ingest
    from webhooks.operations import ActivityLog, Doctor, Replayer, ReplayRehearsal
    from webhooks.routing import Registry
    from webhooks.settings import Settings
    from webhooks.sources import Source
    from webhooks.store import Store


@dataclass(frozen=True, slots=True)
class Console:
    """What only the dashboard of `webhooks dev` has.

    directory: of the project.
    key: what the printed link carries.
    url: of the server that accepts events.
    user: the developer's name on this machine.
    """

    directory: Path
    key: str
    url: str
    user: str


@dataclass(frozen=True)
class Services:
    """What pages read and act on.

    registry: of this process; empty where handlers could not be loaded.
    sources: {name: source}.
    clock: aware UTC now.
    call: how what uses the database is called; under gevent SQLite would block its hub.
    command: how an operator types one of our commands here: "events list" -> "webhooks events list".
    make_activity: what people did, and are about to do.
    ingest: reads requests again that are quarantined; None where handlers could not be loaded.
    make_replayer, make_rehearser, make_doctor: as `Webhooks`' own; None where handlers could not be loaded.
    problems: why handlers could not be loaded, file and line included.
    console: in `webhooks dev` only.
    kept: what is asked for once in a while.
    most_at_once: requests that are answered at once beside what accepts events; None: any number.
    """

    settings: Settings
    store: Store
    registry: Registry
    sources: Mapping[str, Source]
    clock: Callable[[], datetime]
    call: Callable[..., Any]
    command: Callable[[str], str]
    make_activity: Callable[[], ActivityLog]
    make_replayer: Callable[[], Replayer] | None = None
    make_rehearser: Callable[[], ReplayRehearsal[Any]] | None = None
    make_doctor: Callable[[str], Doctor] | None = None
    ingest: Ingest | None = None
    problems: Sequence[str] = ()
    console: Console | None = None
    kept: Remembered = field(default_factory=Remembered)
    most_at_once: int | None = None


__all__ = ["Console", "Services"]
