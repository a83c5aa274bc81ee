"""Who is let in, and what she may do: every endpoint for every role, and the attacks that the guard is there for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.integration.conftest import KEY
from tests.integration.dashboard.conftest import (
    PASSWORD,
    PASSWORD_HASH,
    SECRET_KEY,
    TOKENS,
    Site,
    make_settings,
)
from tests.support import each, either_database
from webhooks.app import Webhooks
from webhooks.dashboard import UserRole
from webhooks.dashboard.access.passwords import MOST_FAILURES
from webhooks.dashboard.access.sessions import NAME, LoginCookies
from webhooks.dashboard.endpoints import SUFFIXES, PageRoute, every_endpoint
from webhooks.errors import ConfigurationError

pytestmark = either_database

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)
HTTPS = "https://hooks.example.com"


def addresses(site: Site) -> Iterator[tuple[PageRoute, str, str]]:
    """(endpoint, form, address) of everything that is registered, with something in each variable."""
    for endpoint in every_endpoint():
        if endpoint.console and site.webhooks.settings.dashboard.mount:
            continue
        for form in endpoint.forms:
            path = endpoint.path if form == "html" or endpoint.path != "/" else f"/{endpoint.name}"
            yield endpoint, form, re.sub(r"<(?:\w+:)?\w+>", "1", path) + SUFFIXES[form]


# -- every endpoint for every role -----------------------------------------------------------------------------


def test_every_endpoint_says_whom_it_is_for(site: Site) -> None:
    public = {endpoint.name for endpoint in every_endpoint() if endpoint.needs is None}
    assert public == {"login", "log_in", "asset"}
    assert {endpoint.needs for endpoint in every_endpoint() if endpoint.method == "POST"} <= {
        None, UserRole.VIEWER, UserRole.OPERATOR,
    }  # fmt: skip
    viewers = {e.name for e in every_endpoint() if e.method == "POST" and e.needs is not UserRole.OPERATOR}
    assert viewers == {"log_in", "log_out"}


def test_without_a_login_nothing_is_shown_or_done(site: Site) -> None:
    for endpoint, form, path in addresses(site):
        if endpoint.needs is None:
            continue
        for response in (
            site.get(path, None),
            site.post(path, role=None),
            site.get(path, None, headers={"Cookie": f"{NAME}=x.y.z"}),
        ):
            assert response.status_code == 401, (endpoint, form)
            assert "ada" not in response.text


def test_a_viewer_may_not_act(site: Site) -> None:
    for endpoint, _, path in addresses(site):
        if endpoint.needs is UserRole.OPERATOR:
            response = (
                site.get(path, UserRole.VIEWER) if endpoint.method == "GET" else site.post(path, role=UserRole.VIEWER)
            )
            assert response.status_code == 403, endpoint


def test_who_may_is_let_in(site: Site) -> None:
    for endpoint, form, path in addresses(site):
        if endpoint.method == "GET":
            roles = [UserRole.OPERATOR, *([UserRole.VIEWER] if endpoint.needs is not UserRole.OPERATOR else [])]
            for role in roles:
                has_payloads = (endpoint.name, form) in (("events", "jsonl"), ("payload", "html"))
                refusals = (401, 421, 500) if has_payloads and role is UserRole.VIEWER else (401, 403, 421, 500)
                assert site.get(path, role).status_code not in refusals, (endpoint, role)


def test_a_post_needs_its_token_and_our_own_page(site: Site) -> None:
    cookie = site.cookie(UserRole.OPERATOR)
    other = site.token(site.cookie(UserRole.OPERATOR))  # of another login of the same user
    right = site.token(cookie)
    same = {"Sec-Fetch-Site": "same-origin"}
    attacks: list[tuple[dict[str, str], dict[str, str]]] = [
        ({}, same),
        ({"form_token": "x.y"}, same),
        ({"form_token": other}, same),
        ({"form_token": right}, {"Sec-Fetch-Site": "cross-site"}),
        ({"form_token": right}, {"Sec-Fetch-Site": "same-site"}),
        ({"form_token": right}, {"Sec-Fetch-Site": "none"}),
        ({"form_token": right}, {"Origin": "https://evil.example"}),
        ({"form_token": right}, {"Origin": "null"}),
        ({"form_token": right}, {}),
    ]
    for endpoint, _, path in addresses(site):
        if endpoint.method != "POST" or endpoint.needs is None:
            continue
        for data, headers in attacks:
            response = site.client.post(
                f"/dashboard{path}", data=data, headers={**headers, "Cookie": f"{NAME}={cookie}"}
            )
            assert response.status_code == 403, (endpoint, data, headers)


def test_an_older_browser_is_known_by_its_origin(site: Site) -> None:
    cookie = site.cookie(UserRole.OPERATOR)
    data = {"form_token": site.token(cookie)}
    headers = {"Origin": "http://localhost", "Cookie": f"{NAME}={cookie}"}
    assert site.client.post("/dashboard/logout", data=data, headers=headers).status_code == 303


@each("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_do_nothing(site: Site, method: str) -> None:
    cookie = site.cookie(UserRole.OPERATOR)
    for _, _, path in addresses(site):
        response = site.client.open(f"/dashboard{path}", method=method, headers={"Cookie": f"{NAME}={cookie}"})
        assert response.status_code in (403, 404, 405), path


# -- tokens ----------------------------------------------------------------------------------------------------


def test_a_token_reads_documents_and_nothing_else(site: Site) -> None:
    headers = {"Authorization": f"Bearer {TOKENS[UserRole.VIEWER]}"}
    assert site.get("/events.json", None, headers=headers).status_code == 200
    assert site.get("/events", None, headers=headers).status_code == 401
    assert site.get("/events.jsonl", None, headers=headers).status_code == 403
    assert (
        site.get("/events.jsonl", None, headers={"Authorization": f"Bearer {TOKENS[UserRole.OPERATOR]}"}).status_code
        == 200
    )
    for wrong in ("Bearer wrong", f"Basic {TOKENS[UserRole.VIEWER]}", TOKENS[UserRole.VIEWER], "Bearer "):
        response = site.get("/events.json", None, headers={"Authorization": wrong})
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
    for endpoint, _, path in addresses(site):
        if endpoint.method == "POST" and endpoint.needs is not None:
            assert site.client.post(f"/dashboard{path}", headers=headers).status_code == 401


def test_a_wrong_token_is_not_saved_by_a_cookie(site: Site) -> None:
    assert site.get("/events.json", headers={"Authorization": "Bearer wrong"}).status_code == 401


# -- logging in ------------------------------------------------------------------------------------------------


def log_in(site: Site, password: str = PASSWORD, name: str = "ada", **options: Any) -> TestResponse:
    headers = {"Sec-Fetch-Site": "same-origin", **options.pop("headers", {})}
    data = {"name": name, "password": password, **options.pop("data", {})}
    return site.client.post("/dashboard/login", data=data, headers=headers, **options)


def cookie_in(response: TestResponse) -> str:
    return response.headers["Set-Cookie"].split(";")[0].partition("=")[2]


def test_a_password_opens_the_door(site: Site) -> None:
    response = log_in(site)
    assert (response.status_code, response.headers["Location"]) == (303, "/dashboard/")
    flags = response.headers["Set-Cookie"]
    assert "HttpOnly" in flags
    assert "SameSite=Lax" in flags
    assert "Path=/dashboard" in flags
    assert "Secure" not in flags  # on loopback alone
    page = site.client.get("/dashboard/events", headers={"Cookie": f"{NAME}={cookie_in(response)}"})
    assert page.status_code == 200
    assert "ada" in page.text


def test_a_wrong_password_and_an_unknown_name_are_told_alike(site: Site) -> None:
    wrong, unknown = log_in(site, "wrong"), log_in(site, name="nobody@x")
    assert wrong.status_code == unknown.status_code == 401
    assert "Set-Cookie" not in wrong.headers
    clean = [response.text.replace("ada", "").replace("nobody@x", "") for response in (wrong, unknown)]
    assert clean[0] == clean[1]


def test_failures_in_another_process_count(make_site: Callable[..., Site]) -> None:
    """What was tried elsewhere is on record; a restart gives no further tries."""
    for number in range(2):
        for _ in range(5):
            assert (
                log_in(make_site(), "wrong", environ_overrides={"REMOTE_ADDR": f"10.0.0.{number}"}).status_code == 401
            )
    response = log_in(make_site(), environ_overrides={"REMOTE_ADDR": "10.9.9.9"})
    assert response.status_code == 429, "of a name, from wherever"
    assert int(response.headers["Retry-After"]) == 15 * 60
    site = make_site()
    assert [one.verb for one in site.store.actions.page()] == ["login_failed"] * 10
    assert log_in(site, name="vera", environ_overrides={"REMOTE_ADDR": "10.9.9.9"}).status_code == 303


def test_ten_failures_are_enough(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [NOW]
    site = make_site(clock=lambda: now[0])
    monkeypatch.setattr(site.store.actions, "count", lambda *_, **__: 0)  # what is on record has a clock of its own
    for number in range(MOST_FAILURES):
        assert log_in(site, "wrong", environ_overrides={"REMOTE_ADDR": f"10.0.0.{number}"}).status_code == 401
    response = log_in(site)  # the right one, from anywhere
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0
    now[0] += timedelta(minutes=16)
    assert log_in(site).status_code == 303
    for number in range(MOST_FAILURES):
        log_in(site, "wrong", name=f"u{number}", environ_overrides={"REMOTE_ADDR": "10.1.1.1"})
    assert log_in(site, environ_overrides={"REMOTE_ADDR": "10.1.1.1"}).status_code == 429
    assert log_in(site, environ_overrides={"REMOTE_ADDR": "10.1.1.2"}).status_code == 303


def test_a_login_from_another_page_is_refused(site: Site) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}):
        response = log_in(site, headers=headers)
        assert response.status_code == 403
        assert "Set-Cookie" not in response.headers


@each(
    "wanted",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "/dashboard\\..", "/dashboard@evil.example", "javascript:alert(1)", "/other", "/dashboard/\r\nX: y"],
)  # fmt: skip
def test_a_login_leads_to_no_other_site(site: Site, wanted: str) -> None:
    assert log_in(site, data={"next": wanted}).headers["Location"] == "/dashboard/"


def test_a_login_leads_to_where_one_wanted(site: Site) -> None:
    asked = site.get("/events?q=state:dead", None)
    wanted = re.search(r'name="next" value="([^"]+)"', asked.text)
    assert wanted is not None
    assert log_in(site, data={"next": wanted[1]}).headers["Location"] in (
        "/dashboard/events?q=state:dead",
        "/dashboard/events?q=state%3Adead",
    )


def test_logging_out_ends_it_in_this_browser(site: Site) -> None:
    response = site.post("/logout")
    assert (response.status_code, "Max-Age=0" in response.headers["Set-Cookie"]) == (303, True)


# -- cookies ---------------------------------------------------------------------------------------------------


def test_a_login_ends(make_site: Callable[..., Site]) -> None:
    now = [NOW]
    site = make_site(clock=lambda: now[0])
    cookie = cookie_in(log_in(site))

    def is_in() -> bool:
        nonlocal cookie
        response = site.client.get("/dashboard/events", headers={"Cookie": f"{NAME}={cookie}"})
        if "Set-Cookie" in response.headers:
            cookie = cookie_in(response)
        return response.status_code == 200

    now[0] += timedelta(hours=11, minutes=50)
    assert is_in()
    now[0] += timedelta(hours=11, minutes=50)
    assert is_in(), "each request makes it last longer"
    now[0] += timedelta(hours=12, minutes=1)
    assert not is_in(), "twelve hours without one end it"
    cookie = cookie_in(log_in(site))
    for _ in range(14):
        now[0] += timedelta(hours=11, minutes=50)
        last = is_in()
    assert last
    now[0] += timedelta(hours=11)
    assert not is_in(), "a week ends it in any case"


@each(
    ("users", "is_in"),
    [
        ({"ada": {"password_hash": PASSWORD_HASH, "role": "viewer"}}, True),
        ({"ada": {"password_hash": PASSWORD_HASH[:-4] + "0000", "role": "operator"}}, False),
        ({"grace": {"password_hash": PASSWORD_HASH, "role": "operator"}}, False),
    ],
)
def test_what_the_settings_say_now_counts(make_site: Callable[..., Site], users: dict[str, Any], is_in: bool) -> None:
    """A new password or a removed user ends a login; a role is never the cookie's."""
    site = make_site(dashboard={"users": users})
    cookie = LoginCookies([SECRET_KEY])
    text = cookie.write(cookie.begin("ada", PASSWORD_HASH, site.webhooks.clock()))
    response = site.client.get("/dashboard/events", headers={"Cookie": f"{NAME}={text}"})
    assert (response.status_code == 200) is is_in
    if is_in:
        assert "operator" not in re.sub("(?s)<dialog.*", "", response.text).split("</header>")[0]


