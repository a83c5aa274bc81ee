"""What a worker does for pages in one go: it asks senders, and releases what could not be read.

A page puts the action on record and answers; the worker's duty (`operations.actions.ActionsDuty`) calls what stands here, and
again when a worker died at it: each is safe to do twice.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from webhooks.app import assembly
from webhooks.formats import counted, one_line

if TYPE_CHECKING:
    from webhooks.app.webhooks import Webhooks
    from webhooks.operations import Actor, Verb
    from webhooks.operations.actions.duty import Runner
    from webhooks.sources import SourceWithLog
    from webhooks.store import Action

    _Done = tuple[int, dict[str, Any]]

logger = logging.getLogger(__name__)


def resume_subscription(webhooks: Webhooks, source: str, id: str, **given: Any) -> object:
    """Resume a subscription on behalf of a person. given: see `Subscriptions.resume`. Raises `ApiError`."""
    log = require_log(webhooks, source)
    with log.connect() as client:
        return assembly.source_subscriptions(webhooks, log, client).resume(id, **given)


def require_log(webhooks: Webhooks, source: str) -> SourceWithLog:
    """A source whose sender can be asked. Raises `NotFound`."""
    from webhooks.errors import NotFound
    from webhooks.sources import with_log

    log = with_log(webhooks.sources[source]) if source in webhooks.sources else None
    if log is None or not log.can_connect:
        raise NotFound(f"the sender of source {source!r} cannot be asked: it has no API here, or no key for it")
    return log


def make_runners(webhooks: Webhooks) -> dict[Verb, Runner]:
    """What a worker does for pages in one go: what asks senders, and what releases many requests."""
    from webhooks.operations import Verb

    does = _Does(webhooks)
    asking = {
        Verb.FIX: does.fix,
        Verb.SUBSCRIPTION_SYNC: does.sync,
        Verb.SUBSCRIPTION_PAUSE: does.pause,
        Verb.SUBSCRIPTION_RESUME: does.resume,
        Verb.CATCH_UP: does.catch_up,
    }
    return {
        Verb.EXAMINE: does.examine,
        Verb.QUARANTINE_RETRY: does.release,
        **{verb: _then_examined(run, does.examine) for verb, run in asking.items()},
    }


def _then_examined(run: Runner, examine: Runner) -> Runner:
    """Do it, then look anew for what is wrong: pages must not say for minutes what was repaired."""

    def both(action: Action) -> _Done:
        done = run(action)
        try:
            examine(action)
        except Exception as error:  # it is done; the next examination is within five minutes
            logger.info("what is wrong could not be looked at after action %s: %s", action.id, one_line(str(error)))
        return done  # type: ignore[return-value]

    return both


class _Does:
    """One method for each kind of action: how many things it changed, and what is said of it."""

    def __init__(self, webhooks: Webhooks) -> None:
        from webhooks.version import VERSION

        self.webhooks = webhooks
        self.holder = f"actions:{VERSION}"

    def fix(self, action: Action) -> _Done:
        from webhooks.operations import diagnose

        doctor = self.webhooks.make_doctor(self.holder)
        facts = doctor.collect()
        done = doctor.repair(facts, diagnose(facts), actor=_on_behalf(action))
        return len(done), {"done": done}

    def examine(self, action: Action) -> _Done:
        from webhooks.operations.examinations import examine

        return 0, {"findings": len(examine(self.webhooks.make_doctor(self.holder), self.webhooks.store))}

    def release(self, action: Action) -> _Done:
        from webhooks.operations import quarantine as deciding

        ids = [int(id) for id in action.options["ids"]]
        results = deciding.release(self.webhooks.store, self.webhooks.ingest, ids, _on_behalf(action))
        refused = sum(result.reason is not None for result in results)
        return len(results) - refused, {"skipped": {"unreadable": refused}} if refused else {}

    def sync(self, action: Action) -> _Done:
        from webhooks.operations import wanted_types

        log = require_log(self.webhooks, action.subject)
        wanted = wanted_types(self.webhooks.registry.handlers(), log.name, log.published_types, log.known_types)
        with log.connect() as client:
            subscriptions = assembly.source_subscriptions(self.webhooks, log, client)
            changes = subscriptions.plan_sync(wanted, keep=bool(action.options.get("keep")))
            done = subscriptions.apply(changes, actor=_on_behalf(action), within=action.id)
        said = [f"{each.id}: {counted(len(each.types), 'type')} asked for" for each in done]
        return sum(change.is_needed for change in changes), {"subscriptions": [each.id for each in done], "done": said}

    def pause(self, action: Action) -> _Done:
        log = require_log(self.webhooks, action.options["source"])
        with log.connect() as client:
            subscriptions = assembly.source_subscriptions(self.webhooks, log, client)
            subscriptions.pause(action.subject, actor=_on_behalf(action), within=action.id)
        return 1, {"done": ["the sender sends nothing to this subscription until it is resumed"]}

    def resume(self, action: Action) -> _Done:
        source, id = action.options["source"], action.subject
        resume_subscription(self.webhooks, source, id, actor=_on_behalf(action), within=action.id)
        return 1, {"done": ["the sender sends again; what happened meanwhile is read from its log within a minute"]}

    def catch_up(self, action: Action) -> _Done:
        from webhooks.operations import caught_up

        log = require_log(self.webhooks, action.subject)
        with log.connect() as client:
            run = self.webhooks.make_catch_up(log, client, self.holder)
            report = caught_up(self.webhooks.store, log.name, run.run, actor=_on_behalf(action), within=action.id)
        said = f"{report.fetched:,} entries of the log were read; {report.duplicates:,} of them were known"
        return report.repaired, {"read": report.fetched, "known": report.duplicates, "done": [said]}


def _on_behalf(action: Action) -> Actor:
    from webhooks.operations import Actor, Via

    return Actor(action.by, Via(action.via), action.address)


__all__ = ["make_runners", "require_log", "resume_subscription"]
