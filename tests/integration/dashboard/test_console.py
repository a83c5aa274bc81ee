"""The console of `webhooks dev`: a link instead of a password, for this machine alone, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.integration.conftest import KEY
from tests.integration.dashboard.conftest import Site, shown
from tests.integration.dashboard.stories import body, make_registry
from tests.support import each, either_database, wait_until
from webhooks.app import Webhooks
from webhooks.app.dashboard import CONSOLE
from webhooks.operations import not_loaded
from webhooks.operations.not_loaded import NotLoaded
from webhooks.operations.trigger import PostAnswer
from webhooks.sandbox import Rules, World
from webhooks.sandbox.server import serve, subscribe_all
from webhooks.selection import Selection

pytestmark = either_database


class ConsoleSite(Site):
    """A dashboard as `webhooks dev` serves it; `key` is in the printed link."""

    key = "key-of-this-start"

    def enter(self) -> None:
        """Open the printed link."""
        self.client = self.app.test_client()
        response = self.client.get(f"/dashboard/console?key={self.key}")
        assert (response.status_code, response.headers["Location"]) == (303, "/dashboard/console")

    def press(self, path: str, **data: str) -> Any:
        """Press a button."""
        page = self.client.get("/dashboard/events").text
        token = page.split('name="form_token" value="')[1].split('"')[0] if "form_token" in page else ""
        if not token:
            page = self.client.get("/dashboard/send").text
            token = page.split('name="form_token" value="')[1].split('"')[0]
        headers = {"Sec-Fetch-Site": "same-origin"}
        return self.client.post(f"/dashboard{path}", data={"form_token": token, **data}, headers=headers)


@pytest.fixture
def console(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsoleSite]:
    """A dev dashboard, not entered yet; what it posts is answered by the same application."""
    note = tmp_path / "console.json"
    note.write_text(
        json.dumps({"directory": str(tmp_path), "key": ConsoleSite.key, "url": "http://localhost", "user": "dev"})
    )
    monkeypatch.setenv(CONSOLE, str(note))
    app = Flask(__name__)
    overrides = {"database_url": database_url, "sources": {"close": {"secret": KEY}}, "sample_rejected": "0"}
    webhooks = Webhooks(registry=make_registry(), overrides=overrides, environ={})
    webhooks.init_app(app)

    def post(url: str, body: bytes, headers: Any) -> PostAnswer:
        answer = app.test_client().post(url, data=body, headers=headers)
        return PostAnswer(answer.status_code, answer.get_json(), answer.text)

    monkeypatch.setattr("webhooks.operations.trigger.post", post)
    yield ConsoleSite(app, webhooks)
    webhooks.close()


def test_the_printed_link_lets_in_and_leaves_the_address(console: ConsoleSite) -> None:
    assert console.get("/console", None).status_code == 401
    console.enter()
    page = console.client.get("/dashboard/console")
    assert page.status_code == 200
    assert "Nothing came yet" in page.text
    assert console.key not in page.text


@each("key", ["", "wrong", "key-of-this-star"])
def test_another_key_does_not(console: ConsoleSite, key: str) -> None:
    assert console.get(f"/console?key={key}", None).status_code == 403


@each(
    "headers",
    [
        {"X-Forwarded-For": "1.2.3.4"},
        {"X-Forwarded-Host": "localhost"},
        {"Forwarded": "for=1.2.3.4"},
        {"Via": "1.1 tunnel"},
        {"CF-Connecting-IP": "1.2.3.4"},
        {"Host": "abc.ngrok.example"},
        {"Host": "192.168.1.2:8000"},
    ],
)
def test_a_tunnel_is_refused(console: ConsoleSite, headers: dict[str, str]) -> None:
    console.enter()
    for path in ("/console", "/events.json", f"/?key={console.key}", "/login"):
        response = console.client.get(f"/dashboard{path}", headers=headers)
        assert response.status_code == 403
        assert "tunnel" in response.text


def test_an_event_is_sent_and_seen(console: ConsoleSite) -> None:
    console.enter()
    form = console.client.get("/dashboard/send?type=lead.created").text
    assert "lead.created" in form
    response = console.press("/send", source="close", body=body("ev_1", name="Ada").decode(), way="as-is")
    assert "Answered 200: stored" in response.text
    console.work()
    page = console.client.get("/dashboard/console").text
    assert "ev_1" in page
    assert "leads.link" in page
    assert "Ada" in page
    assert page.count('class="done"') == 3


@each(("way", "said"), [("twice", "duplicate"), ("bad-signature", "Answered 401"), ("old", "stored")])
def test_the_ways_of_sending(console: ConsoleSite, way: str, said: str) -> None:
    console.enter()
    assert said in console.press("/send", source="close", body=body(f"ev_{way}").decode(), way=way).text
    if way == "bad-signature":
        # it is written by a thread, and a page's pieces are kept for a second
        wait_until(lambda: "refused with 401" in console.client.get("/dashboard/console").text)
        assert "/dashboard/refused/" in console.client.get("/dashboard/console").text


def test_a_body_that_is_no_json_is_told(console: ConsoleSite) -> None:
    console.enter()
    response = console.press("/send", source="close", body="{", way="as-is")
    assert (response.status_code, "The body is no JSON" in response.text) == (400, True)


def test_an_event_is_kept_as_a_sample_and_for_a_test(console: ConsoleSite, tmp_path: Path) -> None:
    console.enter()
    console.press("/send", source="close", body=body("ev_1").decode(), way="as-is")
    (id,) = console.store.listings.ids_of_key("ev_1")
    assert console.press(f"/events/{id}/save-sample").status_code == 303
    assert console.press(f"/events/{id}/save-test").status_code == 303
    assert json.loads((tmp_path / "samples" / "lead.updated.json").read_text())["event"]["id"] == "ev_1"
    kept = json.loads((tmp_path / "tests" / "events" / f"lead.updated-{id}.json").read_text())
    assert (kept["type"], kept["body"]["event"]["object_type"]) == ("lead.updated", "lead")
    assert kept["body"]["subscription_id"] != "whsub_1", "values are replaced"
    assert console.press(f"/events/{id}/send-again").headers["Location"] != f"/dashboard/events/{id}"
    assert len(console.store.listings.events(Selection())) == 2


def test_what_was_saved_and_does_not_load_is_said_on_every_page(console: ConsoleSite, tmp_path: Path) -> None:
    console.enter()
    here = "stories.py"  # as the page of this handler calls its file
    problem = f"{here}, line 3: NameError: name '<b>' is not defined"
    assert not_loaded.leave(tmp_path, NotLoaded([here], [problem], datetime.now(UTC)))
    for path in ("/console", "/handlers", "/handlers/leads.link", "/send", "/handlers/no.such"):
        page = shown(console.client.get(f"/dashboard{path}").text)
        assert f"Not loaded: {here}" in page, path
        assert "line 3: NameError: name &#39;&lt;b&gt;&#39; is not defined" in page, path
    assert "its file does not load" in shown(console.client.get("/dashboard/handlers/leads.link").text)
    not_loaded.remove(tmp_path)
    page = console.client.get("/dashboard/handlers/leads.link").text
    assert "Not loaded" not in page
    assert "its file does not load" not in page


def test_elsewhere_there_is_none_of_it(make_site: Callable[..., Site]) -> None:
    site = make_site()
    assert not [rule for rule in site.app.url_map.iter_rules() if "send" in rule.rule or "console" in rule.rule]
    assert site.get("/console").status_code == 404
    assert site.get("/send").status_code == 404
    assert site.post("/send").status_code == 404
    assert site.get(f"/?key={ConsoleSite.key}", None).status_code == 401


def test_a_local_close_is_shown_and_has_something_changed(console: ConsoleSite, tmp_path: Path) -> None:
    console.enter()
    assert "No sandbox runs in this directory" in shown(console.client.get("/dashboard/local-close").text)
    assert console.press("/local-close/contact").status_code == 404
    posted: list[bytes] = []

    def post(url: str, headers: Any, body: bytes) -> int:
        posted.append(body)
        return 200

    world = World(lambda: datetime.now(UTC), seed=1, rules=Rules())
    subscribe_all(world, "http://localhost/webhooks/close")
    with serve(world, post=post) as close:
        note = tmp_path / ".webhooks" / "close.json"
        note.parent.mkdir(exist_ok=True)
        note.write_text(json.dumps({"api_url": close.url, "api_key": "api_local.admin"}))
        assert "It has no object yet" in shown(console.client.get("/dashboard/local-close").text)
        assert console.press("/local-close/lead").status_code == 404, "there is none yet"
        for name in ("contact", "lead", "message"):
            assert console.press(f"/local-close/{name}").status_code == 303, name
        page = shown(console.client.get("/dashboard/local-close").text)
        assert "Rosa Lindqvist" in page
        assert "activity.whatsapp_message 1" in page
        assert console.press("/local-close/pause").status_code == 303
        assert "paused" in shown(console.client.get("/dashboard/local-close").text)
        assert console.press("/local-close/pause").status_code == 404
        assert console.press("/local-close/resume").status_code == 303
        assert console.press("/local-close/nothing").status_code == 404
    page = shown(console.client.get("/dashboard/local-close").text)
    assert "does not answer" in page
