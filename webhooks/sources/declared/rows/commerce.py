"""Rows of senders that tell of orders, payments, accounts and the mail about them. Facts carry the page that they come from."""

from __future__ import annotations

from webhooks.sources.declared.scheme import Scheme

COMMERCE_ROWS: tuple[Scheme, ...] = (
    Scheme(
        name="authorize-net",
        title="Authorize.Net",
        documentation="https://developer.authorize.net/api/reference/features/webhooks.html",
        algorithm="hmac-sha512",
        signature=("@x-anet-signature",),
        prefix="sha512=",
        encoding="hex-upper",
        id=("{notificationId}",),
        type=("{eventType}",),
        occurred_at=("{eventDate}",),
        object_id=("{payload.id}",),
        data="payload",
    ),
    Scheme(
        name="lemonsqueezy",
        title="Lemon Squeezy",
        documentation="https://docs.lemonsqueezy.com/help/webhooks/signing-requests",
        signature=("@x-signature",),
        type=("{meta.event_name}",),
        occurred_at=("{data.attributes.updated_at}",),
        object_id=("{data.id}",),
        data="data",
    ),
    Scheme(
        name="mandrill",
        title="Mailchimp Transactional (Mandrill)",
        documentation="https://mailchimp.com/developer/transactional/guides/track-respond-activity-webhooks/",
        algorithm="hmac-sha1",
        signature=("@x-mandrill-signature",),
        encoding="base64",
        signed="{url}{form}",
        body="form",
        decode={"mandrill_events": "json"},
        items=("mandrill_events",),
        id=("{_id}:{event}:{ts}", ""),  # of syncs and inbound mail, which have no id, the digest
        type=("{event}", "{type}.{action}"),
        occurred_at=("{ts}",),
        object_id=("{msg._id}", "{_id}"),
    ),
    Scheme(
        name="quickbooks",
        title="QuickBooks Online",
        documentation="https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks",
        signature=("@intuit-signature",),
        encoding="base64",
        items=(".", "eventNotifications.*.dataChangeEvent.entities"),  # CloudEvents since 2026, and the form before
        id=("{source}:{id}", "{name}:{id}:{operation}:{lastUpdated}", ""),
        type=("{type}", "{name}.{operation}"),
        occurred_at=("{time}", "{lastUpdated}"),
        object_id=("{intuitentityid}", "{id}"),
    ),
    Scheme(
        name="razorpay",
        title="Razorpay",
        documentation="https://razorpay.com/docs/webhooks/validate-test/",
        signature=("@x-razorpay-signature",),
        id=("{@x-razorpay-event-id}",),
        type=("{event}",),
        occurred_at=("{created_at}",),
        object_id=("{payload.payment.entity.id}", "{payload.order.entity.id}"),
        data="payload",
    ),
    Scheme(
        name="recurly",
        title="Recurly (JSON)",
        documentation="https://docs.recurly.com/recurly-subscriptions/docs/signature-verification",
        retries=(
            "Tries again 10 times, 10 + x * 2^(x + 5) seconds apart, until a 2xx "
            "(https://docs.recurly.com/recurly-subscriptions/docs/automatic-retries)."
        ),
        signature=("@recurly-signature",),
        split=",",
        signed="{timestamp}.{body}",
        timestamp="part:0",
        timestamp_format="milliseconds",
        id=("{@recurly-notification-id}", ""),  # the body's id is the object's
        type=("{object_type}.{event_type}", "{key:!id}"),  # the second of those in the older form
        occurred_at=("{event_time}",),
        object_id=("{id}",),
    ),
    Scheme(
        name="woocommerce",
        title="WooCommerce",
        documentation="https://developer.woocommerce.com/docs/best-practices/urls-and-routing/webhooks/",
        signature=("@x-wc-webhook-signature",),
        encoding="base64",
        pings=("webhook_id=[0-9]{1,12}",),  # unsigned, before it saves a hook
        id=("{@x-wc-webhook-delivery-id}",),
        type=("{@x-wc-webhook-topic}",),
        occurred_at=("{date_modified_gmt}",),
        object_id=("{id}",),
    ),
    Scheme(
        name="xero",
        title="Xero",
        documentation="https://developer.xero.com/documentation/guides/webhooks/overview/",
        retries=(
            "Tries again for 24 h, then switches the hook off; it wants 200 within 5 s, without a body and "
            "without cookies (https://developer.xero.com/documentation/webhooks/configuring-your-server)."
        ),
        signature=("@x-xero-signature",),
        encoding="base64",
        items=("events",),
        type=("{eventCategory}.{eventType}",),
        occurred_at=("{eventDateUtc}",),
        object_id=("{resourceId}",),
        success=("text/plain; charset=utf-8", ""),  # a body is refused by its check of the address
    ),
)
