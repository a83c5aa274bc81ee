"""What may be wrong with being told: a target that takes nothing, no dead man's switch, silence that nothing watches. Pure."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta
from typing import TYPE_CHECKING

from webhooks.formats import one_line, show_duration, shown_instant
from webhooks.operations.doctor.facts import Facts, SourceFacts
from webhooks.operations.doctor.findings import Complaint, Level
from webhooks.operations.doctor.source_checks import LEAST_GAPS

if TYPE_CHECKING:
    from webhooks.store import TargetState

#: How far back silences are looked for,
LEARNED_FROM = timedelta(days=14)
#: and how many times the longest of them is proposed as `expect_within`.
LEARNED_FACTOR = 4
#: Proposed at least where the arrivals that are looked at do not reach back so far: they may show no night.
AT_LEAST_A_NIGHT = timedelta(days=1)


def alarm_target_failing(target: TargetState) -> Complaint | None:
    """It does not take what it is sent."""
    if target.failing_since is None:
        return None
    is_switch = target.name.startswith(":")
    what = "the dead man's switch (heartbeat_url)" if is_switch else f"the alarm target {target.name!r}"
    return Complaint(
        Level.WARNING,
        target.name.lstrip(":"),
        f"{what} has failed since {shown_instant(target.failing_since)}: {one_line(target.error or 'no reason is known')}",
        "webhooks alarms" if is_switch else f"webhooks alarms test {target.name}",
    )


def no_heartbeat(facts: Facts) -> Complaint | None:
    """Alarms are told, and nothing tells when all of this is gone."""
    if not facts.alarm_targets or facts.has_heartbeat:
        return None
    text = (
        "alarms are told by this installation alone: when its machine or its database is gone, nothing is told; set "
        "heartbeat_url to a dead man's switch"
    )
    return Complaint(Level.NOTE, "alarms", text)


def silence_not_watched(source: SourceFacts) -> Complaint | None:
    """No alarm is raised when nothing comes."""
    proposed = expect_within(source)
    if proposed is None:
        return None
    text = (
        f"no alarm is raised when {source.name} falls silent; from its latest arrivals: "
        f'expect_within = "{show_duration(proposed)}" in [sources.{source.name}]'
    )
    return Complaint(Level.NOTE, source.name, text)


def expect_within(source: SourceFacts) -> timedelta | None:
    """What to propose: four times the longest silence of two weeks, in whole hours; None where too little came.

    Of a busy source the latest arrivals may reach back less far, and then at least a day is proposed.
    """
    since = source.database_now - LEARNED_FROM
    recent = [at for at in source.arrivals if at >= since]
    if len(recent) <= LEAST_GAPS:
        return None
    longest = max(later - earlier for earlier, later in itertools.pairwise(recent))
    proposed = timedelta(hours=max(1, math.ceil(longest * LEARNED_FACTOR / timedelta(hours=1))))
    reaches_back = recent[0] - since <= longest or len(recent) < len(source.arrivals)
    return proposed if reaches_back else max(proposed, AT_LEAST_A_NIGHT)


__all__ = ["alarm_target_failing", "expect_within", "no_heartbeat", "silence_not_watched"]
