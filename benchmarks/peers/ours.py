"""Handlers for our side of the benchmarks; the module to load is named by the setting HANDLERS.

BENCHMARK_HANDLER: which one. BENCHMARK_EFFECTS: "session" where deliveries that wait together may share a transaction.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import text

from webhooks import Event, on

KIND = os.environ.get("BENCHMARK_HANDLER", "nothing")
EFFECTS: Literal["session", "anywhere"] = "session" if os.environ.get("BENCHMARK_EFFECTS") else "anywhere"

if KIND == "nothing":

    @on("**", source="close", name="nothing")
    def nothing(event: Event) -> None:
        pass


if KIND.startswith("sleep-"):
    SECONDS = float(KIND.removeprefix("sleep-")) / 1000

    @on("**", source="close", name="nothing")
    def sleep(event: Event) -> None:
        time.sleep(SECONDS)


if KIND == "session":
    from sqlalchemy.orm import Session

    INSERT = text("insert into benchmark_effects (event_id) values (:id)")

    @on("**", source="close", name="effect", effects=EFFECTS)
    def effect(event: Event, session: Session) -> None:
        session.execute(INSERT, {"id": event.id})


if KIND in ("add", "upsert", "mapped-upsert", "set", "update") or KIND.startswith("batch"):
    from sqlalchemy import BigInteger, insert
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

    class Base(DeclarativeBase):
        pass

    class Row(Base):
        __tablename__ = "benchmark_rows"

        event_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
        n: Mapped[int] = mapped_column(BigInteger)

    DIALECT = postgresql if os.environ["DATABASE_URL"].startswith("postgresql") else sqlite
    # of the table, as Core has it, or of the class, which the ORM looks through first
    UPSERT = DIALECT.insert(Row if KIND == "mapped-upsert" else Row.__table__)
    UPSERT = UPSERT.on_conflict_do_update(index_elements=["event_id"], set_={"n": UPSERT.excluded.n})


if KIND == "add":

    @on("**", source="close", name="effect", effects=EFFECTS)
    def add(event: Event, session: Session) -> None:
        session.add(Row(event_id=event.id, n=1))


if KIND in ("upsert", "mapped-upsert"):

    @on("**", source="close", name="effect", effects=EFFECTS)
    def upsert(event: Event, session: Session) -> None:
        session.execute(UPSERT, {"event_id": event.id, "n": 1})


if KIND == "update":

    @on("**", source="close", name="effect", effects=EFFECTS)
    def update(event: Event, session: Session) -> None:
        row = session.get(Row, event.id)
        assert row is not None
        row.n += 1


if KIND == "set":
    SET = text("update benchmark_rows set n = n + 1 where event_id = :id")

    @on("**", source="close", name="effect", effects=EFFECTS)
    def set_one(event: Event, session: Session) -> None:
        session.execute(SET, {"id": event.id})


if KIND.startswith("batch"):

    @on("**", source="close", name="effect", batch=int(KIND.partition("-")[2] or 100))
    def batch(events: Sequence[Event], session: Session) -> None:
        session.execute(insert(Row).values([{"event_id": event.id, "n": 1} for event in events]))


if KIND == "clock":
    SOCKET = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ADDRESS = os.environ["BENCHMARK_SOCKET"]

    @on("**", source="close", name="clock")
    def clock(event: Event) -> None:
        SOCKET.sendto(f"{event.dedup_key} {time.monotonic_ns()}".encode(), ADDRESS)
