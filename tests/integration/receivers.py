"""What senders do, as small cases: a source's configuration, requests signed here by other means than ours, what they get."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

KEY = "tf-9c41d07be8a35f62c0"
HOST = "https://in.example.org/webhooks/it"
#: The time at which all of it happens, in seconds: that of the fixture.
AT = 1773151512


@dataclass(frozen=True)
class Sent:
    """One request and its answer. answers: (status of an event, …) as the JSON has them. types: of what was newly stored."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    answers: Sequence[str] | None = None
    types: Sequence[str] = ()
    method: str = "POST"
    query: str = ""
    text: str | None = None
    content_type: str | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """One habit of senders. source: the section `[sources.it]`."""

    name: str
    source: Mapping[str, Any]
    sent: Sequence[Sent]


def mac(message: bytes, digest: str = "sha256", key: str | bytes = KEY) -> bytes:
    return hmac.new(key.encode() if isinstance(key, str) else key, message, digest).digest()


def hexed(message: bytes, digest: str = "sha256") -> str:
    return mac(message, digest).hex()


def b64(message: bytes, digest: str = "sha256") -> str:
    return base64.b64encode(mac(message, digest)).decode()


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def signed(value: Any, *types: str, answers: Sequence[str] | None = ("stored",), **more: Any) -> Sent:
    """JSON (or bytes) signed as `@x-sig` says."""
    body = value if isinstance(value, bytes) else dumped(value)
    headers = {"x-sig": hexed(body), **more.pop("headers", {})}
    return Sent(body, headers, answers=answers, types=types, **more)


def custom(**options: Any) -> dict[str, Any]:
    return {"scheme": "custom", "secret": KEY, "signature": "@x-sig", **options}


META = {
    "object": "whatsapp_business_account",
    "entry": [
        {
            "id": "10",
            "changes": [
                {
                    "field": "messages",
                    "value": {
                        "metadata": {"phone_number_id": "7"},
                        "messages": [{"id": "wamid.1", "type": "text"}, {"id": "wamid.2", "type": "image"}],
                    },
                },
                {"field": "message_template_status_update", "value": {"event": "APPROVED"}},
            ],
        },
        {"id": "11", "changes": [{"field": "account_update", "value": {}}]},
    ],
}

FORM = "application/x-www-form-urlencoded"


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


def _meta(value: Any, *types: str, **more: Any) -> Sent:
    body = dumped(value)
    return Sent(body, {"x-hub-signature-256": "sha256=" + hexed(body)}, types=types, **more)


_MULTIPART = (
    b'--b7\r\nContent-Disposition: form-data; name="timestamp"\r\n\r\n%d\r\n'
    b'--b7\r\nContent-Disposition: form-data; name="token"\r\n\r\nabc\r\n'
    b'--b7\r\nContent-Disposition: form-data; name="signature"\r\n\r\n%s\r\n'
    b'--b7\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n\x00\xff\r\n--b7--\r\n'
) % (AT, hexed(b"%dabc" % AT).encode())


