"""How the local Close says no: an exception for each status, with the JSON body that Close would send.

The shapes `{"error": …, "field-errors": {…}}` and that of 429 are Close's; the sentences are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhooks.errors import WebhooksError


class Refused(WebhooksError):
    """A request of the API that is answered with an error. body: the JSON of the answer."""

    status = 400

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def body(self) -> dict[str, Any]:
        return {"error": self.message}

    @property
    def headers(self) -> dict[str, str]:
        return {}


class Invalid(Refused):
    """400: something in the request cannot be. fields: {name of a field: what is wrong with it}."""

    def __init__(self, message: str, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.fields = dict(fields or {})

    @classmethod
    def field(cls, name: str, problem: str) -> Invalid:
        return cls(f"{name}: {problem}", {name: problem})

    @property
    def body(self) -> dict[str, Any]:
        return {"error": self.message, "field-errors": self.fields}


class Unauthorized(Refused):
    """401: no key, or one that nobody holds."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": 'Basic realm="local Close"'}


class Forbidden(Refused):
    """403: the key is known, but it is not an administrator's."""

    status = 403


class Missing(Refused):
    """404: no such object or address."""

    status = 404


class WrongMethod(Refused):
    """405: the address is there, the method is not."""

    status = 405


class TooMany(Refused):
    """429: wait `reset` seconds. Source: developer.close.com/api/overview/rate-limits (read 2026-11-23)."""

    status = 429

    def __init__(self, limit: int, reset: float) -> None:
        super().__init__(f"too many requests; wait {reset:g} s")
        self.limit = limit
        self.reset = reset

    @property
    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "rate_limit": self.limit, "rate_reset": self.reset}}

    @property
    def headers(self) -> dict[str, str]:
        whole = -int(-self.reset // 1)  # rounded up
        return {"RateLimit": f"limit={self.limit}, remaining=0, reset={self.reset:g}", "Retry-After": str(whole)}


class Fault(Refused):
    """An answer that somebody asked for, to see what a client makes of it. text: sent as it stands."""

    def __init__(self, status: int, text: str | None, headers: Mapping[str, str]) -> None:
        super().__init__(f"a fault that was asked for: {status}")
        self.status = status
        self.text = text
        self.extra_headers = dict(headers)

    @property
    def headers(self) -> dict[str, str]:
        return self.extra_headers
