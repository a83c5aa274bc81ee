"""Post as a sender would: choose a body, make it new, sign it by `Source.sign`, and have it answered as a server answers.

The answer comes from the same `DirectRoute` that our server calls with a post that it has read.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.errors import NotFound
from webhooks.formats import did_you_mean
from webhooks.formats import json as jsonio
from webhooks.http import DirectRoute, PlainAnswer
from webhooks.intake import ReplyRunner
from webhooks.model import Headers, InboundRequest
from webhooks.operations.trigger import break_signature, choose, renewed, replace_values
from webhooks.sources.samples import find
from webhooks.testing.records import Posted, Values, What

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.intake import Accepted, Ingest
    from webhooks.sources import Source

#: How a post may be signed.
SIGNATURES = ("right", "wrong", "missing")


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
                body, headers = renewed(body, headers, source, at, next(self._numbers))
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
