"""What every scheme must do, run for each row of the table and for Close.

Requests are signed by our own `sign` here; that it signs as the senders do is shown by `test_vectors` and
`test_oracles`.
"""

from __future__ import annotations

import ast
import base64
import binascii
import contextlib
import hmac
import inspect
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import webhooks.sources
import webhooks.sources.signing
from tests.support import each, examples
from tests.unit.sources.cases import CASES, NOW, Case, doubled, with_header, without
from webhooks.errors import ConfigurationError, Malformed, Rejected, SignatureError
from webhooks.model import Content, Headers, InboundRequest, ParsedEvent
from webhooks.sources import Secret, SourceWithLog, with_log
from webhooks.sources.close import CloseSource
from webhooks.sources.declared.checks import problems
from webhooks.sources.declared.scheme import Scheme
from webhooks.sources.declared.schemes import SCHEMES
from webhooks.sources.declared.source import DeclaredSource
from webhooks.sources.samples import samples

every_scheme = each("case", CASES)
#: Those whose signature, or token, is a field of the body.
IN_BODY = {name for name, each in SCHEMES.items() if each.is_in_body}
#: Those that sign the fields of a form, so that no other body is covered.
FORMS = {name for name, each in SCHEMES.items() if "{form}" in each.signed}
#: Those that sign the whole body, and have an id in a header that is not signed.
OPEN = {"github", "shopify", "linear", "bitbucket", "jira", "sentry", "razorpay", "recurly", "woocommerce"}
in_headers = [case for case in CASES if case.scheme not in IN_BODY]
#: {scheme: a source of it}, made once for the tests that hold every scheme against every other.
OTHERS = {case.scheme: case.source() for case in in_headers}
with_signature_header = each("case", in_headers)
AUTHORIZED = ("basic", "bearer")
TOKENS = {name for name, each in SCHEMES.items() if each.algorithm in ("token", "basic")}
signing = [case for case in CASES if case.scheme not in TOKENS]
computed = each("case", signing)


def row(case: Case) -> Scheme | None:
    source = case.source()
    return source.row if isinstance(source, DeclaredSource) else None


def signed_header(case: Case) -> str:
    source = case.source()
    return sorted(source.sensitive_headers & source.sign(case.sample().body, NOW).keys())[0]


def needed_headers(case: Case) -> list[str]:
    """The headers without any of which a request must be refused."""
    return sorted(set(case.source().sign(case.sample().body, NOW)))


timed = [case for case in CASES if case.scheme == "close" or (row(case) is not None and row(case).timestamp)]  # type: ignore[union-attr]


def refused(case: Case, request: InboundRequest, now: Any = NOW) -> str:
    with pytest.raises(SignatureError) as caught:
        case.source().verify(request, now)
    return caught.value.reason


# -- right requests ----------------------------------------------------------------------------------------


@every_scheme
def test_every_sample_verifies_and_parses_to_its_type(case: Case) -> None:
    source, scheme = case.source(), row(case)
    found = samples(case.scheme)
    assert found
    is_cut_out = scheme is None or not (scheme.around or scheme.decode)  # else it is written anew, with that item alone
    for sample in found:
        request = case.request(sample)
        assert source.verify(request, NOW).label == "first"
        events = source.parse(request)
        assert events[0].type == sample.type
        for event in events:
            assert 1 <= len(event.dedup_key.encode()) <= 255
            assert event.body in request.body or not is_cut_out
            content = source.read(event.body, event.type)
            assert content.data is not None or case.scheme == "close"
            assert f"{content.object_type}.{content.action}".strip(".") == event.type


@every_scheme
def test_a_source_says_what_may_not_be_logged(case: Case) -> None:
    source = case.source()
    signature = {name for name, value in source.sign(case.sample().body, NOW).items() if len(value) > 30}
    assert signature <= set(source.sensitive_headers)


