"""The table of senders: one row each, in the language of `scheme`. Facts carry the page that they come from.

`make_source` turns a source's settings into a source: a row by its name, `custom` (alias `hmac`) for a sender
described in `webhooks.toml`, `close`, or a scheme from another distribution (entry point group
`webhooks.sources`: a `Scheme`, or a subclass of `Source` that takes the settings).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from importlib.metadata import entry_points

from webhooks.errors import ConfigurationError
from webhooks.formats import did_you_mean
from webhooks.settings import shown
from webhooks.sources.base import Source, SourceSettings
from webhooks.sources.close import CloseSource
from webhooks.sources.declared.scheme import Scheme
from webhooks.sources.declared.source import DeclaredSource

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
    from dataclasses import replace

    return replace(
        row,
        name="svix",
        title="Svix (Clerk, Resend and others)",
        documentation="https://docs.svix.com/receiving/verifying-payloads/how-manual",
        signature=("@svix-signature",),
        timestamp="@svix-timestamp",
        id=("{@svix-id}",),
    )


ROWS: tuple[Scheme, ...] = (
    CUSTOM,
    _STANDARD,
    _svix(_STANDARD),
    Scheme(
        name="stripe",
        title="Stripe",
        documentation="https://docs.stripe.com/webhooks/signature",
        signature=("@stripe-signature",),
        split=",",
        prefix="v1=",
        signed="{timestamp}.{body}",
        timestamp="part:t=",
        id=("{id}",),
        occurred_at=("{created}",),
        object_id=("{data.object.id}",),
        data="data.object",
        previous="data.previous_attributes",
    ),
    Scheme(
        name="github",
        title="GitHub",
        documentation="https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries",
        signature=("@x-hub-signature-256",),
        prefix="sha256=",
        id=("{@x-github-delivery}",),
        type=("{@x-github-event}.{action}", "{@x-github-event}"),
        object_id=("{repository.full_name}",),
    ),
    Scheme(
        name="shopify",
        title="Shopify",
        documentation="https://shopify.dev/docs/apps/build/webhooks/subscribe/https",
        signature=("@x-shopify-hmac-sha256",),
        encoding="base64",
        id=("{@x-shopify-webhook-id}",),
        type=("{@x-shopify-topic}",),
        dotted="/",
        occurred_at=("{updated_at}", "{created_at}"),
        object_id=("{id}",),
    ),
    Scheme(
        name="slack",
        title="Slack",
        documentation="https://docs.slack.dev/authentication/verifying-requests-from-slack",
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
    ),
    Scheme(
        name="meta",
        title="Meta (WhatsApp Cloud, Messenger, Instagram)",
        documentation="https://developers.facebook.com/docs/graph-api/webhooks/getting-started",
        signature=("@x-hub-signature-256",),
        prefix="sha256=",
        type=("{object}.{entry.0.changes.0.field}", "{object}"),
        occurred_at=("{entry.0.time}",),
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
        body="json-or-form",
        type=("message.{MessageStatus}", "message.{SmsStatus}", "call.{CallStatus}", "{type}", "event"),
        object_id=("{MessageSid}", "{CallSid}"),
        success=("text/xml; charset=utf-8", "<Response/>"),
    ),
    Scheme(
        name="square",
        title="Square",
        documentation="https://developer.squareup.com/docs/webhooks/step3validate",
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
        signature=("@x-hubspot-signature-v3",),
        encoding="base64",
        signed="{method}{url}{body}{timestamp}",
        timestamp="@x-hubspot-request-timestamp",
        timestamp_format="milliseconds",
        items=".",
        id=("{eventId}:{subscriptionId}:{occurredAt}",),
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
        algorithm="ecdsa-sha256",
        signature=("@x-twilio-email-event-webhook-signature",),
        encoding="base64",
        signed="{timestamp}{body}",
        secret_encoding="base64",
        timestamp="@x-twilio-email-event-webhook-timestamp",
        items=".",
        id=("{sg_event_id}",),
        type=("{event}",),
        occurred_at=("{timestamp}",),
        object_id=("{sg_message_id}",),
    ),
    Scheme(
        name="mailgun",
        title="Mailgun",
        documentation="https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks",
        signature=("signature.signature",),
        signed="{timestamp}{signature.token}",
        timestamp="signature.timestamp",
        id=("{event-data.id}",),
        type=("{event-data.event}",),
        occurred_at=("{event-data.timestamp}",),
        object_id=("{event-data.message.headers.message-id}",),
        data="event-data",
    ),
    Scheme(
        name="adyen",
        title="Adyen (standard notifications)",
        documentation="https://docs.adyen.com/development-resources/webhooks/secure-webhooks/verify-hmac-signatures/",
        signature=("additionalData.hmacSignature",),
        encoding="base64",
        signed="{pspReference?}:{originalReference?}:{merchantAccountCode?}:{merchantReference?}:"
        "{amount.value?}:{amount.currency?}:{eventCode?}:{success?}",
        secret_encoding="hex",
        min_secret_bytes=32,
        items="notificationItems",
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
        signature=("@x-zm-signature",),
        prefix="v0=",
        signed="v0:{timestamp}:{body}",
        timestamp="@x-zm-request-timestamp",
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
        items="events",
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

#: {name in `scheme = "…"`: row}.
SCHEMES: Mapping[str, Scheme] = {row.name: row for row in ROWS} | {"hmac": CUSTOM}


def scheme_names() -> list[str]:
    """Every name that `scheme = "…"` may have, those of other distributions included."""
    return sorted({*SCHEMES, CloseSource.scheme, *_foreign()})


def make_source(settings: SourceSettings) -> Source:
    """The source that `settings` describe. Raises ConfigurationError with every mistake in them."""
    if settings.scheme == CloseSource.scheme:
        return CloseSource(settings)
    if settings.scheme in SCHEMES:
        return DeclaredSource(settings, SCHEMES[settings.scheme])
    if settings.scheme in _foreign():
        return _make_foreign(settings)
    raise ConfigurationError(
        f"source {settings.name!r}: no scheme named {shown(settings.scheme)}"
        f"{did_you_mean(settings.scheme, scheme_names())}; known: {', '.join(scheme_names())}"
    )


@cache
def _foreign() -> dict[str, object]:
    """{name: entry point} of the schemes that other distributions bring; not loaded before one is used."""
    return {each.name: each for each in entry_points(group="webhooks.sources")}


def _make_foreign(settings: SourceSettings) -> Source:
    try:
        found = _foreign()[settings.scheme].load()  # type: ignore[attr-defined]
    except Exception as error:
        raise ConfigurationError(
            f"source {settings.name!r}: scheme {settings.scheme!r} cannot be loaded ({type(error).__name__}: {error})"
        ) from error
    if isinstance(found, Scheme):
        return DeclaredSource(settings, found)
    if isinstance(found, type) and issubclass(found, Source):
        return found(settings)
    raise ConfigurationError(
        f"source {settings.name!r}: the entry point of scheme {settings.scheme!r} is neither a Scheme nor a Source"
    )
