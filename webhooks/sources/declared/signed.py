"""The text that a sender signed, put together again from a request.

`SignedText` is a row's template, cut up once. What may stand in it, `scheme.SIGNABLE` says. Some senders sign their
address in more than one form (with and without its port, with a query that is decoded): `others` gives the further ones, which are tried
when the first does not match.

Not here: keys and times (`proof`).
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from urllib.parse import urlsplit

from webhooks.errors import SignatureError
from webhooks.model import InboundRequest
from webhooks.sources.declared.fields import sorted_form
from webhooks.sources.declared.places import pieces
from webhooks.sources.declared.scheme import Scheme
from webhooks.sources.signing import is_equal

#: What an id in a header may look like: no dot, which would let it run into what is signed behind it.
_SIGNED_ID = re.compile(rb"[!-\-/-~]{1,256}")
#: A hash of the body in a signed URL.
BODY_HASH = re.compile(rb"(?:^|&)bodySHA256=([0-9a-f]{64})(?:&|$)")
_ALONE = re.compile(rb"bodySHA256=([0-9a-f]{64})")
#: What HubSpot decodes of a query before it signs it; see the row.
_DECODED = {
    b"%%%02X" % ord(each): each.encode() for each in ":/?@!$'()*,;"
}  # fmt: skip
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")


class WithSecret(bytes):
    """A signed text in which the key stands. at: where, in bytes."""

    at: tuple[int, ...] = ()


class SignedText:
    """What one source's requests sign. public_url: "" for none."""

    def __init__(self, row: Scheme, public_url: str) -> None:
        self.row = row
        #: [(literal, name of what follows it, whether that may be missing)]
        self.pieces = pieces(row.signed)
        self._names = frozenset(name for _, name, _ in self.pieces)
        self._public_url = public_url
        self._has_others = bool(row.url_forms) and "url" in self._names

    def of(self, request: InboundRequest, stamp: bytes, url: bytes | None = None) -> bytes:
        """What was signed. stamp: the time as it was written. Raises SignatureError when the request lacks a part of it.

        url: of the other forms that its address may have; None for the first.
        """
        text: list[bytes] = []
        holes: list[int] = []
        for literal, name, is_optional in self.pieces:
            text.append(literal.encode())
            if name == "secret":
                holes.append(sum(map(len, text)))
            elif name == "url":
                text.append(self.url(request) if url is None else url)
            elif name:
                text.append(self._part(name, is_optional, request, stamp))
        if not holes:
            return b"".join(text)
        whole = WithSecret(b"".join(text))
        whole.at = tuple(holes)
        return whole

    def others(self, request: InboundRequest, stamp: bytes) -> Iterator[bytes]:
        """The text with each further form of the address."""
        if self._has_others:
            first = self.url(request)
            seen = {first}
            for url in _forms(first, self.row.url_forms):
                if url not in seen:
                    seen.add(url)
                    yield self.of(request, stamp, url)

    def url(self, request: InboundRequest) -> bytes:
        """The configured address with the query as it was sent; Host and Forwarded have no say."""
        url = (request.url or self._public_url).partition("?")[0].encode("utf-8")
        return url + b"?" + request.query if request.query else url

    def _part(self, name: str, is_optional: bool, request: InboundRequest, stamp: bytes) -> bytes:
        if name == "body":
            return request.body
        if name == "timestamp":
            return stamp
        if name == "id":
            return self.signed_id(request)
        if name == "method":
            return request.method.encode()
        if name == "query":
            return request.query
        if name == "path":
            return (urlsplit(request.url or self._public_url).path or "/").encode("utf-8")
        if name == "form":
            return self.form(request)
        if name == "crc32":
            return b"%d" % zlib.crc32(request.body)
        if name == "sha256":
            return hashlib.sha256(request.body).hexdigest().encode()
        return self._header(name, is_optional, request)

    def _header(self, name: str, is_optional: bool, request: InboundRequest) -> bytes:
        given = request.headers.one(name[1:])
        if given is None and (not is_optional or name[1:] in request.headers):
            raise SignatureError(f"the header {name[1:]}, which is signed, is missing, empty or doubled")
        return given or b""

    def signed_id(self, request: InboundRequest) -> bytes:
        """The header that the row's id is. Raises SignatureError for what could be taken for more than an id."""
        header = self.row.id[0][2:-1]
        given = request.headers.one(header)
        if given is None or _SIGNED_ID.fullmatch(given) is None:
            raise SignatureError(f"the header {header} is missing, doubled, or not 1 to 256 characters without a dot")
        return given

    def form(self, request: InboundRequest) -> bytes:
        """Every field of the form, sorted. A body that is no form must be covered by a hash in the signed URL.

        The query must be the configured one: address and fields are joined with nothing between, so one that the caller
        chooses could hold what was signed as fields.
        """
        configured = (request.url or self._public_url).partition("?")[2].encode("utf-8")
        if request.method == "GET":
            if configured:
                raise SignatureError("public_url holds a query, so a GET could be made of what was signed as a form")
            return b""  # all of it is in the address
        if request.query == configured:
            if BODY_HASH.search(request.query):
                raise SignatureError("the configured address holds bodySHA256, which is the sender's; take it out")
            try:
                return sorted_form(request.body)
            except ValueError as error:
                raise SignatureError(f"{error}, so the signature does not cover it") from None
        given = request.query.removeprefix(configured + b"&" if configured else b"")
        match = _ALONE.fullmatch(given)
        if match is None:
            raise SignatureError("the query is not the one of public_url, which must have it whole")
        if not is_equal(match.group(1), hashlib.sha256(request.body).hexdigest().encode()):
            raise SignatureError("bodySHA256 in the URL is not the hash of the body")
        return b""


def _forms(url: bytes, forms: tuple[str, ...]) -> Iterator[bytes]:
    """An address as senders sign it otherwise."""
    if "port" in forms:
        yield from ports(url)
    if "decoded" in forms:
        address, mark, query = url.partition(b"?")
        yield address + mark + _ESCAPE.sub(lambda match: _DECODED.get(match[0].upper(), match[0]), query)


def ports(url: bytes) -> Iterator[bytes]:
    """An address without its port, and with the one that its scheme has."""
    match = re.match(rb"(https?)://([^/?#:]+)(?::[0-9]+)?", url)
    if match is None:
        return
    scheme, host = match.groups()
    rest = url[match.end() :]
    yield scheme + b"://" + host + rest
    yield scheme + b"://" + host + (b":443" if scheme == b"https" else b":80") + rest


__all__ = ["BODY_HASH", "SignedText", "WithSecret", "ports"]