READING = (
    Kind(
        "one item without an id does not take its batch along",
        custom(items=".", id="{event_id}", type="{event}"),
        [
            signed(
                [{"event_id": "1", "event": "delivered"}, {"event": "bounce"}, {"event_id": "3", "event": "open"}],
                "delivered",
                "open",
                answers=("stored", "quarantined", "stored"),
            )
        ],
    ),
    Kind(
        "an id that some items lack has a second way",
        custom(items=".", id=["{event_id}", "{email}:{event}:{at}"], type="{event}"),
        [
            signed(
                [{"event_id": "1", "event": "open"}, {"email": "a@x", "event": "unsubscribe", "at": 7}],
                "open",
                "unsubscribe",
                answers=("stored", "stored"),
            )
        ],
    ),
    Kind(
        "lists within lists, each event with what stands around it",
        {"scheme": "meta", "secret": KEY, "verify_token": "vt-1"},
        [
            _meta(
                META,
                "whatsapp_business_account.messages",
                "whatsapp_business_account.messages",
                "whatsapp_business_account.message_template_status_update",
                "whatsapp_business_account.account_update",
                answers=("stored",) * 4,
            )
        ],
    ),
    Kind(
        "lists within lists, the inner elements alone",
        custom(items="notifications.*.entities", id="{id}:{at}", type="{name}.{operation}"),
        [
            signed(
                {
                    "notifications": [
                        {"entities": [{"id": "1", "at": 1, "name": "invoice", "operation": "create"}]},
                        {"entities": [{"id": "2", "at": 1, "name": "bill", "operation": "update"}]},
                    ]
                },
                "invoice.create",
                "bill.update",
                answers=("stored", "stored"),
            )
        ],
    ),
    Kind(
        "a list of events in a field of a form",
        {
            **custom(algorithm="hmac-sha1", encoding="base64", signed="{url}{form}", body="form", public_url=HOST),
            **{"decode": {"events": "json"}, "items": "events", "id": "{_id}", "type": "{event}"},
        },
        [
            Sent(
                body := form(events='[{"event":"send","_id":"m1"},{"event":"open","_id":"m2"}]'),
                {
                    "x-sig": b64(
                        HOST.encode() + b'events[{"event":"send","_id":"m1"},{"event":"open","_id":"m2"}]', "sha1"
                    )
                },
                types=("send", "open"),
                answers=("stored", "stored"),
            )
        ],
    ),
    Kind(
        "a hook of GitHub in its default content type",
        {"scheme": "github", "secret": KEY},
        [
            Sent(
                body := form(payload='{"action":"opened","repository":{"full_name":"a/b"}}'),
                {
                    "content-type": FORM,
                    "x-github-event": "issues",
                    "x-github-delivery": "d-1",
                    "x-hub-signature-256": "sha256=" + hexed(body),
                },
                types=("issues.opened",),
                answers=("stored",),
            )
        ],
    ),
    Kind(
        "a message as base64 inside",
        custom(decode={"message.data": "base64-json"}, id="{message.messageId}", type="mail.{message.data.kind}"),
        [signed({"message": {"data": base64.b64encode(b'{"kind":"new"}').decode(), "messageId": "7"}}, "mail.new")],
    ),
    Kind(
        "keys that hold a dot or an at sign",
        custom(id="{id}", type='{resource."@odata.type"}', object_id='{"@id"}'),
        [signed({"id": "1", "@id": "x", "resource": {"@odata.type": "message"}}, "message")],
    ),
    Kind(
        "a type that is the name of the key that is there",
        {
            **{"scheme": "custom", "algorithm": "token", "secret": KEY, "signature": "@x-token", "dedup": "id"},
            **{"accept_unsigned_body": True, "id": "{update_id}", "type": "{key:!update_id}"},
        },
        [
            Sent(dumped({"update_id": 1, "message": {}}), {"x-token": KEY}, types=("message",)),
            Sent(dumped({"update_id": 2, "my_chat_member": {}}), {"x-token": KEY}, types=("my_chat_member",)),
            Sent(dumped({"update_id": 1, "message": {}}), {"x-token": KEY}, answers=("duplicate",)),
        ],
    ),
    Kind(
        "a token in each item is all the proof there is",
        {
            **{"scheme": "custom", "algorithm": "token", "secret": KEY, "signature": "clientState", "dedup": "both"},
            **{"accept_unsigned_body": True, "items": "value", "id": ["{id}", "{s}:{r}"], "type": "graph.{c}"},
        },
        [
            Sent(dumped({"value": [{"clientState": KEY, "id": "n1", "c": "created"}]}), types=("graph.created",)),
            Sent(
                dumped({"value": [{"clientState": KEY, "s": "1", "r": "me", "c": "updated"}]}), types=("graph.updated",)
            ),
            Sent(dumped({"value": [{"clientState": KEY, "id": "n2", "c": "x"}, {"id": "n3", "c": "x"}]}), status=401),
            Sent(dumped({"value": [{"clientState": "x" * 24, "id": "n1", "c": "created"}]}), status=401),
        ],
    ),
    Kind(
        "an empty list is no duplicate",
        custom(items="events", id="{id}"),
        [signed({"events": []}, answers=("empty",))],
    ),
)