@every_scheme
def test_the_second_secret_verifies_too_and_is_named(case: Case) -> None:
    if case.scheme in ("discord", "sendgrid"):
        order = [Secret(case.secrets[1], "old"), Secret(case.secrets[0], "new")]
    else:
        order = [Secret(case.secrets[1], "old"), Secret(case.secrets[0], "new")]
    assert case.source(*order).verify(case.request(), NOW).label == "new"


@every_scheme
def test_a_source_names_the_keys_that_it_holds(case: Case) -> None:
    order = [Secret(case.secrets[1], "old"), Secret(case.secrets[0], "new")]
    assert list(case.source(*order).labels()) == ["old", "new"]


@every_scheme
def test_a_source_whose_sender_can_be_asked_offers_all_that_is_asked_of_it(case: Case) -> None:
    source = case.source()
    log = with_log(source)
    assert (log is not None) == (case.scheme == "close")
    members = {name for name in (*vars(SourceWithLog), *SourceWithLog.__annotations__) if not name.startswith("_")}
    assert len(members) > 10
    assert log is None or [name for name in sorted(members) if not hasattr(source, name)] == []


@every_scheme
def test_the_group_of_an_event_has_one_name_at_ingest_and_for_handlers(case: Case) -> None:
    source = case.source()
    for sample in samples(case.scheme):
        for event in source.parse(case.request(sample)):
            assert set(event.ordering) <= {"object_id", source.group_name}
            if source.group_name in event.ordering:
                assert source.read(event.body, event.type).meta[source.group_name] == event.ordering[source.group_name]


@every_scheme
def test_another_secret_is_refused(case: Case) -> None:
    request = case.request()
    with pytest.raises(SignatureError, match="none of 1 secrets"):
        case.source(Secret(case.secrets[1], "other")).verify(request, NOW)


@every_scheme
def test_header_names_are_taken_in_any_case(case: Case) -> None:
    request = case.request()
    shouted = Headers([(name.upper(), value) for name, value in request.headers.items()])
    assert case.source().verify(replace(request, headers=shouted), NOW).label == "first"


@every_scheme
def test_headers_of_other_senders_beside_the_right_ones_change_nothing(case: Case) -> None:
    request = case.request()
    mine = {*request.headers.names(), *case.source().sensitive_headers}
    if scheme := row(case):
        mine |= set(scheme.require)
    foreign = [(name, b"x") for other in OTHERS.values() for name in other.sensitive_headers if name not in mine]
    more = Headers([*request.headers.items(), *{name: (name, value) for name, value in foreign}.values()])
    assert case.source().verify(replace(request, headers=more), NOW).label == "first"


# -- wrong requests ----------------------------------------------------------------------------------------


@with_signature_header
def test_a_missing_empty_or_doubled_header_is_refused(case: Case) -> None:
    request = case.request()
    for name in needed_headers(case):
        refused(case, without(request, name))
        refused(case, with_header(request, name, b""))
        refused(case, doubled(request, name))


@with_signature_header
def test_headers_of_another_sender_alone_are_refused(case: Case) -> None:
    request, source = case.request(), case.source()
    for scheme, other in OTHERS.items():
        if other.sensitive_headers != source.sensitive_headers:
            body = b"" if scheme in FORMS else request.body
            with pytest.raises(SignatureError):
                source.verify(replace(request, headers=Headers(other.sign(body, NOW))), NOW)


@with_signature_header
@each(
    "change",
    [
        lambda value: value[:-1],
        lambda value: value[:-2],
        lambda value: value + b"0",
        lambda value: value + b"=",
        lambda value: value + b" ",
        lambda value: b" " + value,
        lambda value: value + b"\0",
        lambda value: value[:-4] + b"\xff\xfe\x80\x81",
        lambda value: b"\x00" * len(value),
        lambda value: b"a" * 10_000,
        lambda value: value * 2,
        lambda value: value.swapcase(),
        lambda value: b"sha1=" + value,
        lambda value: b"v9," + value,
        lambda value: (
            value.replace(b"v1=", b"v2=").replace(b"v1,", b"v2,").replace(b"v0=", b"v1=").replace(b"sha256=", b"")
            + b"!"
        ),
    ],
)
def test_a_changed_signature_is_refused(case: Case, change: Any) -> None:
    request = case.request()
    name = signed_header(case)
    value = request.headers.one(name)
    assert value is not None
    changed = change(value)
    scheme = row(case)
    if (
        scheme is not None
        and scheme.split
        and set(value.split(scheme.split.encode())) <= set(changed.split(scheme.split.encode()))
    ):
        return  # in a list of signatures, others beside the right one do no harm
    refused(case, with_header(request, name, changed))


