"""Rows of senders, from Standard Webhooks to bearer tokens. Facts carry the page that they come from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from webhooks.sources.declared.scheme import Scheme

#: A sender described by its source's own options.
CUSTOM = Scheme(
    name="custom",
    title="any sender that signs with HMAC, described in webhooks.toml",
    id=("",),
    type=("{type}",),
)

_STANDARD = Scheme(
    name="standard",
    title="Standard Webhooks",
    documentation="https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
    signature=("@webhook-signature",),
    split=" ",
    prefix="v1,",
    public_key_prefix="v1a,",
    encoding="base64",
    signed="{id}.{timestamp}.{body}",
    secret_encoding="base64",
    secret_prefix="whsec_",
    min_secret_bytes=24,
    timestamp="@webhook-timestamp",
    id=("{@webhook-id}",),
    occurred_at=("{timestamp}",),
    data="data",
)


def _svix(row: Scheme) -> Scheme:
    return replace(
        row,
        name="svix",
        title="Svix (Clerk, Resend and others)",
        documentation="https://docs.svix.com/receiving/verifying-payloads/how-manual",
        retries=(
            "Tries again after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, until a 2xx within 15 s (3xx is "
            "none); an address that fails for 5 days is switched off (https://docs.svix.com/retries)."
        ),
        signature=("@svix-signature",),
        timestamp="@svix-timestamp",
        id=("{@svix-id}",),
    )


FIRST_ROWS: tuple[Scheme, ...] = (
    CUSTOM,
    _STANDARD,
    _svix(_STANDARD),
    Scheme(
        name="stripe",
        title="Stripe",
        documentation="https://docs.stripe.com/webhooks/signature",
        retries=(
            "Tries again for 3 days in live mode, each time with a new time and signature, until a 2xx "
            "(https://docs.stripe.com/webhooks)."
        ),
        signature=("@stripe-signature",),
        split=",",
        prefix="v1=",
        signed="{timestamp}.{body}",
        timestamp="part:t=",
        id=("{id}",),
        occurred_at=("{created}",),
        object_id=("{data.object.id}", "{related_object.id}"),
        data="data.object",
        previous="data.previous_attributes",
    ),
    Scheme(
        name="github",
        title="GitHub",
        documentation="https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
        retries=(
            "Does not try again: what no 2xx answered within 10 s is a failed delivery, and can be asked for by "
            "hand or by its API, with the same id and signature "
            "(https://docs.github.com/en/webhooks/using-webhooks/handling-failed-webhook-deliveries)."
        ),
        signature=("@x-hub-signature-256",),
        prefix="sha256=",
        body="json-or-form",
        id=("{@x-github-delivery}",),
        type=("{@x-github-event}.{action}", "{@x-github-event}"),
        object_id=("{repository.full_name}",),
    ),
    Scheme(
        name="shopify",
        title="Shopify",
        documentation="https://shopify.dev/docs/apps/build/webhooks/subscribe/https",
        retries=(
            "Tries again 8 times within 4 h, with the first body "
            "(https://shopify.dev/changelog/updates-to-webhook-retry-mechanism)."
        ),
        signature=("@x-shopify-hmac-sha256", "@shopify-hmac-sha256"),  # events in preview leave the x- out
        encoding="base64",
        id=("{@x-shopify-webhook-id}", "{@shopify-webhook-id}", "{@shopify-event-id}"),
        type=("{@x-shopify-topic}", "{@shopify-topic}"),
        dotted="/",
        occurred_at=("{updated_at}", "{created_at}"),
        object_id=("{id}",),
    ),
    Scheme(
        name="slack",
        title="Slack",
        documentation="https://docs.slack.dev/authentication/verifying-requests-from-slack",
        retries=(
            "Tries again 3 times: at once, after 1 min and after 5 min, until a 2xx within 3 s; the header "
            "X-Slack-No-Retry: 1 beside an error stops it (https://docs.slack.dev/apis/events-api)."
        ),
        signature=("@x-slack-signature",),
        prefix="v0=",
        signed="v0:{timestamp}:{body}",
        timestamp="@x-slack-request-timestamp",
        body="json-or-form",
        id=("{event_id}", "{trigger_id}", ""),
        type=("{event.type}", "command.{command}", "{type}"),
        occurred_at=("{event_time}",),
        object_id=("{event.channel}", "{channel_id}"),
        data="event",
        handshake="slack",
        success=("text/plain; charset=utf-8", ""),  # a modal shows an error for any other body
    ),
    Scheme(
        name="meta",
        title="Meta (WhatsApp Cloud, Messenger, Instagram)",
        documentation="https://developers.facebook.com/docs/graph-api/webhooks/getting-started",
        retries=(
            "Tries again at once, then less and less often for 36 h; WhatsApp for 7 days "
            "(https://developers.facebook.com/docs/graph-api/webhooks/getting-started)."
        ),
        signature=("@x-hub-signature-256",),
        prefix="sha256=",
        items=(
            "entry.*.changes.*.value.messages",
            "entry.*.changes.*.value.statuses",
            "entry.*.changes",
            "entry.*.messaging",
        ),
        around=True,
        type=(
            "{object}.{entry.0.changes.0.field}",
            "{object}.{key:entry.0.messaging.0.!sender|recipient|timestamp}",
            "{object}",
        ),
        occurred_at=(
            "{entry.0.changes.0.value.messages.0.timestamp}",
            "{entry.0.changes.0.value.statuses.0.timestamp}",
            "{entry.0.messaging.0.timestamp}",
            "{entry.0.time}",
        ),
        object_id=("{entry.0.id}",),
        data="entry",
        handshake="meta",
    ),
    Scheme(
        name="twilio",
        title="Twilio",
        documentation="https://www.twilio.com/docs/usage/webhooks/webhooks-security",
        algorithm="hmac-sha1",
        signature=("@x-twilio-signature",),
        encoding="base64",
        signed="{url}{form}",
        url_forms=("port",),
        body="json-or-form",
        type=("message.{MessageStatus}", "message.{SmsStatus}", "call.{CallStatus}", "{type}", "event"),
        object_id=("{MessageSid}", "{CallSid}"),
        success=("text/xml; charset=utf-8", "<Response/>"),
    ),
    Scheme(
        name="square",
        title="Square",
        documentation="https://developer.squareup.com/docs/webhooks/step3validate",
        retries="Tries again for 24 h, until a 2xx (https://developer.squareup.com/docs/webhooks/troubleshooting).",
        signature=("@x-square-hmacsha256-signature",),
        encoding="base64",
        signed="{url}{body}",
        id=("{event_id}",),
        occurred_at=("{created_at}",),
        object_id=("{data.id}",),
        data="data.object",
    ),
    Scheme(
        name="hubspot",
        title="HubSpot (signature v3)",
        documentation="https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests",
        retries=(
            "Tries again up to 10 times, with a higher attemptNumber; 400, 401, 403, 404 and 405 "
            "stop it, and Retry-After of a 429 is heeded "
            "(https://community.hubspot.com/t5/APIs-Integrations/Webhooks-response/td-p/277558)."
        ),
        signature=("@x-hubspot-signature-v3",),
        encoding="base64",
        signed="{method}{url}{body}{timestamp}",
        url_forms=("decoded",),
        leave_out=("attemptNumber",),
        timestamp="@x-hubspot-request-timestamp",
        timestamp_format="milliseconds",
        items=(".",),
        id=("{eventId}:{subscriptionId}:{occurredAt}:{objectId?}:{fromObjectId?}:{toObjectId?}",),
        type=("{subscriptionType}",),
        occurred_at=("{occurredAt}",),
        object_id=("{objectId}",),
    ),
    Scheme(
        name="zendesk",
        title="Zendesk",
        documentation="https://developer.zendesk.com/documentation/webhooks/verifying/",
        signature=("@x-zendesk-webhook-signature",),
        encoding="base64",
        signed="{timestamp}{body}",
        timestamp="@x-zendesk-webhook-signature-timestamp",
        timestamp_format="iso",
        id=("{id}", ""),
        type=("{type}", "event"),
        occurred_at=("{time}",),
        object_id=("{detail.id}",),
        data="detail",
    ),
    Scheme(
        name="paddle",
        title="Paddle",
        documentation="https://developer.paddle.com/webhooks/signature-verification",
        retries=(
            "Tries again up to 60 times within 3 days (live), until a 200 within 5 s "
            "(https://developer.paddle.com/webhooks/respond-to-webhooks)."
        ),
        signature=("@paddle-signature",),
        split=";",
        prefix="h1=",
        signed="{timestamp}:{body}",
        timestamp="part:ts=",
        id=("{event_id}",),
        type=("{event_type}",),
        occurred_at=("{occurred_at}",),
        object_id=("{data.id}",),
        data="data",
    ),
    Scheme(
        name="linear",
        title="Linear",
        documentation="https://linear.app/developers/webhooks#securing-webhooks",
        retries=(
            "Tries again after 1 min, 1 h and 6 h, until a 200 within 5 s, and may switch the hook off. Whether "
            "the time is a new one is not said; if late tries are refused, set tolerance = '7h' "
            "(https://linear.app/developers/webhooks)."
        ),
        signature=("@linear-signature",),
        timestamp="webhookTimestamp",
        timestamp_format="milliseconds",
        tolerance=timedelta(seconds=60),  # what Linear's page asks for
        tolerance_ahead=timedelta(seconds=60),
        id=("{@linear-delivery}",),
        type=("{type}.{action}", "{type}"),
        occurred_at=("{createdAt}", "{webhookTimestamp}"),
        object_id=("{data.id}",),
        data="data",
        previous="updatedFrom",
    ),
    Scheme(
        name="discord",
        title="Discord (interactions and webhook events)",
        documentation="https://docs.discord.com/developers/interactions/overview",
        retries=(
            "Webhook events are tried again for 10 min, until an answer within 3 s; where too many fail Discord "
            "stops (https://docs.discord.com/developers/events/webhook-events)."
        ),
        algorithm="ed25519",
        signature=("@x-signature-ed25519",),
        signed="{timestamp}{body}",
        secret_encoding="hex",
        timestamp="@x-signature-timestamp",
        id=("{id}", ""),
        type=("{event.type}", "interaction.{type}"),
        occurred_at=("{event.timestamp}",),
        data="event.data",
        handshake="discord",
    ),
    Scheme(
        name="sendgrid",
        title="SendGrid (event webhook)",
        documentation="https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features",
        retries=(
            "Tries again for 24 h, until a 2xx "
            "(https://docs.sendgrid.com/for-developers/tracking-events/troubleshooting). Whether it signs anew is "
            "not said, so a signature is good for 25 h; ids are signed, and a second copy is a duplicate."
        ),
        algorithm="ecdsa-sha256",
        signature=("@x-twilio-email-event-webhook-signature",),
        encoding="base64",
        signed="{timestamp}{body}",
        secret_encoding="base64",
        timestamp="@x-twilio-email-event-webhook-timestamp",
        tolerance=timedelta(hours=25),
        items=(".",),
        id=("{sg_event_id}", "{email}:{event}:{timestamp}:{asm_group_id?}"),
        type=("{event}",),
        occurred_at=("{timestamp}",),
        object_id=("{sg_message_id}",),
    ),
    Scheme(
        name="mailgun",
        title="Mailgun",
        documentation="https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks",
        retries=(
            "Tries again for 8 h with the first signature, so one is good for 9 h; 200 and 406 stop it "
            "(https://documentation.mailgun.com/user_manual.html#webhooks)."
        ),
        signature=("signature.signature",),
        signed="{timestamp}{signature.token}",
        timestamp="signature.timestamp",
        tolerance=timedelta(hours=9),
        id=("{event-data.id}",),
        type=("{event-data.event}",),
        occurred_at=("{event-data.timestamp}",),
        object_id=("{event-data.message.headers.message-id}",),
        data="event-data",
        body="json-or-form",
        # an inbound route posts a form, with files as multipart/form-data
        as_form={
            "signature": ("signature",),
            "signed": "{timestamp}{token}",
            "timestamp": "timestamp",
            "body": "form-or-multipart",
            "id": ("{token}",),
            "type": ("inbound",),
            "occurred_at": ("{timestamp}",),
            "object_id": ("{Message-Id}",),
            "data": "",
        },
    ),
    Scheme(
        name="adyen",
        title="Adyen (standard notifications)",
        documentation="https://docs.adyen.com/development-resources/webhooks/secure-webhooks/verify-hmac-signatures/",
        retries=(
            "Tries again after 2, 5, 10, 15 and 30 min, 1, 2, 4 and 8 h, for 30 days, and holds later ones back "
            "meanwhile (https://docs.adyen.com/development-resources/webhooks/troubleshoot)."
        ),
        signature=("additionalData.hmacSignature",),
        encoding="base64",
        signed="{pspReference?}:{originalReference?}:{merchantAccountCode?}:{merchantReference?}:"
        "{amount.value?}:{amount.currency?}:{eventCode?}:{success?}",
        secret_encoding="hex",
        min_secret_bytes=32,
        items=("notificationItems",),
        unwrap="NotificationRequestItem",
        id=("{pspReference}:{eventCode}:{success?}",),
        type=("{eventCode}",),
        occurred_at=("{eventDate}",),
        object_id=("{pspReference}",),
    ),
    Scheme(
        name="adyen-platform",
        title="Adyen (platforms and configuration webhooks)",
        documentation="https://docs.adyen.com/development-resources/webhooks/secure-webhooks/verify-hmac-signatures/",
        retries=(
            "Tries again as for standard notifications, for 30 days "
            "(https://docs.adyen.com/development-resources/webhooks/troubleshoot)."
        ),
        signature=("@hmacsignature",),
        encoding="base64",
        secret_encoding="hex",
        min_secret_bytes=32,
        occurred_at=("{timestamp}", "{createdAt}"),
        object_id=("{data.id}",),
        data="data",
    ),
    Scheme(
        name="box",
        title="Box",
        documentation="https://developer.box.com/guides/webhooks/v2/signatures-v2/",
        retries=(
            "Tries again up to 12 times within 2 h, until a 2xx within 30 s, each time with a new time; the id in "
            "the body stays (https://developer.box.com/guides/webhooks/v2)."
        ),
        signature=("@box-signature-primary", "@box-signature-secondary"),
        encoding="base64",
        signed="{body}{timestamp}",
        require={"box-signature-version": "1", "box-signature-algorithm": "HmacSHA256"},
        timestamp="@box-delivery-timestamp",
        timestamp_format="iso",
        tolerance=timedelta(minutes=10),  # what Box's page asks for
        tolerance_ahead=timedelta(minutes=10),
        id=("{id}",),
        type=("{trigger}",),
        occurred_at=("{created_at}",),
        object_id=("{source.id}",),
        data="source",
    ),
    Scheme(
        name="zoom",
        title="Zoom",
        documentation="https://developers.zoom.us/docs/api/webhooks/#verify-webhook-events",
        retries=(
            "Tries again after 5, then 20, then 60 min, until a 2xx within 3 s "
            "(https://developers.zoom.us/blog/webhook-delays). Whether it signs anew is not said, so a signature "
            "is good for 2 h; a second copy of a body is a duplicate."
        ),
        signature=("@x-zm-signature",),
        prefix="v0=",
        signed="v0:{timestamp}:{body}",
        timestamp="@x-zm-request-timestamp",
        tolerance=timedelta(hours=2),
        type=("{event}",),
        occurred_at=("{event_ts}",),
        object_id=("{payload.object.uuid}", "{payload.object.id}"),
        data="payload.object",
        previous="payload.old_object",
        handshake="zoom",
    ),
    Scheme(
        name="line",
        title="LINE",
        documentation="https://developers.line.biz/en/docs/messaging-api/verify-webhook-signature/",
        signature=("@x-line-signature",),
        encoding="base64",
        items=("events",),
        id=("{webhookEventId}",),
        occurred_at=("{timestamp}",),
        object_id=("{source.groupId}", "{source.roomId}", "{source.userId}"),
    ),
    Scheme(
        name="basic",
        title="HTTP Basic authentication",
        documentation="https://www.rfc-editor.org/rfc/rfc7617",
        algorithm="basic",
        signature=("@authorization",),
        id=("{id}", ""),
        type=("{type}", "event"),
    ),
    Scheme(
        name="bearer",
        title="a bearer token",
        documentation="https://www.rfc-editor.org/rfc/rfc6750",
        algorithm="token",
        signature=("@authorization",),
        prefix="Bearer ",
        id=("{id}", ""),
        type=("{type}", "event"),
    ),
)
