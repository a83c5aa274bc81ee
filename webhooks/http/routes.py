"""The HTTP surface: webhook routes, health and readiness.

The route does as little as it can: raw bytes up to the limit, headers, `Ingest.accept`, JSON. It never touches
`request.form`, never decodes a body, never redirects, and answers every method on every path itself, so that nothing of
Flask's own error pages leaks. Every answer is JSON with `status` or `error`, and `request_id`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from flask import Blueprint, Response, request
from werkzeug import exceptions
from werkzeug.routing import RequestRedirect

from webhooks.errors import (
    BadHost,
    IncompleteBody,
    MethodNotAllowed,
    Overloaded,
    PayloadTooLarge,
    Rejected,
    RequestTimeout,
    StorageUnavailable,
    UnknownSource,
    UnsupportedEncoding,
)
from webhooks.forks import PerProcess
from webhooks.formats import one_line
from webhooks.http.gunicorn.plain_posts import STATUS_LINES, is_host
from webhooks.intake import Accepted, Ingest
from webhooks.model import Challenge, Headers, InboundRequest, Receipt, ReceiptStatus, new_request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
#: Of several events in one body, the answer names the most severe.
_SEVERITY = (
    ReceiptStatus.DUPLICATE, ReceiptStatus.STALE, ReceiptStatus.REVISION, ReceiptStatus.STORED, ReceiptStatus.QUARANTINED,
)  # fmt: skip
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
#: What stands before the path in a request's target of absolute form (RFC 9112, section 3.2.2).
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.ASCII | re.IGNORECASE)
#: A path with one spelling: nothing encoded, no empty segment, none of dots alone.
_PLAIN_PATH = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)+/?", re.ASCII)
_NEVER_KEPT = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
_UNROUTED = (exceptions.NotFound, exceptions.MethodNotAllowed, RequestRedirect)
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
        """What a request to `<url_prefix>/<source>/<rest>` gets, as Flask has read its path."""
        environ = request.environ
        path = f"{url_prefix}/{source}"
        if (
            rest
            or not _SOURCE_NAME.fullmatch(source)
            or environ["PATH_INFO"] not in (path, path + "/")  # werkzeug drops slashes that it begins with
            or not is_plainly_spelled(environ)
        ):
            return refuse(ingest, UnknownSource(f"no source has the path {_target(environ)}"), environ).as_response()
        return respond(ingest, source, environ, max_body).as_response()

    def answer_unrouted() -> Response | None:
        """Answer what Flask cannot route below the prefix; its own answer, or the host's, would tell by its form.

        A redirect, which an application that merges slashes makes, would also lose a POST's body.
        """
        error = request.routing_exception
        path = "/" + request.environ["PATH_INFO"].lstrip("/")
        if not isinstance(error, _UNROUTED) or not path.startswith(url_prefix + "/"):
            return None
        source, _, rest = path.removeprefix(url_prefix + "/").partition("/")
        return receive(source, rest or ("/" if isinstance(error, exceptions.NotFound) else ""))

    blueprint.before_app_request(answer_unrouted)
    # with and without the slash, every method: no redirect and no error page but ours
    options: dict[str, Any] = {"methods": _METHODS, "provide_automatic_options": False}
    blueprint.add_url_rule("/<source>", "receive", receive, **options)
    blueprint.add_url_rule("/<source>/", "receive_slash", receive, **options)
    blueprint.add_url_rule("/<source>/<path:rest>", "receive_below", receive, **options)
    return blueprint


#: Refusals after which the rest of a request is not read.
_LEAVES_A_BODY = (PayloadTooLarge, IncompleteBody, RequestTimeout, UnsupportedEncoding, BadHost)
#: {status: why a post is refused of which a part came}
_IN_PART: dict[int, Callable[[], Exception]] = {
    400: lambda: IncompleteBody("the connection ended before the body did"),
    408: lambda: RequestTimeout("the rest of the request did not come in time"),
    503: lambda: Overloaded("incomplete requests hold all the bytes they may (setting incomplete_bodies)"),
}


class ShortCut:
    """`application`, with posts to configured sources answered before it routes them.

    The answer is the same that the blueprint gives, at half the price of an event: what Flask does around a
    view costs more than storing one. Not for somebody else's application, whose hooks have to run.
    """

    def __init__(
        self, application: WSGIApplication, ingest: Ingest, *, paths: Mapping[str, str], max_body: int
    ) -> None:
        self._application = application
        self._ingest = ingest
        self._max_body = max_body
        #: {path: name of the source}
        self.paths = paths

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        source = self.paths.get(environ["PATH_INFO"])
        if source is None or environ["REQUEST_METHOD"] != "POST" or not is_plainly_spelled(environ):
            return self._application(environ, start_response)
        status, body, headers = respond(self._ingest, source, environ, self._max_body)
        headers.append(("Content-Length", str(len(body))))
        start_response(STATUS_LINES[status], headers)
        return (body,)

    def post(self, source: str, headers: Headers, body: bytes) -> Answer:
        """What a post without a query gets that a server has read by itself. Raises nothing."""
        ingest = self._ingest
        return _answer(ingest, source, lambda request_id: _take_in(ingest, source, headers, body, b"", request_id))

    def refuse(self, source: str, status: int) -> Answer:
        """What a post gets that a server has read in part. status: 400, 408 or 503."""

        def refuse(request_id: str) -> Answer:
            raise _IN_PART[status]()

        return _answer(self._ingest, source, refuse)


def respond(ingest: Ingest, source: str, environ: WSGIEnvironment, max_body: int) -> Answer:
    """Take in one request to a source and say what it gets. Raises nothing."""
    return _answer(
        ingest, source, lambda request_id: _receive(ingest, source, request_id, environ, max_body), environ=environ
    )


def refuse(ingest: Ingest, error: Rejected, environ: WSGIEnvironment) -> Answer:
    """What a request gets that is for no source; it leaves the same traces as any other."""

    def take(request_id: str) -> Answer:
        raise error

    return _answer(ingest, "", take, environ=environ)


def _answer(
    ingest: Ingest, source: str, take: Callable[[str], Answer], *, environ: WSGIEnvironment | None = None
) -> Answer:
    """What `take` answers to a request of that id, or what its failure means for the sender.

    environ: of the request, where it has one; shown is how much of it there was.
    """
    request_id = new_request_id()
    try:
        return take(request_id)
    except Exception as error:
        seen = None if environ is None else InboundRequest(Headers.of_wsgi(environ), b"", id=request_id)
        ingest.refusals.record(error, source=source, request_id=request_id, request=seen)
        has_body = environ is not None and (
            bool(environ.get("CONTENT_LENGTH", "").strip("0")) or "HTTP_TRANSFER_ENCODING" in environ
        )
        return _refusal(error, request_id, has_body=has_body)


def _refusal(error: Exception, request_id: str, *, has_body: bool) -> Answer:
    """has_body: whether the request came with one."""
    if isinstance(error, Rejected):
        refusal = json_answer(error.status, {"error": error.slug, "request_id": request_id})
        if isinstance(error, MethodNotAllowed):
            refusal.headers.append(("Allow", error.allowed))
        if isinstance(error, _LEAVES_A_BODY) or (isinstance(error, MethodNotAllowed) and has_body):
            refusal.headers.append(("Connection", "close"))  # what is left of the body is nobody's next request
        return refusal
    if isinstance(error, StorageUnavailable):
        refusal = json_answer(503, {"error": error.slug, "request_id": request_id})
        refusal.headers.append(("Retry-After", str(max(1, int(error.retry_after.total_seconds())))))
        return refusal
    # a fault of ours must not become the sender's loss: it tries again
    refusal = json_answer(503, {"error": "internal_error", "request_id": request_id})
    refusal.headers.append(("Retry-After", "30"))
    return refusal


def _target(environ: WSGIEnvironment) -> str:
    """The path of a request as it was sent, for people: quoted, escaped and cut. A query may hold what nobody may see."""
    target = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"])
    return repr(one_line(target.partition("?")[0], 200))


def _receive(ingest: Ingest, source: str, request_id: str, environ: WSGIEnvironment, max_body: int) -> Answer:
    known = ingest.source(source)
    if not has_host(environ):
        raise BadHost("the Host field is missing or names no host")
    method = environ["REQUEST_METHOD"]
    query = environ.get("QUERY_STRING", "").encode("latin-1")
    if method == "GET" and known.has_get_challenge:
        inbound = InboundRequest(Headers.of_wsgi(environ), b"", "GET", query, known.settings.public_url, request_id)
        challenge = _judge(inbound, lambda: ingest.challenge(source, inbound))
        if challenge is not None:
            return fixed(challenge)
    if method == "HEAD":
        return Answer(200, b"", list(_NEVER_KEPT))  # senders that ask whether there is anybody
    if method != "POST":
        allowed = "GET, HEAD, POST" if known.has_get_challenge else "HEAD, POST"
        raise MethodNotAllowed(f"{one_line(method, 40)!r} is not one of {allowed}", allowed)
    body = read_body(environ, max_body)
    return _take_in(ingest, source, Headers.of_wsgi(environ), body, query, request_id)


def _take_in(ingest: Ingest, source: str, headers: Headers, body: bytes, query: bytes, request_id: str) -> Answer:
    known = ingest.source(source)
    inbound = InboundRequest(headers, body, "POST", query, known.settings.public_url, request_id)
    accepted = _judge(inbound, lambda: ingest.accept(source, inbound))
    if accepted.challenge is not None:
        return fixed(accepted.challenge)
    if known.success is not None:
        return fixed(known.success)
    return json_answer(200, receipt_body(accepted, request_id))


def has_host(environ: WSGIEnvironment) -> bool:
    """Whether a request names a host as its version of HTTP wants it."""
    host = environ.get("HTTP_HOST")
    return is_host(host) if host is not None else environ.get("SERVER_PROTOCOL") == "HTTP/1.0"


def _judge(inbound: InboundRequest, judge: Callable[[], T]) -> T:
    """Call `judge`; what it rejects has the request with it, so that `explain` can say what was wrong with that."""
    try:
        return judge()
    except Rejected as error:
        error.request = inbound
        raise


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
        digits = declared.lstrip("0") or "0"
        if len(digits) > len(str(max_body)) or int(digits) > max_body:
            raise PayloadTooLarge(
                f"{digits[:20]} bytes or more declared; at most {max_body} are taken (setting max_body)"
            )
        size = int(digits)
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
    except TimeoutError as error:
        raise RequestTimeout("the body did not come in time") from error
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


def is_plainly_spelled(environ: WSGIEnvironment) -> bool:
    """Whether the path of a request was sent as it is read: nothing encoded, no slash doubled, no dots, no parameters.

    A proxy that decides by the path sees it as it was sent; WSGI hands it over decoded. Of a server that does not say what
    was sent (neither RAW_URI nor REQUEST_URI) the decoded path is judged.
    """
    target = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"])
    if not target.startswith("/"):
        target = _AUTHORITY.sub("", target, count=1)
    path = target.partition("?")[0]
    if _PLAIN_PATH.fullmatch(path) is not None:
        return True
    # the path below which a host has mounted us may need an encoding
    mounted, below = environ.get("SCRIPT_NAME", ""), environ["PATH_INFO"]
    return _PLAIN_PATH.fullmatch(below) is not None and path == quote(mounted, encoding="latin-1") + below


def http_error(error: exceptions.HTTPException) -> Answer:
    """Flask's own errors (404, 405, 413 …) in our shape."""
    return _of_flask(error, new_request_id())


