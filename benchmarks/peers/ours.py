"""Handlers for our side of the benchmarks; the module to load is named by the setting HANDLERS.

BENCHMARK_HANDLER: which one. BENCHMARK_EFFECTS: "session" where deliveries that wait together may share a transaction.
"""

from __future__ import annotations

import os
import socket
import time

from sqlalchemy import text

from webhooks import Event, on

KIND = os.environ.get("BENCHMARK_HANDLER", "nothing")

if KIND == "nothing":

    @on("**", source="close", name="nothing")
    def nothing(event: Event) -> None:
        pass


if KIND.startswith("sleep-"):
    SECONDS = float(KIND.removeprefix("sleep-")) / 1000

    @on("**", source="close", name="nothing")
    def sleep(event: Event) -> None:
        time.sleep(SECONDS)


if KIND in ("session", "orm", "update", "get-update"):
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

    INSERT = text("insert into benchmark_effects (event_id) values (:id)")
    UPDATE = text("update benchmark_objects set n = n + 1 where id = :id")
    OBJECTS = 1000

    class Base(DeclarativeBase):
        pass

    class Effect(Base):
        __tablename__ = "benchmark_effects"

        event_id: Mapped[int] = mapped_column(primary_key=True)

    class Object(Base):
        __tablename__ = "benchmark_objects"

        id: Mapped[int] = mapped_column(primary_key=True)
        n: Mapped[int]

    def insert(event: Event, session: Session) -> None:
        session.execute(INSERT, {"id": event.id})

    def add(event: Event, session: Session) -> None:
        session.add(Effect(event_id=event.id))

    def update(event: Event, session: Session) -> None:
        session.execute(UPDATE, {"id": event.id // 4096 % OBJECTS})

    def get_then_update(event: Event, session: Session) -> None:
        found = session.get(Object, event.id // 4096 % OBJECTS, with_for_update=True)
        assert found is not None
        found.n += 1

    FUNCTIONS = {"session": insert, "orm": add, "update": update, "get-update": get_then_update}
    if os.environ.get("BENCHMARK_EFFECTS") == "session":
        on("**", source="close", name="effect", effects="session")(FUNCTIONS[KIND])
    else:
        on("**", source="close", name="effect")(FUNCTIONS[KIND])


if KIND in ("add", "upsert", "update", "batch"):
    from collections.abc import Sequence
    from typing import Literal

    from sqlalchemy import BigInteger, insert
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

    class Base(DeclarativeBase):
        pass

    class Row(Base):
        __tablename__ = "benchmark_rows"

        event_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
        n: Mapped[int] = mapped_column(BigInteger)

    EFFECTS: Literal["session", "anywhere"] = "session" if os.environ.get("BENCHMARK_EFFECTS") else "anywhere"
    DIALECT = postgresql if os.environ["DATABASE_URL"].startswith("postgresql") else sqlite
    UPSERT = DIALECT.insert(Row)
    UPSERT = UPSERT.on_conflict_do_update(index_elements=["event_id"], set_={"n": UPSERT.excluded.n})


if KIND == "add":

    @on("**", source="close", name="effect", effects=EFFECTS)
    def add(event: Event, session: Session) -> None:
        session.add(Row(event_id=event.id, n=1))


if KIND == "upsert":

    @on("**", source="close", name="effect", effects=EFFECTS)
    def upsert(event: Event, session: Session) -> None:
        session.execute(UPSERT, {"event_id": event.id, "n": 1})


if KIND == "update":

    @on("**", source="close", name="effect", effects=EFFECTS)
    def update(event: Event, session: Session) -> None:
        row = session.get(Row, event.id)
        assert row is not None
        row.n += 1


if KIND == "batch":

    @on("**", source="close", name="effect", batch=100)
    def batch(events: Sequence[Event], session: Session) -> None:
        session.execute(insert(Row).values([{"event_id": event.id, "n": 1} for event in events]))


if KIND == "clock":
    SOCKET = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ADDRESS = os.environ["BENCHMARK_SOCKET"]

    @on("**", source="close", name="clock")
    def clock(event: Event) -> None:
        SOCKET.sendto(f"{event.dedup_key} {time.monotonic_ns()}".encode(), ADDRESS)
