"""Handshakes that are described: how a sender asks whether an address is ours, and what it hears.

A `Greeting` is one such habit: the method, where the challenge stands, what else must be there, a token to compare, and a template
for the answer. Where the sender signs its question, it is verified first; else the answer tells nothing but what was asked, in
harmless characters. `Ping` is an unsigned request of a fixed shape, answered and forgotten. `Bringing` is a first request that
brings the secret: it counts only while an operator listens (`webhooks sources listen`).

A MAC of a challenge is made for unsigned questions only where no request could be signed that way: bodies are JSON or forms, and a
challenge has none of the characters that both need.

Not here: the handshakes of our own rows that need more (`handshakes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from webhooks.errors import ChallengeFailed, Malformed
from webhooks.formats import json as jsonio
from webhooks.model import Challenge, InboundRequest
from webhooks.settings import shown
from webhooks.sources.declared.places import HEADER, value_at, why_no_place
from webhooks.sources.signing import ENCODERS, is_equal

METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT")
#: What is echoed, by `characters`. Neither has what HTML, a header or JSON text could be broken with.
ECHOED = {
    "plain": re.compile(r"[0-9A-Za-z_.~-]{1,256}"),
    "text": re.compile(r"[ !#-%'-;=?-\[\]-~]{1,512}"),
}
_OPTIONS = (
    "method",
    "challenge",
    "token",
    "when",
    "answer",
    "type",
    "headers",
    "status",
    "characters",
    "signed",
    "secret",
)
_STATUSES = (200, 201, 202, 204)
_HEADER_VALUE = re.compile(r"[ -~]{0,200}")
#: Bytes of an unsigned body that are read for a handshake.
MOST_BYTES = 4096


@dataclass(frozen=True)
class Greeting:
    """One handshake. challenge, token, secret: places. when: {place: what must stand there; "*" for anything}.

    answer, headers: with `{challenge}`, `{hmac}` (of the challenge, by the first secret) or `{secret}` in them.
    signed: whether it is verified first; None: as POST is, and the others are not.
    secret: where the first request brings it; see `Bringing` in the module.
    """

    method: str = "POST"
    challenge: str = ""
    token: str = ""
    when: Mapping[str, str] = field(default_factory=dict)
    answer: str = "{challenge}"
    type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    characters: str = "plain"
    signed: bool | None = None
    secret: str = ""

    @property
    def is_verified(self) -> bool:
        """Whether its question is signed like an event."""
        return self.method in ("POST", "PUT") and not self.secret if self.signed is None else self.signed

    @property
    def asks_for_mac(self) -> bool:
        """Whether the answer has a MAC in it."""
        return any("{hmac}" in text for text in (self.answer, *self.headers.values()))


def read_greetings(given: Any) -> tuple[Greeting, ...]:
    """The table `handshake` of a source, or a list of such. Raises ValueError."""
    tables = [given] if isinstance(given, Mapping) else given
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Mapping) for table in tables):
        raise ValueError(
            "handshake must be a table, such as { method = 'GET', challenge = 'query:challenge' }, or a list of them"
        )
    return tuple(_read(table) for table in tables)


def _read(table: Mapping[str, Any]) -> Greeting:
    for name, value in table.items():
        if name not in _OPTIONS:
            raise ValueError(f"handshake has the unknown option {name!r}; it knows {', '.join(_OPTIONS)}")
        wanted: Any = {"when": Mapping, "headers": Mapping, "status": int, "signed": bool}.get(name, str)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise ValueError(f"handshake.{name} must be {_KINDS.get(wanted, 'text')}")
        if wanted is Mapping and not all(isinstance(each, str) for pair in value.items() for each in pair):
            raise ValueError(f"handshake.{name} must be a table of texts")
    made = dict(table)
    if "headers" in made:
        made["headers"] = {name.title(): value for name, value in made["headers"].items()}
    for name in ("challenge", "token", "secret"):
        if made.get(name, "").startswith("@"):
            made[name] = made[name].lower()
    return Greeting(**made)


_KINDS: Mapping[Any, str] = {Mapping: "a table", int: "a number", bool: "true or false"}


def greeting_problems(greeting: Greeting, body: str, algorithm_makes_macs: bool) -> list[str]:
    """What is wrong with one handshake. body: the row's. algorithm_makes_macs: whether its keys can."""
    found = []
    if greeting.method not in METHODS:
        found.append(f"handshake.method is {shown(greeting.method)}; it must be one of {', '.join(METHODS)}")
    for name in ("challenge", "token", "secret"):
        place = getattr(greeting, name)
        if place and (problem := why_no_place(place)) is not None:
            found.append(f"handshake.{name} is {shown(place)}; {problem}")
    for place in greeting.when:
        if (problem := why_no_place(place)) is not None:
            found.append(f"handshake.when names {shown(place)}; {problem}")
    if greeting.characters not in ECHOED:
        found.append(f"handshake.characters is {shown(greeting.characters)}; it must be one of {', '.join(ECHOED)}")
    if greeting.status not in _STATUSES:
        found.append(f"handshake.status is {greeting.status}; it must be one of {', '.join(map(str, _STATUSES))}")
    for name, value in greeting.headers.items():
        if not HEADER.fullmatch(name.lower()) or not _HEADER_VALUE.fullmatch(value):
            found.append(f"handshake.headers names {shown(name)}, which is no header with a plain value")
    found += _unsafe(greeting, body, algorithm_makes_macs)
    return found