BODIES = (
    Kind(
        "XML, empty and binary bodies are events as they are",
        custom(body="raw", type="feed"),
        [
            signed(b"<feed><entry/></feed>", "feed"),
            signed(b"", "feed"),
            signed(b"\x00\xff\xfe", "feed"),
            signed(b"<feed><entry/></feed>", answers=("duplicate",)),
        ],
    ),
    Kind(
        "a notification that is all headers",
        {
            **{"scheme": "custom", "algorithm": "token", "secret": KEY, "signature": "@x-goog-channel-token"},
            **{"accept_unsigned_body": True, "body": "raw", "type": "drive.{@x-goog-resource-state}"},
            **{"id": "{@x-goog-channel-id}:{@x-goog-message-number}", "dedup": "id"},
        },
        [
            Sent(
                b"",
                {
                    "x-goog-channel-token": KEY,
                    "x-goog-resource-state": "update",
                    "x-goog-channel-id": "c",
                    "x-goog-message-number": "4",
                },
                types=("drive.update",),
            )
        ],
    ),
    Kind(
        "a declared charset and a byte order mark",
        custom(charset="declared", id="{id}"),
        [
            signed(
                '{"type":"order","id":"1","name":"Zürich"}'.encode("latin-1"),
                "order",
                headers={"content-type": "application/json; charset=ISO-8859-1"},
            ),
            signed(b'\xef\xbb\xbf{"type":"order","id":"2"}', "order"),
            signed('{"type":"order","id":"3"}'.encode("utf-16"), "order"),
            signed(
                b'{"type":"order","id":"4"}', answers=("quarantined",), headers={"content-type": "a/b; charset=klingon"}
            ),
        ],
    ),
    Kind(
        "the signature is a field of a multipart form with files",
        {
            **{
                "scheme": "custom",
                "secret": KEY,
                "signature": "signature",
                "body": "multipart",
                "timestamp": "timestamp",
            },
            **{"signed": "{timestamp}{token}", "accept_unsigned_body": True, "id": "{token}", "type": "mail"},
        },
        [Sent(_MULTIPART, types=("mail",)), Sent(_MULTIPART.replace(b"abc", b"abd"), status=401)],
    ),
    Kind(
        "an inbound mail and an event of Mailgun at one address",
        {"scheme": "mailgun", "secret": KEY, "accept_unsigned_body": True},
        [
            Sent(
                form(timestamp=str(AT), token="t" * 50, signature=hexed(b"%d%s" % (AT, b"t" * 50)), subject="hi"),
                types=("inbound",),
            ),
            Sent(
                dumped(
                    {
                        "signature": {"timestamp": str(AT), "token": "u", "signature": hexed(b"%du" % AT)},
                        "event-data": {"id": "e1", "event": "delivered"},
                    }
                ),
                types=("delivered",),
            ),
            Sent(form(timestamp=str(AT), token="t" * 50, signature="0" * 64), status=401),
        ],
    ),
)

_A = b'{"type":"a"}'