@with_signature_header
def test_the_right_mac_in_another_encoding_is_refused(case: Case) -> None:
    scheme = row(case)
    encoding = "hex" if scheme is None else scheme.encoding
    if case.scheme in TOKENS:
        return
    request = case.request()
    name = signed_header(case)
    value = request.headers.one(name) or b""
    prefix = value[: len(value) - _mac_length(case)]
    mac = value[len(prefix) :]
    other = base64.b64encode(binascii.unhexlify(mac)) if encoding == "hex" else binascii.hexlify(base64.b64decode(mac))
    refused(case, with_header(request, name, prefix + other))


def _mac_length(case: Case) -> int:
    """Characters of the bare signature at the end of the header."""
    scheme = row(case)
    if scheme is not None and scheme.algorithm == "ecdsa-sha256":
        return len(case.request().headers.one(signed_header(case)) or b"")
    size = {"hmac-sha1": 20, "ed25519": 64}.get("hmac-sha256" if scheme is None else scheme.algorithm, 32)
    return 2 * size if scheme is None or scheme.encoding == "hex" else 4 * ((size + 2) // 3)


@computed
def test_a_changed_body_is_refused(case: Case) -> None:
    request = case.request()
    if case.source().signs_whole_body:
        form = request.body[:1] not in (b"{", b"[")
        for body in (
            request.body + (b"&x=1" if form else b" "),
            request.body[:-1],
            b"",
            request.body.replace(b"a", b"b", 1),
            b"\xef\xbb\xbf" + request.body,
        ):
            refused(case, replace(request, body=body))
    else:
        assert case.settings["accept_unsigned_body"]


@computed
def test_the_signature_is_over_bytes_and_never_over_a_reading_of_them(case: Case) -> None:
    """The same JSON with other spaces and escapes is another body."""
    request = case.request()
    if case.source().signs_whole_body and request.body[:1] in (b"{", b"["):
        written_again = json.dumps(json.loads(request.body), indent=2).encode()
        assert written_again != request.body
        refused(case, replace(request, body=written_again))


@with_signature_header
def test_bodies_that_are_not_utf8_are_verified_before_anything_is_decoded(case: Case) -> None:
    if case.scheme in FORMS:  # signs the form's fields, so a body that is no form is not covered
        refused(case, replace(case.request(), body=b"\xff\xfe"))
        return
    source = case.source()
    for body in (b"\xff\xfe\x00", b"", b"[" * 100_000, b"{" + b"9" * 10_000):
        if case.scheme == "linear":  # the signed time stands in the body: without it, nothing is fresh
            continue
        request = InboundRequest(Headers(source.sign(body, NOW)), body)
        assert source.verify(request, NOW).label == "first"
        with pytest.raises(Malformed) as caught:
            source.parse(request)
        assert caught.value.kind == "unparseable" or (case.scheme in ("slack", "github") and not body)  # an empty form


# -- times -------------------------------------------------------------------------------------------------


@each("case", timed)
def test_a_time_is_judged_to_the_second_in_both_directions(case: Case) -> None:
    source = case.source()
    past = source.row.tolerance if isinstance(source, DeclaredSource) else timedelta(days=30)
    ahead = source.row.tolerance_ahead if isinstance(source, DeclaredSource) else timedelta(seconds=300)
    request = case.request()
    second = timedelta(seconds=1)
    assert source.verify(request, NOW + past).label == "first"
    assert source.verify(request, NOW - ahead).label == "first"
    assert " old" in refused(case, request, NOW + past + second)
    assert "ahead of our clock" in refused(case, request, NOW - ahead - second)


@each("case", timed)
def test_the_time_is_judged_after_the_signature(case: Case) -> None:
    request = case.request()
    with pytest.raises(SignatureError, match="none of 1 secrets"):
        case.source(Secret(case.secrets[1], "other")).verify(request, NOW + timedelta(days=300))


@each("case", timed)
def test_tolerances_are_settings(case: Case) -> None:
    request = case.request()
    narrow = {"tolerance": timedelta(seconds=7), "tolerance_ahead": timedelta(seconds=3)}
    source = case.source(**narrow)
    assert source.verify(request, NOW + timedelta(seconds=7)).label == "first"
    assert source.verify(request, NOW - timedelta(seconds=3)).label == "first"
    for age in (8, -4):
        with pytest.raises(SignatureError):
            source.verify(request, NOW + timedelta(seconds=age))


ODD_TIMES = [
    b"+773151512",
    b" 1773151512",
    b"1773151512 ",
    b"1_73151512",
    b"1773151512.0",
    b"1.77315e+9",
    b"nan",
    b"inf",
    b"-1",
    b"0x69b02858",
    "١٧٧٣١٥١٥١٢".encode(),
    b"9" * 5000,
    b"",
    b"177315151",
    b"2026-03-10",
    b"2026-13-10T14:05:12Z",
    b"2026-03-10T14:05:12",
    b"2026-03-10 14:05:12Z",
    b"\xff\xfe",
]


@each("case", timed)
@each("time", ODD_TIMES)
def test_a_time_of_another_shape_is_refused_even_when_signed(case: Case, time: bytes) -> None:
    """Signed anew with the odd time, so that only its shape can be the reason."""
    source = case.source()
    if isinstance(source, CloseSource):
        body = b"{}"
        mac = hmac.digest(bytes.fromhex(case.secrets[0]), time + body, "sha256").hex().encode("ascii")
        refused(case, InboundRequest(Headers({"close-sig-hash": mac, "close-sig-timestamp": time}), body))
        return
    assert isinstance(source, DeclaredSource)
    if source.row.is_in_body or not source.row.timestamp.startswith(("@", "part:")):
        return  # below: times in bodies
    request = case.request()
    name = signed_header(case)
    entry = source.signing_key.sign(source.signed_text(request, time))
    if source.row.timestamp.startswith("part:"):
        value = source.row.timestamp.removeprefix("part:").encode() + time + source.row.split.encode() + entry
        reason = refused(case, with_header(request, name, value))
    else:
        changed = with_header(with_header(request, name, entry), source.row.timestamp[1:], time)
        reason = refused(case, changed)
    assert "timestamp" in reason


@each("scheme", ["linear", "mailgun"])
@each("time", [None, "", True, 1.5, [], {}, "now", "1773151512.0", -1, 10**400])
def test_a_signed_time_in_the_body_of_another_shape_is_refused(scheme: str, time: Any) -> None:
    case = next(case for case in CASES if case.scheme == scheme)
    source = case.source()
    if scheme == "linear":
        body = json.dumps({"type": "Issue", "webhookTimestamp": time}).encode()
        request = InboundRequest(Headers(source.sign(body, NOW)), body)
    else:
        whole = json.loads(case.request().body)
        whole["signature"]["timestamp"] = time
        request = InboundRequest(Headers({}), json.dumps(whole).encode())
    refused(case, request)


# -- several signatures ------------------------------------------------------------------------------------

rotating = [case for case in CASES if case.scheme in ("standard", "svix", "stripe", "paddle")]


@each("case", rotating)
def test_one_right_signature_among_wrong_and_broken_ones_is_enough(case: Case) -> None:
    source = case.source()
    assert isinstance(source, DeclaredSource)
    request = case.request()
    name, split = signed_header(case), source.row.split.encode()
    value = request.headers.one(name) or b""
    for noise in (b"", b"junk", source.row.prefix.encode(), source.row.prefix.encode() + b"AAAA", b"\xff=,", b"v7=1"):
        assert source.verify(with_header(request, name, value + split + noise), NOW).label == "first"
        if not source.row.timestamp.startswith("part:"):
            assert source.verify(with_header(request, name, noise + split + value), NOW).label == "first"


@each("case", rotating)
def test_no_more_than_twenty_signatures_are_looked_at(case: Case) -> None:
    source = case.source()
    assert isinstance(source, DeclaredSource)
    request = case.request()
    name, split = signed_header(case), source.row.split.encode()
    parts = (request.headers.one(name) or b"").split(split)
    wrong = source.row.prefix.encode() + b"0" * 64
    head, right = parts[:-1], parts[-1]
    fits = split.join([*head, *[wrong] * (19 - len(head)), right])
    too_many = split.join([*head, *[wrong] * (20 - len(head)), right])
    assert source.verify(with_header(request, name, fits), NOW).label == "first"
    refused(case, with_header(request, name, too_many))


@each("scheme", ["stripe", "paddle"])
def test_two_times_in_one_header_are_refused(scheme: str) -> None:
    case = next(case for case in CASES if case.scheme == scheme)
    source = case.source()
    assert isinstance(source, DeclaredSource)
    request = case.request()
    name = signed_header(case)
    value = request.headers.one(name) or b""
    part = value.split(source.row.split.encode())[0]
    assert "not one" in refused(case, with_header(request, name, value + source.row.split.encode() + part))


@each("scheme", ["standard", "svix"])
@each("identifier", [b"a.b", b"a b", b"a\tb", b"a\x7f", b"\xc3\xa9", b"x" * 257, b"."])
def test_an_id_that_could_run_into_the_signed_text_is_refused(scheme: str, identifier: bytes) -> None:
    case = next(case for case in CASES if case.scheme == scheme)
    source = case.source()
    assert isinstance(source, DeclaredSource)
    request = case.request()
    stamp = request.headers.one(f"{'webhook' if scheme == 'standard' else 'svix'}-timestamp") or b""
    header = source.row.id[0][2:-1]
    entry = source.signing_key.sign(identifier + b"." + stamp + b"." + request.body)
    forged = with_header(with_header(request, header, identifier), signed_header(case), entry)
    assert header in refused(case, forged)


# -- urls and forms ----------------------------------------------------------------------------------------


@each("scheme", ["twilio", "square", "hubspot"])
def test_only_the_configured_address_counts(scheme: str) -> None:
    case = next(case for case in CASES if case.scheme == scheme)
    request = case.request()
    lies = Headers([*request.headers.items(), ("host", "evil.example"), ("x-forwarded-host", "evil.example")])
    assert case.source().verify(replace(request, headers=lies), NOW).label == "first"
    with pytest.raises(SignatureError):
        case.source(public_url="https://evil.example/webhooks/it").verify(request, NOW)
    refused(case, replace(request, query=b"added=1"))


@each("scheme", ["twilio", "square", "hubspot"])
def test_a_scheme_that_signs_the_address_needs_it(scheme: str) -> None:
    case = next(case for case in CASES if case.scheme == scheme)
    with pytest.raises(ConfigurationError, match="set public_url"):
        case.source(public_url="")


def test_the_method_is_signed_by_hubspot() -> None:
    case = next(case for case in CASES if case.scheme == "hubspot")
    refused(case, replace(case.request(), method="PUT"))


@each("body", [b"a", b"a=1&", b"&a=1", b"a=1&&b=2", b"=1", b"a=\xff", b'{"a":1}', b"a=1&b"])
def test_a_body_that_twilio_does_not_sign_is_refused(body: bytes) -> None:
    case = next(case for case in CASES if case.scheme == "twilio")
    request = InboundRequest(Headers(case.source().sign(b"", NOW)), body)
    assert "does not cover" in refused(case, request)


def test_the_order_of_a_signed_form_makes_no_second_event() -> None:
    """Whoever saw one request of Twilio could send its fields in another order; the key is made of them sorted."""
    case = next(case for case in CASES if case.scheme == "twilio")
    request = case.request()
    turned = replace(request, body=b"&".join(reversed(request.body.split(b"&"))))
    assert turned.body != request.body
    assert case.source().verify(turned, NOW).label == "first"
    assert case.source().parse(turned)[0].dedup_key == case.source().parse(request)[0].dedup_key


# -- dedup -------------------------------------------------------------------------------------------------


@every_scheme
def test_the_same_request_has_the_same_keys_and_another_body_others(case: Case) -> None:
    source = case.source()
    request = case.request()
    keys = [event.dedup_key for event in source.parse(request)]
    assert keys == [event.dedup_key for event in source.parse(request)]
    assert len(set(keys)) == len(keys)


@each("scheme", ["github", "shopify", "linear"])
def test_a_new_unsigned_id_on_the_same_body_is_bounded_and_with_dedup_body_the_same_event(scheme: str) -> None:
    case = next(case for case in CASES if case.scheme == scheme)
    source, request = case.source(), case.request()
    strict = case.source(options={**case.settings["options"], "dedup": "body"})
    assert (source.equal_bodies, strict.equal_bodies) == (20, 0)
    key = source.parse(request)[0].dedup_key
    for name in case.sample().headers:
        changed = with_header(request, name, b"something-else")
        assert source.verify(changed, NOW).label == "first"
        assert source.parse(changed)[0].dedup_key.rpartition(":")[2] == key.rpartition(":")[2]
        assert strict.parse(changed)[0].dedup_key == strict.parse(request)[0].dedup_key
    trusting = case.source(options={**case.settings["options"], "dedup": "id"})
    name = next(name for name in case.sample().headers if "delivery" in name or "id" in name)
    assert trusting.parse(with_header(request, name, b"another"))[0].dedup_key == "another"
    assert trusting.parse(request)[0].dedup_key == case.sample().headers[name]
    assert trusting.equal_bodies == 20


@every_scheme
def test_equal_bodies_are_bounded_where_a_key_is_not_signed_and_only_there(case: Case) -> None:
    assert case.source().equal_bodies == (20 if case.scheme in {*OPEN, "dropbox"} else 0)


@each("scheme", ["mailgun", "adyen", "basic", "bearer"])
def test_a_scheme_that_does_not_sign_the_body_starts_only_when_that_is_accepted(scheme: str) -> None:
    case = next(case for case in CASES if case.scheme == scheme)
    with pytest.raises(ConfigurationError, match="accept_unsigned_body = true"):
        case.source(accept_unsigned_body=False)


@each("write", [str.lower, str.upper, str.swapcase])
@each("blanks", [1, 3])
@each("name", AUTHORIZED)
def test_the_name_of_an_authentication_scheme_has_no_case_but_what_follows_it_has(
    name: str, blanks: int, write: Any
) -> None:
    case = next(case for case in CASES if case.scheme == name)
    request = case.request()
    scheme, _, credentials = (request.headers.one("authorization") or b"").decode().partition(" ")

    def authorized(value: str) -> InboundRequest:
        return with_header(request, "authorization", value.encode())

    assert case.source().verify(authorized(write(scheme) + " " * blanks + credentials), NOW).label == "first"
    refused(case, authorized(f"{scheme} {credentials.swapcase()}"))
    refused(case, authorized(f"{scheme}\t{credentials}"))
    refused(case, authorized(f"x{scheme} {credentials}"))
    refused(case, authorized(f"{scheme}{credentials}"))
    refused(case, authorized(credentials))


@each("scheme", ["mailgun", "adyen", "basic", "bearer"])
def test_the_digest_of_an_unsigned_body_joins_the_key(scheme: str) -> None:
    case = next(case for case in CASES if case.scheme == scheme)
    request = case.request()
    changed = replace(request, body=request.body.replace(b'"EUR"', b'"EUR" ').replace(b'"id":', b'"id": '))
    assert changed.body != request.body
    first, second = (case.source().parse(each)[0].dedup_key for each in (request, changed))
    assert first != second
    assert first.partition(":")[0] == second.partition(":")[0]


# -- bodies ------------------------------------------------------------------------------------------------

SHAPES: list[Any] = [None, True, 5, "text", [1], [[]], {}, {"id": None}]


@every_scheme
@each("shape", SHAPES)
def test_json_of_another_shape_is_unrecognised_or_read_with_fixed_names(case: Case, shape: Any) -> None:
    scheme = row(case)
    raw = json.dumps(shape).encode()
    fixed = [text for text in scheme.type if "{" not in text] if scheme is not None else []
    request = InboundRequest(Headers({}), raw)
    if fixed and isinstance(shape, dict):
        assert [event.type for event in case.source().parse(request)] == fixed
    else:
        with pytest.raises(Malformed):
            case.source().parse(request)


@each("scheme", ["sendgrid", "hubspot", "line", "adyen"])
def test_several_events_in_one_body_are_cut_out_exactly(scheme: str) -> None:
    case = next(case for case in CASES if case.scheme == scheme)
    items = [
        '{"id" : 1,\n "n":  1.50, "s":"\\u00e9 \\ud800 é]}", "sg_event_id":"a","event":"x","eventId":1,'
        '"subscriptionId":1,"occurredAt":1,"subscriptionType":"x","webhookEventId":"a","type":"x","pspReference":"a","eventCode":"x"}',
        '{"sg_event_id":"b","event":"y","eventId":2,"subscriptionId":1,"occurredAt":1,"subscriptionType":"y",'
        '"webhookEventId":"b","type":"y","pspReference":"b","eventCode":"y"}',
    ]
    wrapped = {
        "line": '{"destination":"x","events" : [ %s ,\t%s ] }',
        "adyen": '{"notificationItems":[{"NotificationRequestItem": %s },{"NotificationRequestItem":%s}]}',
    }.get(scheme, " [ %s , \r\n%s ]\r\n")
    events = case.source().parse(InboundRequest(Headers({}), (wrapped % tuple(items)).encode()))
    assert [event.body for event in events] == [item.encode() for item in items]
    assert [event.type for event in events] == ["x", "y"]
    assert len({event.dedup_key for event in events}) == 2


def test_lines_empty_list_is_no_event_and_no_mistake() -> None:
    case = next(case for case in CASES if case.scheme == "line")
    assert list(case.source().parse(InboundRequest(Headers({}), b'{"destination":"x","events":[]}'))) == []


@each("case", [case for case in CASES if case.scheme == "stripe"])
def test_a_doubled_id_or_type_is_ambiguous_and_a_long_one_too_long(case: Case) -> None:
    for body in (
        b'{"id":"a","\\u0069d":"b","type":"x"}',
        b'{"id":"a","type":"x","type":"y"}',
        b'{"id":"' + b"x" * 256 + b'","type":"x"}',
        b'{"id":"a","type":"' + b"x" * 256 + b'"}',
        b'{"id":"a\\u0000","type":"x"}',
        b'{"id":"\\ud800","type":"x"}',
    ):
        with pytest.raises(Malformed) as caught:
            case.source().parse(InboundRequest(Headers({}), body))
        assert caught.value.kind == "unrecognised"
    (event,) = case.source().parse(InboundRequest(Headers({}), b'{"id":"' + b"x" * 255 + b'","type":"x"}'))
    assert len(event.dedup_key) == 255


# -- properties --------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
bodies = st.binary() | json_values.map(lambda value: json.dumps(value).encode())


@every_scheme
@settings(max_examples=examples(60, 10), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_header_and_no_body_raises_anything_but_our_refusals(case: Case, data: st.DataObject) -> None:
    source = case.source()
    names = [*needed_headers(case), *case.sample().headers, signed_header(case) if case in in_headers else "x"]
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(names), st.binary()), max_size=6))
    body = data.draw(bodies)
    request = InboundRequest(Headers(pairs), body, query=data.draw(st.binary(max_size=20)))
    with pytest.raises(SignatureError):
        source.verify(request, NOW)
    assert isinstance(source.diagnose(request, NOW), str)
    parse_or_refuse(source, request)


