"""A rehearsal shows what handlers would write, and leaves nothing behind; on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, text
from sqlalchemy.orm import Session

from tests.support import Clock, allowed, wait_until
from webhooks import signals
from webhooks.app import Webhooks
from webhooks.cli import group
from webhooks.database import tables as schema
from webhooks.delivery import Rehearsal, Rehearser
from webhooks.errors import Discard, LeaseLost, NoConnection, Retry, StorageUnavailable
from webhooks.model import Event, Headers, InboundRequest
from webhooks.operations import Options, ReplayRehearsal
from webhooks.routing import Registry, RetryPolicy, field
from webhooks.selection import Selection
from webhooks.session import Sessions

pytestmark = pytest.mark.one_database

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", Text))


def writes(event: Event, session: Session) -> None:
    session.execute(insert(notes).values(text=event.type))
    session.commit()
    session.execute(text("update notes set text = 'x' where 1 = 0"))
    session.execute(text("create table made (id integer)"))


async def writes_later(event: Event, session: Session) -> None:
    session.execute(insert(notes).values(text="\x1b[31m"))


def fails(event: Event, session: Session) -> None:
    session.execute(insert(notes).values(text="before"))
    raise ValueError("no")


def forbidden(event: Event) -> None:
    raise AssertionError("a handler that is not rehearsable was run")


@pytest.fixture
def instance(database_url: str, clock: Clock) -> Iterator[Webhooks]:
    registry = Registry()
    registry.add(writes, "lead.*", name="writes", rehearsable=True)
    registry.add(writes_later, "lead.*", name="later", rehearsable=True)
    registry.add(fails, "lead.*", name="fails", rehearsable=True)
    registry.add(forbidden, "lead.*", name="forbidden")
    registry.add(writes, "lead.*", name="choosy", rehearsable=True, where=field("data.nothing") == 1)
    made = Webhooks(
        registry=registry,
        overrides={"database_url": database_url, "sources": {"close": {"secret": KEY}}},
        environ={},
        clock=clock,
    ).assemble(role="cli")
    metadata.create_all(made.database.engine)
    yield made
    if not made.database.is_sqlite:
        metadata.drop_all(made.database.engine)
    made.close()


@pytest.fixture
def received(instance: Webhooks, payload: Any) -> Webhooks:
    body = payload("lead_merged")
    headers = Headers(dict(instance.sources["close"].sign(body, instance.clock())))
    instance.ingest.accept(instance.sources["close"], InboundRequest(headers, body))
    return instance


def test_what_would_be_written_is_told_and_nothing_lasts(received: Webhooks) -> None:
    rehearser = received.make_rehearser()
    plan = rehearser.replayer.plan(Selection(), Options())
    found = {one.handler: one for one in rehearser.run(plan)}
    assert rehearser.not_rehearsable(plan) == ["forbidden"]
    assert {name: one.outcome for name, one in found.items()} == {
        "writes": "would succeed",
        "later": "would succeed",
        "fails": "would fail",
        "choosy": "filtered",
    }
    first, second, third = found["writes"].writes
    assert (first.verb, first.table, first.rows) == ("insert", "notes", 1)
    assert first.values[0]["text"] == "'lead.merged'"
    assert (second.verb, second.rows) == ("update", 0)
    assert (third.verb, third.rows) == ("create", None)
    assert found["fails"].reason == "ValueError: no"
    assert len(found["fails"].writes) == 1
    assert (found["choosy"].reason or "").startswith("filtered: ")
    with received.database.read() as connection:
        assert connection.execute(select(notes)).all() == []
    assert received.store.replays.all() == []


def test_the_command_prints_it_and_fails_when_a_handler_would(received: Webhooks) -> None:
    info = SimpleNamespace(load_app=lambda: SimpleNamespace(extensions={"webhooks": received}))
    result = CliRunner().invoke(group, ["replay", "--all", "--rehearse"], obj=info)
    assert result.exit_code == 1, result.output
    assert "    insert notes, 1 row\n" in result.stdout
    assert "    update notes set text = 'x' where 1 = 0, 0 rows\n" in result.stdout
    assert "    create table made (id integer)\n" in result.stdout
    assert "writes  would succeed" in result.stdout
    assert "\x1b" not in result.stdout
    assert "forbidden is not rehearsable" in result.stderr
    assert "4 runs rehearsed, 1 would fail; everything was rolled back" in result.stderr
    in_json = CliRunner().invoke(group, ["replay", "--all", "--rehearse", "--json", "--handler", "writes"], obj=info)
    assert in_json.exit_code == 0
    (line,) = [json.loads(line) for line in in_json.stdout.splitlines()]
    assert (line["handler"], line["outcome"], len(line["writes"])) == ("writes", "would succeed", 3)


def test_the_command_tells_what_a_handler_does_against_its_word(
    received: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [Rehearsal(1, "h", "would succeed", outside=["open: /tmp/x"])]
    monkeypatch.setattr(ReplayRehearsal, "run", lambda self, plan: iter(found))
    info = SimpleNamespace(load_app=lambda: SimpleNamespace(extensions={"webhooks": received}))
    result = CliRunner().invoke(group, ["replay", "--all", "--rehearse"], obj=info)
    assert result.exit_code == 1
    assert "    outside its session: open: /tmp/x\n" in result.stdout
    assert (
        "h does something outside its session, which was not rolled back; take effects='session' from it"
        in result.stderr
    )


def test_a_rehearsal_that_is_watched_sees_what_is_written_elsewhere(received: Webhooks, tmp_path: Path) -> None:
    """The hook of the interpreter stays; it hears nothing outside a rehearsal."""
    registry = received.registry
    handler = registry.get("writes")
    assert handler is not None

    def elsewhere(event: Event, session: Session) -> None:
        session.execute(text("select 1"))
        (tmp_path / "outside").write_text("x")

    untrue = replace(handler, function=elsewhere, arguments=("event", "session"))
    rehearser = Rehearser(received.dispatcher, is_watched=True)
    with received.database.read() as connection:
        event_id = connection.execute(select(schema.events.c.id)).scalars().first()
    event = received.store.events.get(event_id or 0)
    assert event is not None
    (found,) = rehearser.run([(event, untrue)])
    assert found.outside == [f"open: {tmp_path / 'outside'}"]


def test_the_command_counts_what_was_not_run(received: Webhooks, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Rehearsal(1, "h", "would succeed"), Rehearsal(2, "h", "not run", "it hangs")]
    monkeypatch.setattr(ReplayRehearsal, "run", lambda self, plan: iter(found))
    info = SimpleNamespace(load_app=lambda: SimpleNamespace(extensions={"webhooks": received}))
    result = CliRunner().invoke(group, ["replay", "--all", "--rehearse"], obj=info)
    assert (result.exit_code, result.stdout.splitlines()[1]) == (0, "2  h  not run: it hangs")
    assert "1 run rehearsed, 0 would fail, 1 not run; everything was rolled back" in result.stderr


# -- time-outs ------------------------------------------------------------------------------------------------

SHORT = timedelta(seconds=0.1)


class Hanging:
    """Handlers that hang after their first write, each in a way of its own, until `let_go`."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.entered: list[int] = []

    def waits(self, event: Event, session: Session) -> None:
        """Deaf to everything."""
        self.entered.append(event.id)
        session.execute(insert(notes).values(text="before"))
        self.over.wait()
        with contextlib.suppress(Exception):
            session.execute(insert(notes).values(text="after"))
            session.connection().commit()

    def queries(self, event: Event, session: Session) -> None:
        self.entered.append(event.id)
        session.execute(insert(notes).values(text="before"))
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("select pg_sleep(60)"))
        else:
            endless = "with recursive n(i) as (values (0) union all select i + 1 from n) select max(i) from n"
            session.execute(text(endless))

    async def awaits(self, event: Event, session: Session) -> None:
        self.entered.append(event.id)
        await asyncio.sleep(60)

    async def blocks(self, event: Event, session: Session) -> None:
        """Has the loop for itself."""
        self.entered.append(event.id)
        self.over.wait()

    def predicate(self, event: Event) -> bool:
        self.entered.append(event.id)
        return self.over.wait()

    def let_go(self) -> None:
        self.over.set()
        wait_until(lambda: not any(thread.name == "webhooks-rehearsal" for thread in threading.enumerate()))


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.let_go()


