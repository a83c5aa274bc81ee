"""`Visit`: one request as pages see it: who asks, what for, and how it is answered."""

from __future__ import annotations

import functools
import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from flask import Request, Response, url_for
from markupsafe import Markup

from webhooks.dashboard import assets, frame, looks, show
from webhooks.dashboard.access import DashboardUser, UserRole
from webhooks.dashboard.access.hosts import is_loopback
from webhooks.dashboard.access.records import Door
from webhooks.dashboard.access.sessions import LONGEST
from webhooks.dashboard.access.sessions import NAME as COOKIE
from webhooks.dashboard.endpoints import PREFIX
from webhooks.dashboard.rendering import render
from webhooks.errors import StorageUnavailable
from webhooks.formats import json as jsonio
from webhooks.operations import Actor, Via, not_loaded
from webhooks.version import VERSION

if TYPE_CHECKING:
    from webhooks.dashboard.access import Access
    from webhooks.dashboard.endpoints import PageRoute
    from webhooks.dashboard.services import Services
    from webhooks.operations.not_loaded import NotLoaded
    from webhooks.store import Store

#: Where a page says what it is, so that a poll can say which it has.
_SEEN = "0seen-placeholder0"
#: The header by which a poll says what it has, and that by which a page says what it is.
POLL, DIGEST = "X-Seen", "X-Digest"
#: The cookie with what the page after an action says once.
SAID = "webhooks_dashboard_said"


