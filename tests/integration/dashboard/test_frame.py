"""What every page has: a frame, headers, an error page of its own; and what is reachable at all."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from tests.integration.conftest import Consumer
from tests.integration.dashboard.conftest import Site
from webhooks.app import Webhooks
from webhooks.dashboard import DashboardUser, UserRole, blueprint
from webhooks.dashboard.assets import every_asset
from webhooks.dashboard.blueprint import HEADERS

pytestmark = pytest.mark.one_database


def test_nothing_is_mounted_unless_it_is_asked_for(consumer: Consumer) -> None:
    assert not [rule for rule in consumer.app.url_map.iter_rules() if "dashboard" in rule.rule]
    assert consumer.client.get("/dashboard/").status_code == 404


def test_every_answer_has_the_headers(site: Site) -> None:
    for response in (site.get("/"), site.get("/events"), site.get("/nothing"), site.get("/", None), site.post("/x")):
        for name, value in HEADERS.items():
            assert response.headers[name] == value
        assert response.headers["Cache-Control"] == "no-store"


def test_the_address_without_its_slash_is_a_page(site: Site) -> None:
    assert site.get("").status_code == 200


def test_an_unknown_address_is_a_page_of_ours(site: Site) -> None:
    response = site.get("/nothing/here")
    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert "there is no such page" in response.text
    assert site.get("/nothing/here", None).status_code == 401


def test_files_are_kept_for_ever_under_their_digest(site: Site) -> None:
    page = site.get("/").text
    for address in re.findall(r'(?:href|src)="(/dashboard/static/[^"#]+)', page):
        response = site.get(address.removeprefix("/dashboard"), None)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert site.get("/static/another/dashboard.css", None).headers["Cache-Control"] == "no-store"
    assert site.get("/static/another/../services.py", None).status_code == 404


def test_first_view_is_small() -> None:
    assert sum(len(asset.body) for name, asset in every_asset().items() if name != "vendor/LICENSES") < 100_000


def test_an_address_says_where_it_is_mounted(site: Site) -> None:
    page = site.get("/events", environ_overrides={"SCRIPT_NAME": "/hooks"}).text
    assert 'href="/hooks/dashboard/events"' in page


def test_a_host_application_says_who_is_there(make_site: Callable[..., Site], database_url: str) -> None:
    app = Flask(__name__)
    app.secret_key = "of the host application"
    who: list[DashboardUser | None] = [None]
    webhooks = Webhooks(
        app,
        overrides={"database_url": database_url, "sources": {"close": {"secret": "6b8f0c1e5a2d4973" * 4}}},
        environ={},
        dashboard_user=lambda: who[0],
    )
    try:
        client = app.test_client()
        assert client.get("/dashboard/").status_code == 401
        who[0] = DashboardUser("grace", "viewer")
        assert "grace" in client.get("/dashboard/").text
        who[0] = DashboardUser("grace", UserRole.OPERATOR)
        assert "operator" in client.get("/dashboard/").text
    finally:
        webhooks.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_senders_wrote_is_escaped(site: Site) -> None:
    page = site.get('/events?q="><script>alert(1)</script>\u202e').text
    assert "<script>alert" not in page


def test_a_poll_gets_nothing_where_nothing_moved(site: Site) -> None:
    cookie = {"Cookie": f"webhooks_dashboard={site.cookie(UserRole.VIEWER)}"}
    first = site.client.get("/dashboard/events", headers={**cookie, "X-Seen": "x"})
    assert first.status_code == 200
    seen = re.search(r'"X-Seen": "([0-9a-f]{16})"', first.text)
    assert seen is not None
    assert site.client.get("/dashboard/events", headers={**cookie, "X-Seen": seen[1]}).status_code == 204


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_was_posted_is_read_where_the_connection_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under gevent a page that uses SQLite runs in a native thread, which must not wait for the rest of a body."""
    reads: list[bool] = []
    within, answer = [False], blueprint.Site._answer

    def answer_elsewhere(self: blueprint.Site, *arguments: Any) -> Any:
        within[0] = True
        try:
            return answer(self, *arguments)
        finally:
            within[0] = False

    class Body(io.BytesIO):
        def read(self, *arguments: Any) -> bytes:
            reads.append(within[0])
            return super().read(*arguments)

        def readinto(self, buffer: Any) -> int:
            reads.append(within[0])
            return super().readinto(buffer)

    monkeypatch.setattr(blueprint.Site, "_answer", answer_elsewhere)
    body = Body(b"form_token=none&q=x")
    form = "application/x-www-form-urlencoded"
    length = {"CONTENT_LENGTH": str(len(body.getvalue()))}
    response = site.client.post("/dashboard/login", input_stream=body, content_type=form, environ_overrides=length)
    assert response.status_code in (200, 303, 401, 403), response.text
    assert reads
    assert not any(reads)