@every_scheme
@settings(max_examples=examples(60, 10), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_signed_request_with_one_byte_changed_is_refused_or_the_same_event(case: Case, data: st.DataObject) -> None:
    source = case.source()
    request = case.request()
    where = data.draw(st.integers(0, len(request.body) - 1))
    byte = data.draw(st.integers(0, 255))
    body = request.body[:where] + bytes([byte]) + request.body[where + 1 :]
    changed = replace(request, body=body)
    try:
        source.verify(changed, NOW)
    except SignatureError:
        return
    if source.signs_whole_body and case.scheme not in TOKENS and body != request.body:
        # only a form can be written in two ways: + and %20 are one space
        assert case.scheme in FORMS
        assert source.parse(changed)[0].dedup_key == source.parse(request)[0].dedup_key


@every_scheme
@settings(max_examples=examples(60, 10), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(raw=bodies, kind=st.text())
def test_read_raises_nothing(case: Case, raw: bytes, kind: str) -> None:
    assert isinstance(case.source().read(raw, kind), Content)


@every_scheme
@settings(max_examples=examples(60, 10), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_body_that_the_sender_signs_verifies(case: Case, data: st.DataObject) -> None:
    if case.scheme in {"linear", *FORMS, *IN_BODY}:
        return  # forms, and bodies that carry time or signature
    source = case.source()
    body = data.draw(bodies)
    request = InboundRequest(Headers(source.sign(body, NOW)), body)
    assert source.verify(request, NOW).label == "first"
    parse_or_refuse(source, request)


def parse_or_refuse(source: Any, request: InboundRequest) -> None:
    try:
        events = source.parse(request)
    except Malformed:
        events = []
    for event in events:
        assert isinstance(event, ParsedEvent)
        event.dedup_key.encode("utf-8")
        assert isinstance(source.read(event.body, event.type), Content)
    with contextlib.suppress(Rejected):
        source.challenge(request, NOW)


# -- the source code itself --------------------------------------------------------------------------------


def test_signatures_are_compared_in_constant_time_only() -> None:
    """No `==` or `in` between bytes in the verifying modules: every comparison goes through `compare_digest`."""
    from webhooks.sources.close import signature
    from webhooks.sources.declared import handshakes, parse, proof
    from webhooks.sources.declared import source as declared
    from webhooks.sources.keys import keys

    suspicious = {"expected", "given", "entry", "token", "mac", "digest", "signature", "_digest", "wanted"}
    for module in (webhooks.sources.signing, declared, proof, parse, handshakes, keys, signature):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn):
                names = {
                    each.id if isinstance(each, ast.Name) else each.attr if isinstance(each, ast.Attribute) else ""
                    for each in (node.left, *node.comparators)
                }
                assert not names & suspicious, f"{module.__name__}:{node.lineno} compares {names & suspicious}"
    assert "hmac.compare_digest" in inspect.getsource(webhooks.sources.signing.is_equal)


def test_no_source_imports_what_lies_above_it() -> None:
    for path in Path(webhooks.sources.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        for above in (
            "webhooks.store",
            "webhooks.intake",
            "webhooks.http",
            "flask",
            "sqlalchemy",
            "webhooks.routing",
        ):
            assert f"import {above}" not in text
            assert f"from {above}" not in text


def test_every_row_of_the_table_is_in_order() -> None:
    for name, scheme in SCHEMES.items():
        if scheme.name != "custom":
            assert problems(scheme) == [], name
            assert scheme.documentation.startswith("https://"), name
            assert scheme.title, name
