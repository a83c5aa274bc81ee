"""Take an action back: what that would do, whether it is possible still, and doing it.

Nothing is restored from a copy: undo of a pause is a resume, undo of a requeue cancels what has not run since. So undo is an
action of its own, on record beside the first, and can mostly be taken back too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webhooks.errors import NotFound, WebhooksError
from webhooks.formats import read_instant
from webhooks.model import DeliveryState
from webhooks.operations.actions.verbs import IN_STEPS, Verb, facts_of
from webhooks.operations.actor import Actor
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.operations.handlers import HandlersHere
    from webhooks.operations.replay import Replayer
    from webhooks.store import Action, Store

#: More deliveries than this are left to a worker, where a page asks.
AT_ONCE = 250


class CannotUndo(WebhooksError):
    """An action that cannot be taken back, or not any more; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Undo:
    """What would take an action back. says: in words. why_not: what keeps it from being done; "" when nothing does."""

    verb: Verb | None
    says: str
    why_not: str = ""

    @property
    def is_possible(self) -> bool:
        """Whether it can be done now."""
        return self.verb is not None and not self.why_not


def undo_of(store: Store, action: Action) -> Undo:
    """What takes an action back, as far as its row tells."""
    from webhooks.store import ActionState

    facts = facts_of(action.verb)
    if facts.undo is None:
        return Undo(None, "", f"nothing takes back what {action.verb.replace('_', ' ')} did")
    why_not = ""
    if not action.state.is_over:
        why_not = "it is not over; stop it first" if action.verb in IN_STEPS else "it is not over"
    elif not action.changed:
        why_not = "it changed nothing"
    else:
        taken = store.actions.undone_by(action.id)
        if taken is not None and taken.state is not ActionState.FAILED:
            why_not = f"it was taken back by {taken.by}, action {taken.id}"
    return Undo(facts.undo, facts.undo_says, why_not)


class Undoer:
    """Takes actions back.

    registry: of this process.
    make_replayer: for replays.
    subscriptions: resumes a subscription, called with source, id, actor and what is kept on record; None where no sender
        can be asked.
    """

    def __init__(
        self,
        store: Store,
        registry: HandlersHere,
        make_replayer: Callable[[], Replayer],
        subscriptions: Callable[..., object] | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self._make_replayer = make_replayer
        self._subscriptions = subscriptions

    def undo(self, id: int, *, actor: Actor, why: str = "", here: bool = True, preview_id: int | None = None) -> Action:
        """Take an action back; the action that does.

        id: of the action.
        actor, why: who asks, and the reason given.
        here: in this process, however long it takes; else a worker does what is long.
        preview_id: of the form that was confirmed; once.

        Raises `NotFound`, `CannotUndo`, and `AlreadyConfirmed`.
        """
        action = self.store.actions.get(id)
        if action is None:
            raise NotFound(f"no action {id}; see: webhooks activity list")
        undo = undo_of(self.store, action)
        if undo.verb is None or undo.why_not:
            raise CannotUndo(f"action {id} ({action.verb}) cannot be taken back: {undo.why_not}")
        given: dict[str, Any] = {"undoes": id, "preview_id": preview_id}
        if undo.verb in IN_STEPS:
            return self._change_back(action, actor, why or f"undo of action {id}", here, given)
        made = self._at_once(action, undo.verb, actor, why, given)
        found = None if not made else self.store.actions.undone_by(id)
        if found is None:
            raise CannotUndo(f"action {id} ({action.verb}) was changed again since; nothing was changed")
        return found

    def _change_back(self, action: Action, actor: Actor, why: str, here: bool, given: dict[str, Any]) -> Action:
        """Cancel what was requeued, or requeue what was cancelled."""
        from webhooks.operations.actions.bulk import BulkChange, this_process
        from webhooks.operations.cancel import UNRUN, Canceller
        from webhooks.operations.requeue import Requeuer

        is_requeued = action.verb == Verb.REQUEUE
        state = DeliveryState.PENDING if is_requeued else DeliveryState.CANCELLED
        target = Selection(action=action.id, states=(state,))
        options = {UNRUN: True} if is_requeued else {}
        change: BulkChange = (
            Canceller(self.store) if is_requeued else Requeuer(store=self.store, registry=self.registry)
        )
        now_here = here or action.changed <= AT_ONCE
        holder = this_process() if now_here else None
        made = change.begin(
            target, actor=actor, why=why, options=options, matched=action.changed, holder=holder, **given
        )
        return made if holder is None else change.carry_out(made, actor, holder).action

    def _at_once(self, action: Action, verb: Verb, actor: Actor, why: str, given: dict[str, Any]) -> bool:
        """Do what takes one step; whether that changed anything."""
        from webhooks.operations import handlers, quarantine

        options = action.options
        if verb in (Verb.RESUME, Verb.PAUSE):
            change = handlers.resume if verb is Verb.RESUME else handlers.pause
            return change(self.store, self.registry, action.subject, actor=actor, why=why, **given).changed
        if verb is Verb.REPLAY_CANCEL:
            self._make_replayer().cancel(int(action.subject), actor=actor, why=why, **given)
            return True
        if verb in (Verb.QUARANTINE_HOLD, Verb.QUARANTINE_DROP):
            decide = quarantine.hold if verb is Verb.QUARANTINE_HOLD else quarantine.discard
            decide(self.store, [int(id) for id in options["ids"]], actor=actor, **given)
            return True
        if verb is Verb.SUBSCRIPTION_RESUME:
            if self._subscriptions is None:
                raise CannotUndo(f"type: webhooks subscriptions resume {action.subject}")
            self._subscriptions(options["source"], action.subject, actor=actor, why=why, **given)
            return True
        return self._mute_back(action, verb, actor, given)

    def _mute_back(self, action: Action, verb: Verb, actor: Actor, given: dict[str, Any]) -> bool:
        from webhooks.operations.alarms import mute

        lasting = None
        now = self.store.database.now()
        before = action.options.get("before")
        if before is not None and (until := read_instant(before, now)) > now:
            lasting = until - now
        if verb is Verb.MUTE and lasting is None:
            raise CannotUndo(f"action {action.id}: the mute that it ended would be over by now")
        mute(self.store, action.options["alarm"], action.options["subject"], lasting=lasting, actor=actor, **given)
        return True


__all__ = ["AT_ONCE", "CannotUndo", "Undo", "Undoer", "undo_of"]
