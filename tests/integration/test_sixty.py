"""The senders of `docs/sources.md` that take lines of configuration: each block as it is printed, over HTTP into a database.

A request is signed here with the standard library (and cryptography for ES256 and RSA), never by our own `sign`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.integration.conftest import Consumer
from tests.integration.receivers import AT, Sent
from tests.integration.test_receivers import types
from tests.support import ROOT, Clock, pairs
from webhooks.sources import Secret
from webhooks.sources.declared.schemes import SCHEMES

pytestmark = pytest.mark.one_database

PAGE = (ROOT / "docs" / "sources.md").read_text("utf-8")
SECTION = PAGE[PAGE.index("## Senders by configuration") :].partition("\n## ")[0]
SOURCES: Mapping[str, Any] = {
    name: options
    for block in re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
    for name, options in tomllib.loads(block)["sources"].items()
}
NOW = datetime.fromtimestamp(AT, UTC)
CURVE = ec.derive_private_key(7, ec.SECP256R1())


def b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def plaid_keys(_request: Any) -> list[Secret]:
    numbers = CURVE.public_key().public_numbers()
    x, y = (b64url(each.to_bytes(32, "big")) for each in (numbers.x, numbers.y))
    return [Secret(json.dumps({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": x, "y": y}), "k1")]


@cache
def rsa_pair() -> rsa.RSAPrivateKey:
    """A key of these tests, made when the first asks for it."""
    return rsa.generate_private_key(65537, 2048)


def rsa_public() -> str:
    return rsa_pair().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def rsa_signed(raw: bytes) -> str:
    return base64.b64encode(rsa_pair().sign(raw, padding.PKCS1v15(), hashes.SHA256())).decode()


def key(name: str) -> bytes:
    secret = SOURCES[name]["secret"]
    return str(secret if isinstance(secret, str) else secret["new"]).encode()


def mac(name: str, text: bytes, digest: str = "sha256", secret: bytes | None = None) -> bytes:
    return hmac.new(key(name) if secret is None else secret, text, digest).digest()


def hexed(name: str, text: bytes, digest: str = "sha256") -> str:
    return mac(name, text, digest).hex()


def b64(name: str, text: bytes, digest: str = "sha256") -> str:
    return base64.b64encode(mac(name, text, digest)).decode()


def jwt(name: str, **claims: Any) -> str:
    text = _text("HS256", claims)
    return f"{text}.{b64url(mac(name, text.encode()))}"


def _text(alg: str, claims: Any) -> str:
    return f"{b64url(json.dumps({'alg': alg}).encode())}.{b64url(json.dumps(claims).encode())}"


def es256(**claims: Any) -> str:
    text = _text("ES256", claims)
    r, s = decode_dss_signature(CURVE.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def plain(body: Any, header: str, write: Callable[[bytes], str], *kinds: str, **more: Any) -> Sent:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {header: write(raw), **more.pop("headers", {})}
    return Sent(raw, headers, types=kinds, **more)


def basic(name: str, body: Any, *kinds: str) -> Sent:
    return plain(body, "authorization", lambda raw: "Basic " + base64.b64encode(key(name)).decode(), *kinds)


def standard(name: str, body: Any, *kinds: str) -> Sent:
    """As the specification of Standard Webhooks has it, 2026-11."""
    secret = base64.b64decode(key(name).decode().removeprefix("whsec_"))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": f"{AT}"}

    def write(raw: bytes) -> str:
        return "v1," + base64.b64encode(mac(name, b"msg_1.%d." % AT + raw, secret=secret)).decode()

    return plain(body, "webhook-signature", write, *kinds, headers=headers)


def sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


URL = "https://in.example.org/webhooks/"
XML = b"<?xml version='1.0'?><x/>"
ANET = bytes.fromhex("4f9d0c7be2a1483f" * 4)
CF = "x-contentful-signed-headers,x-contentful-timestamp"

#: {source: requests that it takes, or a function that signs them when they are needed}
SENT: Mapping[str, list[Sent] | Callable[[], list[Sent]]] = {
    "gitlab-signed": [standard("gitlab-signed", {"object_kind": "push"}, "push")],
    "datadog": [plain({"id": "7", "event_type": "query_alert_monitor"}, "authorization", lambda raw: "Bearer " + key("datadog").decode(), "query_alert_monitor")],
    "pipedrive": [basic("pipedrive", {"meta": {"id": "u-1", "entity": "deal", "action": "change", "attempt": number}, "data": {}}, *kinds) for number, kinds in ((1, ["deal.change"]), (2, []))],
    "freshdesk": [basic("freshdesk", {"ticket_id": 7, "triggered_event": "status"}, "ticket.status")],
    "docuseal": [plain({"event_type": "form.completed", "timestamp": "2026-03-10T14:05:12Z", "data": {"id": 1}}, "x-docuseal-signature", lambda raw: f"{AT}.{hexed('docuseal', b'%d.' % AT + raw)}", "form.completed")],
    "mollie": [Sent(b"id=tr_1", query="token=made-up-mollie-4f9d0c7be2", types=("changed",))] * 2,
    "chargebee": [basic("chargebee", {"id": "ev_1", "event_type": "invoice_generated"}, "invoice_generated")],
    "wise": lambda: [plain({"event_type": "transfers#state-change", "data": {"resource": {"id": 1}}}, "x-signature-sha256", rsa_signed, "transfers.state-change", headers={"x-delivery-id": "d"})],
    "klarna": [plain({"metadata": {"event_id": "e", "event_type": "payment.request.state-change.completed"}}, "klarna-signature", lambda raw: hexed("klarna", raw), "payment.request.state-change.completed")],
    "bigcommerce": [standard("bigcommerce", {"scope": "store/order/created", "data": {"id": 1}}, "store.order.created")],
    "mailchimp": [
        Sent(method="GET", query="token=made-up-mailchimp-4f9d0c7be2", text=""),
        Sent(urlencode({"type": "subscribe", "data[id]": "8a25"}).encode(), query="token=made-up-mailchimp-4f9d0c7be2", types=("subscribe",)),
    ],
    "sharepoint": [
        Sent(query="validationtoken=cb9d2c1e", text="cb9d2c1e"),
        *[Sent(b'{"value":[{"clientState":"made-up-sharepoint-4f9d0c7be2","resource":"l-1"}]}', types=("changed",))] * 2,
    ],
    "auth0": [plain([{"log_id": "1", "data": {"type": "s"}}], "authorization", lambda raw: key("auth0").decode(), "s")],
    "gitlab": [plain({"object_kind": "push"}, "x-gitlab-token", lambda raw: key("gitlab").decode(), "push", headers={"x-gitlab-event-uuid": "u"})],
    "bitbucket": [plain({"repository": {"full_name": "a/b"}}, "x-hub-signature", lambda raw: "sha256=" + hexed("bitbucket", raw), "repo.push", headers={"x-event-key": "repo:push", "x-request-uuid": "u"})],
    "jira": [plain({"webhookEvent": "jira:issue_updated"}, "x-hub-signature", lambda raw: "sha256=" + hexed("jira", raw), "jira.issue_updated")],
    "vercel": [plain({"id": "1", "type": "deployment.created"}, "x-vercel-signature", lambda raw: hexed("vercel", raw, "sha1"), "deployment.created")],
    "netlify": [plain({"id": "1", "state": "ready"}, "x-webhook-signature", lambda raw: jwt("netlify", iss="netlify", sha256=sha(raw)), "deploy.ready")],
    "sentry": [plain({"action": "created"}, "sentry-hook-signature", lambda raw: hexed("sentry", raw), "issue.created", headers={"request-id": "r", "sentry-hook-resource": "issue"})],
    "pagerduty": [plain({"event": {"id": "1", "event_type": "incident.triggered"}}, "x-pagerduty-signature", lambda raw: f"v1={'0' * 64},v1={hexed('pagerduty', raw)}", "incident.triggered")],
    "circleci": [plain({"id": "1", "type": "job-completed"}, "circleci-signature", lambda raw: f"v1={hexed('circleci', raw)}", "job-completed")],
    "dockerhub": [Sent(b'{"repository":{"repo_name":"a/b"}}', query="token=made-up-dockerhub-4f9d0c7be2", types=("push",))],
    "grafana": [plain({"status": "firing"}, "authorization", lambda raw: "Bearer " + key("grafana").decode(), "alert.firing")],
    "contentful": [
        Sent(
            b'{"sys":{"id":"e"}}',
            {
                "x-contentful-signature": hexed("contentful", f"POST\n/webhooks/contentful\nx-contentful-signed-headers:{CF};x-contentful-timestamp:{AT}000\n".encode() + b'{"sys":{"id":"e"}}'),
                "x-contentful-signed-headers": CF,
                "x-contentful-timestamp": f"{AT}000",
                "x-contentful-topic": "ContentManagement.Entry.publish",
            },
            types=("ContentManagement.Entry.publish",),
        )
    ],
    "webflow": [plain({"triggerType": "form_submission"}, "x-webflow-signature", lambda raw: hexed("webflow", b"%d000:" % AT + raw), "form_submission", headers={"x-webflow-timestamp": f"{AT}000"})],
    "asana": [
        plain({"events": [{"action": "changed", "resource": {"gid": "1", "resource_type": "task"}}]}, "x-hook-signature", lambda raw: hexed("asana", raw), "task.changed"),
        plain({"events": []}, "x-hook-signature", lambda raw: hexed("asana", raw)),
    ],
    "notion": [plain({"id": "1", "type": "page.created"}, "x-notion-signature", lambda raw: "sha256=" + hexed("notion", raw), "page.created")],
    "trello": [plain({"action": {"id": "1", "type": "updateCard"}}, "x-trello-webhook", lambda raw: b64("trello", raw + (URL + "trello").encode(), "sha1"), "updateCard"), Sent(method="HEAD", text="")],
    "monday": [
        Sent(b'{"challenge":"a-1"}', text='{"challenge":"a-1"}'),
        plain({"event": {"type": "create_pulse", "triggerUuid": "t"}}, "authorization", lambda raw: jwt("monday", exp=AT + 60), "create_pulse"),
    ],
    "clickup": [plain({"event": "taskCreated", "history_items": [{"id": "7"}]}, "x-signature", lambda raw: hexed("clickup", raw), "taskCreated")],
    "airtable": [plain({"base": {"id": "b"}}, "x-airtable-content-mac", lambda raw: "hmac-sha256=" + mac("airtable", raw, secret=b"made-up-airtable-4f9d0c7be2").hex(), "ping")] * 2,
    "typeform": [plain({"event_id": "1", "event_type": "form_response"}, "typeform-signature", lambda raw: "sha256=" + b64("typeform", raw), "form_response")],
    "calendly": [plain({"event": "invitee.created"}, "calendly-webhook-signature", lambda raw: f"t={AT},v1={hexed('calendly', b'%d.' % AT + raw)}", "invitee.created")],
    "calcom": [plain({"triggerEvent": "BOOKING_CREATED"}, "x-cal-signature-256", lambda raw: hexed("calcom", raw), "BOOKING_CREATED")],
    "intercom": [plain({"id": "n", "topic": "contact.created"}, "x-hub-signature", lambda raw: "sha1=" + hexed("intercom", raw, "sha1"), "contact.created"), Sent(method="HEAD", text="")],
    "postmark": [plain({"MessageID": "m", "RecordType": "Bounce"}, "authorization", lambda raw: "Basic " + base64.b64encode(key("postmark")).decode(), "Bounce")],
    "docusign": [plain({"event": "envelope-completed"}, "x-docusign-signature-2", lambda raw: b64("docusign", raw), "envelope-completed", headers={"x-docusign-signature-1": "AAAA"})],
    "lemonsqueezy": [plain({"meta": {"event_name": "order_created"}}, "x-signature", lambda raw: hexed("lemonsqueezy", raw), "order_created")],
    "razorpay": [plain({"event": "payment.captured"}, "x-razorpay-signature", lambda raw: hexed("razorpay", raw), "payment.captured", headers={"x-razorpay-event-id": "r"})],
    "coinbase": [plain({"event": {"id": "1", "type": "charge:created"}}, "x-cc-webhook-signature", lambda raw: hexed("coinbase", raw), "charge.created")],
    "gumroad": [Sent(urlencode({"sale_id": "s"}).encode(), query="token=made-up-gumroad-4f9d0c7be2", types=("sale",))],
    "recurly": [plain({"id": "1", "object_type": "account", "event_type": "created"}, "recurly-signature", lambda raw: f"{AT}000,{hexed('recurly', b'%d000.' % AT + raw)}", "account.created")],
    "authorize": [plain({"notificationId": "n", "eventType": "net.x"}, "x-anet-signature", lambda raw: "sha512=" + mac("authorize", raw, "sha512", key("authorize")).hex().upper(), "net.x")],
    "woocommerce": [
        Sent(b"webhook_id=12", text=""),
        plain({"id": 1}, "x-wc-webhook-signature", lambda raw: b64("woocommerce", raw), "order.updated", headers={"x-wc-webhook-topic": "order.updated", "x-wc-webhook-delivery-id": "d"}),
    ],
    "xero": [
        plain({"events": []}, "x-xero-signature", lambda raw: b64("xero", raw), text=""),
        plain({"events": [{"eventCategory": "INVOICE", "eventType": "UPDATE"}]}, "x-xero-signature", lambda raw: b64("xero", raw), "INVOICE.UPDATE", text=""),
    ],
    "quickbooks": [
        plain(
            {"eventNotifications": [{"realmId": "1", "dataChangeEvent": {"entities": [{"name": "Bill", "id": "1", "operation": "Create"}, {"name": "Bill", "id": "2", "operation": "Update"}]}}]},
            "intuit-signature", lambda raw: b64("quickbooks", raw), "Bill.Create", "Bill.Update",
        ),
        plain([{"source": "intuit.x", "id": "1", "type": "qbo.bill.created.v1"}], "intuit-signature", lambda raw: b64("quickbooks", raw), "qbo.bill.created.v1"),
    ],
    "mandrill": [
        Sent(
            urlencode({"mandrill_events": '[{"event":"open","_id":"1","ts":1}]'}).encode(),
            {"x-mandrill-signature": b64("mandrill", (URL + 'mandrillmandrill_events[{"event":"open","_id":"1","ts":1}]').encode(), "sha1")},
            types=("open",),
        ),
        Sent(method="HEAD", text=""),
    ],
    "braintree": [
        Sent(
            urlencode({"bt_signature": "made_up_public_key|" + mac("braintree", b"PHgvPg==\n", "sha1", hashlib.sha1(key("braintree")).digest()).hex(), "bt_payload": "PHgvPg==\n"}).encode(),
            types=("notification",),
        )
    ],
    "plaid": [plain({"webhook_type": "ITEM", "webhook_code": "ERROR"}, "plaid-verification", lambda raw: es256(iat=AT, request_body_sha256=sha(raw)), "ITEM.ERROR")],
    "graph": [
        Sent(query="validationToken=Validation%3A+Testing", text="Validation: Testing"),
        Sent(b'{"value":[{"clientState":"made-up-graph-4f9d0c7be2","subscriptionId":"s","resource":"me","changeType":"updated"}]}', types=("updated",)),
    ],
    "eventgrid": [
        Sent(method="OPTIONS", headers={"webhook-request-origin": "eventgrid.azure.net"}, answer_headers={"WebHook-Allowed-Origin": "eventgrid.azure.net"}),
        Sent(b'[{"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"5-1"}}]', query="token=made-up-eventgrid-4f9d0c7be2", text='{"validationResponse":"5-1"}'),
        Sent(b'[{"eventType":"Blob.Created","id":"1"}]', query="token=made-up-eventgrid-4f9d0c7be2", types=("Blob.Created",)),
    ],
    "dropbox": [
        Sent(method="GET", query="challenge=abc", text="abc"),
        *[plain({"delta": {"users": [1]}}, "x-dropbox-signature", lambda raw: hexed("dropbox", raw), "changed")] * 2,
    ],
    "okta": [
        Sent(method="GET", headers={"x-okta-verification-challenge": "a-1"}, text='{"verification":"a-1"}'),
        plain({"data": {"events": [{"uuid": "1", "eventType": "user.session.start"}]}}, "authorization", lambda raw: key("okta").decode(), "user.session.start"),
    ],
    "salesforce": [Sent(XML, query="token=made-up-salesforce-4f9d0c7be2", types=("outbound",), content_type="text/xml")],
    "telegram": [plain({"update_id": 1, "edited_message": {}}, "x-telegram-bot-api-secret-token", lambda raw: key("telegram").decode(), "edited_message")],
    "viber": [plain({"event": "delivered", "message_token": 7}, "x-viber-content-signature", lambda raw: hexed("viber", raw), "delivered")],
    "vonage": [plain({"message_uuid": "1", "status": "read"}, "authorization", lambda raw: "Bearer " + jwt("vonage", iss="Vonage", iat=AT, payload_hash=sha(raw)), "message.read")],
    "twitch": [
        plain(body, "twitch-eventsub-message-signature", lambda raw: "sha256=" + hexed("twitch", b"m-1" + b"2026-03-10T14:05:12.123456789Z" + raw), *kinds, text=text,
              headers={"twitch-eventsub-message-id": "m-1", "twitch-eventsub-message-timestamp": "2026-03-10T14:05:12.123456789Z", "twitch-eventsub-message-type": kind})
        for body, kinds, kind, text in (
            ({"challenge": "pogchamp-1"}, (), "webhook_callback_verification", "pogchamp-1"),
            ({"subscription": {"type": "channel.follow"}}, ("channel.follow",), "notification", None),
        )
    ],
    "youtube": [
        Sent(method="GET", query="hub.mode=subscribe&hub.challenge=77&hub.verify_token=made-up-token-of-ours", text="77"),
        plain(b"<feed/>", "x-hub-signature", lambda raw: "sha1=" + hexed("youtube", raw, "sha1"), "feed"),
    ],
    "strava": [
        Sent(method="GET", query="hub.challenge=15f7&hub.verify_token=made-up-token-of-ours", text='{"hub.challenge":"15f7"}'),
        Sent(b'{"object_type":"activity","object_id":1,"aspect_type":"create","event_time":1}', query="token=made-up-strava-4f9d0c7be2", types=("activity.create",)),
    ],
}  # fmt: skip


#: The senders that people receive most: each is a row, or stands on the page.
MOST_RECEIVED = [
    "close",
    "standard",
    "svix",
    "stripe",
    "github",
    "shopify",
    "slack",
    "meta",
    "twilio",
    "square",
    "hubspot",
    "zendesk",
    "paddle",
    "linear",
    "discord",
    "sendgrid",
    "mailgun",
    "adyen",
    "box",
    "zoom",
    "line",
    "gitlab",
    "gitlab-signed",
    "bitbucket",
    "jira",
    "paypal",
    "sns",
    "google-pubsub",
    "graph",
    "sharepoint",
    "eventgrid",
    "dropbox",
    "okta",
    "auth0",
    "asana",
    "notion",
    "trello",
    "monday",
    "clickup",
    "airtable",
    "webflow",
    "contentful",
    "typeform",
    "calendly",
    "calcom",
    "intercom",
    "freshdesk",
    "pipedrive",
    "chargebee",
    "postmark",
    "salesforce",
    "braintree",
    "recurly",
    "docuseal",
    "lemonsqueezy",
    "razorpay",
    "coinbase",
    "gumroad",
    "mollie",
    "wise",
    "plaid",
    "klarna",
    "authorize",
    "woocommerce",
    "bigcommerce",
    "mandrill",
    "mailchimp",
    "docusign",
    "vercel",
    "netlify",
    "sentry",
    "pagerduty",
    "circleci",
    "dockerhub",
    "datadog",
    "grafana",
    "telegram",
    "viber",
    "twitch",
    "youtube",
    "strava",
    "vonage",
    "xero",
    "quickbooks",
]


def test_the_senders_that_people_receive_most_are_rows_or_stand_on_the_page() -> None:
    assert set(MOST_RECEIVED) <= {"close", *SCHEMES, *SOURCES}


def test_every_sender_of_the_page_is_run_and_no_other() -> None:
    assert SOURCES.keys() == SENT.keys()


@pytest.mark.parametrize(("name", "database_url"), pairs(*sorted(SENT)), indirect=["database_url"])
def test_a_sender_is_received_as_the_page_configures_it(
    make_consumer: Callable[..., Consumer], name: str, tmp_path: Path
) -> None:
    section = dict(SOURCES[name])
    if "secrets_from" in section:
        section["secrets_from"] = plaid_keys
    if "secret_file" in section:
        section["secret_file"] = str(tmp_path / "public.pem")
        (tmp_path / "public.pem").write_text(rsa_public())
    consumer = make_consumer(sources={name: section}, clock=Clock(NOW))

    def send(sent: Sent) -> Any:
        return consumer.client.open(
            f"/webhooks/{name}", method=sent.method, data=sent.body, headers=dict(sent.headers), query_string=sent.query
        )

    requests = SENT[name]
    for sent in requests if isinstance(requests, list) else requests():
        before = types(consumer)
        answer = send(sent)
        assert answer.status_code == 200, answer.text
        assert types(consumer)[len(before) :] == list(sent.types)
        assert sent.text is None or answer.text == sent.text
        assert sent.content_type is None or answer.content_type.startswith(sent.content_type)
        for header, value in sent.answer_headers.items():
            assert answer.headers.get(header) == value
    stored = types(consumer)
    for body in (b'{"type":"a","id":"1"}', b"<x/>", b"a=1", b""):
        assert consumer.client.post(f"/webhooks/{name}", data=body).status_code == 401
    assert types(consumer) == stored
