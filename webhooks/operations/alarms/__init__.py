"""Tell people what is wrong before users notice: alarms in the product, and a dead man's switch.

Promises: an alarm is told to each target at least once, again every four hours, and once when it is over, whichever
process dies in between; texts hold names, counts, one example id and a command, never payload, address or key. Not here:
figures for Prometheus and its rules (`deploy/prometheus`), which are checked against the same table.

`table` says which alarms there are. `collect` asks the store, `conditions` says what stands, `telling` who is told what,
`messages` in which words, `links` where they lead, `targets` sends them; `duty` is when, and in which process. `muting` is what
people ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.operations.alarms.conditions import AlarmBounds as AlarmBounds
    from webhooks.operations.alarms.conditions import held_for as held_for
    from webhooks.operations.alarms.duty import AlarmDuty as AlarmDuty
    from webhooks.operations.alarms.duty import AlarmWatch as AlarmWatch
    from webhooks.operations.alarms.duty import StandIn as StandIn
    from webhooks.operations.alarms.links import AlarmLinks as AlarmLinks
    from webhooks.operations.alarms.muting import mute as mute
    from webhooks.operations.alarms.table import ALARMS as ALARMS
    from webhooks.operations.alarms.table import Alarm as Alarm
    from webhooks.operations.alarms.table import Severity as Severity
    from webhooks.operations.alarms.targets import NotTold as NotTold
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "conditions": ["AlarmBounds", "held_for"],
            "duty": ["AlarmDuty", "AlarmWatch", "StandIn"],
            "links": ["AlarmLinks"],
            "muting": ["mute"],
            "table": ["ALARMS", "Alarm", "Severity"],
            "targets": ["NotTold"],
        },
    )