class Rehearsing:
    """Rehearses two events with the handlers of a registry, on an instance made for it."""

    def __init__(self, database_url: str, clock: Clock, payload: Any) -> None:
        self.payload = payload
        self._options = {"database_url": database_url, "sources": {"close": {"secret": KEY}}}
        self._clock = clock
        self.instance: Any = None

    def __call__(self, registry: Registry) -> list[Rehearsal]:
        self.instance = Webhooks(registry=registry, overrides=self._options, environ={}, clock=self._clock)
        self.instance.assemble(role="cli")
        metadata.create_all(self.instance.database.engine)
        for name in ("lead_merged", "lead_created_untitled"):
            self.receive(name)
        rehearser = self.instance.make_rehearser(patience=SHORT)
        return list(rehearser.run(rehearser.replayer.plan(Selection(), Options())))

    def receive(self, name: str) -> str:
        headers = Headers(dict(self.instance.sources["close"].sign(self.payload(name), self._clock())))
        accepted = self.instance.ingest.accept(
            self.instance.sources["close"], InboundRequest(headers, self.payload(name))
        )
        return str(accepted.receipts[0].status.value)

    def end(self) -> None:
        self.instance.dispatcher.loop.stop()
        with self.instance.database.read() as connection:
            assert connection.execute(select(notes)).all() == []
        if not self.instance.database.is_sqlite:
            metadata.drop_all(self.instance.database.engine)
        self.instance.close()


