"""What to press about a finding: the button that repairs it, where there is one, or the page that shows more.

Codes are those of `webhooks doctor`; what a button does is an action of its own page. A button is there only where its
endpoint is, and only for who may press it; else the command stands there, to be copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webhooks.dashboard import looks
from webhooks.sources import with_log

if TYPE_CHECKING:
    from webhooks.dashboard.visit import Visit


@dataclass(frozen=True, slots=True)
class Button:
    """One thing to press.

    endpoint: of a page, or of an action (is_action).
    by: which of its values is the subject.
    query: its `q`, with {} for the subject.
    name: its value `name`, where that is not the subject.
    needs: the role that may open it.
    """

    endpoint: str
    label: str
    by: str = ""
    query: str = ""
    name: str | None = None
    is_action: bool = False
    icon: str = ""
    needs: str = "viewer"


@dataclass(frozen=True, slots=True)
class Remedy:
    """A button as a page draws it. address: of an endpoint that is there. is_quiet: it repairs nothing."""

    label: str
    address: str
    is_action: bool
    icon: str
    is_quiet: bool = False


@dataclass(frozen=True, slots=True)
class Advised:
    """A finding with what to press. command: to be copied where nothing can be pressed."""

    finding: Mapping[str, Any]
    remedies: Sequence[Remedy]
    command: str | None


_FAILURES = Button("failures", "See the failures", query="handler:{}")
_REQUEUE = Button("change", "Requeue…", query="handler:{} state:dead", name="requeue", icon="replay", needs="operator")
_HANDLER = Button("handler", "The handler", by="name")
_SOURCE = Button("source", "The source", by="name")
_SUBSCRIPTIONS = Button("subscriptions", "Subscriptions")
_CATCH_UP = Button("catch_up", "Catch up", by="name", is_action=True, icon="source")
#: {code of a finding: what to press, the main thing last}, what stops most first
BUTTONS: Mapping[str, Sequence[Button]] = {
    "no-worker": (Button("processes", "Processes"),),
    "queue-without-worker": (Button("processes", "Processes"),),
    "engine-silent": (Button("processes", "Processes"),),
    "refusing": (_SOURCE, Button("refused", "See what was wrong", by="source")),
    "source-silent": (_SOURCE, _CATCH_UP),
    "subscription-paused": (
        _SUBSCRIPTIONS,
        Button("resume_subscription", "Resume", by="id", is_action=True, icon="play"),
    ),
    "no-subscription": (_SUBSCRIPTIONS,),
    "breaker-open": (_FAILURES, Button("try_one", "Try one now", by="name", is_action=True, icon="play")),
    "handler-paused": (_HANDLER, Button("resume", "Resume", by="name", is_action=True, icon="play")),
    "handler-failing": (_HANDLER, _FAILURES),
    "dead-deliveries": (_FAILURES, _REQUEUE),
    "lane-blocked": (Button("blocked", "See the lanes"), _REQUEUE),
    "orphaned-deliveries": (Button("deliveries", "See them", query="handler:{} state:pending"),),
    "events-without-delivery": (_HANDLER,),
    "quarantine": (Button("quarantine", "See what is held", by="source"),),
    "catch-up-failed": (_SOURCE, _CATCH_UP),
    "catch-up-late": (_SOURCE, _CATCH_UP),
    "types-not-subscribed": (_SUBSCRIPTIONS,),
    "subscription-failing": (_SUBSCRIPTIONS,),
}


#: {code of a finding: the alarm that is told of it}
ALARM_OF: Mapping[str, str] = {
    "refusing": "refusing",
    "source-silent": "source-silent",
    "breaker-open": "circuit-open",
    "handler-paused": "paused-long",
    "handler-failing": "failing",
    "dead-deliveries": "dead",
    "lane-blocked": "lane-blocked",
    "quarantine": "quarantine",
    "queue-without-worker": "queue-without-worker",
}


def with_remedies(visit: Visit, findings: Sequence[Mapping[str, Any]]) -> list[Advised]:
    """Findings with what to press, those first that stop most. findings: the worst level first, which stays so."""
    order = list(BUTTONS)
    levels = list(dict.fromkeys(finding["level"] for finding in findings))

    def rank(finding: Mapping[str, Any]) -> tuple[int, int]:
        code = finding["code"]
        return levels.index(finding["level"]), order.index(code) if code in order else len(order)

    return [advised(visit, finding) for finding in sorted(findings, key=rank)]


def advised(visit: Visit, finding: Mapping[str, Any]) -> Advised:
    """One finding with what to press."""
    remedies = [
        Remedy(button.label, address, button.is_action, button.icon)
        for button in BUTTONS.get(finding["code"], ())
        if visit.has(button.endpoint) and visit.may("operator" if button.is_action else button.needs)
        if (address := _address(visit, button, finding["subject"])) is not None
    ]
    mute = _mute(visit, finding)
    command = finding["command"]
    has_action = any(remedy.is_action for remedy in remedies)
    if command is not None and not has_action and command.startswith("webhooks "):
        command = visit.services.command(command.removeprefix("webhooks "))
    return Advised(finding, [*mute, *remedies], None if has_action else command)


def _mute(visit: Visit, finding: Mapping[str, Any]) -> list[Remedy]:
    """The button that says nothing of it for two hours; none where no target would be told."""
    alarm = ALARM_OF.get(finding["code"])
    if alarm is None or not visit.services.settings.alarms or not visit.may("operator"):
        return []
    address = visit.url("mute_alarm", name=alarm, subject=finding["subject"])
    return [Remedy("Mute 2 h", address, is_action=True, icon="pause", is_quiet=True)]


def _address(visit: Visit, button: Button, subject: str) -> str | None:
    """Of a button; None where it can do nothing about this subject."""
    if button == _CATCH_UP:
        source = visit.services.sources.get(subject)
        return None if source is None or with_log(source) is None else visit.url(button.endpoint, name=subject)
    if button.endpoint == "resume_subscription":
        name = looks.source_of_subscription(visit.services, subject)
        return None if name is None else visit.url(button.endpoint, source=name, id=subject)
    if button.by:
        return visit.url(button.endpoint, **{button.by: subject})
    if button.query:
        return visit.url(button.endpoint, name=button.name, q=button.query.format(subject))
    return visit.url(button.endpoint)


__all__ = ["ALARM_OF", "BUTTONS", "Advised", "Button", "Remedy", "advised", "with_remedies"]
