"""Keys, MACs, encodings and times, by known answers and by what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.errors import SignatureError
from webhooks.sources import signing
from webhooks.sources.keys.keys import MacKey

NOW = datetime.fromtimestamp(1773151512, UTC)


def test_a_mac_is_the_one_of_rfc_4231() -> None:
    """Test case 2 of RFC 4231, https://www.rfc-editor.org/rfc/rfc4231#section-4.3"""
    expected = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    key = MacKey(b"Jefe", "sha256", "hex", prefix=b"")
    assert key.sign(b"what do ya want for nothing?") == expected


@pytest.mark.parametrize("text", ["", "a", "zz", "0", "4g", "ab cd", "ab\n", "٣٣", "0x"])
def test_what_is_not_hex_of_the_right_length_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="must be 4 hex characters"):
        signing.decode_hex_key(text, 2)


def test_hex_keys_may_be_in_either_case() -> None:
    assert signing.decode_hex_key("aBcD", 2) == b"\xab\xcd"


@pytest.mark.parametrize(
    ("text", "kind", "prefix", "key"),
    [
        (" text ", "text", "", b"text"),
        ("é", "text", "", b"\xc3\xa9"),
        ("6162", "hex", "", b"ab"),
        ("YWI=", "base64", "", b"ab"),
        ("YWI", "base64", "", b"ab"),
        ("whsec_YWI=", "base64", "whsec_", b"ab"),
        ("+/+/", "base64", "", b"\xfb\xff\xbf"),
    ],
)
def test_keys_are_decoded_as_their_scheme_says(text: str, kind: str, prefix: str, key: bytes) -> None:
    assert signing.decode_key(text, kind, prefix) == key


@pytest.mark.parametrize(
    ("text", "kind"), [("6", "hex"), ("6g", "hex"), ("Q", "base64"), ("a!b=", "base64"), ("-_-_", "base64")]
)
def test_what_cannot_be_decoded_is_refused_without_being_shown(text: str, kind: str) -> None:
    with pytest.raises(ValueError, match="is not") as caught:
        signing.decode_key(text, kind)
    assert text not in str(caught.value).replace("base64", "")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (b"AB", "hex"),
        (b"a", "hex"),
        (b"a b", "hex"),
        (b"YWI", "base64"),
        (b"YWI= ", "base64"),
        (b"YWJ=", "base64"),
        (b"\xff", "base64"),
    ],
)
def test_a_signature_has_one_spelling(text: bytes, encoding: str) -> None:
    assert signing.decode_signature(text, encoding) is None


def test_signatures_are_decoded() -> None:
    assert signing.decode_signature(b"6162", "hex") == b"ab"
    assert signing.decode_signature(b"YWI=", "base64") == b"ab"
    assert signing.decode_signature(b"-_-_", "base64url") == b"\xfb\xff\xbf"


@given(st.binary(), st.sampled_from(["hex", "base64", "base64url"]))
def test_no_signature_raises(text: bytes, encoding: str) -> None:
    decoded = signing.decode_signature(text, encoding)
    assert decoded is None or signing.ENCODERS[encoding](decoded) == text


@given(st.binary(max_size=12), st.integers(1, 13))
def test_a_timestamp_is_ascii_digits_of_one_length_and_nothing_else(value: bytes, digits: int) -> None:
    is_right = len(value) == digits and all(48 <= byte <= 57 for byte in value)
    if is_right:
        assert signing.read_timestamp(value, digits) == int(value)
    else:
        with pytest.raises(SignatureError):
            signing.read_timestamp(value, digits)


@pytest.mark.parametrize(
    ("value", "format", "seconds"),
    [
        (b"1773151512", "seconds", 1773151512),
        (b"1773151512500", "milliseconds", 1773151512.5),
        (b"2026-03-10T14:05:12Z", "iso", 1773151512),
        (b"2026-03-10T14:05:12.500Z", "iso", 1773151512.5),
        (b"2026-03-10T07:05:12-07:00", "iso", 1773151512),
    ],
)
def test_instants_are_read_as_their_scheme_says(value: bytes, format: str, seconds: float) -> None:
    assert signing.read_instant(value, format) == seconds


@each(
    ("value", "format"),
    [
        (None, "seconds"),
        (b"", "iso"),
        (None, "iso"),
        (b"1773151512", "milliseconds"),
        (b"1773151512", "iso"),
        (b"2026-03-10T14:05:12", "iso"),
        (b"2026-03-10 14:05:12Z", "iso"),
        (b"2026-03-10T14:05Z", "iso"),
        (b"2026-02-30T14:05:12Z", "iso"),
        (b"2026-03-10T14:05:12Z\n", "iso"),
        (b"2026-03-10T14:05:12+01:00:30", "iso"),
        ("٢٠٢٦-03-10T14:05:12Z".encode(), "iso"),
    ],
)
def test_other_instants_are_refused(value: bytes | None, format: str) -> None:
    with pytest.raises(SignatureError):
        signing.read_instant(value, format)


@pytest.mark.parametrize("format", ["seconds", "milliseconds", "iso"])
def test_what_is_written_is_read(format: str) -> None:
    assert signing.read_instant(signing.write_instant(NOW, format).encode(), format) == NOW.timestamp()


@pytest.mark.parametrize(
    ("age", "is_fresh"),
    [(0, True), (300, True), (300.001, False), (301, False), (-60, True), (-60.001, False), (-61, False)],
)
def test_both_limits_are_inclusive(age: float, is_fresh: bool) -> None:
    now = datetime.fromtimestamp(1773151512 + age, UTC)
    past, ahead = timedelta(seconds=300), timedelta(seconds=60)
    if is_fresh:
        signing.require_fresh(1773151512, now, past, ahead)
    else:
        with pytest.raises(SignatureError, match=r"old|ahead"):
            signing.require_fresh(1773151512, now, past, ahead)


@given(st.binary(), st.binary())
def test_bytes_are_compared_whole(one: bytes, other: bytes) -> None:
    assert signing.is_equal(one, other) is (one == other)
