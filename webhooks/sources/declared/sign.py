"""Sign as the sender does, for `trigger`, tests and the sandbox."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from webhooks.errors import ConfigurationError
from webhooks.formats import json as jsonio
from webhooks.model import Headers, InboundRequest
from webhooks.sources.declared.fields import at, text_of
from webhooks.sources.declared.places import places
from webhooks.sources.declared.proof import Proof
from webhooks.sources.declared.scheme import TOKENS
from webhooks.sources.keys.keys import VerifyingKey
from webhooks.sources.signing import write_instant


class Signer:
    """How requests to one source are signed. public_url: the address that the sender calls, "" for none."""

    def __init__(self, proof: Proof, public_url: str) -> None:
        self.row = proof.row
        self._proof = proof
        self._public_url = public_url
        self._query = public_url.partition("?")[2].encode("utf-8")

    def prepare(self, body: bytes, now: datetime, key: VerifyingKey) -> bytes:
        """`body` with the signature inside, for schemes that put it there. Raises ConfigurationError unless it is JSON."""
        try:
            value = jsonio.load(body)
        except jsonio.NotJSON:
            raise ConfigurationError(
                f"scheme {self.row.name!r} signs inside the body, so the body must be JSON"
            ) from None
        items = self.row.items[0] if self.row.items else ""
        for part in [value] if not items else value if items == "." else at(value, items) or []:
            self._sign_part(at(part, self.row.unwrap) if self.row.items and self.row.unwrap else part, now, key)
        return jsonio.dump(value)

    def _sign_part(self, part: Any, now: datetime, key: VerifyingKey) -> None:
        stamp = write_instant(now, self.row.timestamp_format)
        if self.row.timestamp:
            _put(part, self.row.timestamp, stamp)
        for _, name, is_optional in self._proof.text.pieces if self.row.algorithm not in TOKENS else ():
            if name not in ("", "timestamp", "secret") and not is_optional and text_of(at(part, name)) is None:
                _put(part, name, hashlib.sha256(jsonio.dump(part)).hexdigest())
        _put(part, self.row.signature[0], key.sign(self._proof.part_text(part, stamp.encode())).decode("ascii"))

    def sign(self, body: bytes, now: datetime, key: VerifyingKey) -> Mapping[str, str]:
        """{header: value} that the sender would add to `body` at `now`."""
        headers = dict(self.row.require)
        stamp = write_instant(now, self.row.timestamp_format)
        if self.row.timestamp.startswith("@"):
            headers[self.row.timestamp[1:]] = stamp
        if "{id}" in self.row.signed:
            headers[self.row.id[0][2:-1]] = "msg_" + hashlib.sha256(body).hexdigest()[:24]
        for name in places(self.row.signed):
            if name.startswith("@"):
                headers.setdefault(name[1:], "of-a-test")
        request = InboundRequest(Headers(headers), body, query=self._query, url=self._public_url)
        text = self._proof.signed_text(request, stamp.encode()) if self.row.algorithm not in TOKENS else b""
        entry = key.sign(text).decode("ascii")
        if self.row.timestamp.startswith("part:"):
            label = self.row.timestamp.removeprefix("part:")
            entry = self.row.split.join(_with_time(entry, stamp, label))
        headers[self.row.signature_headers[0]] = entry
        return headers


def _with_time(entry: str, stamp: str, label: str) -> list[str]:
    """The parts of a header: the signature, and the time behind its label or at its position."""
    if not label.isdigit():
        return [label + stamp, entry]
    parts = [entry] + ["0"] * (int(label) - 1)
    parts.insert(int(label), stamp)
    return parts


def _put(part: Any, path: str, value: str) -> None:
    """Put `value` where `path` says, and the objects on the way there."""
    *way, last = path.split(".")
    for step in way:
        part = part.setdefault(step, {})
    part[last] = value
