"""Accept a batch of events: dedup log, events and deliveries, committed together.

`Intake.record` is given what ingest has verified, parsed and routed, and answers for each item what became of it.
`decide` holds the rules and the records, `bounds` what some sources ask beyond them; `postgresql` and `sqlite` have the statements, `record` calls them and tells
whose fault a refusal is.

What the store does not do: verify, parse, route. What surprises: the decision is made inside the row that the upsert
locks, and its own RETURNING tells; a SELECT beside it would see an older snapshot and be wrong under concurrency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.intake.decide import OLDER_LIMIT as OLDER_LIMIT
    from webhooks.store.intake.decide import ORIGINS as ORIGINS
    from webhooks.store.intake.decide import Bound as Bound
    from webhooks.store.intake.decide import Item as Item
    from webhooks.store.intake.decide import Routed as Routed
    from webhooks.store.intake.decide import with_new_ids as with_new_ids
    from webhooks.store.intake.record import TRIAL_PATIENCE as TRIAL_PATIENCE
    from webhooks.store.intake.record import Intake as Intake
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "decide": ["Bound", "Item", "OLDER_LIMIT", "ORIGINS", "Routed", "with_new_ids"],
            "record": ["Intake", "TRIAL_PATIENCE"],
        },
    )
