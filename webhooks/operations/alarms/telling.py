"""Who is told what, and when: pure functions of what stands, what is on record, and the time.

An alarm is told to a target once it has stood for long enough, again every `REPEAT` while it stands, when it gets worse,
and once when it is over. What was told is on record only after the target answered, so a message may come twice, and
none is lost: not by a worker that dies, and not by a target that is unavailable for an hour.

A target gets at most `MOST_AN_HOUR` messages an hour; the last of them sums up all others. A muted alarm is neither told
nor repeated; that it is over is told to those that heard of it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from webhooks.operations.alarms.conditions import StandingAlarm
from webhooks.operations.alarms.table import ALARMS, Severity
from webhooks.store import EVERY, AlarmRow, TargetState, Told

#: While an alarm stands it is told again after this long.
REPEAT = timedelta(hours=4)
#: Messages that a target gets in an hour.
MOST_AN_HOUR = 20
#: A target that did not answer is tried again after this long, twice as long each time,
FIRST_RETRY = timedelta(seconds=30)
#: at most this long,
LONGEST_RETRY = timedelta(minutes=10)
#: and, once it has failed for an hour, after that.
GIVE_UP = timedelta(hours=1)

Key = tuple[str, str]
Rows = Mapping[Key, AlarmRow]


class TellKind(enum.StrEnum):
    """Why a target is told."""

    RAISED = "raised"  #: it has stood for long enough
    AGAIN = "again"  #: it stands still
    WORSE = "worse"  #: its severity grew since it was told
    RESOLVED = "resolved"  #: it stands no more
    SUMMARY = "summary"  #: more alarms than a target gets messages for
    TEST = "test"  #: `webhooks alarms test` was typed


@dataclass(frozen=True, slots=True)
class Audience:
    """What one target wants to hear. only: names of alarms; empty for all."""

    name: str
    least: Severity = Severity.WARNING
    only: frozenset[str] = frozenset()

    def wants(self, name: str, severity: int) -> bool:
        """Whether it is told of an alarm of that name and severity."""
        return severity >= self.least and (not self.only or name in self.only)


@dataclass(frozen=True, slots=True)
class Tell:
    """One thing that a target is to be told of one alarm."""

    kind: TellKind
    row: AlarmRow


@dataclass(frozen=True, slots=True)
class AlarmLook:
    """What one look came to. rows: as they are from now on; gone: those that nothing is kept for."""

    rows: Rows
    gone: frozenset[Key]


def look(rows: Rows, standing: Iterable[StandingAlarm], at: datetime, audiences: Sequence[Audience]) -> AlarmLook:
    """Take what stands into what is on record.

    rows: as they are on record.
    at: the time of the look.
    audiences: of the targets; of others what they were told is forgotten.
    """
    known = {audience.name for audience in audiences}
    current = {each.key: each for each in standing}
    kept: dict[Key, AlarmRow] = {}
    gone: set[Key] = set()
    for key in {**rows, **current}:
        row = rows.get(key, AlarmRow(*key))
        row = dataclasses.replace(row, told={name: told for name, told in row.told.items() if name in known})
        if key in current:
            kept[key] = _seen(row, current[key], at)
        elif row.told:
            kept[key] = row if row.ended_at is not None else dataclasses.replace(row, ended_at=at)
        elif row.muted_until is not None and row.muted_until > at:
            kept[key] = AlarmRow(*key, muted_until=row.muted_until)
        else:
            gone.add(key)
    return AlarmLook(kept, frozenset(gone))


def _seen(row: AlarmRow, each: StandingAlarm, at: datetime) -> AlarmRow:
    # where the figures say when it began, a process that has just taken the duty over need not wait anew
    began = at if each.began_at is None else min(at, each.began_at)
    return dataclasses.replace(
        row,
        since=began if row.since is None else min(row.since, began),
        ended_at=None,
        severity=int(each.severity),
        text=each.text,
        count=each.count,
        example=each.example,
    )


def tells(rows: Rows, audience: Audience, at: datetime, wait: Callable[[str], timedelta]) -> list[Tell]:
    """What a target is to be told now, the worst first, ends after beginnings."""
    found = [Tell(kind, row) for row in rows.values() if (kind := _kind(rows, row, audience, at, wait)) is not None]
    order = list(ALARMS)
    return sorted(
        found,
        key=lambda tell: (
            tell.kind is TellKind.RESOLVED,
            -tell.row.severity,
            order.index(tell.row.name) if tell.row.name in order else len(order),
            tell.row.subject,
        ),
    )


def _kind(
    rows: Rows, row: AlarmRow, audience: Audience, at: datetime, wait: Callable[[str], timedelta]
) -> TellKind | None:
    told = row.told.get(audience.name)
    if row.since is None:
        return None
    if row.ended_at is not None:
        return TellKind.RESOLVED if told is not None else None
    if not audience.wants(row.name, row.severity) or is_muted(rows, row, at):
        return None
    if told is None:
        return TellKind.RAISED if at - row.since >= wait(row.name) else None
    if row.severity > told.severity:
        return TellKind.WORSE
    return TellKind.AGAIN if at - told.at >= REPEAT else None


def is_muted(rows: Rows, row: AlarmRow, at: datetime) -> bool:
    """Whether nothing is said of an alarm now, by itself or by all of its name."""
    general = rows.get((row.name, EVERY))
    return any(each is not None and each.muted_until is not None and each.muted_until > at for each in (row, general))


def heard(row: AlarmRow, target: str, tell: Tell, at: datetime) -> AlarmRow:
    """The row once a target has answered."""
    told = {name: each for name, each in row.told.items() if name != target}
    if tell.kind is not TellKind.RESOLVED:
        told[target] = Told(at, tell.row.severity, tell.row.since or at)
    return dataclasses.replace(row, told=told)


def packed(waiting: Sequence[Tell], state: TargetState, at: datetime) -> list[list[Tell]]:
    """What is sent now, a list a message: nearly always one each, and one for the rest where there are too many."""
    room = MOST_AN_HOUR - len([sent for sent in state.sent if at - sent < timedelta(hours=1)])
    if not waiting or room <= 0:
        return []
    if len(waiting) <= room:
        return [[tell] for tell in waiting]
    single = room - 1
    return [[tell] for tell in waiting[:single]] + [list(waiting[single:])]


def may_try(state: TargetState, at: datetime) -> bool:
    """Whether a target that did not answer is to be tried again by now."""
    if state.failing_since is None or state.tried_at is None:
        return True
    if state.tried_at - state.failing_since >= GIVE_UP:
        return at - state.tried_at >= GIVE_UP
    pause: timedelta = min(FIRST_RETRY * 2 ** min(state.failures - 1, 10), LONGEST_RETRY)
    return at - state.tried_at >= pause


def after(state: TargetState, at: datetime, error: str | None) -> TargetState:
    """How a target stands after a message. error: why it failed; None when it was answered."""
    recent = tuple(sent for sent in state.sent if at - sent < timedelta(hours=1))
    if error is None:
        return TargetState(state.name, at, sent=(*recent, at))
    return TargetState(state.name, at, state.failures + 1, state.failing_since or at, error, recent)


__all__ = [
    "GIVE_UP",
    "MOST_AN_HOUR",
    "REPEAT",
    "AlarmLook",
    "Audience",
    "Tell",
    "TellKind",
    "after",
    "heard",
    "is_muted",
    "look",
    "may_try",
    "packed",
    "tells",
]
