"""What people did, from wherever: looked at, stopped, taken back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Response

from webhooks.dashboard import acting, exports
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.operations import Verb
from webhooks.operations.actions import LEFT_SAYS, CannotUndo, action_json, sentence
from webhooks.selection import parse_id
from webhooks.store import Action, AlreadyConfirmed

PAGES = Pages()

#: Actions of a page, and of an export.
_OF_HANDLERS = (Verb.REQUEUE, Verb.CANCEL, Verb.PAUSE, Verb.RESUME, Verb.TRY_ONE)
_OF_SENDERS = (Verb.CATCH_UP, Verb.SUBSCRIPTION_SYNC, Verb.SUBSCRIPTION_RESUME, Verb.SUBSCRIPTION_PAUSE)
PER_PAGE, LONGEST_EXPORT = 50, 100_000


@PAGES.get("/activity", needs=UserRole.VIEWER, forms=("html", "json", "jsonl"))
def activity(visit: Visit) -> Response:
    """The latest actions; `verb`, `by` and `before` narrow them."""
    before = parse_id(visit.text("before"), "action") if visit.text("before") else None
    verb, by = visit.text("verb"), visit.text("by").strip() or None
    verbs = [verb] if verb in set(Verb) else []
    if visit.form == "jsonl":
        return visit.stream(
            exports.json_lines(_documents(visit, before, verbs, by)), "application/x-ndjson", "activity.jsonl"
        )
    found = visit.store.actions.page(PER_PAGE, before=before, verbs=verbs, by=by)
    if visit.form == "json":
        return visit.json({"actions": [action_json(one) for one in found]})
    older = visit.here(before=found[-1].id) if len(found) == PER_PAGE else None
    return visit.page(
        "activity.html", actions=found, verbs=list(Verb), verb=verb, by=by or "", older=older, sentence=sentence
    )


def _documents(visit: Visit, before: int | None, verbs: list[str], by: str | None) -> Iterator[dict[str, Any]]:
    sent = 0
    while sent < LONGEST_EXPORT and (found := visit.store.actions.page(100, before=before, verbs=verbs, by=by)):
        yield from (action_json(one) for one in found)
        before, sent = found[-1].id, sent + len(found)


@PAGES.get("/activity/<int:id>", needs=UserRole.VIEWER, forms=("html", "json"))
def action(visit: Visit, id: int) -> Response:
    """One action: how far it is, what it changed and left, and what takes it back."""
    log = acting.log_of(visit)
    found = log.get(id)
    undo = log.undo_of(found)
    if visit.form == "json":
        return visit.json(action_json(found, undo))
    left = [(number, LEFT_SAYS.get(why, why)) for why, number in dict(found.result.get("skipped", {})).items()]
    return visit.page(
        "action.html",
        action=found,
        undo=undo,
        left=left,
        sentence=sentence,
        replay=_replay_of(found),
        became=_became(visit, found),
        leads_to=_leads_to(visit, found),
        undone=visit.store.actions.undone_by(id),
        new_preview=log.new_preview(),
        has_worker=visit.has_worker,
    )


def _became(visit: Visit, action: Action) -> dict[str, int]:
    """{label of a state: how many} of the deliveries that it changed, as they are now."""
    if action.verb not in (Verb.REQUEUE, Verb.CANCEL) or not action.changed:
        return {}
    return {state.label: number for state, number in visit.store.listings.states_of_action(action.id).items()}


def _leads_to(visit: Visit, action: Action) -> list[tuple[str, str]]:
    """[(label, address)] of the pages on which one sees what came of it."""
    found = [("Overview", visit.url("overview"))]
    handler = (action.selection or {}).get("handler") or action.subject
    if action.verb in _OF_HANDLERS and visit.services.registry.get(handler) is not None:
        found.append((handler, visit.url("handler", name=handler)))
    source = action.options.get("source") or action.subject
    if action.verb in _OF_SENDERS and source in visit.services.sources:
        found += [(source, visit.url("source", name=source)), ("Subscriptions", visit.url("subscriptions"))]
    if action.verb in (Verb.QUARANTINE_RETRY, Verb.QUARANTINE_DROP):
        found.append(("Quarantine", visit.url("quarantine")))
    return found


def _replay_of(action: Action) -> int | None:
    is_replay = action.verb in (Verb.REPLAY, Verb.REPLAY_CANCEL, Verb.REPLAY_RESUME)
    return int(action.subject) if is_replay and action.subject.isdigit() else None


@PAGES.post("/activity/<int:id>/undo", needs=UserRole.OPERATOR)
def undo_action(visit: Visit, id: int) -> Response:
    """Take it back; what is long is left to a worker."""
    at = visit.text("at")
    try:
        made = acting.log_of(visit).undo(
            id,
            actor=visit.actor,
            why=acting.why(visit),
            here=False,
            preview_id=parse_id(at, "preview") if at else None,
        )
    except AlreadyConfirmed as error:
        return visit.go("action", id=error.action.id, said="It was taken back already.")
    except CannotUndo as error:
        return visit.go("action", id=id, said=f"{error}.")
    return visit.go("action", id=made.id, said="It is taken back." if made.state.is_over else "A worker takes it back.")


@PAGES.post("/activity/<int:id>/stop", needs=UserRole.OPERATOR)
def stop_action(visit: Visit, id: int) -> Response:
    """Stop it after the step in hand."""
    acting.log_of(visit).stop(id, actor=visit.actor)
    return visit.go("action", id=id, said="It is stopped; what it changed stays changed.")
