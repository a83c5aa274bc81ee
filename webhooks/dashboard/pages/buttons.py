"""What one press does: to a handler, a quarantined request, a subscription, an alarm, or what doctor found.

Buttons stand on many pages and go back to the one they were pressed on (`next`). What asks a sender is put on record and
done by a worker, since a page must not wait for another's API.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flask import Response

from webhooks.dashboard import acting, redacting
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound, SelectionError
from webhooks.operations import Journal, Verb
from webhooks.operations import handlers as of_handlers
from webhooks.operations import quarantine as of_quarantine
from webhooks.selection import parse_duration

if TYPE_CHECKING:
    from webhooks.operations.handlers import PauseChange

PAGES = Pages()

#: So many quarantined requests are released while the page waits; more by a worker.
AT_ONCE = 25
MOST_RELEASED = 10_000


# -- handlers ------------------------------------------------------------------------------------------------


@PAGES.post("/handlers/<path:name>/pause", needs=UserRole.OPERATOR)
def pause(visit: Visit, name: str) -> Response:
    """Stop all workers from running a handler."""
    why = acting.why(visit, needed=True)
    done = of_handlers.pause(visit.store, visit.services.registry, name, actor=visit.actor, why=why)
    return _said(
        visit, done, f"{name} is paused; its deliveries wait.", f"{name} is paused already, by {done.paused_by}."
    )


@PAGES.post("/handlers/<path:name>/resume", needs=UserRole.OPERATOR)
def resume(visit: Visit, name: str) -> Response:
    """Let workers run it again, and close its circuit breaker."""
    done = of_handlers.resume(visit.store, visit.services.registry, name, actor=visit.actor, why=acting.why(visit))
    return _said(visit, done, f"{name} runs again.", f"{name} is not paused.")


@PAGES.post("/handlers/<path:name>/try", needs=UserRole.OPERATOR)
def try_one(visit: Visit, name: str) -> Response:
    """Let one delivery through an open circuit breaker."""
    done = of_handlers.try_one(visit.store, visit.services.registry, name, actor=visit.actor, why=acting.why(visit))
    return _said(visit, done, f"One delivery of {name} is tried now.", f"The circuit breaker of {name} is not open.")


def _said(visit: Visit, done: PauseChange, changed: str, unchanged: str) -> Response:
    return acting.back(visit, changed if done.changed else unchanged, "handlers")


# -- quarantine ----------------------------------------------------------------------------------------------


@PAGES.post("/quarantine/retry", needs=UserRole.OPERATOR)
def retry_quarantine(visit: Visit) -> Response:
    """Read the requests named by `id` again, or all that are held (`all`)."""
    ids = _ids(visit)
    if visit.text("all"):
        ids = [row.id for row in reversed(visit.store.quarantine.list(MOST_RELEASED))]
    elif not ids:
        return acting.back(visit, "Nothing was selected.", "quarantine")
    if not ids:
        return acting.back(visit, "Nothing is held.", "quarantine")
    if len(ids) > AT_ONCE or visit.services.ingest is None:
        options = {"ids": [str(id) for id in ids]}
        made = acting.log_of(visit).ask(Verb.QUARANTINE_RETRY, actor=visit.actor, options=options, matched=len(ids))
        return visit.go("action", id=made.id, said="A worker reads them again.")
    results = of_quarantine.retry(visit.store, visit.services.ingest, ids, actor=visit.actor)
    admitted = sum(one.reason is None for one in results)
    why = next((one.reason for one in results if one.reason is not None), None)
    left = f"; the first that could not: {why}" if why is not None else ""
    return acting.back(visit, f"{admitted} of {len(results)} could be read and are accepted{left}.", "quarantine")


@PAGES.post("/quarantine/drop", needs=UserRole.OPERATOR)
def drop_quarantine(visit: Visit) -> Response:
    """Give the requests named by `id` up."""
    ids = _ids(visit)
    if not ids:
        raise SelectionError("say which to give up: none is named")
    why = acting.why(visit, needed=True)
    results = of_quarantine.discard(visit.store, ids, actor=visit.actor, why=why)
    given_up = sum(one.changed for one in results)
    return acting.back(visit, f"{given_up} given up; the activity can take it back.", "quarantine")


@PAGES.post("/quarantine/<int:id>/reveal", needs=UserRole.OPERATOR)
def reveal_quarantined(visit: Visit, id: int) -> Response:
    """Show what is hidden of a quarantined body, to this session and for a few minutes; with a reason, on record."""
    kept = visit.store.quarantine.get(id)
    if kept is None or not visit.may_see_payloads:
        raise NotFound(f"nothing is quarantined under {id} that your role may see")
    why = acting.why(visit, needed=True)
    Journal(visit.store).note(Verb.REVEAL, visit.actor, str(id), why=why, options={"quarantined": True})
    token = redacting.reveal_token(visit, id, visit.now)
    return visit.go(
        "quarantined", id=id, revealed=token, said="It is shown to you for five minutes; that is on record."
    )


def _ids(visit: Visit) -> list[int]:
    texts = visit.request.form.getlist("id")
    if any(not (text.isascii() and text.isdigit() and len(text) <= 19) for text in texts):
        raise SelectionError("an id is a decimal number", texts[0])
    return [int(text) for text in texts]


# -- senders -------------------------------------------------------------------------------------------------


def _asked(visit: Visit, verb: Verb, subject: str, options: Mapping[str, Any] | None = None) -> Response:
    made = acting.log_of(visit).ask(
        verb, actor=visit.actor, subject=subject, why=acting.why(visit), options=options or {}
    )
    beat = visit.store.processes.last_worker_beat()
    late = "" if beat is not None and visit.now - beat < timedelta(minutes=1) else " No worker runs now; start one."
    return visit.go("action", id=made.id, said=f"It is asked for; a worker does it within seconds.{late}")


def _source(visit: Visit, name: str) -> str:
    if name not in visit.services.sources:
        raise NotFound(f"no source is named {name!r}")
    return name


@PAGES.post("/sources/<path:name>/catch-up", needs=UserRole.OPERATOR)
def catch_up(visit: Visit, name: str) -> Response:
    """Have a worker read the sender's log."""
    return _asked(visit, Verb.CATCH_UP, _source(visit, name))


