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
from webhooks.sources.declared.proof import Proof, field_of
from webhooks.sources.keys.keys import VerifyingKey
from webhooks.sources.signing import write_instant


class Signer:
    """How requests to one source are signed. public_url: the address that the sender calls, "" for none."""

    def __init__(self, proof: Proof, public_url: str) -> None:
        self.row = proof.row
        self._proof = proof
        self._public_url = public_url

    def prepare(self, body: bytes, now: datetime, key: VerifyingKey) -> bytes:
        """`body` with the signature inside, for schemes that put it there. Raises ConfigurationError unless it is JSON."""
        try:
            value = jsonio.load(body)
        except jsonio.NotJSON:
            raise ConfigurationError(
                f"scheme {self.row.name!r} signs inside the body, so the body must be JSON"
            ) from None
        for part in [value] if not self.row.items else at(value, self.row.items) or []:
            self._sign_part(at(part, self.row.unwrap) if self.row.items and self.row.unwrap else part, now, key)
        return jsonio.dump(value)

    def _sign_part(self, part: Any, now: datetime, key: VerifyingKey) -> None:
        stamp = write_instant(now, self.row.timestamp_format)
        if self.row.timestamp:
            _put(part, self.row.timestamp, stamp)
        text = b""
        for literal, name, is_optional in self._proof.pieces:
            text += literal.encode()
            if name:
                if not is_optional and name != "timestamp" and text_of(at(part, name)) is None:
                    _put(part, name, hashlib.sha256(jsonio.dump(part)).hexdigest())
                text += stamp.encode() if name == "timestamp" else field_of(part, name, is_optional)
        _put(part, self.row.signature[0], key.sign(text).decode("ascii"))

    def sign(self, body: bytes, now: datetime, key: VerifyingKey) -> Mapping[str, str]:
        """{header: value} that the sender would add to `body` at `now`."""
        headers = dict(self.row.require)
        stamp = write_instant(now, self.row.timestamp_format)
        if self.row.timestamp.startswith("@"):
            headers[self.row.timestamp[1:]] = stamp
        if "{id}" in self.row.signed:
            headers[self.row.id[0][2:-1]] = "msg_" + hashlib.sha256(body).hexdigest()[:24]
        request = InboundRequest(Headers(headers), body, url=self._public_url)
        entry = key.sign(self._proof.signed_text(request, stamp.encode())).decode("ascii")
        if self.row.timestamp.startswith("part:"):
            entry = f"{self.row.timestamp.removeprefix('part:')}{stamp}{self.row.split}{entry}"
        headers[self.row.signature_headers[0]] = entry
        return headers


def _put(part: Any, path: str, value: str) -> None:
    """Put `value` where `path` says, and the objects on the way there."""
    *way, last = path.split(".")
    for step in way:
        part = part.setdefault(step, {})
    part[last] = value