@pytest.fixture
def rehearse(database_url: str, clock: Clock, payload: Any) -> Iterator[Rehearsing]:
    made = Rehearsing(database_url, clock, payload)
    yield made
    made.end()


def outcomes(found: list[Rehearsal], handler: str) -> list[tuple[str, str | None]]:
    return [(one.outcome, one.reason) for one in found if one.handler == handler]


LATE = ("would fail", "AttemptTimeout: it ran longer than its timeout of 0.1 s")


@pytest.mark.parametrize("way", ["queries", "awaits"])
def test_a_run_that_takes_too_long_is_ended_and_the_next_event_has_its_turn(
    rehearse: Rehearsing, hanging: Hanging, way: str
) -> None:
    registry = Registry()
    registry.add(getattr(hanging, way), "lead.*", name="h", rehearsable=True, timeout=SHORT)
    registry.add(writes, "lead.*", name="quick", rehearsable=True)
    found = rehearse(registry)
    assert outcomes(found, "h") == [LATE, LATE]
    assert outcomes(found, "quick") == [("would succeed", None)] * 2
    assert len(hanging.entered) == 2


@pytest.mark.parametrize("way", ["waits", "blocks"])
def test_a_handler_that_cannot_be_ended_is_left_behind_once_and_the_others_go_on(
    rehearse: Rehearsing, hanging: Hanging, way: str
) -> None:
    registry = Registry()
    registry.add(getattr(hanging, way), "lead.*", name="h", rehearsable=True, timeout=SHORT)
    registry.add(writes_later, "lead.*", name="later", rehearsable=True)
    found = rehearse(registry)
    (first,) = hanging.entered
    assert outcomes(found, "h") == [LATE, ("not run", f"its run for event {first} did not end when its time was up")]
    assert outcomes(found, "later") == [("would succeed", None)] * 2
    hanging.let_go()  # what it writes now comes to nothing, which `rehearse` looks at in the end


