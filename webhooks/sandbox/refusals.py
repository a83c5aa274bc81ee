"""How the local Close says no: an exception for each status, with the JSON body that Close would send.

The shapes `{"error": …, "field-errors": {…}}` and that of 429 are Close's; the sentences are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webhooks.errors import WebhooksError


class ApiRefusal(WebhooksError):
    """A request of the API that is answered with an error. body: the JSON of the answer."""

    status = 400

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": self.message}

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        return {}


class Invalid(ApiRefusal):
    """400: something in the request cannot be. fields: {name of a field: what is wrong with it}."""

    def __init__(self, message: str, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.fields = dict(fields or {})

    @classmethod
    def field(cls, name: str, problem: str) -> Invalid:
        """A refusal for what is wrong with one field."""
        return cls(f"{name}: {problem}", {name: problem})

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": self.message, "field-errors": self.fields}


class Unauthorized(ApiRefusal):
    """401: no key, or an unknown one."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        return {"WWW-Authenticate": 'Basic realm="local Close"'}


class Forbidden(ApiRefusal):
    """403: the key is known, but it is not an administrator's."""

    status = 403


class Missing(ApiRefusal):
    """404: no such object or address."""

    status = 404


class WrongMethod(ApiRefusal):
    """405: the address is there, the method is not."""

    status = 405


class TooMany(ApiRefusal):
    """429: wait `reset` seconds. Source: developer.close.com/api/overview/rate-limits (read 2026-11-23)."""

    status = 429

    def __init__(self, limit: int, reset: float) -> None:
        super().__init__(f"too many requests; wait {reset:g} s")
        self.limit = limit
        self.reset = reset

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": {"message": self.message, "rate_limit": self.limit, "rate_reset": self.reset}}

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        whole = -int(-self.reset // 1)  # rounded up
        return {"RateLimit": f"limit={self.limit}, remaining=0, reset={self.reset:g}", "Retry-After": str(whole)}


class Fault(ApiRefusal):
    """An answer that was ordered, to see what a client makes of it. text: sent as it stands."""

    def __init__(self, status: int, text: str | None, headers: Mapping[str, str]) -> None:
        super().__init__(f"a fault that was asked for: {status}")
        self.status = status
        self.text = text
        self.extra_headers = dict(headers)

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        return self.extra_headers
