"""Where `webhooks trigger` posts to, and what it says when nothing is there."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from webhooks.cli import group
from webhooks.cli.trigger import complete_url, explain_missing
from webhooks.config import Settings

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"
SETTINGS = Settings(url_prefix="/in")


@pytest.mark.parametrize(
    ("to", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/in/close"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/in/close"),
        ("https://[::1]:8000", "https://[::1]:8000/in/close"),
        ("http://127.0.0.1:8000/webhooks/close", "http://127.0.0.1:8000/webhooks/close"),
        ("http://127.0.0.1:8000/?a=b", "http://127.0.0.1:8000/?a=b"),
        ("nowhere", "nowhere"),
        ("ftp://127.0.0.1", "ftp://127.0.0.1"),
        ("http://[::1", "http://[::1"),
        ("http://", "http://"),
    ],
)
def test_only_an_address_without_a_path_gets_that_of_the_source(to: str, url: str) -> None:
    assert complete_url(to, SETTINGS, "close") == url


def test_a_path_that_is_not_there_is_named_with_the_usual_one() -> None:
    assert explain_missing("http://h:1/webhook", SETTINGS, "close") == (
        "nothing takes posts at /webhook of http://h:1; a source's path here is /in/close: --to http://h:1/in/close"
    )


def test_where_the_usual_path_is_not_there_it_is_not_recommended_again() -> None:
    said = explain_missing("http://h:1/in/close", SETTINGS, "close")
    assert "nothing takes posts at /in/close of http://h:1" in said
    assert "no source 'close'" in said
    assert "`webhooks sources`" in said


class NotThere(http.server.BaseHTTPRequestHandler):
    """Answers 404 to every post, and counts them."""

    posts = 0

    def do_POST(self) -> None:
        NotThere.posts += 1
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(404)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def not_there() -> Iterator[str]:
    NotThere.posts = 0
    server = http.server.HTTPServer(("127.0.0.1", 0), NotThere)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_404_is_explained_once_however_often_it_was_to_be_sent(not_there: str) -> None:
    arguments = ["trigger", "lead.created", "--duplicate", "5", "--to", not_there]
    result = CliRunner().invoke(group, arguments, env={"WEBHOOKS_SOURCES__close__SECRET": KEY})
    assert result.exit_code == 1
    assert result.stdout.startswith("404 ")
    assert result.stderr.startswith(f"nothing takes posts at /webhooks/close of {not_there}: ")
    assert NotThere.posts == 1
