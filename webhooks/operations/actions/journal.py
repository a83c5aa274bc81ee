"""Put on record what is done, before it is done: `Journal.doing` around a change, `note` for what only happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from webhooks.errors import WebhooksError
from webhooks.formats import error_summary, one_line
from webhooks.operations.actions.verbs import Verb
from webhooks.operations.actor import Actor

if TYPE_CHECKING:
    from webhooks.store import Action, ActionState, Store

#: Longest text of an error that is kept.
LONGEST_ERROR = 500


@dataclass(slots=True)
class JournalEntry:
    """An action that is under way; what is set here is written when it ends.

    id: of the action.
    subject: what it is about, where that is known only afterwards.
    changed, skipped: how many things.
    result: {name: value}.
    """

    id: int
    subject: str | None = None
    changed: int = 0
    skipped: int = 0
    result: dict[str, Any] = field(default_factory=dict)


class Journal:
    """Writes `webhooks_actions` for what is done in one go."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @contextlib.contextmanager
    def doing(
        self,
        verb: Verb,
        actor: Actor,
        subject: str = "",
        *,
        why: str | None = None,
        selection: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        matched: int | None = None,
        preview_id: int | None = None,
        undoes: int | None = None,
        within: int | None = None,
    ) -> Iterator[JournalEntry]:
        """Around a change: on record as running before, as done or failed after.

        verb, actor, subject: who does what to what.
        why: the reason given.
        selection, options: what was asked for, as JSON.
        matched: how many a preview counted; preview_id: of that preview.
        undoes: the action that is taken back.
        within: an action that is on record already, and under way: this is it.

        Raises `AlreadyConfirmed` when the preview was confirmed before; nothing is done then.
        """
        from webhooks.store import ActionState

        if within is not None:
            yield JournalEntry(within)
            return
        made = self.add(
            verb,
            actor,
            subject,
            state=ActionState.RUNNING,
            why=why or None,
            selection=selection,
            options=dict(options or {}),
            matched=matched,
            preview_id=preview_id,
            undoes=undoes,
        )
        entry = JournalEntry(made.id)
        try:
            yield entry
        except BaseException as error:
            state = ActionState.FAILED if isinstance(error, Exception) else ActionState.STOPPED
            with contextlib.suppress(WebhooksError):  # the database may be what failed
                self._finish(entry, state, said(error))
            raise
        self._finish(entry, ActionState.DONE, None)

    def _finish(self, entry: JournalEntry, state: ActionState, error: str | None) -> None:
        self.store.actions.finish(
            entry.id,
            state,
            subject=entry.subject,
            changed=entry.changed,
            skipped=entry.skipped,
            error=error,
            result=entry.result,
        )

    def note(self, verb: Verb, actor: Actor, subject: str = "", **given: Any) -> Action:
        """Put on record what happens now, in one statement: a login, an export, a look at hidden values.

        given: fields of `Action`.
        """
        from webhooks.store import ActionState

        return self.add(verb, actor, subject, state=ActionState.DONE, **given)

    def add(
        self,
        verb: Verb,
        actor: Actor,
        subject: str = "",
        *,
        state: ActionState,
        lease: timedelta = timedelta(0),
        **given: Any,
    ) -> Action:
        """Put an action on record. lease: for how long its `holder` has it. Raises `AlreadyConfirmed`."""
        from webhooks.store import draft

        made = draft(
            str(verb),
            by=actor.name,
            via=str(actor.via),
            at=self.store.database.now(),
            state=state,
            address=actor.address,
            subject=subject,
            **given,
        )
        return self.store.actions.add(made, lease=lease)


def said(error: BaseException) -> str:
    """An error as it is kept with an action: its first line, bounded."""
    text = str(error) if isinstance(error, WebhooksError) else error_summary(error)
    return one_line(text, LONGEST_ERROR) or type(error).__name__


__all__ = ["Journal", "JournalEntry", "said"]