def _unsafe(greeting: Greeting, body: str, algorithm_makes_macs: bool) -> list[str]:
    """What would tell a stranger too much."""
    found = []
    texts = (greeting.answer, *greeting.headers.values())
    if any("{challenge}" in text for text in texts) and not (greeting.challenge or greeting.secret):
        found.append("handshake.answer holds {challenge}, but challenge does not say where that stands")
    if greeting.secret and (greeting.method != "POST" or greeting.challenge):
        found.append("handshake.secret is brought by a POST, whose answer may hold {secret} and no challenge")
    if any("{secret}" in text for text in texts) and not greeting.secret:
        found.append("handshake.answer holds {secret}, which is for a first request that brings one")
    if greeting.asks_for_mac and not algorithm_makes_macs:
        found.append("handshake.answer holds {hmac}, which only an hmac-… algorithm makes")
    if greeting.asks_for_mac and not greeting.is_verified and (greeting.characters != "plain" or body == "raw"):
        found.append(
            "handshake.answer holds {hmac} of what a stranger asks, which could then be a request's signature: leave characters as "
            "'plain' and body as JSON or a form, or verify first (signed = true)"
        )
    if greeting.characters == "text" and (greeting.headers or not greeting.type.startswith("text/plain")):
        found.append("handshake.characters = 'text' is for answers of type text/plain without headers")
    if greeting.method in ("GET", "HEAD", "OPTIONS") and greeting.is_verified:
        found.append(f"handshake.signed cannot be for {greeting.method}, which has no body")
    return found


def ping_problems(pings: Sequence[str]) -> list[str]:
    """What is wrong with the shapes of unsigned pings."""
    found = []
    for text in pings:
        try:
            pattern = re.compile(text)
        except re.error:
            found.append("pings holds what is no regular expression")
            continue
        if pattern.fullmatch("") or pattern.fullmatch('{"type":"x","id":"1"}') or pattern.fullmatch("a=1&b=2&c=3"):
            found.append("pings holds a shape that any body has; write the whole body, such as 'webhook_id=[0-9]+'")
    return found


