"""Senders described in `webhooks.toml`: what can be said, and that every mistake is told at once, before the start."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import each
from tests.unit.sources.cases import NOW
from webhooks.errors import ConfigurationError, SignatureError, StorageUnavailable
from webhooks.model import Headers, InboundRequest
from webhooks.sources import Secret, Source, SourceSettings, make_source
from webhooks.sources.declared.scheme import Scheme
from webhooks.sources.declared.schemes import SCHEMES

SECRET = "acme-4f9d0c7be2a1483f"
ACME = """
scheme = "custom"
signature = "@X-Acme-Signature"
split = ","
prefix = "v2="
timestamp = "part:at="
timestamp_format = "milliseconds"
signed = "{timestamp}|{body}"
algorithm = "hmac-sha512"
encoding = "base64url"
id = "{event.id}"
type = ["{event.kind}.{event.verb}", "{event.kind}"]
occurred_at = "{event.at}"
object_id = "{event.order.number}"
data = "event.order"
previous = "event.before"
"""


def custom(text: str = ACME, *, secret: str = SECRET, **settings: Any) -> Source:
    options = tomllib.loads(text)
    scheme = options.pop("scheme", "custom")
    return make_source(SourceSettings("acme", scheme, [Secret(secret)], options=options, **settings))


def problems(text: str, **settings: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        custom(text, **settings)
    assert all(problem.startswith("source 'acme': ") for problem in caught.value.problems)
    assert SECRET not in str(caught.value)
    return [problem.removeprefix("source 'acme': ") for problem in caught.value.problems]


def test_a_described_sender_is_verified_and_read() -> None:
    body = (
        b'{"event":{"id":7,"kind":"order","verb":"paid","at":"2026-03-10T14:05:12Z",'
        b'"order":{"number":"N-1"},"before":{"x":1}}}'
    )
    mac = hmac.new(SECRET.encode(), b"1773151512000|" + body, hashlib.sha512).digest()
    header = f"at=1773151512000,v1=old,v2={base64.urlsafe_b64encode(mac).decode()}"
    source = custom()
    request = InboundRequest(Headers({"x-acme-signature": header}), body)
    assert source.verify(request, NOW).label == "1"
    (event,) = source.parse(request)
    assert (event.dedup_key, event.type, event.ordering) == ("7", "order.paid", {"object_id": "N-1"})
    assert event.occurred_at == NOW
    content = source.read(event.body, event.type)
    assert (content.data, content.previous, content.changed_fields) == ({"number": "N-1"}, {"x": 1}, ("x",))
    assert (content.object_type, content.action, content.object_id) == ("order", "paid", "N-1")
    with pytest.raises(SignatureError, match="old"):
        source.verify(request, NOW + timedelta(seconds=301))


def test_the_alias_hmac_is_the_same() -> None:
    assert SCHEMES["hmac"] is SCHEMES["custom"]
    source = custom('scheme = "hmac"\nsignature = "@x-signature"')
    body = b'{"type":"a.b"}'
    request = InboundRequest(Headers(source.sign(body, NOW)), body)
    assert source.verify(request, NOW).label == "1"
    assert source.parse(request)[0].dedup_key == "sha256:" + hashlib.sha256(body).hexdigest()


def test_every_mistake_is_told_at_once() -> None:
    found = problems(
        """
        signatur = "@x-sig"
        algorithm = "md4"
        encoding = "hexx"
        secret_encodin = "text"
        signed = "{timestamp}.{body"
        timestamp_format = "minutes"
        items = "a b"
        data = "{x}"
        require = ["x"]
        min_secret_bytes = "8"
        split = 5
        dedup = "sometimes"
        """
    )
    text = "\n".join(found)
    for part in (
        "unknown option 'signatur' for scheme 'custom' (did you mean 'signature'?)",
        "unknown option 'secret_encodin'",
        "algorithm is 'md4'; it must be one of hmac-sha256",
        "encoding is 'hexx'",
        "timestamp_format is 'minutes'",
        "signature is missing; name the header that carries it, such as '@x-acme-signature'",
        "whose braces do not match",
        "items is 'a b'",
        "data is '{x}', which is not a path",
        "require must be a table",
        "min_secret_bytes must be a whole number",
        "split must be text",
        "dedup is 'sometimes'; it must be one of id, body, both, none",
    ):
        assert part in text, part


HEAD = 'signature = "@x-sig"\n'


@each(
    ("text", "says"),
    [
        ('signature = "x sig"', "it must be '@' and a header, or a path"),
        ('signature = "@x sig"', "after the @ a header's name in lower case must follow"),
        ('signature = ["@x-sig", "sig.value"]', "headers and fields of the body; it must be one kind"),
        ("signature = 5", "signature must be text or a list of texts"),
        (HEAD + 'signed = "{timestamp}.{body}"', "timestamp does not say where that stands"),
        (HEAD + 'timestamp = "@x-time"', "a header that is not signed"),
        (HEAD + 'split = ","\ntimestamp = "part:t="', "a header that is not signed"),
        (HEAD + 'timestamp = "part:t="\nsigned = "{timestamp}{body}"', "which needs split and a beginning"),
        (HEAD + 'signed = "{id}.{body}"', "id must be exactly one header"),
        (HEAD + 'signed = "{id}.{body}"\nid = "{event.id}"', "id must be exactly one header"),
        (HEAD + 'signed = "{id}{body}"\nid = "{@x-id}"', "with nothing between"),
        (HEAD + 'signed = "nothing"', "holds nothing of the request"),
        (HEAD + 'signed = "{@x other}{body}"', "after the @ a header's name in lower case must follow"),
        ('signature = "@api_key"', "servers drop headers whose name holds '_'"),
        ('signature = "query:"', "after 'query:' a parameter's name must follow"),
        ('signature = "query:a"\nalgorithm = "token"', "accept_unsigned_body = true"),
        (HEAD + 'type = "{key:}"', "after 'key:' names must follow"),
        (HEAD + 'algorithm = "md5"', "signed must hold {secret}; for an HMAC set algorithm = 'hmac-md5'"),
        (HEAD + 'signed = "{secret}{body}"', "which is for plain digests"),
        (HEAD + 'algorithm = "sha256"\nsigned = "{secret}"', "holds nothing of the request"),
        (HEAD + 'body = "raw"\nitems = "events"', "nothing in them can be named"),
        (HEAD + 'body = "raw"', "type and id are fixed, headers, or parameters (query:…), not {type}"),
        (HEAD + "around = true", "there are no items"),
        (HEAD + 'around = true\nitems = "a.*.b"\nunwrap = "c"', "leave out unwrap and decode"),
        (HEAD + 'around = "yes"', "around must be true or false"),
        (HEAD + 'charset = "klingon"', "charset is 'klingon'; it must be one of utf-8"),
        (HEAD + "decode = { payload = 'yaml' }", "one of json, base64, base64-json"),
        (HEAD + 'decode = "payload"', "decode must be a table"),
        (HEAD + 'url_forms = "slash"', "must be of port, decoded"),
        ('signature = "sig.value"\nitems = ["a", "b"]', "items must be one list"),
        ('signature = "sig"\nbody = "raw"\ntype = "x"', "body = 'raw' has none"),
        (HEAD + 'dedup_for = "0s"', "dedup_for must be more than 0 s"),
        (HEAD + 'dedup_for = "soon"', "dedup_for is 'soon'"),
        (HEAD + "equal_bodies = 0", "from 1 to 100000"),
        (HEAD + 'leave_out = "{x}"', "which is not a path"),
        (HEAD + 'signed = "{token}{body}"', "a field of the body, but the signature stands in a header"),
        ('signature = "sig.value"\nsigned = "{body}"', "the signature stands in the body itself"),
        (HEAD + "type = []", "type is missing"),
        (HEAD + 'type = "{a b}"', "it must be '@' and a header, or a path"),
        (HEAD + '[require]\n"X y" = "1"', "require names 'x y'"),
        (HEAD + "min_secret_bytes = 0", "at least 1"),
        (HEAD + 'signing_key = "x"', "signing_key is for schemes with public keys"),
        (HEAD + 'verify_token = "x"', "unknown option 'verify_token'"),
        (HEAD + 'signed = "{url}{body}"', "set public_url"),
        (HEAD + 'signed = "{timestamp}"\ntimestamp = "@x-time"', "accept_unsigned_body = true"),
        (HEAD + 'algorithm = "token"', "accept_unsigned_body = true"),
        (HEAD + 'algorithm = "ed25519"\nsecret_encoding = "hex"', "is not hex"),
        (HEAD + 'algorithm = "ed25519"\nsecret_encoding = "text"', "must be 32 bytes"),
        (HEAD + 'algorithm = "ecdsa-sha256"', "is not a key in DER"),
        (HEAD + "min_secret_bytes = 100", "too short: it has 21 bytes, and 100 are the least"),
    ],
)
def test_a_mistake_says_what_to_do(text: str, says: str) -> None:
    assert says in "\n".join(problems(text))


def test_a_shipped_scheme_may_be_read_otherwise_but_not_verified_otherwise() -> None:
    source = custom('scheme = "standard"\ntype = "event"\ndata = "x"', secret="whsec_" + "QUJDREVGR0hJ" * 4)
    body = b'{"test": 2432232314}'
    assert source.parse(InboundRequest(Headers({**source.sign(body, NOW)}), body))[0].type == "event"
    assert "unknown option 'signed' for scheme 'stripe'" in problems('scheme = "stripe"\nsigned = "{body}"')[0]


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("", "is blank"),
        (" \t", "is blank"),
        ("5h0rt-0ne", "too short"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "fewer than 5 different characters"),
        ("It's a Secret to Everybody", "printed in a vendor's documents"),
        (" It's a Secret to Everybody\n", "printed in a vendor's documents"),
    ],
)
def test_a_weak_secret_does_not_start(secret: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        custom(HEAD, secret=secret)
    assert not secret.strip() or secret.strip() not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "secret", "says"),
    [
        ("standard", "whsec_not base64!", "is not base64"),
        ("standard", "whsec_QUJDREVGRw==", "too short: it has 7 bytes"),
        ("standard", "whpk_AAAA", "must be 32 bytes, but has 3"),
        ("adyen-platform", "gh12xy" * 11, "is not hex"),
        ("adyen-platform", "a1b2c3d4e5" * 3, "too short: it has 15 bytes"),
        ("discord", "ab" * 31, "must be 32 bytes, but has 31"),
        ("sendgrid", "AAAA", "is not a key in DER"),
        ("basic", "no-colon-in-this-one", "must be 'user:password'"),
        ("basic", "user:short", "password must have at least 16"),
    ],
)
def test_a_secret_that_cannot_be_decoded_does_not_start(scheme: str, secret: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        make_source(SourceSettings("it", scheme, [Secret(secret, "mine")], accept_unsigned_body=True))
    assert "secret 'mine'" in str(caught.value)
    assert secret not in str(caught.value)


def test_a_row_of_another_distribution_is_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    from webhooks.sources.declared import schemes

    class EntryPoint:
        name = "theirs"

        @staticmethod
        def load() -> Any:
            return Scheme(name="theirs", signature=("@x-theirs",))

    class Broken(EntryPoint):
        name = "broken"

        @staticmethod
        def load() -> Any:
            raise ImportError("no module named 'theirs'")

    monkeypatch.setattr(schemes, "_foreign", lambda: {"theirs": EntryPoint, "broken": Broken})
    source = make_source(SourceSettings("it", "theirs", [Secret(SECRET)]))
    body = json.dumps({"type": "x"}).encode()
    assert source.verify(InboundRequest(Headers(source.sign(body, NOW)), body), NOW).label == "1"
    with pytest.raises(ConfigurationError, match=r"'broken' cannot be loaded \(ImportError"):
        make_source(SourceSettings("it", "broken", [Secret(SECRET)]))


def test_a_secret_added_to_the_file_works_for_the_request_that_needs_it(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(json.dumps({"old": "another-secret-0123456789"}))
    source = make_source(SourceSettings("acme", "custom", secret_file=file, options={"signature": "@x-sig"}))
    body = b'{"type":"x"}'
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    request = InboundRequest(Headers({"x-sig": mac}), body)
    with pytest.raises(SignatureError):
        source.verify(request, NOW)
    new = tmp_path / "new"
    new.write_text(json.dumps({"old": "another-secret-0123456789", "new": SECRET}))
    new.replace(file)
    assert source.verify(request, NOW).label == "new"


class Tenants:
    """Looks secrets up by a header, as a service with many tenants does."""

    def __init__(self) -> None:
        self.secrets = {b"north": [Secret(SECRET, "north")], b"weak": [Secret("x", "weak")]}

    def __call__(self, request: InboundRequest) -> list[Secret]:
        return self.secrets[request.headers.one("x-tenant") or b""]


def tenant_request(tenant: str) -> InboundRequest:
    body = b'{"type":"x"}'
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return InboundRequest(Headers({"x-sig": mac, "x-tenant": tenant}), body)


def test_secrets_may_be_looked_up_for_each_request(caplog: pytest.LogCaptureFixture) -> None:
    options = {"signature": "@x-sig", "secrets_from": Tenants()}
    source = make_source(SourceSettings("acme", "custom", options=options))
    assert source.verify(tenant_request("north"), NOW).label == "north"
    with pytest.raises(SignatureError):
        source.verify(tenant_request("weak"), NOW)
    assert "secret 'weak' of secrets_from is" in caplog.text
    with pytest.raises(StorageUnavailable, match="KeyError"):
        source.verify(tenant_request("nobody"), NOW)
    with pytest.raises(ConfigurationError, match="cannot sign"):
        source.sign(b"", NOW)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("no_colon", "must be 'module:function'"),
        (5, "must be 'module:function'"),
        ("no_such_module_at_all:f", "cannot be loaded"),
        ("json:no_such_name", "cannot be loaded"),
        ("json:__name__", "is not a function"),
    ],
)
def test_a_lookup_that_cannot_be_loaded_does_not_start(given: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make_source(SourceSettings("acme", "custom", options={"signature": "@x-sig", "secrets_from": given}))
    with pytest.raises(ConfigurationError, match=says):
        make_source(SourceSettings("acme", "close", options={"secrets_from": given}))


@pytest.mark.parametrize("written", ["HMAC-SHA256", "hmac-sha256", "Hmac-Sha256"])
def test_a_signature_behind_the_name_of_an_authentication_scheme_is_found_whatever_its_case(written: str) -> None:
    source = custom('signature = "@authorization"\nprefix = "HMAC-SHA256 "\nid = "{id}"')
    body = b'{"id": 1, "type": "a"}'
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = Headers({"authorization": f"{written} {mac}"})
    assert source.verify(InboundRequest(headers, body), NOW).label


def test_a_header_that_must_be_so_has_a_scheme_without_case() -> None:
    source = custom(
        'signature = "@x-sig"\nid = "{id}"\n[require]\nauthorization = "Token abc-DEF"\nx-kind = "Token abc"'
    )
    body = b'{"id": 1, "type": "a"}'
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()

    def verify(authorization: str, kind: str = "Token abc") -> str:
        headers = Headers({"x-sig": mac, "authorization": authorization, "x-kind": kind})
        return source.verify(InboundRequest(headers, body), NOW).label

    assert verify("token abc-DEF")
    for authorization, kind in (("Token abc-def", "Token abc"), ("Token abc-DEF", "token abc")):
        with pytest.raises(SignatureError):
            verify(authorization, kind)


def test_settings_know_the_schemes_that_need_no_secret() -> None:
    from tests.unit.sources.cases import PUBLISHED_KEYS
    from webhooks.settings.sources import KEYLESS

    assert KEYLESS == PUBLISHED_KEYS