PROOFS = (
    Kind(
        "a hex digest in upper case",
        custom(algorithm="hmac-sha512", encoding="hex-upper", prefix="sha512="),
        [Sent(b'{"type":"a"}', {"x-sig": "sha512=" + hexed(b'{"type":"a"}', "sha512").upper()}, types=("a",))],
    ),
    Kind(
        "a plain digest of secret and body",
        custom(algorithm="sha256", signed="{secret}{body}"),
        [
            Sent(b'{"type":"a"}', {"x-sig": hashlib.sha256(KEY.encode() + b'{"type":"a"}').hexdigest()}, types=("a",)),
            Sent(b'{"type":"b"}', {"x-sig": hashlib.sha256(KEY.encode() + b'{"type":"a"}').hexdigest()}, status=401),
        ],
    ),
    Kind(
        "a plain digest with the secret at the end and the method before",
        custom(algorithm="md5", signed="{method}|{body}|{secret}"),
        [
            Sent(
                b'{"type":"a"}',
                {"x-sig": hashlib.md5(b'POST|{"type":"a"}|' + KEY.encode()).hexdigest()},
                types=("a",),
            )
        ],
    ),
    Kind(
        "the time is the first part of the header, without a label",
        custom(split=",", timestamp="part:0", timestamp_format="milliseconds", signed="{timestamp}.{body}"),
        [
            Sent(_A, {"x-sig": f"{AT}000,{'0' * 64},{hexed(b'%d000.' % AT + _A)}"}, types=("a",)),
            Sent(_A, {"x-sig": f"{AT - 400}000,{hexed(b'%d000.' % (AT - 400) + _A)}"}, status=401),
            Sent(b'{"type":"a"}', {"x-sig": f"{AT}000"}, status=401),
        ],
    ),
    Kind(
        "a token in the address",
        {
            **{"scheme": "custom", "algorithm": "token", "secret": KEY, "signature": "query:token", "type": "push"},
            **{"accept_unsigned_body": True},
        },
        [
            Sent(b"{}", query=f"token={KEY}", types=("push",)),
            Sent(b"{}", query=f"token={KEY}&token={KEY}", status=401),
            Sent(b"{}", query="token=", status=401),
            Sent(b"{}", status=401),
        ],
    ),
    Kind(
        "headers within the signed text",
        custom(signed="{@x-kind}|{timestamp}|{crc32}|{sha256}", timestamp="@x-at", type="{@x-kind}"),
        [
            Sent(
                b"{}",
                {
                    "x-kind": "paid",
                    "x-at": str(AT),
                    "x-sig": hexed(b"paid|%d|2745614147|%s" % (AT, hashlib.sha256(b"{}").hexdigest().encode())),
                },
                types=("paid",),
            ),
            Sent(b"{}", {"x-at": str(AT), "x-sig": "0" * 64}, status=401),
        ],
    ),
    Kind(
        "the digest of the key is the key, in a field of a form",
        {
            **{"scheme": "custom", "algorithm": "hmac-sha1", "secret": KEY, "secret_encoding": "sha1", "body": "form"},
            **{"signature": "bt_signature", "split": "&", "prefix": "pub|", "signed": "{bt_payload}", "type": "b"},
            **{"accept_unsigned_body": True, "id": "{bt_payload}"},
        },
        [
            Sent(
                form(
                    bt_signature="other|00&pub|"
                    + hmac.new(hashlib.sha1(KEY.encode()).digest(), b"PHg+", "sha1").hexdigest(),
                    bt_payload="PHg+",
                ),
                types=("b",),
            )
        ],
    ),
    Kind(
        "an address is signed with its port or without",
        {"scheme": "twilio", "secret": KEY, "public_url": "https://in.example.org:8443/webhooks/it"},
        [
            Sent(
                b"CallSid=C1&CallStatus=ringing",
                {"x-twilio-signature": b64(url.encode() + b"CallSidC1CallStatusringing", "sha1")},
                types=types,
            )
            for url, types in (
                ("https://in.example.org:8443/webhooks/it", ("call.ringing",)),
                ("https://in.example.org/webhooks/it", ()),
            )
        ],
    ),
    Kind(
        "a query that is not configured is refused where it runs into the fields",
        {"scheme": "twilio", "secret": KEY, "public_url": HOST + "?tenant=1"},
        [
            Sent(
                b"CallSid=C1",
                {"x-twilio-signature": b64(HOST.encode() + b"?tenant=1CallSidC1", "sha1")},
                query="tenant=1",
                types=("event",),
            ),
            # the same signature for fields that went into the query
            Sent(
                b"",
                {"x-twilio-signature": b64(HOST.encode() + b"?tenant=1CallSidC1", "sha1")},
                query="tenant=1CallSidC1",
                status=401,
            ),
        ],
    ),
    Kind(
        "a query is signed decoded",
        {"scheme": "hubspot", "secret": KEY, "public_url": HOST},
        [
            Sent(
                body := dumped([{"eventId": 1, "subscriptionId": 2, "occurredAt": 3, "subscriptionType": "a.b", "objectId": o}
                                for o in (1, 2)]),
                {
                    "x-hubspot-request-timestamp": f"{AT}000",
                    "x-hubspot-signature-v3": b64(b"POST" + HOST.encode() + b"?e=a@b%20c" + body + b"%d000" % AT),
                },
                query="e=a%40b%20c",
                types=("a.b", "a.b"),
            )
        ],
    ),
)  # fmt: skip


