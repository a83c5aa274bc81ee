"""Handshakes: how senders ask whether an address is ours, and what they hear.

Each function takes what it needs and returns the answer, or None when the request is no handshake. By POST they run
after the signature was found right, so only the sender can make us compute or echo anything; by GET they need a
token of ours, compared in constant time, and an unset token refuses. What is echoed is at most 256 characters out of
`0-9A-Za-z_.~-`, as `text/plain` or the JSON that the sender's protocol fixes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from webhooks.errors import ChallengeFailed, Malformed
from webhooks.formats import json as jsonio
from webhooks.model import Challenge
from webhooks.sources.declared.fields import at, form_pairs
from webhooks.sources.signing import is_equal

_ECHO = re.compile(r"[0-9A-Za-z_.~-]{1,256}")
JSON = "application/json"


def meta(query: bytes, tokens: tuple[bytes, ...]) -> Challenge:
    """Answer Meta's GET with its `hub.challenge` if it knows our `hub.verify_token`. Raises ChallengeFailed.

    Source: https://developers.facebook.com/docs/graph-api/webhooks/getting-started (verification requests)
    """
    try:
        pairs = form_pairs(query)
    except ValueError:
        raise ChallengeFailed("the query is not a form") from None
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ChallengeFailed("a parameter stands twice in the query")
    if values.get(b"hub.mode") != b"subscribe":
        raise ChallengeFailed("hub.mode is not 'subscribe'")
    given = values.get(b"hub.verify_token", b"")
    if not tokens:
        raise ChallengeFailed("no verify_token is set for this source")
    if not any(is_equal(token, given) for token in tokens):
        raise ChallengeFailed("hub.verify_token is not ours")
    return Challenge(_echo(values.get(b"hub.challenge", b"").decode("latin-1")))


def slack(body: Any, _sign: Callable[[bytes], bytes]) -> Challenge | None:
    """Slack's `url_verification`: the challenge comes back as text.

    Source: https://docs.slack.dev/reference/events/url_verification
    """
    if at(body, "type") != "url_verification":
        return None
    return Challenge(_echo(at(body, "challenge")))


def zoom(body: Any, sign: Callable[[bytes], bytes]) -> Challenge | None:
    """Zoom's `endpoint.url_validation`: the plain token comes back with its HMAC.

    The token's characters exclude `:`, so no caller can have us sign the text of a request.
    Source: https://developers.zoom.us/docs/api/webhooks/#validate-your-webhook-endpoint
    """
    if at(body, "event") != "endpoint.url_validation":
        return None
    token = _echo(at(body, "payload.plainToken"))
    answer = {"plainToken": token.decode("ascii"), "encryptedToken": sign(token).hex()}
    return Challenge(jsonio.dump(answer), JSON)


def discord(body: Any, _sign: Callable[[bytes], bytes]) -> Challenge | None:
    """Discord's PING: type 1 of an interaction is answered in kind, type 0 of a webhook event with nothing.

    Source: https://docs.discord.com/developers/interactions/overview and .../events/webhook-events
    """
    kind = at(body, "type")
    if at(body, "event") is not None or isinstance(kind, bool):
        return None
    if kind == 1:
        return Challenge(b'{"type":1}', JSON)
    return Challenge(b"", JSON) if kind == 0 else None


#: Handshakes by POST: {name in a row: function of the decoded body and of the HMAC with the secret that matched}.
BY_POST: Mapping[str, Callable[[Any, Callable[[bytes], bytes]], Challenge | None]] = {
    "slack": slack,
    "zoom": zoom,
    "discord": discord,
}
#: What must stand in the body of a handshake, so that events need not be decoded for it.
_MARKS = {"slack": b"url_verification", "zoom": b"endpoint.url_validation"}
#: Handshakes by GET: {name in a row: function of the query and of our tokens}.
BY_GET: Mapping[str, Callable[[bytes, tuple[bytes, ...]], Challenge]] = {"meta": meta}


def answer_post(name: str, body: bytes, sign: Callable[[bytes], bytes]) -> Challenge | None:
    """The answer to a verified POST, None when it is no handshake. Raises ChallengeFailed for one of an odd shape."""
    if _MARKS.get(name, b"") not in body:
        return None  # nearly every request: spare it the decoding
    try:
        return BY_POST[name](jsonio.load_watching(body), sign)
    except (jsonio.NotJSON, Malformed):
        return None  # no handshake; parsing will say what it is


def _echo(value: Any) -> bytes:
    if not isinstance(value, str) or _ECHO.fullmatch(value) is None:
        raise ChallengeFailed("the challenge is not 1 to 256 characters of 0-9A-Za-z_.~-")
    return value.encode("ascii")
