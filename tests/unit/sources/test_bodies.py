"""Bodies as senders write them, and bodies that no sender writes: read strictly, refused without a surprise."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support import each, examples
from webhooks.errors import Malformed
from webhooks.model import Headers, InboundRequest
from webhooks.sources.declared.bodies import Reader, multipart, to_utf8
from webhooks.sources.declared.scheme import BODY_FORMATS, CHARSETS, Scheme


def reader(**options: Any) -> Reader:
    return Reader(Scheme("it", **options))


@settings(max_examples=examples(300))
@given(raw=st.binary(max_size=200) | st.text(max_size=80).map(str.encode), kind=st.sampled_from(BODY_FORMATS))
@example(raw=b"--x\r\n\r\n--x--", kind="multipart")
@example(raw=b"payload=%FF", kind="form")
def test_any_bytes_are_read_or_malformed(raw: bytes, kind: str) -> None:
    with contextlib.suppress(Malformed):
        reader(body=kind, decode={"a.b": "base64-json", "payload": "json"}).load(raw)


@settings(max_examples=examples(200))
@given(raw=st.binary(max_size=60), charset=st.sampled_from(CHARSETS) | st.text(max_size=12))
def test_any_charset_is_read_or_malformed(raw: bytes, charset: str) -> None:
    with contextlib.suppress(Malformed):
        found = to_utf8(raw, charset)
        assert found == raw or found.decode("utf-8")  # bytes that say they are UTF-8 are judged by what reads them


@settings(max_examples=examples(200))
@given(
    fields=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n'), min_size=1, max_size=6),
        st.text(max_size=20).filter(lambda text: "\r\n--b" not in "\r\n" + text),
        max_size=5,
    )
)
def test_a_multipart_form_gives_what_was_put_in(fields: dict[str, str]) -> None:
    raw = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode("utf-8", "surrogatepass")
        for name, value in fields.items()
    )
    if fields:
        assert dict(multipart(raw + b"--b--\r\n")) == fields


@each(
    "raw",
    [
        b"",
        b"--b\r\n",
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b\r\n',  # it does not end
        b"--b\r\nContent-Type: x\r\n\r\n1\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="a"\n\n1\r\n--b--',
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--b--',
        b'x--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--',
        b"--b\r\n" + b'Content-Disposition: form-data; name="a"\r\n\r\n1\r\n--b\r\n' * 1001 + b"--b--",
    ],
)
def test_what_is_no_multipart_form_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        multipart(raw)


def test_a_name_that_stands_twice_in_a_form_is_known() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    assert multipart(part + part + b"--b--").doubled == {"a"}


def test_fields_that_hold_a_text_of_their_own_are_read_in_their_place() -> None:
    inner = base64.urlsafe_b64encode(b'{"k":"\xc3\xbc?"}').rstrip(b"=").decode()
    read = reader(decode={"m.data": "base64-json", "text": "json", "raw": "base64", "none": "json"})
    value = read.load(json.dumps({"m": {"data": inner}, "text": "[1]", "raw": "aGk="}).encode())
    assert value == {"m": {"data": {"k": "ü?"}}, "text": [1], "raw": "hi"}
    assert read.load(b'{"text": [2]}') == {"text": [2]}  # it is JSON already
    for bad in ({"m": {"data": "!!!"}}, {"m": {"data": 5}}, {"text": "{"}, {"raw": "a"}):
        with pytest.raises(Malformed):
            read.load(json.dumps(bad).encode())


def test_a_byte_order_mark_has_the_last_word_and_unknown_charsets_have_none() -> None:
    asked = reader(charset="declared")

    def read(body: bytes, content_type: str = "") -> bytes:
        return asked.as_utf8(InboundRequest(Headers({"content-type": content_type} if content_type else {}), body))

    assert read("ü".encode("latin-1"), 'text/plain; charset="ISO-8859-1"') == "ü".encode()
    assert read("ü".encode("utf-16"), "text/plain; charset=iso-8859-1") == "ü".encode()
    assert read(b"\xef\xbb\xbfa") == b"a"
    assert read(b"\xff", "text/plain") == b"\xff"  # strict JSON refuses it
    for content_type in ("text/plain; charset=utf-7", "text/plain; charset=idna", "text/plain; charset=base64"):
        with pytest.raises(Malformed, match="none that is read here"):
            read(b"a", content_type)
    assert reader().as_utf8(InboundRequest(Headers({}), b"\xef\xbb\xbfa")) == b"\xef\xbb\xbfa"