@PAGES.post("/subscriptions/<source>/sync", needs=UserRole.OPERATOR)
def sync_subscriptions(visit: Visit, source: str) -> Response:
    """Have a worker make the subscriptions ask for what the handlers want."""
    return _asked(visit, Verb.SUBSCRIPTION_SYNC, _source(visit, source), {"keep": bool(visit.text("keep"))})


@PAGES.post("/subscriptions/<source>/<id>/resume", needs=UserRole.OPERATOR)
def resume_subscription(visit: Visit, source: str, id: str) -> Response:
    """Have a worker resume a subscription, and catch up."""
    return _asked(visit, Verb.SUBSCRIPTION_RESUME, id, {"source": _source(visit, source)})


@PAGES.post("/subscriptions/<source>/<id>/pause", needs=UserRole.OPERATOR)
def pause_subscription(visit: Visit, source: str, id: str) -> Response:
    """Have a worker pause a subscription; its sender empties the queue."""
    acting.why(visit, needed=True)
    return _asked(visit, Verb.SUBSCRIPTION_PAUSE, id, {"source": _source(visit, source)})


# -- what is wrong -------------------------------------------------------------------------------------------


@PAGES.post("/doctor/fix", needs=UserRole.OPERATOR)
def fix(visit: Visit) -> Response:
    """Have a worker do what is safe about all findings."""
    return _asked(visit, Verb.FIX, "")


@PAGES.post("/doctor/examine", needs=UserRole.OPERATOR)
def examine(visit: Visit) -> Response:
    """Have a worker look for what is wrong now."""
    acting.log_of(visit).ask(Verb.EXAMINE, actor=visit.actor)
    return acting.back(visit, "A worker looks now; the page shows what it finds within seconds.", "doctor")


@PAGES.post("/alarms/mute", needs=UserRole.OPERATOR)
def mute_alarm(visit: Visit) -> Response:
    """Say nothing of the alarm `name` (of `subject`, or of all) for a while."""
    from webhooks.operations.alarms import mute

    lasting = parse_duration(visit.text("for", "2h") or "2h", "for")
    subject = visit.text("subject") or None
    until = mute(visit.store, visit.text("name"), subject, lasting=lasting, actor=visit.actor, why=acting.why(visit))
    assert until is not None
    return acting.back(visit, f"{visit.text('name')} is muted until {until:%Y-%m-%d %H:%M} UTC.", "doctor")


@PAGES.post("/alarms/unmute", needs=UserRole.OPERATOR)
def unmute_alarm(visit: Visit) -> Response:
    """End a mute."""
    from webhooks.operations.alarms import mute

    mute(visit.store, visit.text("name"), visit.text("subject") or None, lasting=None, actor=visit.actor)
    return acting.back(visit, f"{visit.text('name')} is told again.", "doctor")