def test_a_cookie_of_another_key_is_none_and_an_older_key_of_ours_is_one(make_site: Callable[..., Site]) -> None:
    site = make_site()

    def status(key: str) -> int:
        cookies = LoginCookies([key])
        text = cookies.write(cookies.begin("ada", PASSWORD_HASH, site.webhooks.clock()))
        return site.client.get("/dashboard/events", headers={"Cookie": f"{NAME}={text}"}).status_code

    assert status(SECRET_KEY) == 200
    assert status("another key of the same length") == 401
    older = LoginCookies(["an older key of this dashboard"])
    both = LoginCookies(["an older key of this dashboard", SECRET_KEY])
    assert both.read(older.write(older.begin("ada", PASSWORD_HASH, NOW)), NOW) is not None


# -- hosts, proxies, tunnels -----------------------------------------------------------------------------------


@each(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8001", 200),
        ("[::1]:8001", 200),
        ("hooks.example.com", 200),
        ("evil.example", 421),
        ("hooks.example.com.evil.example", 421),
        ("hooks.example.com:81", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ],
)
def test_only_our_own_names_are_answered(make_site: Callable[..., Site], host: str, status: int) -> None:
    site = make_site(dashboard={"public_url": HTTPS})
    assert site.get("/events", headers={"Host": host}).status_code == status


