"""Rows of senders that tell of accounts, files, chats and streams on their platform. Facts carry the page that they come from."""

from __future__ import annotations

from datetime import timedelta

from webhooks.sources.declared.greetings import Greeting
from webhooks.sources.declared.scheme import Scheme

PLATFORM_ROWS: tuple[Scheme, ...] = (
    Scheme(
        name="dropbox",
        title="Dropbox",
        documentation="https://www.dropbox.com/developers/reference/webhooks",
        signature=("@x-dropbox-signature",),
        dedup="none",  # a body says only whose files changed
        type=("changed",),
        greetings=(Greeting(method="GET", challenge="query:challenge"),),
    ),
    Scheme(
        name="microsoft-graph",
        title="Microsoft Graph (change notifications)",
        documentation="https://learn.microsoft.com/graph/change-notifications-delivery-webhooks",
        retries=(
            "Tries again for 4 h, until a 2xx within 3 s; addresses that are often slower are throttled "
            "(https://learn.microsoft.com/graph/change-notifications-delivery-webhooks)."
        ),
        algorithm="token",
        signature=("clientState",),
        items=("value",),
        id=("{id}", "{subscriptionId}:{resource}:{changeType}"),
        type=("{changeType}", "lifecycle.{lifecycleEvent}"),
        object_id=("{resource}",),
        greetings=(Greeting(challenge="query:validationToken", signed=False, characters="text"),),
    ),
    Scheme(
        name="okta",
        title="Okta (event hooks)",
        documentation="https://developer.okta.com/docs/concepts/event-hooks/",
        retries=(
            "Tries once more after 3 s or an error, and not after a 4xx; the answer should be empty "
            "(https://developer.okta.com/docs/concepts/event-hooks/)."
        ),
        algorithm="token",
        signature=("@authorization",),
        items=("data.events",),
        id=("{uuid}",),
        type=("{eventType}",),
        occurred_at=("{published}",),
        object_id=("{target.0.id}", "{actor.id}"),
        greetings=(
            Greeting(
                method="GET",
                challenge="@x-okta-verification-challenge",
                answer='{"verification":"{challenge}"}',
                type="application/json",
            ),
        ),
        success=("text/plain; charset=utf-8", ""),
    ),
    Scheme(
        name="telegram",
        title="Telegram (bots)",
        documentation="https://core.telegram.org/bots/api#setwebhook",
        retries=(
            "Tries again until a 2xx, and gives up after what it calls a reasonable number of attempts "
            "(https://core.telegram.org/bots/api#setwebhook)."
        ),
        algorithm="token",
        signature=("@x-telegram-bot-api-secret-token",),
        id=("{update_id}",),
        type=("{key:!update_id}",),
        occurred_at=("{message.date}",),
        object_id=("{message.chat.id}", "{callback_query.message.chat.id}"),
        dedup="id",  # a retry is the same update; a client that has the token could change the body as well as the id
    ),
    Scheme(
        name="twitch",
        title="Twitch (EventSub)",
        documentation="https://dev.twitch.tv/docs/eventsub/handling-webhook-events",
        signature=("@twitch-eventsub-message-signature",),
        prefix="sha256=",
        signed="{id}{timestamp}{body}",
        timestamp="@twitch-eventsub-message-timestamp",
        timestamp_format="iso",
        tolerance=timedelta(minutes=10),  # what Twitch's page asks for
        id=("{@twitch-eventsub-message-id}",),
        type=("{subscription.type}",),
        object_id=("{subscription.id}",),
        data="event",
        greetings=(
            Greeting(
                challenge="challenge",
                when={"@twitch-eventsub-message-type": "webhook_callback_verification"},
            ),
        ),
    ),
)
