"""In: from a verified request to rows that are on disk, and only then a 2xx.

Promises: an event is stored once per dedup key and revision, with all its deliveries, in one commit; what cannot be
read goes to quarantine, what is refused leaves a bounded trace. Not here: how a sender signs (`sources`), the answer
(`http`), SQL (`store.intake`).

A request meets `ingest`, which asks `keys` whether its events can be stored, and waits in `group_commit`; `refusals`
and `observations` note what is not stored as an event; `overload` bounds how many requests are under way; `quarantine` reads
again what could not be read; `replies` asks a function of the user's what the sender hears; `event_log` writes a line for each event, where that is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.intake.event_log import log_events as log_events
    from webhooks.intake.group_commit import GroupCommit as GroupCommit
    from webhooks.intake.ingest import Accepted as Accepted
    from webhooks.intake.ingest import Ingest as Ingest
    from webhooks.intake.keys import require_storable as require_storable
    from webhooks.intake.observations import BackgroundWriter as BackgroundWriter
    from webhooks.intake.observations import KeyUseRecorder as KeyUseRecorder
    from webhooks.intake.observations import RejectionSampler as RejectionSampler
    from webhooks.intake.quarantine import retry as retry
    from webhooks.intake.refusals import Refusals as Refusals
    from webhooks.intake.replies import ReplyRunner as ReplyRunner
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "event_log": ["log_events"],
            "group_commit": ["GroupCommit"],
            "ingest": ["Accepted", "Ingest"],
            "keys": ["require_storable"],
            "observations": ["BackgroundWriter", "KeyUseRecorder", "RejectionSampler"],
            "quarantine": ["retry"],
            "refusals": ["Refusals"],
            "replies": ["ReplyRunner"],
        },
    )
