"""What a target is sent: names, counts, one example id and the command to type.

Never payload, address, key or header; what an example said as its error only where the target has `with_errors`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from webhooks.formats import iso_text, one_line, printable, span
from webhooks.operations.alarms.conditions import cut
from webhooks.operations.alarms.table import ALARMS, Severity
from webhooks.operations.alarms.telling import Tell, TellKind
from webhooks.store import AlarmRow

#: Names that a summary lists; the others are counted.
LISTED = 10


@dataclass(frozen=True, slots=True)
class Notice:
    """One message, as every kind of target can write it.

    id: the same for each attempt at the same message, so that a receiver may leave out the second.
    command: what to type; link: a page that shows more, or "".
    members: of a summary, (kind, name, subject) of each alarm in it.
    """

    id: str
    kind: TellKind
    name: str
    subject: str
    severity: Severity
    text: str
    at: datetime
    since: datetime | None = None
    count: int = 0
    example: int | None = None
    error: str | None = None
    command: str = ""
    link: str = ""
    members: tuple[tuple[TellKind, str, str], ...] = ()

    @property
    def title(self) -> str:
        """One line: how bad, what, about what."""
        word = {TellKind.RESOLVED: "resolved", TellKind.TEST: "test"}.get(self.kind, self.severity.word)
        return f"[{word}] " + " ".join(part for part in (self.name, self.subject) if part)

    def lines(self) -> list[str]:
        """The message for people, a line each."""
        found = [self.title, self.text]
        if self.since is not None and self.kind in (TellKind.AGAIN, TellKind.RAISED, TellKind.WORSE, TellKind.RESOLVED):
            found.append(f"since {iso_text(self.since)[:19]}Z, for {span(max(self.at - self.since, timedelta(0)))}")
        if self.example is not None:
            found.append(f"for example: webhooks deliveries show {self.example}")
        if self.error:
            found.append(f"error: {self.error}")
        if self.command:
            found.append(f"type: {self.command}")
        if self.link:
            found.append(self.link)
        return [printable(one_line(line, 500)) for line in found]

    def document(self) -> dict[str, Any]:
        """The message as a JSON document, the same for `webhook` and `command`."""
        return {
            "id": self.id,
            "type": f"alarm.{self.kind.value}",
            "timestamp": iso_text(self.at),
            "data": {
                "alarm": self.name,
                "subject": self.subject,
                "severity": self.severity.word,
                "text": self.text,
                "since": None if self.since is None else iso_text(self.since),
                "count": self.count,
                "example": None if self.example is None else str(self.example),
                "error": self.error,
                "command": self.command,
                "link": self.link or None,
                "alarms": [
                    {"kind": kind.value, "alarm": name, "subject": subject} for kind, name, subject in self.members
                ],
            },
        }


def notice(
    tells: Sequence[Tell],
    at: datetime,
    *,
    link: str = "",
    errors: Mapping[tuple[str, str], str | None] | None = None,
) -> Notice:
    """The message for one thing to tell, or a summary of several.

    at: the time of the look.
    link: of the dashboard.
    errors: {(name, subject): what its example said}, for targets that ask for it.
    """
    if len(tells) > 1:
        return _summary(tells, at, link)
    kind, row = tells[0].kind, tells[0].row
    said = (errors or {}).get(row.key)
    is_over = kind is TellKind.RESOLVED
    return Notice(
        id=_id(kind, row, at),
        kind=kind,
        name=row.name,
        subject=row.subject,
        severity=Severity(row.severity),
        text=f"over: {row.text}" if is_over else row.text,
        at=at,
        since=row.since,
        count=row.count,
        example=None if is_over else row.example,
        error=cut(said) if said and not is_over else None,
        command="" if is_over else ALARMS[row.name].command.format(subject=row.subject),
        link=link,
    )


def _summary(tells: Sequence[Tell], at: datetime, link: str) -> Notice:
    worst = Severity(max(tell.row.severity for tell in tells))
    named = [f"{tell.row.name} {tell.row.subject}".strip() for tell in tells if tell.kind is not TellKind.RESOLVED]
    over = len(tells) - len(named)
    shown = ", ".join(named[:LISTED]) + (f" and {len(named) - LISTED} more" if len(named) > LISTED else "")
    parts = [f"{len(named)} more alarms: {shown}"] if named else []
    if over:
        parts.append(f"{over} are over")
    return Notice(
        id=f"summary-{int(at.timestamp())}",
        kind=TellKind.SUMMARY,
        name="summary",
        subject="",
        severity=worst,
        text="; ".join(parts),
        at=at,
        count=len(tells),
        command="webhooks alarms",
        link=link,
        members=tuple((tell.kind, tell.row.name, tell.row.subject) for tell in tells),
    )


def trial_notice(at: datetime, link: str = "") -> Notice:
    """What `webhooks alarms test` sends."""
    return Notice(
        id=f"test-{int(at.timestamp() * 1000)}",
        kind=TellKind.TEST,
        name="test",
        subject="",
        severity=Severity.INFO,
        text="this target hears of alarms; nothing is wrong",
        at=at,
        command="webhooks alarms",
        link=link,
    )


def _id(kind: TellKind, row: AlarmRow, at: datetime) -> str:
    """Stable over attempts at one message; a repetition four hours later is another one.

    A digest, since Standard Webhooks signs `id.timestamp.body`, and a handler's name may have a dot.
    """
    since = 0 if row.since is None else int(row.since.timestamp())
    period = int(at.timestamp()) // 3600 if kind is TellKind.AGAIN else 0
    text = "\0".join((kind.value, row.name, row.subject, str(since), str(period)))
    return f"{kind.value}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


__all__ = ["Notice", "notice", "trial_notice"]