def make_error_handler(ingest: Ingest) -> Callable[[exceptions.HTTPException], Response]:
    """The same for an application that is ours alone, where such a request leaves its traces as well."""

    def handle(error: exceptions.HTTPException) -> Response:
        environ = request.environ
        request_id = new_request_id()
        found = _of_flask(error, request_id)
        why: Rejected
        if found.status == 405:
            method = one_line(environ["REQUEST_METHOD"], 40)
            why = MethodNotAllowed(f"{method!r} is not a method of {_target(environ)}", "")
        elif found.status == 404:
            why = UnknownSource(f"nothing has the path {_target(environ)}")
        else:
            why = Rejected(f"answered {found.status}: {error.name}")
        seen = InboundRequest(Headers.of_wsgi(environ), b"", id=request_id)
        ingest.refusals.record(why, source="", request_id=request_id, request=seen)
        return found.as_response()

    return handle


def _of_flask(error: exceptions.HTTPException, request_id: str) -> Answer:
    slugs = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large", 400: "bad_request"}
    status = error.code or 500
    if 300 <= status < 400:  # a redirect would lose a POST's body
        status = 404
    found = json_answer(status, {"error": slugs.get(status, "error"), "request_id": request_id})
    if isinstance(error, exceptions.MethodNotAllowed) and error.valid_methods is not None:
        found.headers.append(("Allow", ", ".join(sorted(error.valid_methods))))
    return found


