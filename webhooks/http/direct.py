"""The direct route: posts to configured sources are answered before Flask routes them.

The answer is the same that the blueprint gives, at half the price of an event: what Flask does around a view costs more
than storing one. Not for an application that is not ours alone, whose hooks have to run.

Our gunicorn worker calls it with posts that it has read itself, where nothing was put around the application: it asks
`find_direct_route`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from webhooks.errors import IncompleteBody, Overloaded, RequestTimeout
from webhooks.http.answers import PlainAnswer, refusal
from webhooks.http.gunicorn.plain_posts import STATUS_LINES
from webhooks.http.routes import accept, is_plainly_spelled, respond
from webhooks.intake import Ingest
from webhooks.model import Headers, InboundRequest, new_request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: {status: why a post is refused of which a part came}
_IN_PART: dict[int, Callable[[], Exception]] = {
    400: lambda: IncompleteBody("the connection ended before the body did"),
    408: lambda: RequestTimeout("the rest of the request did not come in time"),
    503: lambda: Overloaded("incomplete requests hold all the bytes they may (setting incomplete_bodies)"),
}


class DirectRoute:
    """`application`, with posts to configured sources answered before it routes them.

    paths: {path: name of the source}.
    max_body: longer bodies are refused, in bytes.
    """

    def __init__(
        self, application: WSGIApplication, ingest: Ingest, *, paths: Mapping[str, str], max_body: int
    ) -> None:
        self._application = application
        self._ingest = ingest
        self._max_body = max_body
        self.paths = paths

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        source = self.paths.get(environ["PATH_INFO"])
        if source is None or environ["REQUEST_METHOD"] != "POST" or not is_plainly_spelled(environ):
            return self._application(environ, start_response)
        status, body, headers = respond(self._ingest, source, environ, self._max_body)
        headers.append(("Content-Length", str(len(body))))
        start_response(STATUS_LINES[status], headers)
        return (body,)

    def post(self, source: str, headers: Headers, body: bytes) -> PlainAnswer:
        """What a post without a query gets that a server has read by itself. Raises nothing.

        source: its name.
        headers: every header once.
        body: whole, and not longer than `max_body`.
        """
        ingest = self._ingest
        request_id = new_request_id()
        inbound: InboundRequest | None = None
        try:
            known = ingest.source(source)
            inbound = InboundRequest(headers, body, "POST", b"", known.settings.public_url, request_id)
            return accept(ingest, known, inbound)
        except Exception as error:
            ingest.refusals.record(error, source=source, request_id=request_id, request=inbound)
            return refusal(error, request_id, has_body=True)

    def refuse(self, source: str, status: int) -> PlainAnswer:
        """What a post gets that a server has read in part. status: 400, 408 or 503."""
        request_id = new_request_id()
        error = _IN_PART[status]()
        self._ingest.refusals.record(error, source=source, request_id=request_id)
        return refusal(error, request_id, has_body=True)


def find_direct_route(application: Any) -> DirectRoute | None:
    """The direct route of a WSGI application that is ours and has nothing around it; None for every other."""
    ours: Any = getattr(application, "extensions", {}).get("webhooks")
    if ours is None or ours.wsgi_entry is None or application.wsgi_app is not ours.wsgi_entry:
        return None
    route: DirectRoute | None = ours.direct_route
    return route


__all__ = ["DirectRoute", "find_direct_route"]
