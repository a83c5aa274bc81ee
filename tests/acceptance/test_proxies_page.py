"""docs/proxies.md: the proxies that are installed here take its files as printed, and signed posts pass through them."""

from __future__ import annotations

import re
import shutil
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.support import Processes, free_port
from tests.support import ROOT, wait_until
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source

pytestmark = pytest.mark.release

PAGE = (ROOT / "docs" / "proxies.md").read_text("utf-8")
KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SOURCE = make_source(SourceSettings("close", "close", secrets=[Secret(KEY)]))


def block(language: str) -> str:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found[0]


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(url, body, {"Host": "hooks.example.com", **headers}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def answers(url: str) -> bool:
    try:
        return post(f"{url}/nothing", b"", {}) == 404
    except OSError:
        return False


def require_it_passes_on_what_it_should(url: str, payload: Any) -> None:
    wait_until(lambda: answers(url), what="the proxy to answer")
    body = payload("lead_merged")
    assert post(f"{url}/webhooks/close", body, dict(SOURCE.sign(body, datetime.now(UTC)))) == 200
    large = body[:-1] + b" " * 900_000 + b"}"
    assert post(f"{url}/webhooks/close", large, dict(SOURCE.sign(large, datetime.now(UTC)))) == 200
    assert post(f"{url}/webhooks/close", body, {}) == 401
    assert post(f"{url}/webhooks//close", body, dict(SOURCE.sign(body, datetime.now(UTC)))) == 404
    for path in ("/readyz", "/metrics", "/dashboard/", "/"):
        assert post(f"{url}{path}", b"", {}) == 404, path


@pytest.fixture
def web(processes: Processes, sqlite_url: str) -> int:
    port = free_port()
    env = {"DATABASE_URL": sqlite_url, "WEBHOOKS_SOURCES__close__SECRET": KEY, "WEBHOOKS_PORT": str(port)}
    processes.start("webhooks", "run", env=env).wait_for("Listening at")
    return port


def certificate(directory: Path) -> tuple[Path, Path]:
    key, pem = directory / "hooks.key", directory / "hooks.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=hooks.example.com",
    ]
    subprocess.run([*command, "-keyout", key, "-out", pem], check=True, capture_output=True)
    return key, pem


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed (Debian: nginx-light)")
def test_nginx_with_the_page_in_front(web: int, processes: Processes, payload: Any) -> None:
    directory, port = processes.directory, free_port()
    key, pem = certificate(directory)
    site = (
        block("nginx")
        .replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        .replace("127.0.0.1:8000", f"127.0.0.1:{web}")
    )
    site = site.replace("/etc/ssl/hooks.pem", str(pem)).replace("/etc/ssl/hooks.key", str(key))
    (directory / "nginx.conf").write_text(
        f"user root; daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;"
        f" fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\n{site}\n}}"
    )
    nginx = processes.start("nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"))
    require_it_passes_on_what_it_should(f"https://127.0.0.1:{port}", payload)
    nginx.signal(signal.SIGTERM)
    nginx.wait()


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed (Debian: caddy)")
def test_caddy_with_the_page_in_front(web: int, processes: Processes, payload: Any) -> None:
    directory, port = processes.directory, free_port()
    site = (
        block("caddyfile")
        .replace("hooks.example.com {", f"http://hooks.example.com:{port} {{\n\tbind 127.0.0.1")
        .replace("127.0.0.1:8000", f"127.0.0.1:{web}")
    )
    (directory / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{site}")
    env = {"XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    caddy = processes.start("caddy", "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile"), env=env)
    caddy.wait_for("serving initial configuration")
    require_it_passes_on_what_it_should(f"http://127.0.0.1:{port}", payload)
    caddy.signal(signal.SIGTERM)
    caddy.wait()
