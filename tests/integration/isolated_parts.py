"""What a process for single attempts gets in `test_isolation.py`: handlers over the database of the test."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import msgspec

from tests.integration.rig import Rig, effects
from webhooks import signals
from webhooks.database.connect import connect
from webhooks.delivery import Dispatcher
from webhooks.model import Event
from webhooks.store import Store

#: The variable with the address of the database, and the one with a file to write to.
URL, NOTES = "ISOLATED_TEST_URL", "ISOLATED_TEST_NOTES"


def note(text: str) -> None:
    """Tell the test something, a line each."""
    with Path(os.environ[NOTES]).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def act(event: Event, session: Any = None) -> None:
    """Do what the body of the event says."""
    note(f"pid {os.getpid()}")
    if session is not None:
        session.execute(effects.insert().values(what="one"))
    if event.raw == b"fail":
        raise LookupError("gone")
    if event.raw == b"die":
        os._exit(9)
    if event.raw == b"hang":
        note("hangs")
        threading.Event().wait()


def act_with_session(event: Event, session: Any) -> None:
    """The same, with an effect."""
    act(event, session)


def act_without(event: Event) -> None:
    """The same, without one."""
    act(event)


class Note(msgspec.Struct):
    """What the events of these tests are not."""

    note: str


def act_typed(data: Note) -> None:
    """Never called."""
    note("was called")


def put_handlers(rig: Rig, **options: Any) -> None:
    """Register "s", with a session, "h", and "typed"."""
    rig.on("typed", isolation="process", **options)(act_typed)
    rig.on("s", isolation="process", **options)(act_with_session)
    rig.on("h", isolation="process", **options)(act_without)


def make() -> tuple[Dispatcher, Store]:
    """Called in the process for single attempts."""
    rig = Rig(connect(os.environ[URL], pool_size=2))
    put_handlers(rig)
    signals.connect(
        signals.handler_raised,
        lambda handler, *, exception, verdict, **_: note(f"raised {handler} {exception!r} {verdict.outcome}"),
    )
    return rig.dispatcher, rig.store
