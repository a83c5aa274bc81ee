"""Whether a scraper may read: one token, compared in constant time. Needs neither Flask nor a server."""

from __future__ import annotations

import hmac


def is_authorized(given: str, token: str) -> bool:
    """Whether the field Authorization names the token; takes as long for each wrong one.

    given: the field's value, as WSGI or `http.server` decode it. token: what it should name; "": none is needed.
    """
    if not token:
        return True
    scheme, _, rest = given.partition(" ")
    is_right = hmac.compare_digest(rest.strip().encode("latin-1", "replace"), token.encode())
    return is_right and scheme.lower() == "bearer"


__all__ = ["is_authorized"]
