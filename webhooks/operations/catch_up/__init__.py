"""Catch up: read a sender's event log, and accept what never reached us.

Promises: a run may be repeated and interrupted at any point; dedup and revisions see to it that nothing is stored twice,
and an interrupted run continues where it was. The mark, up to where the log was read without a gap, moves only when a
window is complete, and never past an entry that was held back: one that may still grow, or one that was shown without
its content. The next run begins five minutes before the mark, because entries can surface late.

What surprises: an entry is not accepted for being in the log, but if a webhook should have brought it: a subscription of
ours asks for its type, or a handler does. A log holds everything that happens in an organization.

A run meets `window` (from where to where; pure), `slices` (what is read between two instants, and which of it counts;
pure), `run` (reads and hands over), `report` (what it came to, and why webhooks had not brought it). `duty` starts runs
by itself, in one elected worker; `asked` puts on record what people ask for; `exclusive` lets one process at a time read a
log.

Not here: a vendor's HTTP and filters (`sources`), SQL (`store.positions`), subscriptions (`operations.subscriptions`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.operations.catch_up.asked import caught_up as caught_up
    from webhooks.operations.catch_up.duty import CatchUpDuty as CatchUpDuty
    from webhooks.operations.catch_up.exclusive import Busy as Busy
    from webhooks.operations.catch_up.report import Report as Report
    from webhooks.operations.catch_up.report import likely_cause as likely_cause
    from webhooks.operations.catch_up.report import log_report as log_report
    from webhooks.operations.catch_up.run import CatchUp as CatchUp
    from webhooks.operations.catch_up.slices import Choice as Choice
    from webhooks.operations.catch_up.slices import LogEntry as LogEntry
    from webhooks.operations.catch_up.slices import Slice as Slice
    from webhooks.operations.catch_up.window import Window as Window
    from webhooks.operations.catch_up.window import is_due as is_due
    from webhooks.operations.catch_up.window import moved_mark as moved_mark
    from webhooks.operations.catch_up.window import plan as plan
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "asked": ["caught_up"],
            "duty": ["CatchUpDuty"],
            "exclusive": ["Busy"],
            "report": ["Report", "likely_cause", "log_report"],
            "run": ["CatchUp"],
            "slices": ["Choice", "LogEntry", "Slice"],
            "window": ["Window", "is_due", "moved_mark", "plan"],
        },
    )
