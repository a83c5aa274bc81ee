"""Mute an alarm, or end that: by name, of one subject or of all."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from webhooks.errors import SelectionError
from webhooks.formats import did_you_mean, iso_text
from webhooks.operations.actions.journal import Journal
from webhooks.operations.actions.verbs import Verb
from webhooks.operations.actor import Actor
from webhooks.operations.alarms.table import ALARMS

if TYPE_CHECKING:
    from webhooks.store import Store


def mute(
    store: Store,
    name: str,
    subject: str | None = None,
    *,
    lasting: timedelta | None,
    actor: Actor,
    why: str = "",
    **given: Any,
) -> datetime | None:
    """Say nothing of an alarm for a while; until when.

    name: of `ALARMS`.
    subject: a handler or source; None for every one.
    lasting: for how long; None ends a mute.
    actor, why: who asks, and the reason given.
    given: what `Journal.doing` takes besides, of a page or an undo.

    Raises `SelectionError` for an alarm that there is not.
    """
    from webhooks.store import EVERY

    if name not in ALARMS:
        raise SelectionError(f"no alarm named {name!r}{did_you_mean(name, ALARMS)}; alarms: {', '.join(ALARMS)}")
    of_all = EVERY if ALARMS[name].about else ""
    chosen = of_all if subject is None else subject
    now = store.database.now()
    until = None if lasting is None else now + lasting
    row = store.alarms.rows().get((name, chosen))
    before = None if row is None else row.muted_until
    options = {
        "alarm": name,
        "subject": subject,
        "until": until and iso_text(until),
        "before": (before and before > now and iso_text(before)) or None,
    }
    verb = Verb.MUTE if until is not None else Verb.UNMUTE
    with Journal(store).doing(
        verb, actor, name if subject is None else f"{name} {subject}", why=why, options=options, **given
    ) as entry:
        store.alarms.mute(name, chosen, until)
        entry.changed = 1
    return until


__all__ = ["mute"]
