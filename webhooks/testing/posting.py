"""Post as a sender would: choose a body, make it new, sign it by `Source.sign`, and have it answered as a server answers.

The answer comes from the same `DirectRoute` that our server calls with a post that it has read.
"""

from __future__ import annotations

import itertools
import secrets
import string
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.errors import Malformed, NotFound
from webhooks.formats import did_you_mean
from webhooks.formats import json as jsonio
from webhooks.http import DirectRoute, PlainAnswer
from webhooks.intake import ReplyRunner
from webhooks.model import Headers, InboundRequest
from webhooks.operations.trigger import break_signature, choose, freshen, replace_values
from webhooks.sources.samples import find
from webhooks.testing.records import Posted, Values, What

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.intake import Accepted, Ingest
    from webhooks.sources import Source

#: How a post may be signed.
SIGNATURES = ("right", "wrong", "missing")
#: A part of an id that is shorter may stand anywhere in a body.
SHORTEST = 6


class Poster:
    """Posts to the sources of one consumer, in this thread."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        webhooks.ingest.replies = ReplyRunner(lambda: webhooks.around_handlers, wait_for=lambda call: call())
        self._noting = _Noting(webhooks.ingest)
        self._numbers = itertools.count()
        ingest: Any = self._noting
        paths, max_body = webhooks.paths, webhooks.settings.max_body
        self._route = DirectRoute(_answer_nothing, ingest, paths=paths, max_body=max_body)

    def source(self, name: str | None, what: What) -> Source:
        """The source asked for, the only one, or the one that has a sample of this type. Raises `NotFound`."""
        sources = self._webhooks.sources
        if name is not None:
            if name not in sources:
                raise NotFound(
                    f"no source named {name!r}{did_you_mean(name, sources)}; there are: {', '.join(sources)}; "
                    "add it in webhooks.toml, or in the settings of the test"
                )
            return sources[name]
        if len(sources) == 1:
            return next(iter(sources.values()))
        having = [each for each in sources.values() if isinstance(what, str) and find(each, what)]
        if len(having) != 1:
            raise NotFound(f"there are several sources; say which with source=: {', '.join(sources)}")
        return having[0]

    def body(self, what: What, source: Source, values: Values, at: datetime) -> tuple[bytes, dict[str, str]]:
        """What is posted, and its headers beside the signature. at: the instant of a sample. Raises `NotFound`, `SelectionError`."""
        headers: Mapping[str, str] = {"content-type": "application/json"}
        if isinstance(what, bytes):
            body = what
        elif isinstance(what, Mapping):
            body = jsonio.dump(what)
        else:
            body, headers, is_sample = choose(str(what), source)
            if is_sample:
                body, headers = renewed(
                    freshen(body, source.settings.scheme, at), headers, source, at, next(self._numbers)
                )
            elif isinstance(what, Path) and not body:
                raise NotFound(f"{str(what)!r} is empty")
        return replace_values(body, [(path, new, path) for path, new in values.items()], "set="), dict(headers)

    def post(
        self,
        source: Source,
        body: bytes,
        headers: Mapping[str, str],
        signed_at: datetime,
        signature: str = "right",
    ) -> Posted:
        """Sign and post one body. signature: of `SIGNATURES`. Raises ValueError for another one, and for what is too long."""
        if signature not in SIGNATURES:
            raise ValueError(f"signature={signature!r}: one of {', '.join(SIGNATURES)}")
        prepared = source.prepare(body, signed_at)
        signed = dict(source.sign(prepared, signed_at)) if signature != "missing" else {}
        if signature == "wrong":
            signed = break_signature(signed, source)
        limit = self._webhooks.settings.max_body
        if len(prepared) > limit:
            raise ValueError(
                f"the body has {len(prepared)} bytes; a server answers 413 to more than {limit} (max_body)"
            )
        return self.send(source.name, {**headers, **signed}, prepared)

    def send(self, source: str, headers: Mapping[str, str], body: bytes) -> Posted:
        """Post a body as it is. source: its name."""
        self._noting.last = None
        answer = self._route.post(source, Headers(headers), body)
        return _posted(answer, self._noting.last)


#: How a key begins that is the digest of an event's bytes.
DIGEST = "sha256:"


def renewed(
    body: bytes, headers: Mapping[str, str], source: Source, at: datetime, number: int
) -> tuple[bytes, Mapping[str, str]]:
    """A sample as another event: with ids in the shape of the first ones, and other bytes where a digest is the id.

    Some have an id of their own already. number: of the post; so many blanks follow JSON (in a form as well), and stand at the
    end of items without an id; another form has it as a field.
    """
    if source.settings.scheme == "close":
        return body, headers
    prepared = source.prepare(body, at)
    try:
        events = source.parse(InboundRequest(Headers({**headers, **source.sign(prepared, at)}), prepared))
    except Malformed:
        events = ()
    keys = {event.dedup_key for event in events}
    for piece in sorted({piece for key in keys for piece in key.split(":") if len(piece) >= SHORTEST}):
        new = "".join(_like(letter) for letter in piece)
        body = body.replace(piece.encode(), new.encode())
        headers = {name: value.replace(piece, new) for name, value in headers.items()}
    for item in {event.body for event in events if event.dedup_key.startswith(DIGEST) and event.body != body}:
        body = body.replace(item, item[:-1] + b" " * number + item[-1:])
    if body.lstrip()[:1] in (b"{", b"["):
        return body + b" " * number, headers
    is_one_field = b"&" not in body and body.startswith(b"payload=")  # JSON in a form, which is read in its place
    return body + (b"+" * number if is_one_field else b"&number=%d" % number), headers


def _like(letter: str) -> str:
    """A random letter or digit in place of one; never a zero, which may stand first in a number."""
    if letter in string.digits:
        return secrets.choice(string.digits[1:])
    if letter in "abcdef":
        return secrets.choice("abcdef")
    if letter in string.ascii_lowercase:
        return secrets.choice(string.ascii_lowercase)
    return secrets.choice(string.ascii_uppercase) if letter in string.ascii_uppercase else letter


def _posted(answer: PlainAnswer, accepted: Accepted | None) -> Posted:
    from webhooks.http.answers import receipt_body

    try:
        body = jsonio.load(answer.body)
    except ValueError:
        body = answer.body
    if accepted is None or accepted.challenge is not None:
        word = str(body.get("error", "")) if isinstance(body, Mapping) else ""
        return Posted(answer.status, word or "answered", (), body)
    ids: Sequence[int] = [receipt.event_id for receipt in accepted.receipts if receipt.event_id is not None]
    return Posted(answer.status, str(receipt_body(accepted, "")["status"]), tuple(ids), body)


class _Noting:
    """`Ingest` that notes what it accepted last: the answers of some senders' protocols do not say."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self.last: Accepted | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ingest, name)

    def accept(self, source: Source, request: InboundRequest) -> Accepted:
        """As `Ingest.accept`."""
        self.last = self._ingest.accept(source, request)
        return self.last


def _answer_nothing(environ: Any, start_response: Any) -> Any:
    """Stands where an application would: nothing but posts to sources comes here."""
    raise NotImplementedError


__all__ = ["SIGNATURES", "Poster"]
