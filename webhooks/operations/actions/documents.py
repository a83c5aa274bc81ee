"""Actions and previews as JSON documents; for the rules see `operations.records`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from webhooks.formats import counted, iso_text
from webhooks.operations.actions.bulk import LEFT_SAYS
from webhooks.operations.actions.verbs import Verb, facts_of
from webhooks.operations.records import delivery_json

if TYPE_CHECKING:
    from webhooks.operations.actions.preview import Preview
    from webhooks.operations.actions.undo import Undo
    from webhooks.store import Action


#: Their subject is who did it.
_OF_THEMSELVES = (Verb.LOGIN, Verb.LOGOUT, Verb.LOGIN_FAILED)


def action_json(action: Action, undo: Undo | None = None) -> dict[str, Any]:
    """One action. undo: what takes it back, where that was asked for."""
    return {
        "id": str(action.id),
        "at": iso_text(action.at),
        "by": action.by,
        "via": action.via,
        "address": action.address,
        "verb": action.verb,
        "subject": action.subject,
        "selection": None if action.selection is None else dict(action.selection),
        "options": dict(action.options),
        "why": action.why,
        "state": action.state.label,
        "matched": action.matched,
        "changed": action.changed,
        "skipped": action.skipped,
        "error": action.error,
        "result": dict(action.result),
        "undoes": None if action.undoes is None else str(action.undoes),
        "finished_at": _iso(action.finished_at),
        "undo": None
        if undo is None or undo.verb is None
        else {
            "verb": str(undo.verb),
            "says": undo.says,
            "is_possible": undo.is_possible,
            "why_not": undo.why_not or None,
        },
    }


def preview_json(preview: Preview) -> dict[str, Any]:
    """What an action would do."""
    return {
        "id": str(preview.id),
        "verb": str(preview.verb),
        "selection": None if preview.selection is None else preview.selection.to_mapping(),
        "ids": [str(id) for id in preview.ids],
        "deliveries": preview.count,
        "is_more": preview.is_more,
        "handlers": dict(preview.handlers),
        "examples": [delivery_json(one) for one in preview.examples],
        "left": {str(why): number for why, number in preview.left.items()},
        "eta_seconds": None if preview.eta is None else preview.eta.total_seconds(),
        "undo": preview.undo_says or None,
        "command": preview.command,
    }


def sentence(action: Action) -> str:
    """What was done, after who did it: `requeued 4,213 of 4,218: 5 ran or changed meanwhile`."""
    words = facts_of(action.verb).done
    if action.verb == Verb.REPLAY:
        return f"{words} of {counted(action.matched or 0, 'event')}: {counted(action.changed, 'delivery')}"
    if action.subject and action.verb not in _OF_THEMSELVES:
        words += f" {action.subject}"
    if action.matched is not None or action.skipped:
        of = f" of {action.matched:,}" if action.matched is not None else ""
        words += f": {action.changed:,}{of}"
    left = [f"{number:,} {LEFT_SAYS.get(why, why)}" for why, number in dict(action.result.get("skipped", {})).items()]
    return words + (f" ({', '.join(left)})" if left else "")


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else iso_text(instant)


__all__ = ["action_json", "preview_json", "sentence"]