@dataclass
class Visit:
    """One request.

    request: Flask's.
    services: what pages work on.
    access: signs forms and what is said.
    endpoint: that answers; None on pages of errors.
    user: who asks; None where no user is logged in, on pages that need no role.
    form: which form of the answer is asked for: "html", "json", "jsonl" or "csv".
    blueprint: the name under which our endpoints are registered.
    is_away: the database cannot be asked, so nothing of it stands around the page.
    """

    request: Request
    services: Services
    access: Access
    endpoint: PageRoute | None
    user: DashboardUser | None
    form: str
    blueprint: str
    endpoints: frozenset[str]
    is_away: bool = False

    # -- what is asked -------------------------------------------------------------------------------------

    @functools.cached_property
    def now(self) -> datetime:
        """The time of this request, aware UTC; relative times count from it."""
        return self.services.clock()

    @property
    def store(self) -> Store:
        """What is stored."""
        return self.services.store

    def text(self, name: str, default: str = "") -> str:
        """A field of the query, or of the form of a POST."""
        return self.request.values.get(name, default)

    @property
    def may_see_payloads(self) -> bool:
        """Whether she sees values of payloads; else keys and types."""
        return self.may(self.access.settings.payloads_for)

    @property
    def actor(self) -> Actor:
        """On whose behalf an operation changes something."""
        is_script = self.user is not None and self.user.door is Door.TOKEN
        name = self.user.name if self.user is not None else "-"
        return Actor(name, Via.TOKEN if is_script else Via.DASHBOARD, self.request.remote_addr)

    def may(self, role: str) -> bool:
        """Whether who asks has this role, "viewer" or "operator"; templates leave out what she may not do."""
        return self.user is not None and self.user.may(UserRole.of(role))

    @functools.cached_property
    def not_loaded(self) -> NotLoaded | None:
        """What was saved and did not load, in the console of `webhooks dev`."""
        console = self.services.console
        return None if console is None else not_loaded.read(console.directory)

    @functools.cached_property
    def has_worker(self) -> bool:
        """Whether a worker reported lately; else what is asked for waits. Raises StorageUnavailable."""
        return looks.has_worker(self.services)

    # -- addresses -----------------------------------------------------------------------------------------

    def url(self, name: str, /, **values: Any) -> str:
        """The address of an endpoint; values are those of its path, then of the query; those that are None are left out."""
        given = {key.rstrip("_"): value for key, value in values.items() if value is not None}
        return url_for(f"{self.blueprint}.{name}", **given)

    def is_at(self, name: str) -> bool:
        """Whether this page is the one of that endpoint, or below it."""
        if name == "events" and self.endpoint is not None and self.endpoint.name in ("deliveries", "delivery"):
            return True
        own = self.url(name)
        here = self.request.script_root + self.request.path
        return here.rstrip("/") == own.rstrip("/") or (name != "overview" and here.startswith(f"{own}/"))

    @property
    def place(self) -> str:
        """Where this installation is, for the head of every page."""
        return "console" if self.services.console is not None else socket.gethostname()

    @property
    def database_name(self) -> str:
        """Which kind of database it has."""
        return "SQLite" if self.store.database.path is not None else "PostgreSQL"

    def has(self, name: str) -> bool:
        """Whether there is such an endpoint here."""
        return name in self.endpoints

    def here(self, **changed: Any) -> str:
        """This page's address with other fields in its query; None takes one out."""
        fields = {**self.request.args.to_dict(), **changed}
        query = urlencode({name: value for name, value in fields.items() if value is not None})
        path = self.request.script_root + self.request.path
        return f"{_quoted(path)}?{query}" if query else _quoted(path)

    @property
    def link(self) -> str:
        """This page's whole address, to be sent to someone."""
        public = self.access.settings.public_url.rstrip("/")
        return f"{public or self.request.host_url.rstrip('/')}{self.here()}"

    def asset(self, name: str) -> str:
        """The address of a file of `static/`."""
        return self.url("asset", digest=assets.digest(), name=name)

    # -- answers -------------------------------------------------------------------------------------------

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """A page. template: a file of `templates/`, which gets `visit`, `url`, `here`, `may` and this context."""
        body = render(template, **self._around(), **context)
        seen = hashlib.sha256(body.encode()).hexdigest()[:16]
        headers = {DIGEST: seen}
        return Response(body.replace(_SEEN, seen), status, headers, content_type="text/html; charset=utf-8")

    def json(self, document: Any, status: int = 200) -> Response:
        """A JSON document, as the command line prints it."""
        text = jsonio.inert(json.dumps(document, ensure_ascii=False))
        return Response(text, status, content_type="application/json")

    def stream(self, chunks: Iterator[bytes], media_type: str, name: str) -> Response:
        """A file that is made while it is sent. name: under which browsers save it."""
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Security-Policy": "sandbox"}
        return Response(self._called(chunks), 200, headers, content_type=media_type)

    def _called(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same, each made where the database may be used."""
        while chunk := self.services.call(next, chunks, b""):
            yield chunk

    def go(self, name: str, /, *, said: str | None = None, **values: Any) -> Response:
        """Go to another page after an action (303). said: what that page says once, in words."""
        return self.go_to(self.url(name, **values), said=said)

    def go_to(self, address: str, *, said: str | None = None) -> Response:
        """Go to an address of ours after an action (303). said: see `go`."""
        response = Response("", 303, {"Location": address})
        if said is not None:
            session = self.user.session if self.user is not None else ""
            text = self.access.notes.make(f"{session}\n{said[:1000]}")
            response.set_cookie(SAID, text, max_age=60, path=cookie_path(self.request), httponly=True, samesite="Lax")
        return response

    @functools.cached_property
    def said(self) -> str | None:
        """What the action before this page said; each time once."""
        text = self.access.notes.read(self.request.cookies.get(SAID, ""))
        session, newline, words = (text or "").partition("\n")
        is_ours = newline and self.user is not None and session == self.user.session
        return words if is_ours else None

    def _around(self) -> Mapping[str, Any]:
        return {
            "visit": self,
            "url": self.url,
            "here": self.here,
            "may": self.may,
            "has": self.has,
            "now": self.now,
            "ago": lambda at: show.ago(at, self.now),
            "clock_time": lambda at: show.clock_time(at, self.now),
            "live": self._live,
            "version": VERSION,
            "navigation": [link for link in frame.NAVIGATION if self.has(link.endpoint)],
            "operate": [link for link in frame.OPERATE if self.has(link.endpoint)],
            "counts": self._counts(),
            "form_token": self.access.forms.make(self.user.session) if self.user is not None else "",
        }

    def _counts(self) -> Mapping[str, frame.Count]:
        """What waits at each place to go; nothing where the database cannot be asked: the page has its own word of that."""
        if self.user is None or self.is_away:
            return {}
        try:
            return frame.counts(self.services)
        except StorageUnavailable:
            return {}

    def _live(self, id: str) -> Markup:
        """The attributes of a section that is renewed while one looks. id: its id, a word of ours."""
        return Markup(
            'id="{0}" data-live hx-get="{1}" hx-trigger="poll" hx-select="#{0}" hx-target="#{0}" hx-swap="outerMorph" '
            'hx-headers=\'{{"X-Seen": "{2}"}}\''
        ).format(id, self.here(), Markup(_SEEN))


def _quoted(path: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=-._~")


def cookie_path(request: Request) -> str:
    """Our cookies are sent to our pages only."""
    return request.script_root + PREFIX


def set_login(response: Response, request: Request, cookie: str) -> None:
    """Set the cookie of a login; over plain http only where no other can listen."""
    secure = not is_loopback(request.host)
    response.set_cookie(
        COOKIE, cookie, path=cookie_path(request), httponly=True, samesite="Lax", secure=secure, max_age=LONGEST
    )


__all__ = ["DIGEST", "POLL", "SAID", "Visit", "cookie_path", "set_login"]
