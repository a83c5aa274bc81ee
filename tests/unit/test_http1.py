"""Plain posts: what is recognised, and that it means to us what it means to gunicorn, whatever the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from tests.support import each, examples
from webhooks.http.gunicorn import plain_posts as http1
from webhooks.http.gunicorn.plain_posts import (
    HEAD_LIMIT,
    LONGEST_HEAD,
    MOST_FIELDS,
    PlainPost,
    PlainPosts,
    Unread,
    answer_bytes,
    end_of_head,
    is_host,
    plain_fields,
    plain_frame,
)
from webhooks.model import Headers

PATHS = {"/webhooks/close": "close", "/webhooks/close/": "close", "/webhooks/stripe": "stripe"}
POSTS = PlainPosts(PATHS, max_body=500, scheme_headers=["X-FORWARDED-PROTO", "X-FORWARDED-SSL", "X-FORWARDED-PROTOCOL"])
LINES = (b"Host: example.org", b"Content-Type: application/json", b"Content-Length: 7", b"close-sig-hash: abc")
BODY = b'{"a":1}'


def request(*lines: bytes, line: bytes = b"POST /webhooks/close HTTP/1.1", body: bytes = BODY) -> bytes:
    return b"\r\n".join((line, *(lines or LINES), b"", b"")) + body


def test_a_plain_post_is_read() -> None:
    data = request(*LINES, b"X-Tab:\t padded value \t ")
    post = POSTS.read(data)
    assert isinstance(post, PlainPost)
    assert (post.source, data[post.start :], post.length, post.keeps_alive) == ("close", BODY, 7, True)
    assert list(post.headers.items()) == [
        ("host", b"example.org"),
        ("content-type", b"application/json"),
        ("content-length", b"7"),
        ("close-sig-hash", b"abc"),
        ("x-tab", b"padded value"),
    ]


def test_the_same_lines_mean_the_same_the_second_time() -> None:
    assert [list(POSTS.read(request()).headers.items()) for _ in range(2)] == [  # type: ignore[union-attr]
        [(name.decode().lower(), value) for name, value in (line.split(b": ") for line in LINES)]
    ] * 2


def test_of_two_requests_the_first_is_read() -> None:
    post = POSTS.read(request() + request(line=b"GET / HTTP/1.1"))
    assert isinstance(post, PlainPost)
    assert (request() + b"next")[post.start + post.length :] == b"next"


@pytest.mark.parametrize("wanted", [b"close", b"Close"])
def test_a_sender_may_close_the_connection(wanted: bytes) -> None:
    post = POSTS.read(request(*LINES, b"Connection: " + wanted))
    assert isinstance(post, PlainPost)
    assert not post.keeps_alive


def test_every_beginning_of_a_head_is_incomplete() -> None:
    whole = request(body=b"")
    assert {POSTS.read(whole[:n]) for n in range(len(whole))} == {Unread.INCOMPLETE}


@each(
    "data",
    [
        request(line=b"GET /webhooks/close HTTP/1.1"),
        request(line=b"post /webhooks/close HTTP/1.1"),
        request(line=b"POST /webhooks/close HTTP/1.0"),
        request(line=b"POST  /webhooks/close HTTP/1.1"),
        request(line=b"POST /webhooks/close?a=1 HTTP/1.1"),
        request(line=b"POST /webhooks/clos%65 HTTP/1.1"),
        request(line=b"POST //webhooks/close HTTP/1.1"),
        request(line=b"POST /webhooks/other HTTP/1.1"),
        request(line=b"POST http://example.org/webhooks/close HTTP/1.1"),
        request(line=b"POST /webhooks/close HTTP/1.1 "),
        b"\r\n" + request(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        request().replace(b"\r\n", b"\n"),
        request(b"Host: x"),
        request(b"Content-Length: 7"),
        request(*LINES, b"Content-Length: 7"),
        request(*LINES, b"CLOSE-SIG-HASH: other"),
        request(b"Host: x", b"Content-Length: +7"),
        request(b"Host: x", b"Content-Length: 7, 7"),
        request(b"Host: x", b"Content-Length: 501"),
        request(b"Host: x", b"Content-Length: 99999999999"),
        request(b"Host: x", "Content-Length: ٧".encode()),
        request(*LINES, b"Transfer-Encoding: chunked"),
        request(*LINES, b"Transfer-Encoding: identity"),
        request(*LINES, b"Content-Encoding: gzip"),
        request(*LINES, b"Expect: 100-continue"),
        request(*LINES, b"Upgrade: h2c"),
        request(*LINES, b"Connection: upgrade"),
        request(*LINES, b"Connection: keep-alive, close"),
        request(*LINES, b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"),
        request(*LINES, b"X_Under: 1"),
        request(*LINES, b"X-Space : 1"),
        request(*LINES, b" folded: 1"),
        request(*LINES, b"X-A: 1", b"\tfolded"),
        request(*LINES, b"X-Empty:"),
        request(*LINES, b"no colon"),
        request(*LINES, b": no name"),
        request(*LINES, b"X-\xc3\xa9: 1"),
        request(*LINES, b"X-A: \xc3\xa9"),
        request(*LINES, b"X-A: a\x00b"),
        request(*LINES, b"X-A: a\rb"),
        request(*LINES, b"X-A: a\nb"),
        request(*LINES, b"X-A: a\x7f"),
        request(*LINES, b"X-Long: " + b"a" * LONGEST_HEAD),
        request(*LINES, *(b"X-%d: a" % n for n in range(MOST_FIELDS))),
        b"POST /" + b"a" * LONGEST_HEAD,
    ],
)
def test_whatever_is_not_plain_is_left_to_the_server(data: bytes) -> None:
    for _ in range(2):  # lines are remembered
        assert POSTS.read(data) is Unread.NOT_PLAIN


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        ([b"Host: x", b"X-A: \t1 "], {"host": [b"x"], "x-a": [b"1"]}),
        ([b"Host: x", b"HOST: x"], None),
        ([b"Host: x", b"Host"], None),
        ([b"Host: x", b"TE: trailers"], None),
        ([b"Host: a b"], None),
        ([b"X-A: 1"] * MOST_FIELDS, None),
    ],
)
def test_fields_are_plain_when_each_stands_once_and_none_reframes(lines: list[bytes], values: Any) -> None:
    assert plain_fields(lines) == values


@pytest.mark.parametrize(
    ("values", "frame"),
    [
        ({"host": [b"x"], "content-length": [b"7"]}, (7, True)),
        ({"host": [b"x"], "content-length": [b"007"], "connection": [b"Keep-Alive"]}, (7, True)),
        ({"host": [b"x"], "content-length": [b"0"], "connection": [b"close"]}, (0, False)),
        ({"host": [b"x"], "content-length": [b"7"], "connection": [b"upgrade"]}, None),
        ({"host": [b"x"], "content-length": [b"7x"]}, None),
        ({"host": [b"x"]}, None),
        ({"content-length": [b"7"]}, None),
    ],
)
def test_a_frame_is_plain_with_a_host_and_one_length(values: dict[str, list[bytes]], frame: Any) -> None:
    assert plain_frame(values) == frame


def test_one_forwarded_scheme_is_plain() -> None:
    assert isinstance(POSTS.read(request(*LINES, b"X-Forwarded-Proto: https")), PlainPost)


@pytest.mark.parametrize("path", ["/webhooks/a b", "/webhooks/é", "/webhooks/a?b", "/webhooks/a%62", "/a\r\nb"])
def test_a_path_that_a_request_line_would_not_show_as_it_is_is_never_plain(path: str) -> None:
    posts = PlainPosts({path: "odd"}, max_body=500)
    assert posts.read(request(line=f"POST {path} HTTP/1.1".encode())) is not None
    assert not isinstance(posts.read(request(line=f"POST {path} HTTP/1.1".encode())), PlainPost)


def test_lines_that_never_end_do_not_fill_the_memory() -> None:
    for n in range(3 * http1._KNOWN_LINES_LIMIT):
        assert isinstance(POSTS.read(request(*LINES, b"X-Id: %d" % n)), PlainPost)
    assert len(http1._KNOWN_LINES) <= http1._KNOWN_LINES_LIMIT


# -- the same as gunicorn ----------------------------------------------------------------------------------

HARMLESS = (
    b"Connection: close", b"Connection: keep-alive", b"CONNECTION: Keep-Alive", b"X-Forwarded-Proto: https",
    b"X-Forwarded-For: 1.2.3.4", b"Content-Type: a/b", b"X-A:\t1 \t", b"X-A: a: b, c;d=\"e\"", b"Cookie: a=b",
    b"!#$%&'*+.^`|~-: 1", b"HTTP-X: 1", b"Forwarded: for=1.2.3.4;proto=http", b"User-Agent: x", b"Accept:*/*",
    b"X-Http-Method-Override: PUT", b"Authorization: Basic eA==", b"Range: bytes=0-1",
)  # fmt: skip
TRICKY = (
    b"Host: other", b"Content-Length: 7", b"Content-Length: 07", b"content-length:7", b"Content-Length: 0",
    b"Content-Length: 3, 7", b"Content-Length: -1", b"Content_Length: 3", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity", b"transfer_encoding: chunked", b"Connection: keep-alive, upgrade",
    b"Expect: 100-continue", b"Expect: x", b"Script-Name: /x", b"SCRIPT_NAME: /x", b"Path-Info: /y",
    b"X-Forwarded-Proto: http", b"X-Forwarded-Ssl: on", b"Content-Encoding: gzip", b"Trailer: X", b"TE: trailers",
    b"Content-Type:", b"x-a: 2", b" X-A: 1", b"X-A : 1", b"X-A", b": 1", b"X-\xff: 1", b"X-A: \xff", b"X-A: \x00",
    b"X-A: a\nX-B: c", b"X-A: a\rX-B: c", b"Http2-Settings: AAMAAABkAARAAAAAAAIAAAAA", b"Upgrade: h2c",
)  # fmt: skip
REQUEST_LINES = (
    *([b"POST /webhooks/close HTTP/1.1"] * 12), b"POST /webhooks/close/ HTTP/1.1", b"POST /webhooks/stripe HTTP/1.1",
    b"POST /webhooks/close HTTP/1.0", b"POST /webhooks/close HTTP/1.2", b"POST /webhooks/close?a HTTP/1.1",
    b"POST /webhooks/close#a HTTP/1.1", b"POST /webhooks/./close HTTP/1.1", b"PUT /webhooks/close HTTP/1.1",
)  # fmt: skip


@st.composite
def almost_plain(draw: st.DrawFn) -> bytes:
    length = draw(st.sampled_from([b"Content-Length: 7"] * 5 + [b"content-length:\t007 ", b"Content-Length: 3"]))
    lines = [b"Host: x", length, *draw(st.lists(st.sampled_from(HARMLESS), max_size=4, unique=True))]
    lines += draw(st.lists(st.sampled_from(TRICKY), max_size=1) | st.just([]))
    draw(st.randoms()).shuffle(lines)
    data = bytearray(b"\r\n".join([draw(st.sampled_from(REQUEST_LINES)), *lines, b"", b""]))
    data += draw(st.sampled_from([BODY, BODY + request(), b"1234567\r\n\r\n", b"12"]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data) - 1))
        new = draw(st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\x00", b"\x85", b"7", b"a", b"_"]))
        data[at : at + draw(st.integers(0, 2))] = new
    return bytes(data)


def as_gunicorn_reads(data: bytes) -> tuple[str, Headers, bytes, bytes, bool]:
    """(source, headers, body, what comes after it, whether the connection stays); raises what gunicorn raises."""
    parser = RequestParser(CONFIG, iter([data]), ("127.0.0.1", 1))
    parsed = next(parser)
    assert not parsed._expected_100_continue
    _, environ = wsgi.create(parsed, None, ("127.0.0.1", 1), ("127.0.0.1", 80), CONFIG)
    assert environ["REQUEST_METHOD"] == "POST"
    assert environ["QUERY_STRING"] == environ["SCRIPT_NAME"] == ""
    body = environ["wsgi.input"].read()
    parser.finish_body()
    rest = parser.unreader.take_buffered()
    return PATHS[environ["PATH_INFO"]], Headers.of_wsgi(environ), body, rest, not parsed.should_close()


def make_config() -> Any:
    config = Config()
    config.set("header_map", "drop")
    config.set("forwarder_headers", "")
    return config


CONFIG = make_config()


@settings(max_examples=examples(1500))
@given(almost_plain())
@example(request())
@example(request() + request())
@example(request(*LINES, b"X-Forwarded-Proto: https", b"Connection: close"))
@example(request(*LINES, b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"))
def test_what_is_plain_means_to_gunicorn_what_it_means_to_us(data: bytes) -> None:
    post = POSTS.read(data)
    event(str(post) if isinstance(post, Unread) else "plain")
    if isinstance(post, Unread) or len(data) < post.start + post.length:
        return
    end = post.start + post.length
    source, headers, body, rest, keeps_alive = as_gunicorn_reads(data)
    assert (source, body, rest, keeps_alive) == (post.source, data[post.start : end], data[end:], post.keeps_alive)
    assert sorted(headers.items()) == sorted(post.headers.items())


@given(st.binary(max_size=300), st.integers(0, 60))
def test_arbitrary_bytes_raise_nothing(data: bytes, at: int) -> None:
    POSTS.read(data)
    POSTS.read(request()[:at] + data)


# -- heads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"GET / HTTP/1.1\r\n\r\nrest", 18),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest", 27),
        (b"\r\nGET / HTTP/1.1\r\n\r\nrest", 20),
        (b"\r\n\r\nrest", 4),
        (b"", 0),
        (b"\r", 0),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", 0),
        (b"GET / HTTP/1.1\nHost", 19),
        (b"GET /" + b"a" * 9000, 9005),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000, 0),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_LIMIT, 19 + HEAD_LIMIT),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_head_ends_at_its_empty_line_or_where_it_can_become_none(data: bytes, end: int) -> None:
    assert end_of_head(data) == end


class WantedMore(Exception):
    pass


def only(data: bytes) -> Iterator[bytes]:
    """These bytes, and no end of file after them."""
    yield data
    raise WantedMore


any_head = almost_plain() | st.binary(max_size=200) | st.lists(
    st.sampled_from(
        (b"\r\n", b"\r", b"\n", b"GET / HTTP/1.1", b"POST /webhooks/close?a HTTP/1.1", b"Host: x", b" ", b"a", b":", *TRICKY)
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@settings(max_examples=examples(3000))
@given(any_head.filter(bool))
@example(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")
@example(b"\r\nGET / HTTP/1.1\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n\r\n\r\n")
def test_gunicorn_ends_a_head_where_we_do_or_refuses_it(data: bytes) -> None:
    end = end_of_head(data)
    try:
        parser = RequestParser(CONFIG, only(data[:end] if end else data), ("127.0.0.1", 1))
        next(parser)
    except WantedMore:
        # where a head ends for us, its parser wants no more of it, unless it can become none: that is a 400
        event("wants more")
        assert not end or data.find(b"\r\n\r\n") < 0
    except ParseException:
        event("refused")
    else:
        event("whole")
        assert end
        assert parser.unreader.take_buffered() == b""


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "EXAMPLE.org:8000",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8000",
        "a_b.example",
        "x:",
        "a%20b",
    ],
)
def test_a_host_is_a_name_or_an_address_with_or_without_a_port(host: str) -> None:
    assert is_host(host)
    assert isinstance(POSTS.read(request(b"Host: " + host.encode(), b"Content-Length: 7")), PlainPost)


@each(
    "host",
    ["", " ", "a b", "a/b", "a@b", "a:b", "a:80:80", "::1", "[::1", "[x]", "[]", "[fe80::1%eth0]", ":80", "a%2",
     "http://a", "a?b", "a#b", "a\tb", "\u0663", "é", "a" * 301],
)  # fmt: skip
def test_what_names_no_host_is_none(host: str) -> None:
    assert not is_host(host)
    assert POSTS.read(request(b"Host: " + host.encode(), b"Content-Length: 7")) is Unread.NOT_PLAIN


# -- answers -----------------------------------------------------------------------------------------------


class Given:
    """A connection from which an answer comes."""

    def __init__(self, data: bytes) -> None:
        import io

        self._file = io.BytesIO(data)

    def makefile(self, mode: str) -> Any:
        return self._file


@pytest.mark.parametrize("keeps_alive", [True, False])
def test_an_answer_is_read_back_as_it_was_meant(keeps_alive: bool) -> None:
    data = answer_bytes(
        503, [("Content-Type", "application/json"), ("Retry-After", "5")], b'{"a":1}', now=0.9, keeps_alive=keeps_alive
    )
    with HTTPResponse(Given(data), method="POST") as response:  # type: ignore[arg-type]
        response.begin()
        assert (response.status, response.reason, response.version) == (503, "Service Unavailable", 11)
        assert response.getheaders() == [
            ("Server", "gunicorn"),
            ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("Connection", "keep-alive" if keeps_alive else "close"),
            ("Content-Type", "application/json"),
            ("Retry-After", "5"),
            ("Content-Length", "7"),
        ]
        assert response.read() == b'{"a":1}'
        assert response.will_close is not keeps_alive


@pytest.mark.parametrize("header", [("X-A", "a\r\nX-B: b"), ("X-A\r\n", "a"), ("X-A", "a\nb")])
def test_an_answer_of_which_a_header_would_leave_its_line_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="not printable"):
        answer_bytes(200, [header], b"", now=0, keeps_alive=True)
