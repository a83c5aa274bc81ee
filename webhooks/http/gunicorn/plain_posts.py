"""HTTP/1.1 in the bytes of a connection: where a head ends, which posts are plain, and an answer as bytes.

`PlainPosts.read` looks at what a connection sent and says whether it begins with a post to one of ours that leaves no
room for a second reading. Three things make sure of that: the request line is exactly one of ours; `plain_fields`: every
name once, printable ASCII, no field by which a message is framed otherwise or something is negotiated; `plain_frame`: a
host, and a Content-Length of digits. Whatever else it is, the server's own parser decides what it means. So this module refuses nothing, and reads nothing otherwise than gunicorn would: its tests compare the two over
arbitrary bytes. `end_of_head` says where that parser has to stop; one that would read on is not asked again.

Why it exists: gunicorn's parser, WSGI environment and answer cost as much as everything that webhooks does with an
event until it is committed (docs/performance.md).

Not here: sockets (`gevent_worker`), what a post gets (`http.direct`).
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import re
from collections.abc import Collection, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

from webhooks.model import Headers

#: The head of a plain post is shorter. Below gunicorn's defaults for one field (8,190) and one request line (4,094).
LONGEST_HEAD = 4000
#: No head is longer, whichever parser reads it.
HEAD_LIMIT = 1 << 16
#: No request line is longer; gunicorn's own limit, which its settings can only lower.
_LONGEST_LINE = 8190
#: Below gunicorn's default of 100.
MOST_FIELDS = 60

#: {status: what stands behind the version in the first line of an answer}
STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
# token ":" OWS field-value OWS, of RFC 9110 section 5.5 without what is obsolete there; no "_": servers drop such names
_FIELD = re.compile(rb"([!#$%&'*+.^`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)[ \t]*", re.ASCII)
_LENGTH = re.compile(rb"[0-9]{1,10}", re.ASCII)
# uri-host [ ":" port ], of RFC 9110 section 7.2 and RFC 3986 section 3.2.2; never empty, as section 4.2.1 wants it
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?", re.ASCII)
_LONGEST_HOST = 300
#: Fields that change how a message is framed, or who answers; in their presence nothing is plain.
_NOT_PLAIN = frozenset(
    (
        *("transfer-encoding", "content-encoding", "expect", "upgrade", "te", "trailer", "http2-settings"),
        *("proxy-connection", "keep-alive", "script-name", "path-info"),
    )
)
#: {line of a header: (name, values)}. Most lines are the same in every request of a sender.
_KNOWN_LINES: dict[bytes, tuple[str, list[bytes]]] = {}
_KNOWN_LINES_LIMIT = 1000
#: Longer ones (signatures) are hardly ever the same twice.
_LONGEST_KNOWN_LINE = 64


class Unread(enum.Enum):
    """Why no post was read."""

    INCOMPLETE = enum.auto()  #: the head has not come whole; read more and ask again
    NOT_PLAIN = enum.auto()  #: for the server's own parser


class PlainPost(NamedTuple):
    """One post whose head has come. start: where its body begins. length: of its body, in bytes."""

    source: str
    headers: Headers
    start: int
    length: int
    keeps_alive: bool


class PlainPosts:
    """Recognises posts to `paths`.

    paths: {path as it stands in a request line: name of the source}.
    max_body: longer bodies are the server's, in bytes.
    scheme_headers: names by which a proxy tells the scheme; two at once are for the server to judge.
    """

    def __init__(self, paths: Mapping[str, str], *, max_body: int, scheme_headers: Collection[str] = ()) -> None:
        self._lines = {
            f"POST {path} HTTP/1.1".encode("ascii"): source
            for path, source in paths.items()
            if path.isascii() and path.isprintable() and not set(path) & set(" ?#%;\\")
        }
        self._max_body = max_body
        self._scheme_headers = frozenset(name.lower() for name in scheme_headers)

    def read(self, data: bytes) -> PlainPost | Unread:
        """The post that `data` begins with, if all three hold: its line is one of ours, its fields and its frame are plain."""
        end = data.find(b"\r\n\r\n", 0, LONGEST_HEAD)
        if end < 0:
            return Unread.INCOMPLETE if may_become_plain(data) else Unread.NOT_PLAIN
        lines = data[:end].split(b"\r\n")
        source = self._lines.get(lines[0])
        if source is None:
            return Unread.NOT_PLAIN
        del lines[0]
        values = plain_fields(lines)
        if values is None or len(self._scheme_headers & values.keys()) > 1:
            return Unread.NOT_PLAIN
        frame = plain_frame(values)
        if frame is None or frame[0] > self._max_body:
            return Unread.NOT_PLAIN
        return PlainPost(source, Headers.of_values(values), end + 4, frame[0], frame[1])


def may_become_plain(data: bytes) -> bool:
    """Whether more bytes can make a plain post of a head that has not come whole."""
    return (
        len(data) < LONGEST_HEAD
        and data.startswith(b"POST "[: len(data)])
        and data.count(b"\n") == data.count(b"\r\n")  # else it never ends the way it is read here
    )


def plain_fields(lines: list[bytes]) -> dict[str, list[bytes]] | None:
    """{name: [value]} of a head's fields; None unless each stands once, in plain characters, and none reframes it."""
    if len(lines) >= MOST_FIELDS:
        return None
    values: dict[str, list[bytes]] = {}
    known = _KNOWN_LINES.get
    for line in lines:
        field = known(line) or _read_field(line)
        if field is None:
            return None
        values[field[0]] = field[1]
    return values if len(values) == len(lines) else None


