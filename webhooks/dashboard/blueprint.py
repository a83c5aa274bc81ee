"""The blueprint: addresses below `/dashboard`, headers on every answer, pages for errors.

Errors are answered here and not by the application, whose own answers are JSON; what is below `/dashboard` and is no
page is a 404 of ours, so nothing of the application's is reached by it.
"""

from __future__ import annotations

import contextvars
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from webhooks.dashboard.access import Access, DashboardUser, Refused, TooManyFailures, UserRole
from webhooks.dashboard.endpoints import PREFIX, SUFFIXES, PageRoute, every_endpoint
from webhooks.dashboard.services import Services
from webhooks.dashboard.visit import DIGEST, POLL, SAID, Visit, cookie_path, set_login
from webhooks.errors import NotFound, SelectionError, StorageUnavailable, WebhooksError
from webhooks.forks import PerProcess

logger = logging.getLogger(__name__)

#: What polls get is kept so long, in one process.
POLL_SECONDS = 1.0
#: A request waits so long for its place where they are few.
PLACE_SECONDS = 0.5

#: Every answer has these.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


class TooBusy(Exception):
    """As many requests are answered as may be beside what accepts events."""


class Site:
    """What the blueprint's functions share. name: of the blueprint."""

    def __init__(self, services: Services, access: Access, name: str) -> None:
        self.services = services
        self.access = access
        self.name = name
        self.endpoints = [each for each in every_endpoint() if services.console is not None or not each.console]
        self.names = frozenset(each.name for each in self.endpoints)
        most = services.most_at_once
        self._places = None if most is None else PerProcess(lambda: threading.BoundedSemaphore(most))

    def visit(self, endpoint: PageRoute | None, user: DashboardUser | None, form: str = "html") -> Visit:
        """This request."""
        now: Any = request  # the object itself: an export goes on when Flask has left the request
        return Visit(now._get_current_object(), self.services, self.access, endpoint, user, form, self.name, self.names)

    # -- one request ---------------------------------------------------------------------------------------

    def answer(self, endpoint: PageRoute, form: str, values: dict[str, Any]) -> Response:
        """Let in who may, and answer; the database is used in a thread of its own where it would block a hub.

        Beside what accepts events, so many at once as `Services.most_at_once`; the others are told to come again.
        """
        places = None if self._places is None or endpoint.name == "asset" else self._places.get()
        if places is not None and not places.acquire(timeout=PLACE_SECONDS):
            return self.of_error(TooBusy("others look as well; this page asks again by itself"), None, form)
        try:
            try:
                _read_form()
            except Exception as error:
                return self.of_error(error, None, form)
            context = contextvars.copy_context()
            response: Response = self.services.call(lambda: context.run(self._answer, endpoint, form, values))
            return response
        finally:
            if places is not None:
                places.release()

    def _answer(self, endpoint: PageRoute, form: str, values: dict[str, Any]) -> Response:
        user: DashboardUser | None = None
        cookie: str | None = None
        is_read = request.method in ("GET", "HEAD")
        try:
            self.access.require_host(request)
            if "key" in request.args and self.services.console is not None and request.method == "GET":
                return self._exchange_key(endpoint, values)
            visitor = self.access.visitor(request, is_for_programs=form != "html" and is_read)
            if visitor is not None:
                user, cookie = visitor.user, visitor.cookie
            if endpoint.needs is not None:
                if user is None:
                    return self._ask_to_log_in(form)
                if not user.may(endpoint.needs):
                    raise Refused(403, f"this needs the role {endpoint.needs.word}; yours is {user.role.word}")  # type: ignore[union-attr]
                if not is_read:
                    self.access.require_form(request, user)
            elif not is_read:
                self.access.require_own_page(request)
            visit = self.visit(endpoint, user, form)
            response = (
                self._look(endpoint, visit, values) if POLL in request.headers else endpoint.view(visit, **values)
            )
            if not is_read:
                self.services.kept.clear()
            if visit.__dict__.get("said") is not None:
                response.delete_cookie(SAID, path=cookie_path(request))
        except Exception as error:
            response = self.of_error(error, user, form)
        if cookie is not None:
            set_login(response, request, cookie)
        return response

    def _look(self, endpoint: PageRoute, visit: Visit, values: dict[str, Any]) -> Response:
        """The answer to a poll: kept a moment, so that a page with many sections is made once; 204 where nothing moved."""
        session = visit.user.session if visit.user is not None else ""
        name = f"poll {session} {visit.form} {request.full_path}"
        body, status, kind, digest = self.services.kept.get(
            name, lambda: _taken(endpoint.view(visit, **values)), POLL_SECONDS
        )
        if digest and request.headers[POLL] == digest:
            return Response("", 204)
        return Response(body, status, content_type=kind)

    def _exchange_key(self, endpoint: PageRoute, values: dict[str, Any]) -> Response:
        """The link that `webhooks dev` printed: its key becomes a cookie, and leaves the address."""
        cookie = self.access.by_key(request.args["key"])
        if cookie is None:
            raise Refused(403, "this link is of another start of webhooks dev; open the one that it printed last")
        response = Response("", 303, {"Location": self.visit(endpoint, None).here(key=None)})
        set_login(response, request, cookie)
        return response

    def _ask_to_log_in(self, form: str) -> Response:
        """No user is there: the page to log in at, or 401 for a program; nothing of a POST is done."""
        visit = self.visit(None, None, form)
        if form != "html":
            return self._named(visit.json({"error": "unauthorized"}, 401), "Bearer")
        if self.services.console is not None:
            return visit.page("error.html", 401, title="Open the link", text=(
                "Open the link that webhooks dev printed: it has a key in it, which lets this browser in."
            ))  # fmt: skip
        if self.access.settings.users:
            return visit.page(
                "login.html", 401, next=visit.here() if request.method == "GET" else "", name="", problem=""
            )
        return visit.page(
            "error.html", 401, title="Not logged in", text="Log in where this dashboard is embedded, or at its proxy."
        )

    @staticmethod
    def _named(response: Response, scheme: str) -> Response:
        response.headers["WWW-Authenticate"] = scheme
        return response

    # -- errors --------------------------------------------------------------------------------------------

    def of_error(self, error: Exception, user: DashboardUser | None, form: str = "html") -> Response:
        """The page, or the document, that says what went wrong."""
        status, title, text = describe(error)
        if status == 500:
            logger.exception("a page of the dashboard failed: %s", request.path)
        visit = self.visit(None, user, form)
        visit.is_away = status >= 500
        if form != "html":
            response = visit.json({"error": text}, status)
        else:
            response = visit.page("error.html", status, title=title, text=text)
        if isinstance(error, TooManyFailures):
            response.headers["Retry-After"] = str(error.seconds)
        elif isinstance(error, TooBusy):
            response.headers["Retry-After"] = "2"
        return response


