"""Handlers for our side of the benchmarks; the module to load is named by the setting HANDLERS."""

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


if KIND == "session":
    from sqlalchemy.orm import Session

    INSERT = text("insert into benchmark_effects (event_id) values (:id)")

    @on("**", source="close", name="effect")
    def effect(event: Event, session: Session) -> None:
        session.execute(INSERT, {"id": event.id})


if KIND == "clock":
    SOCKET = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ADDRESS = os.environ["BENCHMARK_SOCKET"]

    @on("**", source="close", name="clock")
    def clock(event: Event) -> None:
        SOCKET.sendto(f"{event.dedup_key} {time.monotonic_ns()}".encode(), ADDRESS)
