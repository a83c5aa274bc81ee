"""Whether a POST comes from a page of ours: by what the browser says of it, and by a token signed for this session."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from itsdangerous import BadData, URLSafeSerializer

#: The field of every form.
FIELD = "form_token"


class Fields(Protocol):
    """What is asked of a request's headers."""

    def get(self, name: str, /) -> str | None:
        """The value of a field."""


class Signed:
    """Texts that come back to us as they were. keys: as those of `LoginCookies`. purpose: a text for one is none for another."""

    def __init__(self, keys: Sequence[str], purpose: str) -> None:
        self._signer = URLSafeSerializer(list(keys), salt=f"webhooks.dashboard.{purpose}")

    def make(self, text: str) -> str:
        """The signed form of a text."""
        return str(self._signer.dumps(text))

    def read(self, signed: str) -> str | None:
        """The text; None where it is not ours."""
        try:
            text = self._signer.loads(signed)
        except BadData:
            return None
        return text if isinstance(text, str) else None


class FormTokens(Signed):
    """Signs forms for the session that gets them."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(keys, "form")

    def is_right(self, token: str, session: str) -> bool:
        """Whether a token is ours, and of this session."""
        named = self.read(token)
        return named is not None and hmac.compare_digest(named.encode(), session.encode())


def is_from_our_page(headers: Fields, own: Sequence[str]) -> bool:
    """Whether the browser says that a request comes from a page of this origin; False where it says nothing.

    headers: of the request.
    own: our origins, such as "https://hooks.example.com".
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("Origin")
    return origin is not None and origin in own


def origin_of(url: str) -> str:
    """Scheme, host and port of an address, as browsers write an origin."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in (None, default) else "")


__all__ = ["FIELD", "FormTokens", "Signed", "is_from_our_page", "origin_of"]
