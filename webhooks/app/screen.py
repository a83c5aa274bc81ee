"""What the processes of `webhooks dev` tell on its screen, beside their log: a line for each request and each run.

An observer of the signals, for the setting `log_format = "dev"`. A request has its receipt, its type and the handlers that
get it; a run its handler and how long it took, and where it failed the author's own lines of the traceback, the id of
the delivery and what to type. Where the log is not at `info`, only what goes wrong is told.

Payloads, headers and signatures are never shown. What is logged is written beside it (`settings.logs`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks import signals
from webhooks.database import is_missing_schema
from webhooks.errors import Rejected
from webhooks.formats import counted, frames_of, nearest, one_line, own_frames, screen_line, span, wants_colour
from webhooks.model import AttemptOutcome, Delivery, InboundRequest, instant_of

if TYPE_CHECKING:
    from webhooks.app.webhooks import Webhooks


class Screen:
    """Tells what this process does.

    webhooks: whose handlers and sources are meant.
    write: shows one text; None is standard error.
    is_whole: also what goes well.
    """

    def __init__(
        self, webhooks: Webhooks, write: Callable[[str], object] | None = None, *, is_whole: bool = True
    ) -> None:
        self._webhooks = webhooks
        self._write = write
        self._here = Path.cwd()
        #: {delivery: what to type about what its handler raised}; taken when its end is told
        self._advice: dict[int, str] = {}
        #: {delivery: what failed, and lines below it}; the same
        self._failures: dict[int, tuple[str, list[str]]] = {}
        wrong: list[tuple[Any, Callable[..., None]]] = [
            (signals.request_rejected, self.refused),
            (signals.event_quarantined, self.quarantined),
            (signals.handler_raised, self.raised),
            (signals.delivery_failed, self.failed),
            (signals.delivery_retried, self.retried),
            (signals.delivery_dead, self.dead),
        ]
        well: list[tuple[Any, Callable[..., None]]] = [
            (signals.event_stored, self._receipt("stored")),
            (signals.event_revision, self._receipt("revision")),
            (signals.event_duplicate, self._receipt("duplicate")),
            (signals.event_stale, self._receipt("stale")),
            (signals.delivery_succeeded, self.succeeded),
            (signals.delivery_cancelled, self.cancelled),
        ]
        #: (signal, its observer); kept, since signals hold observers weakly
        self.observers = [*wrong, *(well if is_whole else [])]

    def connect(self) -> None:
        """Tell from now on."""
        for signal, observer in self.observers:
            signals.connect(signal, observer)

    # -- requests ------------------------------------------------------------------------------------------

    def _receipt(self, receipt: str) -> Callable[..., None]:
        def tell(source: str, *, event_id: int, type: str, conflict: bool, **_: Any) -> None:
            word = "conflict" if conflict else receipt
            if word == "stored" or word == "revision":
                took = span(max(datetime.now(UTC) - instant_of(event_id), timedelta(0)))
                self._tell(word, f"{type}  {self._routed(source, type)} ({took}, event {event_id})")
            elif word == "duplicate":
                self._tell(word, f"{type}  of event {event_id}, so no handler runs again")
            else:
                self._tell(
                    word, f"{type}  kept as event {event_id}, and no handler gets it: webhooks explain {event_id}"
                )

        return tell

    def _routed(self, source: str, type: str) -> str:
        """Who gets an event, or which handler may have meant it."""
        registry = self._webhooks.registry
        if names := [handler.name for handler in registry.route(source, type)]:
            return f"-> {', '.join(names)}"
        patterns = {pattern.text: handler for handler in registry.handlers() for pattern in handler.patterns}
        near = nearest(type, patterns, 0.8)
        if near is None:
            return "-> no handler asks for it"
        handler = patterns[near]
        why = f"of source {handler.source!r}" if near == type else f"{near!r}; did it mean {type!r}?"
        return f"-> no handler asks for it; {handler.name} asks for {why}"

    def refused(
        self, source: str, *, error: Rejected, request: InboundRequest, received_at: datetime, request_id: str, **_: Any
    ) -> None:
        """Tell why a request was refused, with what its signature shows."""
        reason = error.reason
        if error.status == 401:
            sources = self._webhooks.sources
            reason = sources[source].diagnose(request, received_at, list(sources.values()))
        below = [] if error.status != 401 else [self._secret_of(source)]
        self._tell(
            "refused", f"{error.status} for {source}: {one_line(reason)}", [*below, f"webhooks explain {request_id}"]
        )

    def _secret_of(self, source: str) -> str:
        section = self._webhooks.sources[source].settings
        if section.secret_file is not None:
            return f"the secret that is tried here is that in {section.secret_file}; webhooks trigger signs with it"
        return f"the secret that is tried here is that of [sources.{source}]; webhooks trigger signs with it"

    def quarantined(self, source: str, *, quarantine_id: int, reason: str, **_: Any) -> None:
        """Tell that a signed request could not be read."""
        below = [f"webhooks quarantine show {quarantine_id}"]
        self._tell("quarantined", f"for {source}, rightly signed: {one_line(reason)}", below)

    # -- runs ----------------------------------------------------------------------------------------------

    def succeeded(self, handler: str, *, delivery: Delivery, took: timedelta, **_: Any) -> None:
        """Tell that a handler returned."""
        again = f", at attempt {delivery.number}" if delivery.number > 1 else ""
        self._tell("handled", f"{handler} {span(took)}{again}")

    def cancelled(self, handler: str, *, reason: str, **_: Any) -> None:
        """Tell that a delivery was not for its handler, or not wanted."""
        self._tell("cancelled", f"{handler}  {one_line(reason)}")

    def raised(self, handler: str, *, delivery: Delivery, exception: BaseException, **_: Any) -> None:
        """Remember what to do about it; told with its end."""
        if is_missing_schema(exception):
            self._advice[delivery.id] = self._migrate(handler)

    def _migrate(self, handler: str) -> str:
        """What makes the table that a handler misses."""
        found = self._webhooks.registry.get(handler)
        module = found.function.__module__ if found is not None else ""
        for history in self._webhooks.histories:
            if f"{module}.".startswith(f"{history.module}."):
                first = "" if history.metadata is not None else f"call its MetaData `metadata` in {module}, then "
                return f"its table is not in the database: {first}webhooks db revision {history.name}; dev applies it"
        return "its table is not in the database: webhooks db check compares"

    def failed(
        self, handler: str, *, delivery: Delivery, outcome: AttemptOutcome, error: str, took: timedelta, **_: Any
    ) -> None:
        """Note where a handler failed; told with what comes next, which follows at once."""
        frames = own_frames(frames_of(error), self._here)
        stood = "stood at " if outcome is AttemptOutcome.TIMED_OUT else ""
        below = [
            f"{stood}{frame.said(self._here)}" + (f": {frame.code}" if frame.code else "") for frame in frames[-5:]
        ]
        if advice := self._advice.pop(delivery.id, None):
            below.append(advice)
        self._failures[delivery.id] = (f"{handler} {span(took)}  {_summary(error)}", below)

    def retried(self, handler: str, *, delivery: Delivery, wait: timedelta, **_: Any) -> None:
        """Tell when it runs again."""
        self._tell_failed(delivery, f"again in {span(wait)}; now: webhooks requeue {delivery.id}")

    def dead(self, handler: str, *, delivery: Delivery, **_: Any) -> None:
        """Tell that it does not run again by itself."""
        attempts = counted(delivery.number, "attempt")
        self._tell_failed(delivery, f"dead after {attempts}; once it is mended: webhooks requeue {delivery.id}")

    def _tell_failed(self, delivery: Delivery, next_step: str) -> None:
        text, below = self._failures.pop(delivery.id, (delivery.handler, []))
        self._tell("failed", text, [*below, next_step, f"all of it: webhooks deliveries show {delivery.id}"])

    def slow(self, delivery: Delivery, ran: timedelta, limit: timedelta, stands_at: str) -> None:
        """Tell that a handler still runs, and where it stands."""
        own = own_frames(frames_of(stands_at), self._here)
        below = [f"stands at {own[-1].said(self._here)}: {own[-1].code}"] if own else []
        text = f"{delivery.handler} has run for {span(ran)}; at {span(limit)} its time is up (delivery {delivery.id})"
        self._tell("slow", text, below)

    # -- writing -------------------------------------------------------------------------------------------

    def _tell(self, word: str, text: str, below: Iterable[str] = ()) -> None:
        line = screen_line(word, text, below, at=datetime.now(), colours=wants_colour(sys.stderr))
        (self._write or _write)(line)


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _summary(error: str) -> str:
    """What was raised, from the traceback as it is kept."""
    lines = [line for line in error.splitlines() if line and not line.startswith(" ")]
    said = [line for line in lines if not line.startswith(("Traceback ", "caused by ", "where it stood "))]
    return one_line(said[-1] if said else error)


__all__ = ["Screen"]