_QUERY_TOKEN = {
    **{"scheme": "custom", "algorithm": "token", "secret": KEY, "signature": "query:key"},
    **{"accept_unsigned_body": True, "body": "json-or-form", "type": "{kind}"},
}
_CRC = hexed(b"5f3a")

HANDSHAKES = (
    Kind(
        "a challenge in the query comes back, and nothing is stored",
        custom(handshake={"method": "GET", "challenge": "query:challenge"}, type="delta"),
        [
            Sent(method="GET", query="challenge=abcDEF123", text="abcDEF123", content_type="text/plain; charset=utf-8"),
            Sent(method="GET", query="challenge=%3Cscript%3E", status=401),
            Sent(method="GET", query="other=1", status=405),
        ],
    ),
    Kind(
        "a token that is wrong is refused",
        custom(
            handshake={
                "method": "GET",
                "challenge": "query:hub.challenge",
                "token": "query:hub.verify_token",
                "answer": '{"hub.challenge":"{challenge}"}',
                "type": "application/json",
            },
            verify_token="vt-77",
        ),
        [
            Sent(method="GET", query="hub.challenge=15f7&hub.verify_token=vt-77", text='{"hub.challenge":"15f7"}'),
            Sent(method="GET", query="hub.challenge=15f7&hub.verify_token=vt-78", status=401),
            Sent(method="GET", query="hub.challenge=15f7", status=401),
        ],
    ),
    Kind(
        "a POST with a token in its query hears the token, decoded",
        {
            **{"scheme": "custom", "algorithm": "token", "secret": KEY, "signature": "clientState", "items": "value"},
            **{"accept_unsigned_body": True, "id": "{id}", "type": "graph.{c}"},
            "handshake": {
                "challenge": "query:validationToken",
                "signed": False,
                "characters": "text",
            },
        },
        [
            Sent(
                query="validationToken=Validation%3A%20Testing%20client%20for%20Request-Id%3A%2011aa%2F22",
                text="Validation: Testing client for Request-Id: 11aa/22",
                content_type="text/plain; charset=utf-8",
            ),
            Sent(query="validationToken=%3Cb%3E", status=401),
            Sent(dumped({"value": [{"clientState": "x" * 20, "id": "1", "c": "a"}]}), status=401),
        ],
    ),
    Kind(
        "a challenge in a header of a GET, answered as JSON",
        custom(
            handshake={
                "method": "GET",
                "challenge": "@x-okta-verification-challenge",
                "answer": '{"verification":"{challenge}"}',
                "type": "application/json",
            }
        ),
        [Sent(method="GET", headers={"x-okta-verification-challenge": "a1-b2"}, text='{"verification":"a1-b2"}')],
    ),
    Kind(
        "a challenge that is answered with its MAC",
        custom(
            handshake={
                "method": "GET",
                "challenge": "query:crc_token",
                "answer": '{"response_token":"sha256={hmac}"}',
                "type": "application/json",
            }
        ),
        [Sent(method="GET", query="crc_token=5f3a", text=f'{{"response_token":"sha256={_CRC}"}}')],
    ),
    Kind(
        "an OPTIONS request that asks for headers",
        custom(
            handshake={
                "method": "OPTIONS",
                "challenge": "@webhook-request-origin",
                "answer": "",
                "headers": {"webhook-allowed-origin": "{challenge}", "webhook-allowed-rate": "120"},
            }
        ),
        [
            Sent(
                method="OPTIONS",
                headers={"webhook-request-origin": "eventgrid.example.net"},
                answer_headers={"Webhook-Allowed-Origin": "eventgrid.example.net", "Webhook-Allowed-Rate": "120"},
            ),
            Sent(method="OPTIONS", headers={"webhook-request-origin": "a b"}, status=401),
        ],
    ),
    Kind(
        "a signed challenge in the body, among events",
        custom(
            items=".",
            id="{id}",
            handshake={
                "when": {"0.eventType": "Validation"},
                "challenge": "0.data.validationCode",
                "answer": '{"validationResponse":"{challenge}"}',
                "type": "application/json",
            },
        ),
        [
            signed(
                [{"eventType": "Validation", "data": {"validationCode": "5-12"}}],
                answers=None,
                text='{"validationResponse":"5-12"}',
            ),
            Sent(dumped([{"eventType": "Validation", "data": {"validationCode": "5-12"}}]), status=401),
            signed([{"type": "a", "id": "1"}], "a"),
        ],
    ),
    Kind(
        "an unsigned ping of a fixed shape",
        custom(pings=["webhook_id=[0-9]{1,12}"], id="{@x-delivery}", type="{@x-topic}", dedup="body"),
        [
            Sent(b"webhook_id=12", {"content-type": FORM}, text=""),
            Sent(b"webhook_id=12&x=1", {"content-type": FORM}, status=401),
            Sent(b"webhook_id=", status=401),
            signed({"id": 7}, "order.updated", headers={"x-topic": "order.updated", "x-delivery": "d"}),
        ],
    ),
    Kind("HEAD before registration", custom(), [Sent(method="HEAD", text="")]),
)

