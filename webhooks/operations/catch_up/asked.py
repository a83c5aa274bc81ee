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
    **given: Any,
) -> Report:
    """Run a catch-up on behalf of a person.

    source: its name.
    run: reads the log; `CatchUp.run` with what was asked for.
    actor: on whose behalf.
    since, until: of the log, as they were asked for.
    given: what `Journal.doing` takes besides.

    Raises what `run` raises.
    """
    window = {"since": since and iso_text(since), "until": until and iso_text(until)}
    options: dict[str, Any] = {name: value for name, value in window.items() if value}
    with Journal(store).doing(Verb.CATCH_UP, actor, source, options=options, **given) as entry:
        report = run()
        entry.changed, entry.skipped = report.repaired, report.stripped
        entry.result = {"read": report.fetched, "known": report.duplicates}
    return report


__all__ = ["caught_up"]
