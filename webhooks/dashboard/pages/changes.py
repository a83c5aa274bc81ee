"""Requeue and cancel: what would be done, before it is; confirmed once."""

from __future__ import annotations

import dataclasses

from flask import Response

from webhooks.dashboard import acting, redacting
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound
from webhooks.operations import Verb
from webhooks.operations.actions import LEFT_SAYS, preview_json
from webhooks.selection import Selection
from webhooks.store import AlreadyConfirmed

PAGES = Pages()

#: What is previewed here.
CHANGES = {"requeue": Verb.REQUEUE, "cancel": Verb.CANCEL}


def _verb(name: str) -> Verb:
    if name not in CHANGES:
        raise NotFound(f"nothing is called {name!r} here; there are: {', '.join(CHANGES)}")
    return CHANGES[name]


@PAGES.get("/change/<name>", needs=UserRole.OPERATOR, forms=("html", "json"))
def change(visit: Visit, name: str) -> Response:
    """What requeue or cancel would do with what `q` or `delivery` names."""
    verb = _verb(name)
    if not visit.text("at"):
        ids = visit.request.args.getlist("delivery")
        at = acting.log_of(visit).new_preview()
        return visit.go("change", name=name, q=visit.text("q") or None, delivery=ids or None, at=at)
    asked = acting.asked(visit)
    preview = acting.log_of(visit).preview(verb, asked.target, asked.preview_id, asked.options)
    if visit.form == "json":
        shown = dataclasses.replace(preview, examples=redacting.deliveries(visit, preview.examples))
        return visit.json(preview_json(shown))
    done = visit.store.actions.of_preview(asked.preview_id)
    return visit.page(
        "change.html",
        preview=preview,
        examples=redacting.deliveries(visit, preview.examples),
        name=name,
        line=asked.line,
        frozen=asked.target.to_line() if isinstance(asked.target, Selection) else "",
        left=[(number, LEFT_SAYS[why]) for why, number in preview.left.items()],
        done=done,
        has_worker=visit.has_worker,
    )


@PAGES.post("/change/<name>", needs=UserRole.OPERATOR)
def confirm_change(visit: Visit, name: str) -> Response:
    """Do what was shown: little of it now, much by a worker."""
    verb = _verb(name)
    log = acting.log_of(visit)
    asked = acting.asked(visit)
    if (done := visit.store.actions.of_preview(asked.preview_id)) is not None:
        return visit.go("action", id=done.id, said=f"It was confirmed already, by {done.by}; it is done once.")
    preview = log.preview(verb, asked.target, asked.preview_id, asked.options)
    try:
        made = log.confirm(preview, actor=visit.actor, why=acting.why(visit), typed=visit.text("typed"))
    except AlreadyConfirmed as error:
        return visit.go(
            "action", id=error.action.id, said=f"It was confirmed already, by {error.action.by}; it is done once."
        )
    return visit.go("action", id=made.id, said="It is done." if made.state.is_over else "A worker does it, in steps.")