METHODS = (
    Kind(
        "deliveries by PUT",
        custom(methods=["POST", "PUT"], id="{id}"),
        [
            signed({"type": "a", "id": "1"}, "a", method="PUT"),
            signed({"type": "a", "id": "2"}, "a"),
            Sent(b"{}", {"x-sig": "0" * 64}, method="PUT", status=401),
            Sent(method="PATCH", status=405),
        ],
    ),
    Kind(
        "deliveries by GET, whose event is the query",
        {**_QUERY_TOKEN, "methods": ["GET"], "id": "{n}", "dedup": "id"},
        [
            Sent(method="GET", query=f"kind=sent&n=1&key={KEY}", types=("sent",)),
            Sent(method="GET", query="kind=sent&n=2&key=wrong", status=401),
            Sent(b"kind=a", method="POST", query=f"key={KEY}", status=405),
        ],
    ),
    Kind("a method that is not configured", custom(), [Sent(method="PUT", status=405), Sent(method="GET", status=405)]),
    Kind(
        "bodies that are compressed",
        custom(gzip=True, id="{id}"),
        [
            Sent(
                gzip.compress(body := b'{"type":"message.new","id":"m1"}'),
                {"content-encoding": "gzip", "x-sig": hexed(body)},
                types=("message.new",),
            ),
            Sent(gzip.compress(b"x" * 3_000_000), {"content-encoding": "gzip", "x-sig": hexed(b"")}, status=413),
            Sent(gzip.compress(body)[:-4], {"content-encoding": "gzip", "x-sig": hexed(body)}, status=400),
            Sent(gzip.compress(body) * 2, {"content-encoding": "gzip", "x-sig": hexed(body)}, status=400),
            Sent(body, {"content-encoding": "gzip", "x-sig": hexed(body)}, status=400),
            Sent(body, {"content-encoding": "br", "x-sig": hexed(body)}, status=415),
        ],
    ),
    Kind(
        "a compressed body without consent",
        custom(),
        [Sent(gzip.compress(b"{}"), {"content-encoding": "gzip", "x-sig": hexed(b"{}")}, status=415)],
    ),
)