def _read_form() -> None:
    """Read what was posted, in the thread that has the connection: under gevent no other may wait for more of it."""
    if request.method == "POST":
        _ = request.form


def _taken(response: Response) -> tuple[bytes, int, str | None, str]:
    """What is kept of an answer."""
    return response.get_data(), response.status_code, response.content_type, response.headers.get(DIGEST, "")


def describe(error: Exception) -> tuple[int, str, str]:
    """(status, title, sentence) of an error."""
    if isinstance(error, Refused):
        return error.status, "Not allowed" if error.status == 403 else "Refused", str(error)
    if isinstance(error, TooBusy):
        return 503, "Busy", str(error)
    if isinstance(error, TooManyFailures):
        return 429, "Too many failed logins", str(error)
    if isinstance(error, NotFound):
        return 404, "Not found", str(error)
    if isinstance(error, SelectionError):
        return 400, "This cannot be read", str(error)
    if isinstance(error, StorageUnavailable):
        return 503, "The database cannot be reached", f"{error.reason}. Events are not lost by this: senders try again."
    if isinstance(error, WebhooksError):
        return 409, "This cannot be done now", str(error)
    if isinstance(error, HTTPException):
        return error.code or 500, error.name, error.description or ""
    return 500, "This page failed", "It is a fault of ours; the log of this process has what happened."


def make_blueprint(services: Services, access: Access, *, name: str = "webhooks_dashboard") -> Blueprint:
    """Everything below `/dashboard`, to be registered in an application. name: of the blueprint."""
    site = Site(services, access, name)
    blueprint = Blueprint(name, __name__, url_prefix=PREFIX)
    for endpoint in site.endpoints:
        for form in endpoint.forms:
            for path in _paths(endpoint, form):
                blueprint.add_url_rule(
                    path,
                    endpoint=endpoint.name if form == "html" else f"{endpoint.name}_{form}",
                    view_func=_view(site, endpoint, form),
                    methods=[endpoint.method],
                    strict_slashes=False,
                    merge_slashes=False,
                    provide_automatic_options=False,
                )
    nothing = _view(site, _NOTHING, "html")
    blueprint.add_url_rule(_NOTHING.path, endpoint=_NOTHING.name, view_func=nothing, methods=_METHODS)
    blueprint.add_url_rule("/", endpoint="nothing_here", view_func=nothing, methods=_METHODS[1:], strict_slashes=False)

    @blueprint.after_request
    def add_headers(response: Response) -> Response:
        for header, value in HEADERS.items():
            response.headers.setdefault(header, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return blueprint


def _paths(endpoint: PageRoute, form: str) -> list[str]:
    if form == "html" or endpoint.path != "/":
        return [endpoint.path + SUFFIXES[form]]
    return [f"/{endpoint.name}{SUFFIXES[form]}"]  # the first page has no name in its address


def _view(site: Site, endpoint: PageRoute, form: str) -> Callable[..., Response]:
    @functools.wraps(endpoint.view)
    def view(**values: Any) -> Response:
        return site.answer(endpoint, form, values)

    return view


def _nothing(visit: Visit, rest: str = "") -> Response:
    raise NotFound("there is no such page; what you look for may have been pruned, or the address is not complete")


#: Whatever else is below the prefix is not there, for any method.
_NOTHING = PageRoute("nothing", "/<path:rest>", "GET", UserRole.VIEWER, _nothing)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

__all__ = ["HEADERS", "make_blueprint"]
