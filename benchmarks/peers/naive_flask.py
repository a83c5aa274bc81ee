"""The usual consumer: Flask, an ORM session per request, a unique constraint against duplicates, a row of work to do.

On SQLite it is given WAL and synchronous=FULL, so that its 2xx means as much as ours.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from flask import Flask, abort, jsonify, request
from flask.typing import ResponseReturnValue
from sqlalchemy import JSON, DateTime, ForeignKey, String, create_engine, event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, sessionmaker

from benchmarks.peers.signatures import is_signed

engine = create_engine(os.environ["DATABASE_URL"])
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    pass


class Event(Base):
    __tablename__ = "naive_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(String(255), unique=True)
    type: Mapped[str] = mapped_column(String(255))
    payload: Mapped[Any] = mapped_column(JSON)
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    deliveries: Mapped[list[Delivery]] = relationship(back_populates="event")


class Delivery(Base):
    __tablename__ = "naive_deliveries"

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("naive_events.id"), index=True)
    handler: Mapped[str] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(20), index=True)
    event: Mapped[Event] = relationship(back_populates="deliveries")


if engine.dialect.name == "sqlite":

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")


app = Flask(__name__)


@app.post("/webhooks/close")
def receive() -> ResponseReturnValue:
    if not is_signed(request.headers, request.get_data()):
        abort(401)
    payload = request.get_json()
    entry = payload["event"]
    with Session() as session:
        if session.scalar(select(Event).where(Event.event_id == entry["id"])) is not None:
            return jsonify(status="duplicate")
        stored = Event(
            event_id=entry["id"],
            type=f"{entry['object_type']}.{entry['action']}",
            payload=payload,
            received_at=datetime.now(UTC),
        )
        stored.deliveries.append(Delivery(handler="nothing", status="pending"))
        session.add(stored)
        try:
            session.commit()
        except IntegrityError:
            return jsonify(status="duplicate")
        return jsonify(status="stored", id=stored.id)


if __name__ == "__main__":
    Base.metadata.create_all(engine)