def test_the_cookie_is_sent_over_tls_alone_where_others_could_listen(make_site: Callable[..., Site]) -> None:
    site = make_site(dashboard={"public_url": HTTPS})
    response = log_in(site, headers={"Host": "hooks.example.com"})
    assert "Secure" in response.headers["Set-Cookie"]


PROXY = {
    "user_header": "X-Forwarded-User",
    "groups_header": "X-Forwarded-Groups",
    "groups": {"ops": "operator"},
    "from": ["10.0.0.7"],
}


@each(
    ("peer", "fields", "status", "role"),
    [
        ("10.0.0.7", {"X-Forwarded-User": "grace"}, 200, "viewer"),
        ("10.0.0.7", {"X-Forwarded-User": "grace", "X-Forwarded-Groups": "dev, ops"}, 200, "operator"),
        ("10.0.0.7", {}, 401, ""),
        ("10.0.0.7", {"X-Forwarded-User": ""}, 401, ""),
        ("10.0.0.7", {"X-Forwarded-User": "grace, ada"}, 401, ""),
        ("10.0.0.8", {"X-Forwarded-User": "grace"}, 401, ""),
        ("127.0.0.1", {"X-Forwarded-User": "grace", "X-Forwarded-For": "10.0.0.7"}, 401, ""),
    ],
)
def test_a_proxys_word_counts_from_its_own_address(
    make_site: Callable[..., Site], peer: str, fields: dict[str, str], status: int, role: str
) -> None:
    site = make_site(dashboard={"proxy": PROXY, "users": {}})
    response = site.get("/events", None, headers=fields, environ_overrides={"REMOTE_ADDR": peer})
    assert response.status_code == status
    if role:
        assert f'<span class="tag">{role}</span>' in response.text


