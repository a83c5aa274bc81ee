"""In: from a verified request to rows that are on disk, and only then a 2xx.

Promises: an event is stored once per dedup key and revision, with all its deliveries, in one commit; what cannot be
read goes to quarantine, what is refused leaves a bounded trace. Not here: how a sender signs (`sources`), the answer
(`http`), SQL (`store.intake`).

A request meets `ingest` (group commit, dedup, routing); `refusals` and `observations` note what is not stored as an
event; `quarantine` lets what could not be read in again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.intake.ingest import Accepted as Accepted
    from webhooks.intake.ingest import Engine as Engine
    from webhooks.intake.ingest import GroupCommit as GroupCommit
    from webhooks.intake.ingest import Ingest as Ingest
    from webhooks.intake.ingest import require_storable as require_storable
    from webhooks.intake.observations import Notes as Notes
    from webhooks.intake.quarantine import retry as retry
    from webhooks.intake.refusals import Refusals as Refusals
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "ingest": ["Accepted", "Engine", "GroupCommit", "Ingest", "require_storable"],
            "observations": ["Notes"],
            "quarantine": ["retry"],
            "refusals": ["Refusals"],
        },
    )
