"""Fetching keys over a real connection: no redirect, no long wait, no long answer, one at a time and six a minute."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import allowed, each
from webhooks.errors import KeysUnavailable
from webhooks.sources.keys import fetched


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers by the path that is asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/keys")
            self.end_headers()
            return
        if self.path == "/away":
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/long":
            self.wfile.write(b"x" * (fetched.MOST_BYTES + 1))
        elif self.path == "/slow":
            self._drip()
        else:
            self.wfile.write(b"keys of " + self.path.encode())

    def _drip(self) -> None:
        for _ in range(50):
            try:
                self.wfile.write(b"x")
                self.wfile.flush()
            except OSError:
                return
            if self.server.over.wait(0.05):  # type: ignore[attr-defined]
                return

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    made.asked, made.over = [], threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.over.set()  # type: ignore[attr-defined]
    made.shutdown()
    made.server_close()
    thread.join()


def address(server: http.server.ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_what_is_there_is_fetched(server: http.server.ThreadingHTTPServer) -> None:
    assert fetched.fetch(address(server, "/keys?a=1")) == b"keys of /keys?a=1"


def test_a_redirect_is_not_followed(server: http.server.ThreadingHTTPServer) -> None:
    with pytest.raises(ValueError, match="answered 302"):
        fetched.fetch(address(server, "/redirect"))
    assert server.asked == ["/redirect"]  # type: ignore[attr-defined]


def test_an_error_and_a_long_answer_are_none(server: http.server.ThreadingHTTPServer) -> None:
    with pytest.raises(ValueError, match="answered 404"):
        fetched.fetch(address(server, "/away"))
    with pytest.raises(ValueError, match="more than 65536 bytes"):
        fetched.fetch(address(server, "/long"))


def test_an_answer_that_drips_ends_in_time(
    server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched, "SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        fetched.fetch(address(server, "/slow"))
    assert time.monotonic() - began < allowed(2)


@each(
    "text",
    ["http://keys.example.org/", "ftp://keys.example.org/", "https://", "https://a b/", "https://u@h/", "https://h/#x",
     "https://h:x/", "https://h:0/", "https://ü.example/", "https:\\\\h", "", "h"],
)  # fmt: skip
def test_what_is_no_address_of_keys_is_not_asked(text: str) -> None:
    assert fetched.why_no_address(text) is not None
    with pytest.raises(ValueError):  # noqa: PT011
        fetched.fetch(text)


def test_six_a_minute_and_what_failed_not_at_once_again() -> None:
    asked: list[str] = []
    now = [0.0]

    def get(address: str) -> bytes:
        asked.append(address)
        if "bad" in address:
            raise OSError("away")
        return b"k"

    fetch = fetched.Fetcher("it", get=get, monotonic=lambda: now[0])
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            fetch("https://h.example/bad")
    assert asked == ["https://h.example/bad"]
    for number in range(5):
        assert fetch(f"https://h.example/{number}") == b"k"
    with pytest.raises(KeysUnavailable, match="6 times in the last minute"):
        fetch("https://h.example/7")
    now[0] = 60.0
    assert fetch("https://h.example/7") == b"k"
    with pytest.raises(KeysUnavailable, match="cannot be fetched"):
        fetch("https://h.example/bad")


def test_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "SECONDS", 0.05)
    inside, leave = threading.Event(), threading.Event()

    def get(address: str) -> bytes:
        inside.set()
        assert leave.wait(10)
        return b"k"

    fetch = fetched.Fetcher("it", get=get)
    thread = threading.Thread(target=fetch, args=("https://h.example/1",))
    thread.start()
    assert inside.wait(10)
    with pytest.raises(KeysUnavailable, match="another request"):
        fetch("https://h.example/2")
    leave.set()
    thread.join()
