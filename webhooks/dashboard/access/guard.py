"""`Access`: who a request is from, asked anew each time.

A token is heard on addresses for programs only (`.json` and the like). Where the application says who is there
(`dashboard_user`), nothing else is asked; a proxy's header counts from its own address alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from webhooks.dashboard.access import forgery, hosts
from webhooks.dashboard.access.passwords import Passwords, find_token
from webhooks.dashboard.access.records import DashboardUser, Door, Refused, UserRole
from webhooks.dashboard.access.sessions import NAME, REWRITE_AFTER, Login, LoginCookies, digest_of
from webhooks.errors import ConfigurationError
from webhooks.settings import UNIX, DashboardSettings

if TYPE_CHECKING:
    from flask import Request

    from webhooks.dashboard.services import Console

#: Fewer characters sign nothing.
SHORTEST_KEY = 16


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who a request is from. cookie: to be set with the answer, where there is one."""

    user: DashboardUser
    cookie: str | None = None


class Access:
    """Lets users in.

    settings: the section `[dashboard]`.
    keys: what signs cookies and forms, the newest last.
    clock: aware UTC now.
    ask: of the host application: who is there; None: no user.
    console: of `webhooks dev`, whose link lets its developer in.
    count: failed logins on record (see `Passwords`).
    """

    def __init__(
        self,
        settings: DashboardSettings,
        keys: Sequence[str],
        clock: Callable[[], datetime],
        *,
        ask: Callable[[], DashboardUser | None] | None = None,
        console: Console | None = None,
        count: Callable[..., int] = lambda since, **of: 0,
    ) -> None:
        self.settings = settings
        self.console = console
        self.clock = clock
        self.forms = forgery.FormTokens(keys)
        #: what the page after an action says once
        self.notes = forgery.Signed(keys, "note")
        self.sessions = LoginCookies(keys)
        hashes = {user.name: user.password_hash for user in settings.users.values()}
        self.passwords = Passwords(hashes, clock, count)
        self._ask = ask

    # -- where it is asked ---------------------------------------------------------------------------------

    def require_host(self, request: Request) -> None:
        """Raise `Refused` where the address is not one of ours: another site's name may lead to this machine."""
        if self.console is not None:
            if hosts.came_by_tunnel(key for key, _ in request.headers) or not hosts.is_loopback(request.host):
                raise Refused(403, "you reached a dev dashboard through a tunnel; open it on the machine where it runs")
        elif not hosts.is_ours(request.host, self.settings.public_url) and (
            self._ask is None or self.settings.public_url
        ):
            raise Refused(
                421, "this host is not the dashboard's; set public_url in [dashboard] to the address that you use"
            )

    # -- who is there --------------------------------------------------------------------------------------

    def visitor(self, request: Request, *, is_for_programs: bool) -> Visitor | None:
        """Who a request is from; None: no user whom we know. Raises `Refused`."""
        if is_for_programs and "Authorization" in request.headers:
            return self._by_token(request.headers["Authorization"])
        if self._ask is not None:
            user = self._ask()
            return None if user is None else Visitor(replace(user, session=f"application:{user.name}"))
        by_proxy = self._by_proxy(request)
        return by_proxy if by_proxy is not None else self._by_cookie(request.cookies.get(NAME, ""))

    def _by_token(self, field: str) -> Visitor | None:
        scheme, _, text = field.partition(" ")
        tokens = self.settings.tokens
        name = find_token(text.strip(), {each.name: each.token_hash for each in tokens.values()})
        if name is None or scheme.lower() != "bearer":
            return None
        return Visitor(DashboardUser(name, tokens[name].role, Door.TOKEN))

    def _by_proxy(self, request: Request) -> Visitor | None:
        proxy = self.settings.proxy
        if proxy is None or peer_of(request.environ) not in proxy.peers:
            return None
        name = request.headers.get(proxy.user_header, "").strip()
        if not name or "," in name or len(name) > 256:
            raise Refused(401, f"the proxy says no one name in {proxy.user_header}; log in there, or correct the proxy")
        role = role_of_groups(request.headers.get(proxy.groups_header, "") if proxy.groups_header else "", proxy.groups)
        return Visitor(DashboardUser(name, role, Door.PROXY, f"proxy:{name}"))

    def _by_cookie(self, text: str) -> Visitor | None:
        now = self.clock()
        session = self.sessions.read(text, now) if text else None
        if session is None:
            return None
        user = self._user_of(session)
        if user is None:
            return None
        is_old = now - session.seen_at >= REWRITE_AFTER
        return Visitor(user, self.sessions.write(replace(session, seen_at=now)) if is_old else None)

    def _user_of(self, session: Login) -> DashboardUser | None:
        """The user of a cookie, with the role that she has now; None where she is gone or has another password."""
        if self.console is not None and session.user == self.console.user:
            is_ours = hmac.compare_digest(session.digest, digest_of(self.console.key))
            return DashboardUser(session.user, UserRole.OPERATOR, Door.CONSOLE, session.id) if is_ours else None
        known = self.settings.users.get(session.user)
        if known is None or not hmac.compare_digest(session.digest, digest_of(known.password_hash)):
            return None
        return DashboardUser(known.name, known.role, Door.PASSWORD, session.id)

    # -- letting in ----------------------------------------------------------------------------------------

    def log_in(self, name: str, password: str, address: str) -> str | None:
        """The cookie of a new login; None where name or password is wrong. Raises `TooManyFailures`."""
        if not self.passwords.is_right(name, password, address):
            return None
        return self.cookie_of(name, self.settings.users[name].password_hash)

    def by_key(self, key: str) -> str | None:
        """The cookie for the link that `webhooks dev` printed; None where it is another's."""
        console = self.console
        if console is None or not hmac.compare_digest(key.encode(), console.key.encode()):
            return None
        return self.cookie_of(console.user, console.key)

    def cookie_of(self, name: str, proof: str) -> str:
        """A new login's cookie. proof: what its digest is of."""
        return self.sessions.write(self.sessions.begin(name, proof, self.clock()))

    # -- POST ----------------------------------------------------------------------------------------------

    def own_origins(self, request: Request) -> list[str]:
        """From which pages a POST may come."""
        own = [forgery.origin_of(f"{request.scheme}://{request.host}")]
        return [*own, forgery.origin_of(self.settings.public_url)] if self.settings.public_url else own

    def require_own_page(self, request: Request) -> None:
        """Raise `Refused` where a POST is not from a page of ours."""
        if not forgery.is_from_our_page(request.headers, self.own_origins(request)):
            raise Refused(403, "this form was not sent from the dashboard's own page; nothing was done")

    def require_form(self, request: Request, user: DashboardUser) -> None:
        """Raise `Refused` where a POST is not from a form that this session got."""
        self.require_own_page(request)
        if not self.forms.is_right(request.form.get(forgery.FIELD, ""), user.session):
            raise Refused(403, "this form is of another login; load its page again, nothing was done")


