"""The sections `[alarms.<name>]`: who is told of alarms, and how.

Names of alarms (`only`) are checked where the table of alarms is known, in `app`; what a file holds is read when a message
is sent, so a changed key needs no restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from webhooks.formats import did_you_mean
from webhooks.formats import json as jsonio
from webhooks.settings.values import (
    Reader,
    count,
    duration,
    one_of,
    read_bool,
    read_names,
    read_path,
    read_text,
)

KINDS = ("slack", "webhook", "email", "command")
#: {kind: keys without which it cannot tell anything}
NEEDED: Mapping[str, tuple[str, ...]] = {
    "slack": ("url_file",),
    "webhook": ("url_file", "secret_file"),
    "email": ("smtp_host", "sender", "to"),
    "command": ("command",),
}


@dataclass(frozen=True, slots=True)
class AlarmTarget:
    """Who is told; a section `[alarms.<name>]`.

    kind: "slack", "webhook", "email" or "command".
    severity: the least that is told: "info", "warning" or "critical".
    only: names of alarms; empty for all.
    with_errors: whether the error of an example is told, which may hold what a sender wrote.
    url_file: a file with the address, for slack and webhook.
    secret_file: a file with the key that signs, `whsec_…`, for webhook.
    smtp_host, smtp_port, tls, user, password_file, sender, to: for email; tls is "starttls", "tls" or "none".
    command: program and arguments, for command.
    """

    name: str
    kind: str
    severity: str = "warning"
    only: tuple[str, ...] = ()
    with_errors: bool = False
    url_file: Path | None = None
    secret_file: Path | None = None
    smtp_host: str = ""
    smtp_port: int = 587
    tls: str = "starttls"
    user: str = ""
    password_file: Path | None = None
    sender: str = ""
    to: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def _path(value: Any) -> Path:
    return read_path(str(value) if isinstance(value, Path) else value)


def _words(value: Any) -> tuple[str, ...]:
    """A program and its arguments: a list, or text without quotes that is split at spaces."""
    if isinstance(value, str) and not value.strip().startswith("["):
        return tuple(read_text(value).split())
    return read_names(value)


#: {key of a section: how it is read}
TARGET_READERS: Mapping[str, Reader] = {
    "kind": one_of(*KINDS),
    "severity": one_of("info", "warning", "critical"),
    "only": read_names,
    "with_errors": read_bool,
    "url_file": _path,
    "secret_file": _path,
    "smtp_host": read_text,
    "smtp_port": count(1, 65535),
    "tls": one_of("starttls", "tls", "none"),
    "user": read_text,
    "password_file": _path,
    "sender": read_text,
    "to": read_names,
    "command": _words,
}


def read_waits(value: Any) -> Mapping[str, timedelta]:
    """{alarm: for how long it must stand}, from a table, or from JSON of one. Raises ValueError."""
    expected = 'expected a table of alarms and durations, such as { no-worker = "10m" }'
    if isinstance(value, str):
        try:
            value = jsonio.load(value.encode())
        except jsonio.ERRORS:
            raise ValueError(expected) from None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(expected)
    read = duration("0s", "30d")
    return {name: read(each) for name, each in value.items()}


def read_target(name: str, section: Mapping[str, Any]) -> tuple[AlarmTarget | None, list[tuple[str, str]]]:
    """The target that a section describes, and what is wrong with it: (key, problem), key "" for the whole of it."""
    given: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for key, raw in section.items():
        reader = TARGET_READERS.get(key)
        if reader is None:
            problems.append((key, f"there is no such key of an alarm's target{did_you_mean(key, TARGET_READERS)}"))
            continue
        try:
            given[key] = reader(raw)
        except ValueError as error:
            problems.append((key, str(error)))
    if "kind" not in section:
        problems.append(("", f"it has no kind; expected {', '.join(KINDS)}"))
    if missing := [key for key in NEEDED.get(given.get("kind", ""), ()) if key not in section]:
        problems.append(("", f"a target of kind {given['kind']} needs {' and '.join(missing)}"))
    return (None if problems else AlarmTarget(name=name, **given)), problems


#: Keys with their defaults, for documentation and tests.
TARGET_KEYS = {f.name: None if f.default is MISSING else f.default for f in fields(AlarmTarget) if f.name != "name"}

__all__ = ["KINDS", "TARGET_KEYS", "TARGET_READERS", "AlarmTarget", "read_target", "read_waits"]
