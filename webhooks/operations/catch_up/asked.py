"""A catch-up that a person asked for: on record, with what it came to. What a worker runs by itself is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from webhooks.formats import iso_text
from webhooks.operations.actions.journal import Journal
from webhooks.operations.actions.verbs import Verb
from webhooks.operations.actor import Actor

if TYPE_CHECKING:
    from webhooks.operations.catch_up.report import Report
    from webhooks.store import Store


def caught_up(
    store: Store,
    source: str,
    run: Callable[[], Report],
    *,
    actor: Actor,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Report:
    """Run a catch-up on behalf of a person.

    source: its name.
    run: reads the log; `CatchUp.run` with what was asked for.
    actor: on whose behalf.
    since, until: of the log, as they were asked for.

    Raises what `run` raises.
    """
    given = {"since": since and iso_text(since), "until": until and iso_text(until)}
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    with Journal(store).doing(Verb.CATCH_UP, actor, source, options=options) as entry:
        report = run()
        entry.changed, entry.skipped = report.repaired, report.stripped
        entry.result = {"read": report.fetched, "known": report.duplicates}
    return report


def ask(store: Store, source: str, *, actor: Actor, **given: Any) -> int:
    """Have a worker catch up with a source soon; the id of the action. given: what `Journal.doing` takes besides."""
    with Journal(store).doing(Verb.CATCH_UP, actor, source, options={"asked_worker": True}, **given) as entry:
        store.marks.request(source)
        entry.changed = 1
    return entry.id


__all__ = ["ask", "caught_up"]
