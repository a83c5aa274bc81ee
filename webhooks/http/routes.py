"""The webhook routes as Flask calls them, and what a request is read to be.

The route does as little as it can: raw bytes up to the limit, headers, `Ingest.accept`, JSON. It never touches
`request.form`, never decodes a body, never redirects, and answers every method on every path itself, so that nothing of
Flask's own error pages leaks.

Not here: what an answer looks like (`answers`), posts that are answered before Flask routes them (`direct`).
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flask import Blueprint, Response, request
from werkzeug import exceptions
from werkzeug.routing import RequestRedirect

from webhooks.errors import (
    BadHost,
    IncompleteBody,
    MethodNotAllowed,
    PayloadTooLarge,
    Rejected,
    RequestTimeout,
    UnknownSource,
    UnsupportedEncoding,
)
from webhooks.formats import one_line
from webhooks.http.answers import NEVER_KEPT, PlainAnswer, fixed, json_answer, of_http_error, receipt_body, refusal
from webhooks.http.gunicorn.plain_posts import is_host
from webhooks.http.host import ANSWERED, rewind
from webhooks.intake import Accepted, Ingest
from webhooks.model import Challenge, Disposition, Headers, InboundRequest, new_request_id
from webhooks.sources import Source

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
#: What stands before the path in a request's target of absolute form (RFC 9112, section 3.2.2).
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.ASCII | re.IGNORECASE)
#: A path with one spelling: nothing encoded, no empty segment, none of dots alone.
_PLAIN_PATH = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)+/?", re.ASCII)
_UNROUTED = (exceptions.NotFound, exceptions.MethodNotAllowed, RequestRedirect)
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]


def make_blueprint(ingest: Ingest, *, name: str, url_prefix: str, max_body: int) -> Blueprint:
    """The webhook routes under `url_prefix`, for one `Ingest`.

    name: of the blueprint.
    url_prefix: begins with a slash and ends without one.
    max_body: longer bodies are refused, in bytes.
    """
    blueprint = Blueprint(name, __name__, url_prefix=url_prefix)

    def receive(source: str, rest: str = "") -> Response:
        """What a request to `<url_prefix>/<source>/<rest>` gets, as Flask has read its path."""
        environ = request.environ
        environ[ANSWERED] = True
        rewind(environ)
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


def respond(ingest: Ingest, source: str, environ: WSGIEnvironment, max_body: int) -> PlainAnswer:
    """Read one request to a source, have it accepted, and say what it gets. Raises nothing.

    source: the name in its path.
    max_body: in bytes.
    """
    request_id = new_request_id()
    inbound: InboundRequest | None = None
    try:
        known = ingest.source(source)
        if not has_host(environ):
            raise BadHost("the Host field is missing or names no host")
        method = environ["REQUEST_METHOD"]
        query = environ.get("QUERY_STRING", "").encode("latin-1")
        if method in known.handshake_methods:
            inbound = InboundRequest(
                Headers.of_wsgi(environ), b"", method, query, known.settings.public_url, request_id
            )
            challenge = ingest.challenge(known, inbound)
            if challenge is not None:
                return _counted(ingest, source, fixed(challenge))
        if method in known.methods:
            body = read_body(environ, max_body, inflates=known.inflates)
            headers = Headers.of_wsgi(environ)
            inbound = InboundRequest(headers, body, method, query, known.settings.public_url, request_id)
            return accept(ingest, known, inbound)
        if method == "HEAD":
            # senders that ask whether anything answers
            return _counted(ingest, source, PlainAnswer(200, b"", list(NEVER_KEPT)))
        allowed = ", ".join(sorted({"HEAD", *known.methods, *known.handshake_methods}))
        hint = (
            ""
            if known.has_get_challenge or method not in ("GET", "PUT", "PATCH")
            else "; set the sender to POST, or methods"
        )
        raise MethodNotAllowed(f"{one_line(method, 40)!r} is not one of {allowed}{hint}", allowed)
    except Exception as error:
        return _refused(ingest, error, source, inbound or _shown(environ, request_id), environ)


def _counted(ingest: Ingest, source: str, answer: PlainAnswer) -> PlainAnswer:
    if ingest.refusals.meter is not None:
        ingest.refusals.meter.counted(source, answer.status)
    return answer


def accept(ingest: Ingest, source: Source, inbound: InboundRequest) -> PlainAnswer:
    """Have a post accepted whose body has come whole. Raises what `Ingest.accept` raises."""
    meter, tally = ingest.refusals.meter, ingest.refusals.tally
    began = time.perf_counter()
    accepted = ingest.accept(source, inbound)
    seconds = time.perf_counter() - began
    if accepted.challenge is not None:
        answer = fixed(accepted.challenge)
    elif (reply := ingest.reply(source, inbound, accepted)) is not None:
        answer = fixed(reply)
    elif source.success is not None:
        answer = fixed(success_of(source, accepted))
    else:
        answer = json_answer(200, receipt_body(accepted, inbound.id))
    if meter is None and tally is None:
        return answer
    if tally is not None:
        for receipt in accepted.receipts:
            became = Disposition.CONFLICT if receipt.conflict else receipt.status
            tally.accepted(source.name, became, seconds)
        if accepted.quarantine_id is not None:
            tally.accepted(source.name, Disposition.QUARANTINED, seconds)
    if meter is not None:
        meter.accepted(source.name, answer.status, len(inbound.body), seconds)
    return answer


def success_of(source: Source, accepted: Accepted) -> Challenge:
    """What a 2xx carries: by the type of its first event, where the source says so for that."""
    default = source.success or Challenge(b"")
    return source.success_for.get(accepted.events[0].type, default) if accepted.events else default


def refuse(ingest: Ingest, error: Rejected, environ: WSGIEnvironment) -> PlainAnswer:
    """What a request gets that is for no source; it leaves the same traces as any other."""
    return _refused(ingest, error, "", _shown(environ, new_request_id()), environ)


def _refused(
    ingest: Ingest, error: Exception, source: str, inbound: InboundRequest, environ: WSGIEnvironment
) -> PlainAnswer:
    """Leave the traces of a refusal, and say what it is for the sender. inbound: as far as the request was read."""
    ingest.refusals.record(error, source=source, request_id=inbound.id, request=inbound)
    has_body = bool(environ.get("CONTENT_LENGTH", "").strip("0")) or "HTTP_TRANSFER_ENCODING" in environ
    return refusal(error, inbound.id, has_body=has_body)


def _shown(environ: WSGIEnvironment, request_id: str) -> InboundRequest:
    """A request whose body was not read; shown is how much of its head there was."""
    return InboundRequest(Headers.of_wsgi(environ), b"", id=request_id)


def _target(environ: WSGIEnvironment) -> str:
    """The path of a request as it was sent, for people: quoted, escaped and cut. A query may hold secrets."""
    target = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ["PATH_INFO"])
    return repr(one_line(target.partition("?")[0], 200))


def has_host(environ: WSGIEnvironment) -> bool:
    """Whether a request names a host as its version of HTTP wants it."""
    host = environ.get("HTTP_HOST")
    return is_host(host) if host is not None else environ.get("SERVER_PROTOCOL") == "HTTP/1.0"


def read_body(environ: WSGIEnvironment, max_body: int, *, inflates: bool = False) -> bytes:
    """The raw body, never more than `max_body` bytes of it. inflates: takes one that is compressed by gzip as well.

    Raises `UnsupportedEncoding`, `PayloadTooLarge` (declared or as read) and `IncompleteBody`.
    """
    encoding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding in ("gzip", "x-gzip") and inflates:
        return inflated(_read_body(environ, max_body), max_body)
    if encoding not in ("", "identity"):
        raise UnsupportedEncoding(
            f"a Content-Encoding other than identity{'' if inflates else _GZIP_HINT[encoding == 'gzip']}"
        )
    return _read_body(environ, max_body)


_GZIP_HINT = ("", "; set gzip = true for this source to have it inflated")


def inflated(packed: bytes, max_body: int) -> bytes:
    """What a body compressed by gzip holds, never more than `max_body` bytes of it.

    Raises `PayloadTooLarge`, and `IncompleteBody` for what is no gzip, or not one and whole.
    """
    reader = zlib.decompressobj(wbits=31)
    try:
        body = reader.decompress(packed, max_body + 1)
    except zlib.error:
        raise IncompleteBody("the body is not gzip, though Content-Encoding says so") from None
    if len(body) > max_body:
        raise PayloadTooLarge(f"more than {max_body} bytes once inflated (setting max_body)")
    if not reader.eof or reader.unused_data:
        raise IncompleteBody("the compressed body does not end where it should")
    return body


def _read_body(environ: WSGIEnvironment, max_body: int) -> bytes:
    """The bytes of a body as they came."""
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


def make_error_handler(ingest: Ingest) -> Callable[[exceptions.HTTPException], Response]:
    """Answers Flask's own errors in our shape, for an application that is ours alone, and leaves their traces as well."""

    def handle(error: exceptions.HTTPException) -> Response:
        environ = request.environ
        request_id = new_request_id()
        found = of_http_error(error, request_id)
        why: Rejected
        if found.status == 405:
            method = one_line(environ["REQUEST_METHOD"], 40)
            why = MethodNotAllowed(f"{method!r} is not a method of {_target(environ)}", "")
        elif found.status == 404:
            why = UnknownSource(f"nothing has the path {_target(environ)}")
        else:
            why = Rejected(f"answered {found.status}: {error.name}")
        ingest.refusals.record(why, source="", request_id=request_id, request=_shown(environ, request_id))
        return found.as_response()

    return handle
