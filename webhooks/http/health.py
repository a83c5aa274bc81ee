"""Health and readiness: whether this process runs, and whether it can store events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, request
from werkzeug import exceptions

from webhooks.forks import PerProcess
from webhooks.http.answers import json_answer, of_http_error
from webhooks.http.routes import is_plainly_spelled
from webhooks.model import new_request_id

#: What is told while no answer is known, and to strangers always.
_NOT_KNOWN = "database unavailable"


class Readiness:
    """Whether this process can store events, asked at most once a second, and by one request at a time.

    Every client may ask, so a crowd must not cost what posts need: while one request waits for the database the others
    wait for `PATIENCE` at most, counted from that one's start, and then hear the last answer, if it is recent enough, or
    that there is none.

    check: raises nothing; answers (problems, last worker heartbeat). The problems are shown to every client.
    clock: aware UTC now.
    monotonic: seconds, for tests.
    """

    #: An answer is given again for so long, in seconds.
    KEPT = 1.0
    #: And for so long to a request that cannot wait for a newer one, in seconds.
    KEPT_AT_MOST = 2.0
    #: How long a request waits for the answer that another one asks for, in seconds.
    PATIENCE = 0.25

    def __init__(
        self,
        check: Callable[[], tuple[Sequence[str], datetime | None]],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check = check
        self._clock = clock
        self._monotonic = monotonic
        self.forget()

    def forget(self) -> None:
        """Ask anew when next asked."""
        self._own = PerProcess(_Asked)

    def __call__(self) -> tuple[int, dict[str, Any]]:
        """(status, body) of the answer."""
        own = self._own.get()
        if self._monotonic() - own.asked > self.KEPT:
            self._ask(own)
        problems, beat = own.answer
        if self._monotonic() - own.asked > self.KEPT_AT_MOST:
            problems, beat = (_NOT_KNOWN,), None
        body: dict[str, Any] = {"status": "ready" if not problems else "unavailable"}
        if problems:
            body["problems"] = list(problems)
        alive = beat is not None and self._clock() - beat < timedelta(seconds=60)
        body["worker"] = {
            "alive": alive,
            "last_heartbeat": beat.isoformat() if beat is not None else None,
        }
        return (200 if not problems else 503), body

    def _ask(self, own: _Asked) -> None:
        if not own.asking.acquire(blocking=False):
            left = own.began + self.PATIENCE - self._monotonic()
            if left <= 0 or not own.asking.acquire(timeout=left):
                return
        try:
            if self._monotonic() - own.asked > self.KEPT:
                own.began = self._monotonic()
                own.answer = self._check()
                own.asked = self._monotonic()
        finally:
            own.asking.release()


class _Asked:
    """What one process has asked."""

    def __init__(self) -> None:
        self.asking = threading.Lock()
        self.began = self.asked = float("-inf")
        self.answer: tuple[Sequence[str], datetime | None] = ((_NOT_KNOWN,), None)


def make_health_blueprint(readiness: Readiness, *, name: str) -> Blueprint:
    """`/healthz`: this process runs. `/readyz`: it can store events; a missing worker never makes that red."""
    blueprint = Blueprint(name, __name__)

    @blueprint.before_request
    def refuse_tricks() -> Response | None:
        return None if is_plainly_spelled(request.environ) else of_http_error(exceptions.NotFound()).as_response()

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return json_answer(200, {"status": "ok", "request_id": new_request_id()}).as_response()

    @blueprint.get("/readyz")
    def readyz() -> Response:
        status, body = readiness()
        response = json_answer(status, {**body, "request_id": new_request_id()}).as_response()
        if status == 503:
            response.headers["Retry-After"] = "5"
        return response

    return blueprint
