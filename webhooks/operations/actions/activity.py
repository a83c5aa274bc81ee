"""`ActivityLog`: what pages and commands ask of actions. Preview, confirm, look, stop, take back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from webhooks.errors import NotFound, SelectionError
from webhooks.model import instant_of, new_id
from webhooks.operations.actions.bulk import BulkChange, this_process
from webhooks.operations.actions.journal import Journal
from webhooks.operations.actions.preview import VALID, Preview, make_preview
from webhooks.operations.actions.undo import AT_ONCE, Undo, Undoer, undo_of
from webhooks.operations.actions.verbs import BY_A_WORKER, Verb
from webhooks.operations.actor import Actor
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.operations.handlers import HandlersHere
    from webhooks.operations.replay import Replayer
    from webhooks.store import Action, Store


class ActivityLog:
    """What people did, and what they are about to do. For the arguments see `Undoer`."""

    def __init__(
        self,
        store: Store,
        registry: HandlersHere,
        make_replayer: Callable[[], Replayer],
        subscriptions: Callable[..., object] | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self._undoer = Undoer(store, registry, make_replayer, subscriptions)

    def changes(self) -> dict[Verb, BulkChange]:
        """{verb: what does it} of what is done in steps."""
        from webhooks.operations.cancel import Canceller
        from webhooks.operations.requeue import Requeuer

        return {
            Verb.REQUEUE: Requeuer(store=self.store, registry=self.registry),
            Verb.CANCEL: Canceller(self.store),
        }

    # -- before --------------------------------------------------------------------------------------------

    @staticmethod
    def new_preview() -> int:
        """The id of a preview of this moment."""
        return new_id()

    def moment_of(self, preview_id: int) -> datetime:
        """The time from which the relative times of a preview count. Raises `SelectionError` for one that is too old."""
        at = instant_of(preview_id)
        age = self.store.database.now() - at
        if not -VALID < age < VALID:
            raise SelectionError("this preview is more than a day old; look again", str(preview_id))
        return at

    def preview(
        self,
        verb: Verb,
        target: Selection | Sequence[int],
        preview_id: int,
        options: Mapping[str, Any] | None = None,
    ) -> Preview:
        """What requeue or cancel would do; nothing is changed.

        verb: one of the two.
        target: a selection, its times counted from `moment_of(preview_id)`, or ids.
        preview_id: see `new_preview`.
        options: {"rate": deliveries a second}.

        Raises `SelectionError`.
        """
        self.moment_of(preview_id)
        return make_preview(self.store, self.changes()[verb], target, preview_id, dict(options or {}))

    def confirm(self, preview: Preview, *, actor: Actor, why: str = "", typed: str = "") -> Action:
        """Do what a preview said: at once where it is little, else by a worker. The action, done or waiting.

        actor, why: who asks, and the reason given.
        typed: see `Preview.wants_typed`.

        Raises `SelectionError` where something is missing, and `AlreadyConfirmed`.
        """
        if preview.wants_why and not why.strip():
            raise SelectionError("say why; it is kept on record")
        if not preview.is_typed(typed):
            raise SelectionError(f"type {preview.wants_typed} to confirm it", typed)
        change = self.changes()[preview.verb]
        at_once = preview.count + sum(preview.left.values()) <= AT_ONCE and not preview.is_more
        holder = this_process() if at_once else None
        made = change.begin(
            preview.ids if preview.selection is None else preview.selection,
            actor=actor,
            why=why.strip(),
            options=preview.options,
            preview_id=preview.id,
            matched=preview.count,
            holder=holder,
        )
        return made if holder is None else change.carry_out(made, actor, holder).action

    def ask(self, verb: Verb, *, actor: Actor, subject: str = "", why: str = "", **given: Any) -> Action:
        """Put on record what a worker is to do in one go: what asks senders, or takes long.

        verb: of `BY_A_WORKER`.
        actor, subject, why: who asks, about what, and the reason given.
        given: fields of `Action`.
        """
        from webhooks.store import ActionState

        assert verb in BY_A_WORKER
        journal = Journal(self.store)
        return journal.add(verb, actor, subject, state=ActionState.WAITING, why=why or None, **given)

    # -- afterwards ----------------------------------------------------------------------------------------

    def get(self, id: int) -> Action:
        """The action under `id`. Raises `NotFound`."""
        found = self.store.actions.get(id)
        if found is None:
            raise NotFound(f"no action {id}; see: webhooks activity list")
        return found

    def undo_of(self, action: Action) -> Undo:
        """What takes it back, and whether that is possible."""
        return undo_of(self.store, action)

    def undo(self, id: int, **given: Any) -> Action:
        """Take an action back; see `Undoer.undo`."""
        return self._undoer.undo(id, **given)

    def stop(self, id: int, *, actor: Actor) -> Action:
        """Stop an action after the step in hand; what it changed stays. Raises `NotFound` and `SelectionError`."""
        from webhooks.store import ActionState

        action = self.get(id)
        if not self.store.actions.finish(id, ActionState.STOPPED, error=f"stopped by {actor.name}"):
            raise SelectionError(f"action {id} is {self.get(id).state.label}; there is nothing to stop")
        actor.tell("stop", f"stopped action {action.id}")
        return self.get(id)


__all__ = ["ActivityLog"]
