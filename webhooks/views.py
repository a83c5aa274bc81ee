"""The HTTP surface: webhook routes, health and readiness.

The route does as little as it can: raw bytes up to the limit, headers, `Ingest.accept`, JSON. It never touches
`request.form`, never decodes a body, never redirects, and answers every method on every path itself, so that nothing of
Flask's own error pages leaks. Every answer is JSON with `status` or `error`, and `request_id`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from webhooks.errors import (
    IncompleteBody,
    PayloadTooLarge,
    Rejected,
    StorageUnavailable,
    UnsupportedEncoding,
)
from webhooks.http1 import STATUS_LINES
from webhooks.ingest import Accepted, Ingest
from webhooks.model import Challenge, Headers, InboundRequest, Receipt, ReceiptStatus, new_request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
#: Of several events in one body, the answer names the most severe.
_SEVERITY = (
    ReceiptStatus.DUPLICATE, ReceiptStatus.STALE, ReceiptStatus.REVISION, ReceiptStatus.STORED, ReceiptStatus.QUARANTINED,
)  # fmt: skip
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_NEVER_KEPT = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]


class Answer(NamedTuple):
    """What a request gets, before any framework has it."""

    status: int
    body: bytes
    headers: list[tuple[str, str]]

    def as_response(self) -> Response:
        return Response(self.body, self.status, self.headers)


def make_blueprint(ingest: Ingest, *, name: str, url_prefix: str, max_body: int) -> Blueprint:
    """The webhook routes under `url_prefix`, for one `Ingest`."""
    blueprint = Blueprint(name, __name__, url_prefix=url_prefix)

    def receive(source: str, rest: str = "") -> Response:
        if rest or not _SOURCE_NAME.fullmatch(source):
            return answer(404, {"error": "not_found", "request_id": new_request_id()})
        return respond(ingest, source, request.environ, max_body).as_response()

    # with and without the slash, every method: no redirect and no error page but ours
    options: dict[str, Any] = {"methods": _METHODS, "provide_automatic_options": False}
    blueprint.add_url_rule("/<source>", "receive", receive, **options)
    blueprint.add_url_rule("/<source>/", "receive_slash", receive, **options)
    blueprint.add_url_rule("/<source>/<path:rest>", "receive_below", receive, **options)
    return blueprint


class ShortCut:
    """`application`, with posts to configured sources answered before it routes them.

    The answer is the same that the blueprint gives, at half the price of an event: what Flask does around a
    view costs more than storing one. Not for somebody else's application, whose hooks have to run.
    """

    def __init__(self, application: WSGIApplication, ingest: Ingest, *, url_prefix: str, max_body: int) -> None:
        self._application = application
        self._ingest = ingest
        self.max_body = max_body
        #: {path: name of the source}
        self.paths: Mapping[str, str] = {
            f"{url_prefix}/{name}{slash}": name for name in ingest.sources for slash in ("", "/")
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        source = self.paths.get(environ["PATH_INFO"])
        if source is None or environ["REQUEST_METHOD"] != "POST":
            return self._application(environ, start_response)
        status, body, headers = respond(self._ingest, source, environ, self.max_body)
        headers.append(("Content-Length", str(len(body))))
        start_response(STATUS_LINES[status], headers)
        return (body,)

    def post(self, source: str, headers: Headers, body: bytes) -> Answer:
        """What a post without a query gets that a server has read by itself. Raises nothing."""
        return _answer(source, lambda request_id: _take_in(self._ingest, source, headers, body, b"", request_id))


def respond(ingest: Ingest, source: str, environ: WSGIEnvironment, max_body: int) -> Answer:
    """Take in one request to a source and say what it gets. Raises nothing."""
    return _answer(source, lambda request_id: _receive(ingest, source, request_id, environ, max_body))


def _answer(source: str, take: Callable[[str], Answer]) -> Answer:
    """What `take` answers to a request of that id, or what its failure means for the sender."""
    request_id = new_request_id()
    try:
        return take(request_id)
    except Rejected as error:
        refusal = json_answer(error.status, {"error": error.slug, "request_id": request_id})
        if isinstance(error, (PayloadTooLarge, IncompleteBody)):
            refusal.headers.append(("Connection", "close"))  # what is left of the body is nobody's next request
        return refusal
    except StorageUnavailable as error:
        if not error.is_logged:
            logger.error(
                "answered 503 to source %r: %s",
                source,
                error.reason,
                extra={"source": source, "request_id": request_id},
            )
        refusal = json_answer(503, {"error": error.slug, "request_id": request_id})
        refusal.headers.append(("Retry-After", str(max(1, int(error.retry_after.total_seconds())))))
        return refusal
    except Exception:
        # a fault of ours must not become the sender's loss: it tries again
        logger.exception("a fault of ours at source %r", source, extra={"source": source, "request_id": request_id})
        refusal = json_answer(503, {"error": "internal_error", "request_id": request_id})
        refusal.headers.append(("Retry-After", "30"))
        return refusal


def _receive(ingest: Ingest, source: str, request_id: str, environ: WSGIEnvironment, max_body: int) -> Answer:
    known = ingest.source(source)
    method = environ["REQUEST_METHOD"]
    query = environ.get("QUERY_STRING", "").encode("latin-1")
    if method == "GET" and known.has_get_challenge:
        inbound = InboundRequest(Headers.of_wsgi(environ), b"", "GET", query, known.settings.public_url, request_id)
        challenge = ingest.challenge(source, inbound)
        if challenge is not None:
            return fixed(challenge)
    if method != "POST":
        refusal = json_answer(405, {"error": "method_not_allowed", "request_id": request_id})
        refusal.headers.append(("Allow", "GET, POST" if known.has_get_challenge else "POST"))
        return refusal
    body = read_body(environ, max_body)
    return _take_in(ingest, source, Headers.of_wsgi(environ), body, query, request_id)


def _take_in(ingest: Ingest, source: str, headers: Headers, body: bytes, query: bytes, request_id: str) -> Answer:
    known = ingest.source(source)
    inbound = InboundRequest(headers, body, "POST", query, known.settings.public_url, request_id)
    accepted = ingest.accept(source, inbound)
    if accepted.challenge is not None:
        return fixed(accepted.challenge)
    if known.success is not None:
        return fixed(known.success)
    return json_answer(200, receipt_body(accepted, request_id))


def read_body(environ: WSGIEnvironment, max_body: int) -> bytes:
    """The raw body, never more than `max_body` bytes of it.

    Raises `UnsupportedEncoding`, `PayloadTooLarge` (declared or as read) and `IncompleteBody`.
    """
    encoding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedEncoding("a Content-Encoding other than identity")
    declared = environ.get("CONTENT_LENGTH", "")
    stream = environ["wsgi.input"]
    if declared:
        if not (declared.isascii() and declared.isdigit()):
            raise IncompleteBody("Content-Length is not a number")
        size = int(declared[:20])
        if size > max_body:
            raise PayloadTooLarge(f"{size} bytes declared; at most {max_body} are taken (setting max_body)")
        body = _read(stream, size)
        if len(body) < size:
            raise IncompleteBody(f"{len(body)} bytes came of {size}")
        return body
    if environ.get("HTTP_TRANSFER_ENCODING", "").lower() != "chunked" and not environ.get("wsgi.input_terminated"):
        return b""
    body = _read(stream, max_body + 1)
    if len(body) > max_body:
        raise PayloadTooLarge(f"more than {max_body} bytes came (setting max_body)")
    return body


def _read(stream: Any, size: int) -> bytes:
    pieces: list[bytes] = []
    left = size
    try:
        while left > 0:
            piece = stream.read(left)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
    except (OSError, ValueError) as error:
        raise IncompleteBody("the connection broke while the body was read") from error
    except Exception as error:  # servers have errors of their own for broken chunks
        raise IncompleteBody(f"the body could not be read: {type(error).__name__}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def receipt_body(accepted: Accepted, request_id: str) -> dict[str, Any]:
    """The JSON of a 200; ids as decimal strings."""
    if accepted.quarantine_id is not None:
        return {
            "status": ReceiptStatus.QUARANTINED,
            "event_id": None,
            "quarantine_id": str(accepted.quarantine_id),
            "request_id": request_id,
        }
    receipts = accepted.receipts
    if len(receipts) == 1:
        return {"status": receipts[0].status, "event_id": _id(receipts[0]), "request_id": request_id}
    status = max((receipt.status for receipt in receipts), key=_SEVERITY.index, default=ReceiptStatus.DUPLICATE)
    return {
        "status": status,
        "events": [{"status": receipt.status, "event_id": _id(receipt)} for receipt in receipts],
        "request_id": request_id,
    }


def _id(receipt: Receipt) -> str | None:
    return None if receipt.event_id is None else str(receipt.event_id)


def fixed(challenge: Challenge) -> Answer:
    """An answer that the sender's protocol fixes; never interpreted as anything else."""
    return Answer(challenge.status, challenge.body, [("Content-Type", challenge.content_type), *_NEVER_KEPT])


