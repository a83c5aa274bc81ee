"""How a source deals with its sender beside events: methods, compressed bodies, handshakes, pings, and what a 2xx carries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from webhooks.model import Challenge
from webhooks.settings import shown
from webhooks.sources.declared.greetings import Greeting, greeting_problems, ping_problems, read_greetings
from webhooks.sources.declared.scheme import MACS, Scheme

#: Options that are read here; every declared source knows them.
OPTIONS = frozenset(("methods", "gzip", "handshake", "pings", "success", "success_for"))
DELIVERING = ("POST", "PUT", "GET", "PATCH")
_ANSWER = ("status", "type", "body", "headers")
_VALUE = re.compile(r"[ -~]{0,1000}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
#: Headers that are the server's.
_FRAMING = frozenset(("content-length", "transfer-encoding", "connection", "content-type", "date", "server"))


@dataclass(frozen=True)
class Manners:
    """See the module. success: None is our own JSON. success_for: {event type: answer}."""

    methods: frozenset[str] = frozenset(("POST",))
    gzip: bool = False
    greetings: tuple[Greeting, ...] = ()
    pings: tuple[str, ...] = ()
    success: Challenge | None = None
    success_for: Mapping[str, Challenge] | None = None


def read_manners(row: Scheme, options: Mapping[str, Any]) -> tuple[Manners, list[str]]:
    """What a row and a source's options say, and what is wrong with these."""
    wrong: list[str] = []
    success = None if row.success is None else Challenge(row.success[1].encode(), row.success[0])
    made = Manners(greetings=row.greetings, pings=row.pings, success=success)
    for name in OPTIONS & options.keys():
        try:
            made = replace(made, **{_FIELDS.get(name, name): _READERS[name](options[name])})
        except ValueError as error:
            wrong.append(str(error))
    for greeting in made.greetings:
        wrong += greeting_problems(greeting, row.body, row.algorithm in MACS)
    wrong += ping_problems(made.pings)
    if "GET" in made.methods and row.body in ("json", "multipart"):
        wrong.append("methods names GET, whose event is the query: set body to 'form' or 'json-or-form'")
    return made, wrong


def _methods(value: Any) -> frozenset[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not texts or any(each not in DELIVERING for each in texts):
        raise ValueError(f"methods is {shown(value)}; it must be a list of {', '.join(DELIVERING)}")
    return frozenset(texts)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("gzip must be true or false")
    return value


def _pings(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) and 0 < len(text) <= 200 for text in texts):
        raise ValueError("pings must be a list of shapes of whole bodies, such as ['webhook_id=[0-9]+']")
    return tuple(texts)


def _success(value: Any) -> Challenge:
    """What a 2xx carries. Raises ValueError."""
    if not isinstance(value, Mapping) or set(value) - set(_ANSWER):
        raise ValueError(
            "success must be a table of status, type, body and headers, such as { status = 200, body = '' }"
        )
    status, kind, body = value.get("status", 200), value.get("type", "text/plain; charset=utf-8"), value.get("body", "")
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 299:
        raise ValueError("success.status must be from 200 to 299: another status would have the event sent again")
    if not isinstance(kind, str) or not isinstance(body, str) or not _VALUE.fullmatch(kind):
        raise ValueError("success.type and success.body must be text")
    if status == 204 and body:
        raise ValueError("success.status 204 has no body")
    headers = value.get("headers", {})
    if not isinstance(headers, Mapping) or not all(_is_header(*pair) for pair in headers.items()):
        raise ValueError(
            "success.headers must be a table of headers and plain values, without those that frame an answer"
        )
    return Challenge(body.encode("utf-8"), kind, status, tuple(headers.items()))


def _is_header(name: Any, value: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and _NAME.fullmatch(name) is not None
        and name.lower() not in _FRAMING
        and _VALUE.fullmatch(value) is not None
    )


def _success_for(value: Any) -> Mapping[str, Challenge]:
    if not isinstance(value, Mapping) or not all(isinstance(kind, str) for kind in value):
        raise ValueError("success_for must be a table of event types, each with a table as success has it")
    return {kind: _success(each) for kind, each in value.items()}


_READERS: Mapping[str, Any] = {
    "methods": _methods,
    "gzip": _flag,
    "handshake": read_greetings,
    "pings": _pings,
    "success": _success,
    "success_for": _success_for,
}
_FIELDS = {"handshake": "greetings"}


__all__ = ["OPTIONS", "Manners", "read_manners"]
