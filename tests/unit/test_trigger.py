"""Where `webhooks trigger` posts to, and what it says when nothing is there."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.sources.cases import CASES, NOW
from webhooks.cli import group
from webhooks.errors import NotFound
from webhooks.model import Headers, InboundRequest
from webhooks.operations.trigger import PostAnswer, choose, complete_url, explain_missing, explain_refused, renewed
from webhooks.routing import Registry
from webhooks.settings import Secret, Settings, SourceSettings
from webhooks.sources import make_source
from webhooks.sources.samples import samples

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


def test_an_unknown_sample_is_answered_with_the_nearest_and_what_there_is() -> None:
    with pytest.raises(NotFound) as caught:
        choose("lead.creatd", CLOSE)
    said = str(caught.value)
    assert said.startswith(
        "no sample of type 'lead.creatd' for source 'close' (did you mean 'lead.created'?); give a file with a body, or one "
    )
    assert "?;" not in said


REFUSED = PostAnswer(401, {"error": "signature_verification_failed", "request_id": "0c5e00620973d125"}, "")
CLOSE = make_source(SourceSettings(name="close", scheme="close", secrets=(Secret(KEY, "close"),)))


def test_a_refused_signature_is_explained_by_another_secret_and_where_to_look() -> None:
    said = explain_refused(REFUSED, "http://h:1/webhooks/close", CLOSE, timedelta(0))
    assert said.startswith("refused: the server at http://h:1 has another secret for source 'close' than this command")
    assert said.endswith("webhooks explain 0c5e00620973d125")
    assert "the server's log" in said


@pytest.mark.parametrize("body", [None, [], {"request_id": 5}, "no"])
def test_an_answer_without_a_request_id_is_explained_as_well(body: Any) -> None:
    said = explain_refused(PostAnswer(401, body, ""), "http://h:1/webhooks/close", CLOSE, timedelta(0))
    assert said.endswith(": webhooks explain")


def test_a_signature_that_was_asked_to_be_wrong_or_old_is_not_blamed_on_the_secret() -> None:
    wrong = explain_refused(REFUSED, "http://h:1/", CLOSE, timedelta(0), bad_signature=True)
    old = explain_refused(REFUSED, "http://h:1/", CLOSE, timedelta(days=31))
    assert wrong == "refused, as it should be: the signature is wrong"
    assert old.startswith("refused, as it should be: it is signed as if sent 31 d ago, and ")
    assert old.endswith("good for 30 d")


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


def test_a_404_is_explained_once_however_often_it_was_to_be_sent(
    not_there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a start fixes the routes of the registry that every module of handlers registers with
    monkeypatch.setattr("webhooks.app.webhooks.default_registry", Registry())
    arguments = ["trigger", "lead.created", "--duplicate", "5", "--to", not_there]
    result = CliRunner().invoke(group, arguments, env={"WEBHOOKS_SOURCES__close__SECRET": KEY})
    assert result.exit_code == 1
    assert result.stdout.startswith("404 ")
    assert result.stderr.startswith(f"nothing takes posts at /webhooks/close of {not_there}: ")
    assert NotThere.posts == 1


def test_each_sample_of_each_sender_is_another_event_when_it_is_posted_again() -> None:
    same = []
    for case in CASES:
        source = case.source()
        for sample in samples(case.scheme):
            keys = []
            for _ in range(2):
                body, headers = renewed(sample.body, sample.headers, source, NOW)
                body = source.prepare(body, NOW)
                request = InboundRequest(Headers({**headers, **source.sign(body, NOW)}), body)
                source.verify(request, NOW)
                keys += [{event.dedup_key for event in source.parse(request)}]
            if keys[0] & keys[1]:
                same.append((case.scheme, sample.type))
    assert same == []