def peer_of(environ: Mapping[str, object]) -> str:
    """The address of the socket's other end, before any proxy's word was believed; "unix" for a Unix socket."""
    original = environ.get("werkzeug.proxy_fix.orig")
    address = original.get("REMOTE_ADDR") if isinstance(original, dict) else environ.get("REMOTE_ADDR")
    return str(address) if address else UNIX


def role_of_groups(field: str, groups: Mapping[str, str]) -> UserRole:
    """The highest role of the groups that a proxy names, with commas between; viewer where there is none."""
    named = [group.strip() for group in field.split(",")]
    return max((UserRole.of(groups[group]) for group in named if group in groups), default=UserRole.VIEWER)


def make_access(
    settings: DashboardSettings,
    keys: Sequence[str],
    clock: Callable[[], datetime],
    *,
    ask: Callable[[], DashboardUser | None] | None = None,
    console: Console | None = None,
    count: Callable[..., int] = lambda since, **of: 0,
) -> Access:
    """The access of one dashboard; arguments as `Access`'s. Raises `ConfigurationError` where anyone could come in, or no user could."""
    problems = []
    if not keys or any(len(key) < SHORTEST_KEY for key in keys):
        problems.append(
            f"the dashboard needs a secret_key of at least {SHORTEST_KEY} characters, which signs who is logged in: set "
            "SECRET_KEY (python -c 'import secrets; print(secrets.token_hex(32))' makes one)"
        )
    if ask is None and console is None and not settings.has_login:
        problems.append(
            "no user could log in at the dashboard: write [dashboard.users.ada] with a password_hash, which `webhooks dashboard "
            "hash` makes, or [dashboard.proxy]"
        )
    if problems:
        raise ConfigurationError(problems)
    return Access(settings, keys, clock, ask=ask, console=console, count=count)


__all__ = ["Access", "Visitor", "make_access", "peer_of", "role_of_groups"]