# -- health ------------------------------------------------------------------------------------------------

_NOT_KNOWN = "database unavailable"


class Readiness:
    """Whether this process can take events in, asked at most once a second, and by one request at a time.

    Anybody may ask, so a crowd must not cost what posts need: while one request waits for the database the others wait for
    `PATIENCE` at most, counted from that one's start, and then hear the last answer, if it is young enough, or that there
    is none.

    check: raises nothing; answers (problems, last worker heartbeat). The problems are shown to anybody.
    """

    #: An answer is given again for so long, in seconds.
    KEPT = 1.0
    #: And so long to who cannot wait for a newer one.
    KEPT_AT_MOST = 2.0
    #: In seconds.
    PATIENCE = 0.25

    def __init__(
        self,
        check: Callable[[], tuple[Sequence[str], datetime | None]],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check = check
        self._clock = clock
        self._monotonic = monotonic
        self.forget()

    def forget(self) -> None:
        """Ask anew when next asked."""
        self._own = PerProcess(_Asked)

    def __call__(self) -> tuple[int, dict[str, Any]]:
        """(status, body) of the answer."""
        own = self._own.get()
        if self._monotonic() - own.asked > self.KEPT:
            self._ask(own)
        problems, beat = own.answer
        if self._monotonic() - own.asked > self.KEPT_AT_MOST:
            problems, beat = (_NOT_KNOWN,), None
        body: dict[str, Any] = {"status": "ready" if not problems else "unavailable"}
        if problems:
            body["problems"] = list(problems)
        alive = beat is not None and self._clock() - beat < timedelta(seconds=60)
        body["worker"] = {
            "alive": alive,
            "last_heartbeat": beat.isoformat() if beat is not None else None,
        }
        return (200 if not problems else 503), body

    def _ask(self, own: _Asked) -> None:
        if not own.asking.acquire(blocking=False):
            left = own.began + self.PATIENCE - self._monotonic()
            if left <= 0 or not own.asking.acquire(timeout=left):
                return
        try:
            if self._monotonic() - own.asked > self.KEPT:
                own.began = self._monotonic()
                own.answer = self._check()
                own.asked = self._monotonic()
        finally:
            own.asking.release()


class _Asked:
    """What one process has asked."""

    def __init__(self) -> None:
        self.asking = threading.Lock()
        self.began = self.asked = float("-inf")
        self.answer: tuple[Sequence[str], datetime | None] = ((_NOT_KNOWN,), None)


def make_health_blueprint(readiness: Readiness, *, name: str) -> Blueprint:
    """`/healthz`: this process runs. `/readyz`: it can take events in; a missing worker never makes that red."""
    blueprint = Blueprint(name, __name__)

    @blueprint.before_request
    def refuse_tricks() -> Response | None:
        return None if is_plainly_spelled(request.environ) else http_error(exceptions.NotFound()).as_response()

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
