"""Who uses the local Close: two people, their keys, and how many requests each may make.

Ines Moreau is an administrator, Tomasz Brandt is not; a third key is an OAuth application's token. The keys are no
secrets: they open nothing but a process on this machine.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from webhooks.sandbox.refusals import TooMany, Unauthorized
from webhooks.sandbox.rules import Rules

#: Use as Basic user name with an empty password.
ADMIN_KEY = "api_local.admin"
MEMBER_KEY = "api_local.member"
#: Use as bearer token; an administrator's.
OAUTH_TOKEN = "local-oauth-token"

ORGANIZATION = "orga_hTkS4vHObGGcw3pd0OGhMige2dcldlWh1QJOlVtfmxz"


@dataclass(frozen=True)
class User:
    id: str
    name: str
    email: str
    is_admin: bool

    @property
    def sender(self) -> str:
        """As the sender of a mail."""
        return f'"{self.name}" <{self.email}>'


INES = User("user_W6SgPfm0TLqtzylDuyOHIhwXMMncBavPm1DnFpkRbxd", "Ines Moreau", "ines@harbourline.example", True)
TOMASZ = User("user_GPDXoIu2wXAwRjGf8QiELNKWTT8PcDsDijLgvYAT9lL", "Tomasz Brandt", "tomasz@harbourline.example", False)
USERS = {user.id: user for user in (INES, TOMASZ)}


@dataclass(frozen=True)
class Caller:
    """Who makes a change, by what, in which request; all of it ends up in the event.

    user: None when no person did it (a sync).
    request_id: None outside the API.
    integration: the name shown on messages.
    meta: what else the events of this request say.
    """

    user: User | None = None
    api_key_id: str | None = None
    oauth_client_id: str | None = None
    oauth_scope: str | None = None
    integration: str = "API"
    request_id: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_admin(self) -> bool:
        """Whether it may do what administrators may."""
        return self.user is not None and self.user.is_admin

    @property
    def key(self) -> str:
        """What rate limits are counted by."""
        return self.api_key_id or self.oauth_client_id or ""

    def in_request(self, request_id: str, method: str, path: str) -> Caller:
        """The same in a request of the API."""
        return replace(self, request_id=request_id, meta={"request_path": path, "request_method": method})

    def with_meta(self, **more: str) -> Caller:
        """The same with what an event tells of its request."""
        return replace(self, meta={**self.meta, **more})


ADMIN = Caller(INES, api_key_id="api_9jBoOMKNHxVLHiYDQxPqsJ")
MEMBER = Caller(TOMASZ, api_key_id="api_3mFvQeYkqT8sWdLz0RbUxC")
APPLICATION = Caller(
    INES,
    oauth_client_id="oa2client_RXaqTykOVYlzeW7v8wxzFf",
    oauth_scope="all.full_access offline_access",
    integration="Parley Inbox",
)
#: A sync, an import, a form: no user, no request.
NOBODY = Caller()

_KEYS = {ADMIN_KEY: ADMIN, MEMBER_KEY: MEMBER}


def authenticate(header: str | None) -> Caller:
    """Who sent this Authorization header. Raises Unauthorized."""
    scheme, _, value = (header or "").strip().partition(" ")
    if scheme.lower() == "bearer" and value.strip() == OAUTH_TOKEN:
        return APPLICATION
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            user = password = ""
        if user in _KEYS and not password:
            return _KEYS[user]
    raise Unauthorized(
        f"send an API key as Basic user name with an empty password ({ADMIN_KEY} or {MEMBER_KEY}), "
        f"or the bearer token {OAUTH_TOKEN}"
    )


@dataclass(frozen=True)
class Allowance:
    """What a key may still do in this window. reset: seconds until the next one."""

    limit: int
    remaining: int
    reset: float

    @property
    def header(self) -> str:
        """As the `RateLimit` header says it."""
        return f"limit={self.limit}, remaining={self.remaining}, reset={self.reset:g}"


class RateLimits:
    """Counts requests in fixed windows, by key and group of addresses."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], tuple[datetime, int]] = {}

    def take(self, key: str, group: str, now: datetime, rules: Rules) -> Allowance | None:
        """Count one request; None when there is no limit. Raises TooMany."""
        if not rules.rate_limit:
            return None
        started, used = self._windows.get((key, group), (now, 0))
        if not started <= now < started + rules.rate_window:
            started, used = now, 0
        reset = round((started + rules.rate_window - now).total_seconds(), 3)
        if used >= rules.rate_limit:
            raise TooMany(rules.rate_limit, reset)
        self._windows[key, group] = (started, used + 1)
        return Allowance(rules.rate_limit, rules.rate_limit - used - 1, reset)
