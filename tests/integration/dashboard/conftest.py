"""A whole installation with its dashboard mounted, on both databases, and browsers without a screen that visit it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.integration.conftest import KEY
from webhooks.app import Webhooks
from webhooks.dashboard import UserRole
from webhooks.dashboard.access.sessions import NAME, LoginCookies
from webhooks.delivery import RunningAttempt, handler_rows
from webhooks.model import DeliveryClass
from webhooks.routing import Registry

SECRET_KEY = "signs cookies and forms of tests"
#: scrypt at its cheapest, of "correct horse"
PASSWORD = "correct horse"
PASSWORD_HASH = (
    "scrypt:1024:8:1$XNAqgsnKmHwjiL3C$"
    "2170079648f9f96557bda4a86bd7d051b093d8b0aee129ebea82506189eae08a58cb722fa1f4aca80066ed8eccb58ce17e392c8c96a6cfb7cf37638a1a066ecd"
)
USERS = {UserRole.VIEWER: "vera", UserRole.OPERATOR: "ada"}
TOKENS = {UserRole.VIEWER: "token-of-a-viewer-0123456789", UserRole.OPERATOR: "token-of-an-operator-0123456789"}


class Site:
    """The dashboard as a browser sees it. `webhooks` is the instance behind it, `app` its application."""

    def __init__(self, app: Flask, webhooks: Webhooks) -> None:
        self.app = app
        self.webhooks = webhooks
        self.store = webhooks.store
        self.client = app.test_client(use_cookies=False)

    def cookie(self, role: UserRole) -> str:
        """The cookie of a login."""
        sessions = LoginCookies([SECRET_KEY])
        return sessions.write(sessions.begin(USERS[role], PASSWORD_HASH, self.webhooks.clock()))

    def get(self, path: str, role: UserRole | None = UserRole.OPERATOR, **options: Any) -> TestResponse:
        """Open a page below /dashboard. role: None for who is not logged in."""
        return self._open("GET", path, role, **options)

    def text(self, path: str, role: UserRole | None = UserRole.OPERATOR) -> str:
        """What a page shows: its text without tags, spaces made single."""
        response = self.get(path, role)
        assert response.status_code == 200, response.text
        return shown(response.text)

    def post(
        self, path: str, data: dict[str, Any] | None = None, role: UserRole | None = UserRole.OPERATOR, **options: Any
    ) -> TestResponse:
        """Press a button: with the token of this login, from our own page."""
        headers = {"Sec-Fetch-Site": "same-origin", **options.pop("headers", {})}
        cookie = self.cookie(role) if role is not None else None
        token = self.token(cookie) if cookie is not None else ""
        return self._open(
            "POST", path, role, cookie=cookie, data={"form_token": token, **(data or {})}, headers=headers, **options
        )

    def token(self, cookie: str) -> str:
        """The token in the forms of a login."""
        page = self.client.get("/dashboard/events", headers={"Cookie": f"{NAME}={cookie}", "Host": "localhost"})
        found = re.search(r'name="form_token" value="([^"]+)"', page.text)
        assert found is not None, page.text
        return found[1]

    def _open(
        self, method: str, path: str, role: UserRole | None, cookie: str | None = None, **options: Any
    ) -> TestResponse:
        headers = dict(options.pop("headers", {}))
        if role is not None:
            headers["Cookie"] = f"{NAME}={cookie or self.cookie(role)}" + (
                f"; {headers['Cookie']}" if "Cookie" in headers else ""
            )
        return self.client.open(f"/dashboard{path}", method=method, headers=headers, **options)

    def work(self, rounds: int = 1) -> None:
        """Run what is due, here, as a worker would."""
        deliveries, registry = self.store.deliveries, self.webhooks.registry
        self.store.handlers.register(handler_rows(registry))
        for _ in range(rounds):
            wanted = {(handler.name, kind): 100 for handler in registry.handlers() for kind in DeliveryClass}
            for one in deliveries.claim(wanted, lease=timedelta(seconds=30), worker="host:1"):
                handler = registry.get(one.delivery.handler)
                assert handler is not None
                attempt = RunningAttempt(one, handler)
                finished = self.webhooks.dispatcher.run(attempt)
                if finished is not None and not attempt.committed:
                    assert deliveries.finish([finished])

    def send(self, body: bytes, source: str = "close", **headers: str) -> Any:
        """Post an event, signed as its sender would; what the sender is answered."""
        signed = dict(self.webhooks.sources[source].sign(body, self.webhooks.clock()))
        signed.update({name.replace("_", "-"): value for name, value in headers.items()})
        answer = self.client.post(f"/webhooks/{source}", data=body, headers=signed)
        return answer.get_json()


def shown(html: str) -> str:
    """The text of a page without its tags."""
    body = re.sub(r"(?s)<(script|style|svg)\b.*?</\1>", "", html)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def make_settings(**more: Any) -> dict[str, Any]:
    """A section `[dashboard]` with two users and two tokens."""
    from webhooks.dashboard.access import hash_token

    return {
        "mount": True,
        "users": {name: {"password_hash": PASSWORD_HASH, "role": role.word} for role, name in USERS.items()},
        "tokens": {role.word: {"token_hash": hash_token(token), "role": role.word} for role, token in TOKENS.items()},
        **more,
    }


@pytest.fixture
def make_site(database_url: str, unhurried: None) -> Iterator[Callable[..., Site]]:
    """Make a dashboard: `make_site(registry=…, clock=…, dashboard={…}, max_body=…)`. Closed afterwards."""
    made: list[Webhooks] = []

    def make(
        registry: Registry | None = None, *, clock: Any = None, dashboard: dict[str, Any] | None = None, **settings: Any
    ) -> Site:
        overrides = {
            "database_url": database_url,
            "sources": {"close": {"secret": KEY}},
            "secret_key": SECRET_KEY,
            "dashboard": make_settings(**(dashboard or {})),
            **settings,
        }
        more = {} if clock is None else {"clock": clock}
        app = Flask(__name__)
        webhooks = Webhooks(registry=registry or Registry(), overrides=overrides, environ={}, **more)
        made.append(webhooks)
        webhooks.init_app(app)
        return Site(app, webhooks)

    yield make
    for webhooks in made:
        webhooks.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A dashboard without handlers, for source `close`, with the operator ada and the viewer vera."""
    return make_site()


@pytest.fixture(autouse=True)
def _looks_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a page look for as long as it takes: on a busy machine three rows take longer than a page's patience."""
    for name in ("dashboard.pages.events", "dashboard.pages.deliveries", "operations.actions.preview"):
        monkeypatch.setattr(f"webhooks.{name}.PATIENCE", timedelta(hours=1))


@pytest.fixture
def timeless(monkeypatch: pytest.MonkeyPatch) -> Callable[[Site], Site]:
    """Have a page take no time, however slow this machine is: what is kept for a second is asked for once."""
    from webhooks.dashboard.kept import Remembered

    def get(self: Remembered, name: str, make: Callable[[], Any], seconds: float) -> Any:
        if name not in self._values:
            self._values[name] = (0.0, make())
        return self._values[name][1]

    def make_timeless(site: Site) -> Site:
        monkeypatch.setattr(site.store.database, "monotonic", lambda: 0.0)
        return site

    monkeypatch.setattr(Remembered, "get", get)
    return make_timeless
