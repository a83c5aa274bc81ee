"""Post webhooks over real HTTP: no redirect is followed, ten seconds for an answer."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 10.0
USER_AGENT = "webhooks-sandbox"


def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Post once and return the status. Raises OSError or http.client.HTTPException when there is no answer."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, {"User-Agent": USER_AGENT, **headers})
        response = connection.getresponse()
        response.read(65536)
        return response.status
    finally:
        connection.close()
