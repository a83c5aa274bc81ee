"""What stands around every page: where one can go, with how many things wait there.

Counts beside the links come from what a worker noted last (each minute, and at each examination), in one statement that
is kept for a second, or from what a page of this process saw since: never from a query of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from webhooks.dashboard import looks
from webhooks.dashboard.services import Services
from webhooks.operations.examinations import DOCTOR
from webhooks.operations.figures import COUNTS


class Link(NamedTuple):
    """One place to go. endpoint: left out where it is not registered. key: of the keyboard, after `g`."""

    endpoint: str
    label: str
    icon: str
    key: str = ""


#: The navigation, in two parts.
NAVIGATION: tuple[Link, ...] = (
    Link("console", "Console", "send", "c"),
    Link("local_close", "Local Close", "source"),
    Link("overview", "Overview", "overview", "o"),
    Link("events", "Events", "event", "e"),
    Link("failures", "Failures", "warning", "f"),
    Link("handlers", "Handlers", "handler", "h"),
    Link("sources", "Sources", "source", "s"),
    Link("refused", "Refused", "refused"),
    Link("quarantine", "Quarantine", "quarantine"),
    Link("replays", "Replays", "replay", "r"),
)
OPERATE: tuple[Link, ...] = (
    Link("doctor", "Doctor", "doctor", "d"),
    Link("subscriptions", "Subscriptions", "subscription"),
    Link("processes", "Processes", "process"),
    Link("activity", "Activity", "activity", "a"),
)


@dataclass(frozen=True, slots=True)
class Count:
    """A number beside a link. kind: "bad", "warn" or ""; what: of what, for who does not see the colour."""

    number: int
    kind: str
    what: str


def counts(services: Services) -> Mapping[str, Count]:
    """{endpoint: what waits there}; an endpoint without an entry has no number beside it."""
    noted = looks.snapshots(services)
    counted = dict(noted[COUNTS].body) if COUNTS in noted else {}
    findings: Sequence[Mapping[str, Any]] = noted[DOCTOR].body["findings"] if DOCTOR in noted else ()
    standing: looks.Looks | None = services.kept.peek("stand")
    if standing is not None and (COUNTS not in noted or standing.gauges.at > noted[COUNTS].at):
        counted |= {"dead": standing.add_up(lambda backlog: backlog.dead)[0], "quarantined": standing.quarantined}
        findings = standing.findings
    problems = sum(each["level"] != "note" for each in findings)
    is_bad = any(each["level"] == "error" for each in findings)
    return {
        "failures": Count(counted.get("dead", 0), "bad", "dead"),
        "refused": Count(counted.get("refused", 0), "", "refused in 24 hours"),
        "quarantine": Count(counted.get("quarantined", 0), "warn", "held"),
        "doctor": Count(problems, "bad" if is_bad else "warn", "to repair"),
    }


__all__ = ["NAVIGATION", "OPERATE", "Count", "Link", "counts"]