class Greeter:
    """The handshakes of one source.

    greetings: in their order; the first that is meant answers.
    pings: shapes of whole unsigned bodies.
    tokens: ours, any of which may be given.
    mac: of a text, by the first secret.
    encoding: how a MAC is written.
    """

    def __init__(
        self,
        greetings: Sequence[Greeting],
        pings: Sequence[str],
        tokens: Sequence[bytes],
        mac: Callable[[bytes], bytes],
        encoding: str,
    ) -> None:
        self._signed = tuple(each for each in greetings if each.is_verified)
        self._unsigned = tuple(each for each in greetings if not each.is_verified and not each.secret)
        self.bringing = next((each for each in greetings if each.secret), None)
        self._pings = tuple(re.compile(text) for text in pings)
        self._tokens = tuple(tokens)
        self._mac = mac
        self._encode = ENCODERS[encoding]
        #: methods that are handshakes and no deliveries
        self.methods = frozenset(each.method for each in greetings if each.method not in ("POST", "PUT"))
        self.has_signed = bool(self._signed)

    def unsigned(self, request: InboundRequest) -> Challenge | None:
        """The answer to a question that is not signed; None when the request is none. Raises ChallengeFailed."""
        if request.method in ("POST", "PUT") and len(request.body) <= MOST_BYTES:
            text = request.body.decode("latin-1")
            if text and any(pattern.fullmatch(text) for pattern in self._pings):
                return Challenge(b"", status=200)
        return self._answer(self._unsigned, request)

    def signed(self, request: InboundRequest) -> Challenge | None:
        """The answer to a question that was verified; None when the request is none. Raises ChallengeFailed."""
        return self._answer(self._signed, request)

    def brought(self, request: InboundRequest) -> str | None:
        """The secret that a first request brings; None when it brings none."""
        if self.bringing is None or request.method != "POST" or len(request.body) > MOST_BYTES:
            return None
        value = value_at(self.bringing.secret, _body(request), request)
        return value if value is not None and ECHOED["plain"].fullmatch(value) and len(value) >= 16 else None

    def welcome(self, secret: str) -> Challenge:
        """What the request hears that brought `secret`."""
        greeting = self.bringing or Greeting()
        return _filled(greeting, {"{secret}": secret, "{challenge}": secret})

    def _answer(self, greetings: Sequence[Greeting], request: InboundRequest) -> Challenge | None:
        for greeting in greetings:
            if greeting.method != request.method:
                continue
            body = _body(request) if len(request.body) <= MOST_BYTES or greeting.is_verified else {}
            if not all(_stands(value_at(place, body, request), wanted) for place, wanted in greeting.when.items()):
                continue
            challenge = value_at(greeting.challenge, body, request) if greeting.challenge else None
            if greeting.challenge and challenge is None:
                continue
            return self._greet(greeting, challenge or "", body, request)
        return None

    def _greet(self, greeting: Greeting, challenge: str, body: Any, request: InboundRequest) -> Challenge:
        if greeting.token:
            given = (value_at(greeting.token, body, request) or "").encode("utf-8", "surrogatepass")
            if not self._tokens:
                raise ChallengeFailed("no verify_token is set for this source")
            if not any(is_equal(token, given) for token in self._tokens):
                raise ChallengeFailed(f"what stands at {greeting.token} is not our verify_token")
        if greeting.challenge and ECHOED[greeting.characters].fullmatch(challenge) is None:
            raise ChallengeFailed("the challenge has characters that are not echoed, or too many")
        values = {"{challenge}": challenge}
        if greeting.asks_for_mac:
            values["{hmac}"] = self._encode(self._mac(challenge.encode("ascii"))).decode("ascii")
        return _filled(greeting, values)


def _filled(greeting: Greeting, values: Mapping[str, str]) -> Challenge:
    def fill(text: str) -> str:
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    headers = tuple((name, fill(value)) for name, value in greeting.headers.items())
    return Challenge(fill(greeting.answer).encode("utf-8"), greeting.type, greeting.status, headers)


def _stands(found: str | None, wanted: str) -> bool:
    return found is not None and wanted in ("*", found)


def _body(request: InboundRequest) -> Any:
    """The JSON of a body; an empty object for what is none."""
    try:
        return jsonio.load_watching(request.body) if request.body[:1] in (b"{", b"[") else {}
    except (jsonio.NotJSON, Malformed):
        return {}


__all__ = ["Greeter", "Greeting", "greeting_problems", "ping_problems", "read_greetings"]
