"""Bodies as senders write them: JSON, forms, multipart forms, JSON inside of a field, other charsets.

`Reader.load` decodes the bytes of an event; `Reader.as_utf8` turns a body in another charset into UTF-8 first, where the
row asks for that. A content type has a say in the charset alone, and only with `charset = "declared"`. Everything is
bounded and strict, and raises `Malformed`, and nothing else.

Not here: cutting a body into events (`parse`).
"""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Mapping
from typing import Any

from webhooks.errors import Malformed
from webhooks.formats import json as jsonio
from webhooks.model import InboundRequest
from webhooks.sources.declared.fields import at, form, put
from webhooks.sources.declared.scheme import CHARSETS, Scheme

#: Parts of a multipart form, at most; and bytes of one part's head.
MAX_PARTS = 1000
MAX_PART_HEAD = 4096
_NAME = re.compile(rb'[;\s]name="((?:[^"\\\r\n]|\\.)*)"', re.IGNORECASE)
_FILE = re.compile(rb"[;\s]filename\*?=", re.IGNORECASE)
_BOUNDARY = re.compile(rb"--([0-9A-Za-z'()+_,./:=? -]{1,70})\r\n")
_CHARSET = re.compile(rb";\s*charset=\"?([0-9A-Za-z_.:-]{1,40})\"?\s*(?:;|$)", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_SPACE = b" \t\r\n"


class Reader:
    """How the bodies of one source are decoded."""

    def __init__(self, row: Scheme) -> None:
        self._body = row.body
        self._charset = row.charset
        self._decode = tuple(row.decode.items())

    def as_utf8(self, request: InboundRequest) -> bytes:
        """The body in UTF-8 and without a byte order mark; as it came, where the row has no other charset."""
        if self._charset == "utf-8" or self._body == "raw":
            return request.body
        charset = self._charset
        if charset == "declared":
            match = _CHARSET.search(request.headers.one("content-type") or b"")
            charset = match.group(1).decode("ascii").lower() if match is not None else "utf-8"
        return to_utf8(request.body, charset)

    def load(self, raw: bytes) -> Any:
        """Bytes in UTF-8 as JSON, form or parts; text or None for opaque ones."""
        value = self.load_closed(raw)
        for path, encoding in self._decode:
            _open(value, path, encoding)
        return value

    def load_closed(self, raw: bytes) -> Any:
        """The same, with fields that hold a text of their own as they are."""
        kind = self._body
        if kind == "json" or (kind == "json-or-form" and looks_like_json(raw)):
            return _json(raw)
        if kind == "raw":
            return _text(raw)
        is_multipart = kind == "multipart" or (kind == "form-or-multipart" and raw.startswith(b"--"))
        return multipart(raw) if is_multipart else self._form(raw)

    def load_slice(self, raw: bytes) -> Any:
        """One event that was cut out of a body, which is JSON whatever stood around it."""
        return _json(raw)

    def _form(self, raw: bytes) -> Any:
        try:
            fields = form(raw)
        except ValueError:
            raise Malformed("the body is neither JSON nor a form", "unparseable") from None
        if list(fields) != ["payload"] or self._decode:
            return fields
        return _json(fields["payload"].encode("utf-8"))  # one field that holds the JSON: GitHub, Slack's interactions


def looks_like_json(raw: bytes) -> bool:
    """Whether a body that may be a form begins as JSON does."""
    return raw.lstrip(_SPACE)[:1] in (b"{", b"[")


def to_utf8(raw: bytes, charset: str) -> bytes:
    """Text of a charset of `CHARSETS` (a byte order mark has the last word) in UTF-8. Raises Malformed."""
    for mark, coded in _BOMS:
        if raw.startswith(mark):
            raw, charset = raw[len(mark) :], coded
            break
    try:
        name = codecs.lookup(charset).name
        if name not in _KNOWN:
            raise LookupError
        return raw if name == "utf-8" else raw.decode(name).encode("utf-8")
    except LookupError:
        raise Malformed("the body's charset is none that is read here", "unparseable") from None
    except UnicodeError:
        raise Malformed(f"the body is not {charset}", "unparseable") from None
    except ValueError:  # a name with a NUL
        raise Malformed("the body's charset has no name", "unparseable") from None


_KNOWN = frozenset(codecs.lookup(each).name for each in CHARSETS if each != "declared") | {
    *("utf-16-le", "utf-16-be", "ascii"),
}


def _json(raw: bytes) -> Any:
    try:
        return jsonio.load_watching(raw)
    except jsonio.NotJSON as error:
        raise Malformed(str(error), "unparseable") from None


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _open(value: Any, path: str, encoding: str) -> None:
    """Read a field that holds a text of its own, in its place; one that is missing stays so."""
    found = at(value, path) if isinstance(value, Mapping | list) else None
    if found is None or (encoding == "json" and not isinstance(found, str)):
        return
    put(value, path, opened(found, path, encoding))


def opened(text: Any, path: str, encoding: str) -> Any:
    """What a field's text holds. path: for messages. Raises Malformed."""
    raw = field_bytes(text, path, encoding)
    return _json(raw) if encoding.endswith("json") else _text(raw)


def field_bytes(text: Any, path: str, encoding: str) -> bytes:
    """The bytes that a field's text stands for. Raises Malformed."""
    if not isinstance(text, str):
        raise Malformed(f"the field {path} is not text")
    raw = text.encode("utf-8", "surrogatepass")
    if not encoding.startswith("base64"):
        return raw
    raw = raw.translate(_FROM_URL_SAFE, b" \t\r\n")
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except ValueError:
        raise Malformed(f"the field {path} is not base64", "unparseable") from None


_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def multipart(raw: bytes) -> jsonio.Watched:
    """The fields of a multipart form as text; of a file only that there is one. Raises Malformed.

    The boundary is the body's first line: what a header says is not signed. Source: https://www.rfc-editor.org/rfc/rfc7578
    """
    match = _BOUNDARY.match(raw)
    if match is None:
        raise Malformed("the body does not begin as a multipart form does", "unparseable")
    parts = (b"\r\n" + raw).split(b"\r\n--" + match.group(1).rstrip(b" "))
    if len(parts) > MAX_PARTS + 2 or not parts[-1].startswith(b"--") or parts[0]:
        raise Malformed("the body is no multipart form that ends, or has too many parts", "unparseable")
    return jsonio.Watched([_part(part) for part in parts[1:-1]])


def _part(part: bytes) -> tuple[str, Any]:
    head, blank, content = part[2:].partition(b"\r\n\r\n")
    name = _NAME.search(head) if blank and part.startswith(b"\r\n") and len(head) <= MAX_PART_HEAD else None
    if name is None:
        raise Malformed("a part of the multipart form has no name", "unparseable")
    try:
        key = name.group(1).decode("utf-8")
        return key, {"bytes": len(content)} if _FILE.search(head) else content.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a field of the multipart form is not UTF-8", "unparseable") from None


__all__ = ["Reader", "field_bytes", "looks_like_json", "multipart", "opened", "to_utf8"]
