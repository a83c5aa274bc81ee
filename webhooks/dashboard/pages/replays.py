"""Replays: a selection, its plan, a rehearsal, why, and how far it is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flask import Response

from webhooks.dashboard import acting, redacting
from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound, SelectionError
from webhooks.operations import Options, Order, ReplayError, parse_rate, records, words
from webhooks.operations.actions.preview import UNASKED
from webhooks.selection import Selection, parse_id
from webhooks.store import AlreadyConfirmed

if TYPE_CHECKING:
    from webhooks.operations import Plan, Replayer
    from webhooks.store.replays import Replay

PAGES = Pages()

#: Events that a page rehearses.
REHEARSED = 20
PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class Form:
    """What was asked for. line: the selection, as it was typed. at: the moment that is meant."""

    line: str
    selection: Selection
    options: Options
    at: int

    @property
    def fields(self) -> Mapping[str, str]:
        """{field: value}, for hidden fields and addresses."""
        options = self.options
        given: dict[str, Any] = {
            "q": self.line,
            "handler": options.handler,
            "order": str(options.order),
            "rate": None if options.rate is None else f"{options.rate:g}/s",
            "limit": options.limit,
            "original": options.original,
            "fresh_keys": options.fresh_keys,
            "at": self.at,
        }
        return {name: "1" if value is True else str(value) for name, value in given.items() if value}


def _form(visit: Visit) -> Form:
    """Raises `SelectionError`."""
    log = acting.log_of(visit)
    at = parse_id(visit.text("at"), "preview") if visit.text("at") else log.new_preview()
    line = visit.text("q").strip() or " ".join(str(parse_id(id)) for id in visit.request.args.getlist("event"))
    selection = Selection.parse_line(line, log.moment_of(at))
    rate, limit = visit.text("rate").strip(), visit.text("limit").strip()
    if limit and not (limit.isascii() and limit.isdigit() and 0 < int(limit) < 10**12):
        raise SelectionError(f"limit: {limit[:20]!r} is no number of events", limit)
    order = visit.text("order", "occurred")
    if order not in set(Order):
        raise SelectionError(f"order: {order[:20]!r} is neither occurred nor received", order)
    options = Options(
        handler=visit.text("handler").strip() or selection.handler,
        original=bool(visit.text("original")),
        order=Order(order),
        rate=parse_rate(rate) if rate else None,
        limit=int(limit) if limit else None,
        fresh_keys=bool(visit.text("fresh_keys")),
    )
    return Form(line, selection, options, at)


def _replayer(visit: Visit) -> Replayer:
    made: Replayer = acting.needed(visit.services.make_replayer, "a replay")()
    return made


def _typed(plan: Plan) -> str:
    """What has to be typed: the number of many, the word of everything."""
    if plan.selection.is_empty:
        return "everything"
    return f"{plan.deliveries:,}" if plan.deliveries > UNASKED else ""


@PAGES.get("/replays", needs=UserRole.VIEWER, forms=("html", "json"))
def replays(visit: Visit) -> Response:
    """The latest replays."""
    found = visit.store.replays.all(PER_PAGE)
    if visit.form == "json":
        return visit.json({"replays": [records.replay_json(one) for one in found]})
    return visit.page("replays.html", replays=[(one, _line(one)) for one in found])


def _line(one: Replay) -> str:
    return Selection.parse(one.selection, one.created_at).to_line() or "everything"


@PAGES.get("/replays/new", needs=UserRole.OPERATOR, forms=("html", "json"))
def new_replay(visit: Visit) -> Response:
    """A form, and the plan of what it asks for."""
    form = _form(visit)
    is_asked = "q" in visit.request.args or "event" in visit.request.args
    plan = _replayer(visit).plan(form.selection, form.options) if is_asked else None
    if visit.form == "json":
        return visit.json({"plan": None if plan is None else records.plan_json(plan)})
    return _shown(visit, form, plan)


def _shown(visit: Visit, form: Form, plan: Plan | None, **more: Any) -> Response:
    handlers = sorted(handler.name for handler in visit.services.registry.handlers())
    return visit.page(
        "replay_new.html",
        form=form,
        plan=plan,
        lines=[] if plan is None else words.plan_lines(plan),
        typed="" if plan is None else _typed(plan),
        handlers=handlers,
        command_text=_command(form),
        rehearsed=more.get("rehearsed"),
        left_out=more.get("left_out", ()),
        rehearsed_at_most=REHEARSED,
        can_rehearse=visit.services.make_rehearser is not None,
    )


def _command(form: Form) -> str:
    options = form.options
    given = [
        "replay",
        "" if form.selection.is_empty else str(form.selection.only(handler=None)),
        "--all" if form.selection.is_empty else "",
        f"--handler {options.handler}" if options.handler else "",
        "--original" if options.original else "",
        "--order received" if options.order is Order.RECEIVED else "",
        f"--rate {options.rate:g}/s" if options.rate else "",
        f"--limit {options.limit}" if options.limit else "",
        "--fresh-keys" if options.fresh_keys else "",
        "--detach",
    ]
    return " ".join(part for part in given if part and part != "everything")


@PAGES.post("/replays/rehearse", needs=UserRole.OPERATOR)
def rehearse_replay(visit: Visit) -> Response:
    """Run rehearsable handlers of the plan, roll back, and show what they would write."""
    form = _form(visit)
    plan = _replayer(visit).plan(form.selection, form.options)
    rehearser = acting.needed(visit.services.make_rehearser, "a rehearsal")()
    few = replace(plan, options=replace(plan.options, limit=min(REHEARSED, plan.options.limit or REHEARSED)))
    runs = [
        records.rehearsal_json(one)
        for one in redacting.rehearsals(visit, list(itertools.islice(rehearser.run(few), REHEARSED)))
    ]
    return _shown(visit, form, plan, rehearsed=runs, left_out=rehearser.not_rehearsable(plan))


@PAGES.post("/replays", needs=UserRole.OPERATOR)
def start_replay(visit: Visit) -> Response:
    """Put the replay on record; a worker makes its deliveries."""
    form = _form(visit)
    why = acting.why(visit, needed=True)
    if (done := visit.store.actions.of_preview(form.at)) is not None and done.subject.isdigit():
        return visit.go("replay", id=done.subject, said=f"It was confirmed already, by {done.by}; it is made once.")
    replayer = _replayer(visit)
    plan = replayer.plan(form.selection, form.options)
    wanted = _typed(plan)
    if wanted and visit.text("typed").strip().replace(",", "").casefold() != wanted.replace(",", ""):
        raise SelectionError(f"type {wanted} to confirm it; nothing was done", visit.text("typed"))
    if not plan.deliveries:
        raise SelectionError("there is nothing to replay: no handler would get anything")
    try:
        made = replayer.start(plan, actor=visit.actor, why=why, detached=True, preview_id=form.at)
    except AlreadyConfirmed as error:
        return visit.go("action", id=error.action.id, said="It was confirmed already; it is made once.")
    except ReplayError as error:
        raise SelectionError(str(error)) from error
    return visit.go(
        "replay", id=made.id, said="It is on record; a worker makes its deliveries, and runs them after fresh ones."
    )


@PAGES.get("/replays/<int:id>", needs=UserRole.VIEWER, forms=("html", "json"))
def replay(visit: Visit, id: int) -> Response:
    """One replay: how far it is, what failed."""
    one = visit.store.replays.get(id)
    if one is None:
        raise NotFound(f"no replay {id}")
    progress = {state.label: number for state, number in visit.store.replays.progress(id).items()}
    if visit.form == "json":
        return visit.json(records.replay_json(one, progress))
    left = progress.get("pending", 0) + progress.get("running", 0)
    rate = visit.store.replays.recent_rate() if left else None
    options = {name: value for name, value in one.options.items() if name not in ("detached", "order")}
    return visit.page(
        "replay.html",
        replay=one,
        progress=progress,
        line=_line(one),
        left=left,
        options=options,
        order=str(one.options.get("order", "occurred")),
        seconds=None if not rate else round(left / rate),
    )


@PAGES.post("/replays/<int:id>/cancel", needs=UserRole.OPERATOR)
def cancel_replay(visit: Visit, id: int) -> Response:
    """Stop it; what has not run is cancelled."""
    why = acting.why(visit, needed=True)
    try:
        cancelled = _replayer(visit).cancel(id, actor=visit.actor, why=why)
    except ReplayError as error:
        return visit.go("replay", id=id, said=f"Nothing was changed: {error}.")
    return visit.go("replay", id=id, said=f"It is cancelled, with {cancelled:,} deliveries that had not run.")