ANSWERS = (
    Kind(
        "the answer is the sender's: status, type, body and headers",
        custom(success={"status": 202, "type": "text/xml", "body": "<ok/>", "headers": {"X-Ack": "1"}}, id="{id}"),
        [
            signed(
                {"type": "a", "id": "1"},
                "a",
                answers=None,
                status=202,
                text="<ok/>",
                content_type="text/xml; charset=utf-8",
                answer_headers={"X-Ack": "1"},
            ),
            Sent(b"{}", status=401),
        ],
    ),
    Kind(
        "an answer for one type",
        custom(success_for={"view": {"body": ""}}, id="{id}"),
        [
            signed({"type": "view", "id": "1"}, "view", answers=None, text=""),
            signed({"type": "other", "id": "2"}, "other", answers=("accepted",)),
        ],
    ),
    Kind(
        "a modal of Slack hears nothing",
        {"scheme": "slack", "secret": KEY},
        [
            Sent(
                body := form(payload='{"type":"view_submission","trigger_id":"t1"}'),
                {
                    "x-slack-request-timestamp": str(AT),
                    "x-slack-signature": "v0=" + hexed(b"v0:%d:" % AT + body),
                    "content-type": FORM,
                },
                types=("view_submission",),
                text="",
            )
        ],
    ),
)


_PING = {"list_folder": {"accounts": ["a1"]}}


def _github(number: int, body: bytes = b'{"action":"opened"}', status: str = "stored", delivery: str = "") -> Sent:
    headers = {
        "x-github-event": "issues",
        "x-github-delivery": delivery or f"d-{number}",
        "x-hub-signature-256": "sha256=" + hexed(body),
    }
    return Sent(body, headers, answers=(status,), types=("issues.opened",) if status == "stored" else ())


DEDUP = (
    Kind(
        "two topics of one order have equal bodies",
        {"scheme": "shopify", "secret": KEY},
        [
            Sent(
                b'{"id":1}',
                {"x-shopify-topic": topic, "x-shopify-webhook-id": id, "x-shopify-hmac-sha256": b64(b'{"id":1}')},
                answers=(status,),
                types=types,
            )
            for topic, id, status, types in (
                ("orders/create", "w-1", "stored", ("orders.create",)),
                ("orders/paid", "w-2", "stored", ("orders.paid",)),
                ("orders/create", "w-1", "duplicate", ()),
            )
        ],
    ),
    Kind(
        "equal bodies under other ids run so often an hour",
        {"scheme": "github", "secret": KEY, "equal_bodies": 3},
        [
            *(_github(number) for number in (1, 2, 3)),
            _github(4, status="duplicate"),
            _github(1, status="duplicate"),
            _github(5, b'{"action":"opened" }'),
            _github(6, status="duplicate"),
        ],
    ),
    Kind(
        "the strict choice",
        {"scheme": "github", "secret": KEY, "dedup": "body"},
        [_github(1), _github(2, status="duplicate")],
    ),
    Kind(
        "pings that say little run each time, within the bound",
        custom(type="delta", dedup="none", equal_bodies=2),
        [
            signed(_PING, "delta"),
            signed(_PING, "delta"),
            signed(_PING, answers=("duplicate",)),
            signed({"x": 1}, "delta"),
        ],
    ),
    Kind(
        "a retry that differs in the number of its attempt is no conflict",
        custom(id="{id}", leave_out=["attempt", "meta.try"]),
        [
            signed({"type": "a", "id": "1", "attempt": 0, "meta": {"try": 1}}, "a"),
            signed({"type": "a", "id": "1", "attempt": 1, "meta": {"try": 2}}, answers=("duplicate",)),
        ],
    ),
)