def plain_frame(values: Mapping[str, list[bytes]]) -> tuple[int, bool] | None:
    """(length of the body, whether the connection stays); None unless a host and one length of digits are there."""
    length = values.get("content-length")
    if length is None or "host" not in values or _LENGTH.fullmatch(length[0]) is None:
        return None
    connection = values.get("connection")
    if connection is None:
        return int(length[0]), True
    wanted = connection[0].lower()
    return (int(length[0]), wanted == b"keep-alive") if wanted in (b"keep-alive", b"close") else None


def _read_field(line: bytes) -> tuple[str, list[bytes]] | None:
    """One line of a head; None when it is not plain."""
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    name = match[1].decode("ascii").lower()
    if name in _NOT_PLAIN or (name == "host" and not is_host(match[2].decode("ascii"))):
        return None
    field = (name, [match[2]])
    if len(line) <= _LONGEST_KNOWN_LINE:
        if len(_KNOWN_LINES) >= _KNOWN_LINES_LIMIT:
            _KNOWN_LINES.clear()  # they are read again
        _KNOWN_LINES[line] = field
    return field


def end_of_head(data: bytes) -> int:
    """Where the head that `data` begins with ends, behind its empty line; 0: more has to come.

    What can become no head ends with all that has come: the server's parser says why it refuses it. As that parser does,
    an empty line before the request is passed over.
    Source: https://www.rfc-editor.org/rfc/rfc9112#section-2.2
    """
    start = 2 if data.startswith(b"\r\n") else 0
    if data.startswith(b"\r\n", start) and start:
        return start + 2
    end = data.find(b"\r\n\r\n", start, HEAD_LIMIT)
    if end >= 0:
        return end + 4
    is_hopeless = (
        len(data) >= HEAD_LIMIT
        or data.count(b"\n") != data.count(b"\r\n")
        or (len(data) > start + _LONGEST_LINE + 2 and data.find(b"\r\n", start, start + _LONGEST_LINE + 2) < 0)
    )
    return len(data) if is_hopeless else 0


@functools.lru_cache(maxsize=64)
def is_host(value: str) -> bool:
    """Whether the value of a Host field names a host, with or without a port.

    Source: https://www.rfc-editor.org/rfc/rfc9112#section-3.2
    """
    if len(value) > _LONGEST_HOST:
        return False
    match = _HOST.fullmatch(value)
    if match is None or match[1] is None:
        return match is not None
    try:
        ipaddress.IPv6Address(match[1])
    except ValueError:
        return False
    return "%" not in match[1]


@functools.lru_cache(maxsize=2)
def http_date(second: int) -> str:
    """A moment as RFC 9110 section 5.6.7 writes it. second: Unix time."""
    return formatdate(second, usegmt=True)


def answer_bytes(
    status: int, headers: Collection[tuple[str, str]], body: bytes, *, now: float, keeps_alive: bool
) -> bytes:
    """An answer, framed as gunicorn frames one. now: Unix time.

    headers: without those that frame it. Raises ValueError for a header that would not stay on its line.
    """
    lines = [
        f"HTTP/1.1 {STATUS_LINES[status]}\r\nServer: gunicorn\r\nDate: {http_date(int(now))}",
        "Connection: keep-alive" if keeps_alive else "Connection: close",
    ]
    for name, value in headers:
        if not (name.isprintable() and value.isprintable()):
            raise ValueError(f"the header {name!r} of an answer holds what is not printable")
        lines.append(f"{name}: {value}")
    lines.append(f"Content-Length: {len(body)}\r\n\r\n")
    return "\r\n".join(lines).encode("latin-1") + body