def test_a_connection_that_takes_long_is_not_counted_as_the_handlers_time(
    rehearse: Rehearsing, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Sessions.open
    limit = timedelta(seconds=allowed(0.5))  # a busy machine takes a while to run the handler itself

    @contextlib.contextmanager
    def slow(sessions: Sessions) -> Iterator[Any]:
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 1.1 * limit.total_seconds())
        with real(sessions) as session:
            yield session

    monkeypatch.setattr(Sessions, "open", slow)
    registry = Registry()
    registry.add(writes, "lead.*", name="h", rehearsable=True, timeout=limit)
    assert outcomes(rehearse(registry), "h") == [("would succeed", None)] * 2


def test_without_a_connection_a_rehearsal_says_so(rehearse: Rehearsing, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sessions: Sessions) -> Any:
        raise NoConnection("too many connections")

    monkeypatch.setattr(Sessions, "open", refuse)
    registry = Registry()
    registry.add(writes, "lead.*", name="h", rehearsable=True)
    with pytest.raises(StorageUnavailable, match="too many connections"):
        rehearse(registry)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Retry("busy"), "Retry: busy"),
        (Discard("spam"), "Discard: spam"),
        (SystemExit(3), "SystemExit: 3"),
        (LeaseLost("no"), "LeaseLost"),
    ],
    ids=["retry", "discard", "exit", "lease"],
)
def test_what_a_handler_raises_is_told_and_nothing_is_announced(
    rehearse: Rehearsing, error: BaseException, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(event: Event, session: Session) -> None:
        raise error

    seen: list[str] = []
    registry = Registry()
    registry.add(raises, "lead.*", name="h", rehearsable=True, retry=RetryPolicy(max_attempts=1))

    def see(sender: Any, **_: Any) -> None:
        seen.append(sender)

    of_deliveries = [signal for signal in signals.all_signals() if signal.name.startswith(("delivery", "handler"))]
    for signal in of_deliveries:
        signal.connect(see)
    try:
        assert outcomes(rehearse(registry), "h") == [("would fail", reason)] * 2
    finally:
        for signal in of_deliveries:
            signal.disconnect(see)
    assert seen == []
    assert "delivery 0" not in caplog.text


def test_what_was_written_before_the_time_was_up_is_told(rehearse: Rehearsing, hanging: Hanging) -> None:
    registry = Registry()
    registry.add(hanging.waits, "lead.*", name="h", rehearsable=True, timeout=SHORT)
    assert [write.verb for write in rehearse(registry)[0].writes] == ["insert"]


def test_a_condition_that_hangs_is_ended_too(rehearse: Rehearsing, hanging: Hanging) -> None:
    registry = Registry()
    registry.add(writes, "lead.*", name="h", rehearsable=True, timeout=SHORT, where=hanging.predicate)
    assert outcomes(rehearse(registry), "h")[0] == LATE


class Receiving:
    """A handler during whose run an event comes in."""

    def __init__(self, rehearse: Rehearsing) -> None:
        self.rehearse = rehearse
        self.receipts: list[str] = []

    def run(self, event: Event, session: Session) -> None:
        session.execute(insert(notes).values(text="held"))
        self.receipts.append(self.rehearse.receive("contact_created_without_lead"))


def test_ingest_goes_on_while_a_handler_that_has_written_is_rehearsed(rehearse: Rehearsing) -> None:
    """On SQLite it would hold the one write lock; there it works on a copy."""
    receiving, registry = Receiving(rehearse), Registry()
    registry.add(receiving.run, "lead.*", name="h", rehearsable=True)
    assert outcomes(rehearse(registry), "h") == [("would succeed", None)] * 2
    assert receiving.receipts == ["stored", "duplicate"]