def json_answer(status: int, body: dict[str, Any]) -> Answer:
    """A JSON answer that nobody caches or interprets otherwise."""
    return Answer(status, _encode(body), [("Content-Type", "application/json"), *_NEVER_KEPT])


def answer(status: int, body: dict[str, Any]) -> Response:
    """The same as Flask wants it."""
    return json_answer(status, body).as_response()


def refuse_redirects(url_prefix: str) -> Callable[[], Response | None]:
    """A `before_request` function for applications that merge slashes: a redirect would lose a POST's body."""

    def refuse() -> Response | None:
        if isinstance(request.routing_exception, RequestRedirect) and request.path.startswith(url_prefix + "/"):
            return answer(404, {"error": "not_found", "request_id": new_request_id()})
        return None

    return refuse


def http_error(error: HTTPException) -> Response:
    """Flask's own errors (404, 405, 413 …) in our shape."""
    slugs = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large", 400: "bad_request"}
    status = error.code or 500
    if 300 <= status < 400:  # a redirect would lose a POST's body
        status = 404
    return answer(status, {"error": slugs.get(status, "error"), "request_id": new_request_id()})


# -- health ------------------------------------------------------------------------------------------------


class Readiness:
    """Whether this process can take events in, asked at most once a second.

    check: raises nothing; answers (problems, last worker heartbeat).
    """

    def __init__(
        self, check: Callable[[], tuple[Sequence[str], datetime | None]], clock: Callable[[], datetime]
    ) -> None:
        self._check = check
        self._clock = clock
        self._asked = float("-inf")
        self._answer: tuple[Sequence[str], datetime | None] = ((), None)

    def __call__(self) -> tuple[int, dict[str, Any]]:
        now = time.monotonic()
        if now - self._asked > 1:
            self._answer = self._check()
            self._asked = now
        problems, beat = self._answer
        body: dict[str, Any] = {"status": "ready" if not problems else "unavailable"}
        if problems:
            body["problems"] = list(problems)
        alive = beat is not None and self._clock() - beat < timedelta(seconds=60)
        body["worker"] = {
            "alive": alive,
            "last_heartbeat": beat.isoformat() if beat is not None else None,
        }
        return (200 if not problems else 503), body


def make_health_blueprint(readiness: Readiness, *, name: str) -> Blueprint:
    """`/healthz`: this process runs. `/readyz`: it can take events in; a missing worker never makes that red."""
    blueprint = Blueprint(name, __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return answer(200, {"status": "ok", "request_id": new_request_id()})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        status, body = readiness()
        response = answer(status, {**body, "request_id": new_request_id()})
        if status == 503:
            response.headers["Retry-After"] = "5"
        return response

    return blueprint
