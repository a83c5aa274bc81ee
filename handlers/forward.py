"""Pass chosen events on to other URLs, signed by Standard Webhooks.

Targets come from settings only, never from an event. `FORWARD_TARGETS` is JSON, or `FORWARD_TARGETS_FILE` names a file of it:

    {"warehouse": {"url": "https://warehouse.example/hooks", "secret": "whsec_…", "types": ["lead.*", "activity.**"]}}

`types` are patterns as in `@on`. Each target is a handler of its own, `forward.warehouse`: it retries alone, can be paused
alone, and `webhooks replay --handler forward.warehouse` sends the past again. Optional: `source` (default `close`) and
`timeout_seconds` (default 10). Without the setting this plugin does nothing. It needs `webhooks-consumer[http]`.

The body is `{"type", "timestamp", "source", "data"}`; `data` holds the sender's own bytes, unchanged. Receivers verify it with
any Standard Webhooks library; another instance of this service does so with `scheme = "standard"`.

The techniques, for your own handlers:

* **Outgoing HTTP runs at least once**, because no transaction spans two machines. So the receiver gets a key that stays the
  same over every attempt and after a crash, as `webhook-id` and as `idempotency-key`, and can drop the second copy.
* **`Retry-After`** of an error is obeyed: the dispatcher reads it from the `response` of the exception.
* **Nothing leaves by a side door**: no redirects (a signed body would go where no one chose), https unless the target is
  this machine, no proxy or password taken from the environment, no URL in an error (it may hold a token).

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import ipaddress
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from webhooks import ConfigurationError, Delivery, Discard, Event, Registry, on, trace_headers

SETTING = "FORWARD_TARGETS"
#: What connecting, and each wait after that, may take; the handler's own timeout, a little longer, bounds it all.
DEFAULT_TIMEOUT = timedelta(seconds=10)
#: An answer that says it is no longer than this is read, so that its connection can be used again.
SHORT_ANSWER = 10_000

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_KEYS = {"url", "secret", "types", "source", "timeout_seconds"}
#: Bytes of a secret that the specification allows.
_SECRET_BYTES = range(24, 65)


class NotTaken(Exception):
    """The target did not take the event. response: its answer, if there was one; holds `Retry-After`."""

    def __init__(self, text: str, response: Any = None) -> None:
        super().__init__(text)
        self.response = response


@dataclass(frozen=True)
class Target:
    """Where events go. types: patterns. secret: the key's bytes."""

    name: str
    url: str = field(repr=False)
    secret: bytes = field(repr=False)
    types: tuple[str, ...]
    source: str = "close"
    timeout: timedelta = DEFAULT_TIMEOUT

    @cached_property
    def client(self) -> Any:
        """Made at first use, kept for its connections; safe to use from many threads."""
        import httpx2

        return httpx2.Client(follow_redirects=False, trust_env=False, timeout=self.timeout.total_seconds())

    def forward(self, event: Event, delivery: Delivery) -> None:
        """Post one event. Raises `NotTaken`, and `Discard` when the target says that it is gone for good."""
        import httpx2

        id, body = f"msg_{digest(delivery.idempotency_key)}", body_of(event)
        headers = {
            "content-type": "application/json",
            "user-agent": "webhooks-forward",
            "idempotency-key": id,
            **sign(id, int(time.time()), body, self.secret),
            **trace_headers(),
        }
        try:
            with self.client.stream("POST", self.url, content=body, headers=headers) as response:
                status = response.status_code
                length = response.headers.get("content-length", "")
                if length.isdecimal() and len(length) < 10 and int(length) <= SHORT_ANSWER:
                    response.read()  # what it says is of no interest; a longer one, or one without end, is cut off
        except httpx2.HTTPError as error:
            # not chained: the library's error shows the address
            raise NotTaken(f"target {self.name!r} gave no answer ({type(error).__name__})") from None
        if 200 <= status < 300:
            return
        if status == 410:  # so the specification: the receiver wants no more of this
            raise Discard(f"target {self.name!r} is gone (410); take it out of {SETTING}")
        if 300 <= status < 400:
            raise NotTaken(
                f"target {self.name!r} answered {status}; redirects are not followed: put its new URL into {SETTING}"
            )
        raise NotTaken(f"target {self.name!r} answered {status}", response)


# -- the message ---------------------------------------------------------------------------------------------