def test_the_peer_is_the_sockets_own_and_not_what_a_header_says(make_site: Callable[..., Site]) -> None:
    from werkzeug.middleware.proxy_fix import ProxyFix

    site = make_site(dashboard={"proxy": PROXY, "users": {}})
    site.app.wsgi_app = ProxyFix(site.app.wsgi_app, x_for=1)  # type: ignore[method-assign]
    fields = {"X-Forwarded-User": "grace", "X-Forwarded-For": "10.0.0.7"}
    response = site.client.get("/dashboard/events", headers=fields, environ_overrides={"REMOTE_ADDR": "192.0.2.1"})
    assert response.status_code == 401
    response = site.client.get("/dashboard/events", headers=fields, environ_overrides={"REMOTE_ADDR": "10.0.0.7"})
    assert response.status_code == 200


# -- starting --------------------------------------------------------------------------------------------------


@each(
    ("settings", "said"),
    [
        ({"secret_key": "short"}, "secret_key of at least 16 characters"),
        ({"secret_key": None}, "secret_key of at least 16 characters"),
        ({"dashboard": {"mount": True}}, "no user could log in"),
        ({"dashboard": make_settings(user={})}, "there is no such key (did you mean 'users'?)"),
        ({"dashboard": {"mount": True, "users": {"ada": {}}}}, "it has no password_hash"),
        ({"dashboard": {"mount": True, "users": {"ada": {"password_hash": "secret"}}}}, "is no hash of ours"),
        ({"dashboard": {"mount": True, "proxy": {"user_header": "X-User"}}}, "from is missing"),
        ({"dashboard": {"mount": True, "proxy": {"user_header": "X-User", "from": "everywhere"}}}, "is no address"),
        ({"dashboard": {"mount": True, "tokens": {"ci": {"token_hash": "x"}}}}, "is no hash of ours"),
    ],
)
def test_a_mistake_stops_the_start(database_url: str, settings: dict[str, Any], said: str) -> None:
    from flask import Flask

    overrides = {
        "database_url": database_url,
        "sources": {"close": {"secret": KEY}},
        "secret_key": SECRET_KEY,
        "dashboard": make_settings(),
        **settings,
    }
    overrides = {name: value for name, value in overrides.items() if value is not None}
    webhooks = Webhooks(overrides=overrides, environ={})
    try:
        with pytest.raises(ConfigurationError) as caught:
            webhooks.init_app(Flask(__name__))
        assert said in str(caught.value)
        assert "secret'" not in str(caught.value)
    finally:
        webhooks.close()
