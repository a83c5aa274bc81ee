"""Logging in and out with a password."""

from __future__ import annotations

from flask import Response

from webhooks.dashboard.access import UserRole
from webhooks.dashboard.access.guard import peer_of
from webhooks.dashboard.access.sessions import NAME as COOKIE
from webhooks.dashboard.endpoints import PREFIX, Pages
from webhooks.dashboard.visit import Visit, cookie_path, set_login
from webhooks.errors import NotFound
from webhooks.operations import Actor, Journal, Verb, Via

PAGES = Pages()


@PAGES.get("/login", needs=None)
def login(visit: Visit) -> Response:
    """The form."""
    _require_users(visit)
    return visit.page("login.html", next=_next(visit), name="", problem="")


@PAGES.post("/login", needs=None)
def log_in(visit: Visit) -> Response:
    """Try a password; go on to where she wanted to."""
    _require_users(visit)
    name = visit.text("name")[:100]
    address = visit.request.remote_addr or peer_of(visit.request.environ)
    cookie = visit.access.log_in(name, visit.text("password")[:1000], address)
    known = name if name in visit.access.settings.users else ""  # else it may be a password, in the wrong field
    actor = Actor(known or "-", Via.DASHBOARD, address)
    if cookie is None:
        Journal(visit.store).note(Verb.LOGIN_FAILED, actor, known)
        problem = "Name or password is wrong."
        return visit.page("login.html", 401, next=_next(visit), name=name, problem=problem)
    Journal(visit.store).note(Verb.LOGIN, actor, known)
    response = Response("", 303, {"Location": _next(visit) or visit.url("overview")})
    set_login(response, visit.request, cookie)
    return response


@PAGES.post("/logout", needs=UserRole.VIEWER)
def log_out(visit: Visit) -> Response:
    """Forget who this browser is."""
    Journal(visit.store).note(Verb.LOGOUT, visit.actor, visit.actor.name)
    response = Response("", 303, {"Location": visit.url("overview")})
    response.delete_cookie(COOKIE, path=cookie_path(visit.request))
    return response


def _require_users(visit: Visit) -> None:
    if not visit.access.settings.users:
        raise NotFound("no user logs in with a password here")


def _next(visit: Visit) -> str:
    """Where to go after logging in: a page of ours, or "" for what is anything else."""
    wanted = visit.text("next")
    below = visit.request.script_root + PREFIX
    is_ours = wanted == below or wanted.startswith((f"{below}/", f"{below}?"))
    return wanted if is_ours and wanted.isascii() and wanted.isprintable() and "\\" not in wanted else ""
