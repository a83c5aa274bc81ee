"""The table of alarms: what each is called, how bad it is, when it is raised, and what to type.

Everything else is checked against it: what the product tells (`conditions`), the page docs/alarms.md, and the rules for
Prometheus. An alarm that needs what no database row says is told outside the product, and `is_in_product` is False.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta


class Severity(enum.IntEnum):
    """How bad it is; larger is worse."""

    INFO = 1  #: something was left as it should not stay
    WARNING = 2  #: work waits or fails; nothing is lost yet
    CRITICAL = 3  #: nothing comes in, or nothing runs

    @property
    def word(self) -> str:
        """As settings, texts and documents write it."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Severity:
        """The severity of that word. Raises KeyError."""
        return cls[word.upper()]


@dataclass(frozen=True, slots=True)
class Alarm:
    """One row.

    about: what the subject is: "handler", "source", "queue", or "" where the installation has one.
    condition: when it is raised, for people.
    lasting: for so long the condition must hold before anything is told; the setting `alarm_after` replaces it.
    command: what to type; `{subject}` stands for the subject.
    is_in_product: False where only something outside can tell it.
    """

    name: str
    severity: Severity
    about: str
    condition: str
    lasting: timedelta
    command: str
    is_in_product: bool = True


def _minutes(number: int) -> timedelta:
    return timedelta(minutes=number)


_ROWS = (
    Alarm(
        "absent",
        Severity.CRITICAL,
        "",
        "no process can ask the database; told by the heartbeat that stops, and by Prometheus",
        _minutes(2),
        "webhooks doctor",
        is_in_product=False,
    ),
    Alarm(
        "not-accepting",
        Severity.CRITICAL,
        "source",
        "20 requests of a source were answered 503 within 3 minutes",
        _minutes(0),
        "curl -s localhost:8000/readyz",
    ),
    Alarm(
        "source-silent",
        Severity.CRITICAL,
        "source",
        "a source has sent nothing for longer than its `expect_within`",
        _minutes(0),
        "webhooks doctor",
    ),
    Alarm(
        "subscription-unhealthy",
        Severity.CRITICAL,
        "source",
        "the sender has paused a subscription to us",
        _minutes(0),
        "webhooks subscriptions list --source {subject}",
    ),
    Alarm(
        "refusing",
        Severity.CRITICAL,
        "source",
        "20 requests of a source were refused for their signature within 15 minutes, and none was stored: a wrong key",
        _minutes(0),
        "webhooks explain",
    ),
    Alarm(
        "no-worker",
        Severity.CRITICAL,
        "handler",
        "deliveries of a handler are due, and no live worker knows it",
        _minutes(2),
        "webhooks handlers",
    ),
    Alarm(
        "queue-without-worker",
        Severity.CRITICAL,
        "queue",
        "deliveries of a queue's handlers are due, and of the live workers none runs that queue",
        _minutes(2),
        "webhooks worker --queues {subject}",
    ),
    Alarm(
        "engine-silent",
        Severity.CRITICAL,
        "",
        "nothing comes of the deliveries that are offered to Celery, its broker takes nothing, or nothing offers any",
        _minutes(2),
        "webhooks worker",
    ),
    Alarm(
        "backlog-old",
        Severity.WARNING,
        "handler",
        "a fresh delivery of a handler has waited for longer than `max_wait`",
        _minutes(2),
        "webhooks stats",
    ),
    Alarm(
        "dead",
        Severity.WARNING,
        "handler",
        "deliveries of a handler died within 15 minutes",
        _minutes(0),
        "webhooks deliveries list --state dead --handler {subject}",
    ),
    Alarm(
        "failing",
        Severity.WARNING,
        "handler",
        "a fifth of a handler's latest runs failed, or all that were tried fail and wait for a retry",
        _minutes(10),
        "webhooks stats",
    ),
    Alarm(
        "circuit-open",
        Severity.WARNING,
        "handler",
        "the circuit breaker of a handler stays open",
        _minutes(5),
        "webhooks handlers",
    ),
    Alarm(
        "lane-blocked",
        Severity.WARNING,
        "handler",
        "dead deliveries hold lanes of an ordered handler",
        _minutes(5),
        "webhooks deliveries list --blocked",
    ),
    Alarm(
        "quarantine",
        Severity.WARNING,
        "source",
        "rightly signed requests of a source could not be read, and wait in quarantine",
        _minutes(5),
        "webhooks quarantine list",
    ),
    Alarm(
        "partition-ending",
        Severity.WARNING,
        "",
        "the last partition of events ends within three days",
        _minutes(15),
        "webhooks db partition",
    ),
    Alarm(
        "partition-held",
        Severity.WARNING,
        "",
        "a partition of events is older than `payload_retention`, and is not dropped because something needs it",
        _minutes(15),
        "webhooks db partition --status",
    ),
    Alarm(
        "paused-long",
        Severity.INFO,
        "handler",
        "a handler has been paused for an hour",
        _minutes(60),
        "webhooks handlers resume {subject}",
    ),
)

#: {name: row}, the worst first.
ALARMS: Mapping[str, Alarm] = {alarm.name: alarm for alarm in _ROWS}

__all__ = ["ALARMS", "Alarm", "Severity"]
