"""Rows of senders that joined later. Facts carry the page that they come from."""

from __future__ import annotations

from datetime import timedelta

from webhooks.sources.declared.claims import JwtRule
from webhooks.sources.declared.scheme import Scheme

FURTHER_ROWS: tuple[Scheme, ...] = (
    Scheme(
        name="paypal",
        title="PayPal",
        documentation="https://developer.paypal.com/api/rest/webhooks/rest.md",
        retries=(
            "Tries again up to 25 times within 3 days, so a signature is good for 4 "
            "(https://developer.paypal.com/api/rest/webhooks/rest.md)."
        ),
        algorithm="rsa-sha256",
        signature=("@paypal-transmission-sig",),
        encoding="base64",
        signed="{@paypal-transmission-id}|{timestamp}|{webhook_id}|{crc32}",
        timestamp="@paypal-transmission-time",
        timestamp_format="iso",
        tolerance=timedelta(days=4),
        require={"paypal-auth-algo": "SHA256withRSA"},
        certificate="@paypal-cert-url",
        certificate_pattern=r"https://api(?:\.sandbox)?\.paypal\.com/v1/notifications/certs/[0-9A-Za-z_-]{1,100}",
        needs={"webhook_id": "the id of the webhook, as PayPal's dashboard shows it; it is signed"},
        id=("{id}",),
        type=("{event_type}",),
        occurred_at=("{create_time}",),
        object_id=("{resource.id}",),
        data="resource",
    ),
    Scheme(
        name="sns",
        title="Amazon SNS",
        documentation="https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html",
        retries=(
            "Tries again 3 times, 20 s apart, unless the subscription's policy says otherwise, and for an hour at "
            "most (https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html)."
        ),
        algorithm="rsa-sha256",
        algorithm_at=("SignatureVersion", {"1": "rsa-sha1", "2": "rsa-sha256"}),
        signature=("Signature",),
        encoding="base64",
        signed="{sns}",
        expect={"TopicArn": ("{topic}",)},
        certificate="SigningCertURL",
        certificate_pattern=(
            r"https://sns\.[a-z0-9-]{4,32}\.amazonaws\.com(?:\.cn)?/SimpleNotificationService-[0-9a-f]{16,64}\.pem"
        ),
        needs={"topic": "the ARN of the topic, or a list of them: every topic of SNS has the same certificate"},
        id=("{MessageId}",),
        type=("sns.{Type}",),
        occurred_at=("{Timestamp}",),
        object_id=("{TopicArn}",),
    ),
    Scheme(
        name="google-pubsub",
        title="Google Pub/Sub push (Gmail, Play, Chat)",
        documentation="https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions",
        retries="Tries again until 102, 200, 201, 202 or 204 (https://cloud.google.com/pubsub/docs/push).",
        algorithm="jwt",
        signature=("@authorization",),
        prefix="Bearer ",
        jwt=JwtRule(
            algorithms=("RS256",),
            jwks="https://www.googleapis.com/oauth2/v3/certs",
            issuer=("https://accounts.google.com", "accounts.google.com"),
            claims={"email_verified": True},
        ),
        decode={"message.data": "base64"},
        id=("{message.messageId}",),
        type=("message",),
        occurred_at=("{message.publishTime}",),
        object_id=("{subscription}",),
        data="message",
    ),
)