def body_of(event: Event) -> bytes:
    """The body: the sender's JSON as its bytes under `data`, or its text under `data.body` when it is no JSON."""
    head = {"type": event.type, "timestamp": event.occurred_at.isoformat(), "source": event.source}
    try:
        json.loads(event.raw.decode("utf-8"), parse_constant=_refuse)  # bytes would be taken for UTF-16, too
        data = event.raw
    except (ValueError, RecursionError):
        data = json.dumps({"body": event.raw.decode("utf-8", "replace")}).encode()
    return json.dumps(head)[:-1].encode() + b', "data": ' + data + b"}"


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def sign(id: str, timestamp: int, body: bytes, secret: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks."""
    mac = hmac.digest(secret, f"{id}.{timestamp}.".encode() + body, "sha256")
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def digest(key: str) -> str:
    """A key as an id without dots, which would end it in the signed text."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


# -- settings ------------------------------------------------------------------------------------------------


def read_targets(environ: Mapping[str, str]) -> list[Target]:
    """The targets of the settings. Raises `ConfigurationError` with every mistake, none of them showing a secret."""
    text, where = environ.get(SETTING, ""), SETTING
    if file := environ.get(f"{SETTING}_FILE"):
        where = f"{SETTING}_FILE"
        if text:
            raise ConfigurationError(f"{SETTING} and {where} are both set; keep one")
        try:
            text = Path(file).read_text("utf-8")
        except (OSError, ValueError) as error:  # ValueError: it is not UTF-8, or no name at all
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            # targets themselves, with their secrets, may stand in the file's place
            shown = repr(file) if re.fullmatch(r"[A-Za-z0-9_./~-]{1,200}\.[a-z]{1,5}", file) else "what must be a path"
            raise ConfigurationError(f"{where}: {shown} cannot be read: {reason}") from None
    if not text.strip():
        return []
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigurationError(f"{where} is not JSON{place}; write {_EXAMPLE}") from None
    if not isinstance(given, dict):
        raise ConfigurationError(f"{where} is no JSON object; write {_EXAMPLE}")
    problems: list[str] = []
    targets = [_read_target(name, value, f"{where}, target {name!r}", problems) for name, value in given.items()]
    if targets and importlib.util.find_spec("httpx2") is None:
        problems.append(f"{where} is set, and forwarding needs an HTTP client: pip install 'webhooks-consumer[http]'")
    if problems:
        raise ConfigurationError(problems)
    return [target for target in targets if target is not None]


_EXAMPLE = '{"warehouse": {"url": "https://…", "secret": "whsec_…", "types": ["lead.*"]}}'


def _read_target(name: str, value: Any, where: str, problems: list[str]) -> Target | None:
    before = len(problems)

    def require(holds: object, text: str) -> None:
        if not holds:
            problems.append(f"{where}: {text}")

    require(_NAME.fullmatch(name), "a name is 1 to 40 of a-z, 0-9, _ and -; it becomes the handler's, forward.<name>")
    if not isinstance(value, dict):
        require(False, 'expected an object with "url", "secret" and "types"')
        return None
    unknown = sorted(set(value) - _KEYS)
    require(not unknown, f"unknown {', '.join(map(repr, unknown))}; there are {', '.join(sorted(_KEYS))}")
    url, types, source = value.get("url"), value.get("types"), value.get("source", "close")
    if reason := _wrong_with(url):
        require(False, f"url {reason}")
    secret = _read_secret(value.get("secret"))
    require(
        secret is not None,
        "secret is not whsec_ and base64 of 24 to 64 bytes; make one with: "
        "python -c \"import base64, os; print('whsec_' + base64.b64encode(os.urandom(32)).decode())\"",
    )
    require(
        isinstance(types, list) and types and all(isinstance(each, str) and each for each in types),
        'types is no list of patterns, such as ["lead.*"]',
    )
    require(isinstance(source, str) and source, "source is no name of a source, such as close")
    seconds = value.get("timeout_seconds", DEFAULT_TIMEOUT.total_seconds())
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    require(is_number and 0 < seconds <= 300, "timeout_seconds is no number above 0, up to 300")
    if len(problems) > before:
        return None
    assert secret is not None
    return Target(name, str(url), secret, tuple(types or ()), source, timedelta(seconds=seconds))


def _wrong_with(url: Any) -> str | None:
    """What is wrong with a target's URL; None when it may be used. The text does not show it: it may hold a token."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return "is no address; write https://host/path"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no address; write https://host/path"
    if parts.scheme not in ("https", "http") or not host:
        return "is no address; write https://host/path"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password; requests are signed, so take it out"
    if parts.fragment:
        return "ends in #…, which is not sent; take it out"
    if parts.scheme == "http" and not _is_loopback(host):
        return "is http; use https (http is for this machine only: localhost, 127.0.0.1, ::1)"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_secret(text: Any) -> bytes | None:
    if not isinstance(text, str) or not text.startswith("whsec_"):
        return None
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return None
    return secret if len(secret) in _SECRET_BYTES else None


# -- the handlers --------------------------------------------------------------------------------------------


def register(target: Target, registry: Registry | None = None) -> None:
    """Make a target's handler."""

    @on(
        *target.types,
        source=target.source,
        name=f"forward.{target.name}",
        timeout=target.timeout + timedelta(seconds=5),
        registry=registry,
    )
    def forward(event: Event, delivery: Delivery) -> None:
        target.forward(event, delivery)


for _target in read_targets(os.environ):
    register(_target)
