"""The records that travel along the road: requests, events, deliveries, attempts. Plain, frozen, without services.

Promises: a record made here can be stored and sent as it is; ids grow with time, and are as unique as the store needs.
Not here: where they come from (`sources`), how they are kept (`store`).

All of it is in `events` now: ids, the HTTP message, the event, the delivery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.model.events import EMPTY as EMPTY
    from webhooks.model.events import Attempt as Attempt
    from webhooks.model.events import AttemptOutcome as AttemptOutcome
    from webhooks.model.events import Challenge as Challenge
    from webhooks.model.events import Content as Content
    from webhooks.model.events import ContentReader as ContentReader
    from webhooks.model.events import Delivery as Delivery
    from webhooks.model.events import DeliveryClass as DeliveryClass
    from webhooks.model.events import DeliveryState as DeliveryState
    from webhooks.model.events import Event as Event
    from webhooks.model.events import Headers as Headers
    from webhooks.model.events import InboundRequest as InboundRequest
    from webhooks.model.events import Origin as Origin
    from webhooks.model.events import ParsedEvent as ParsedEvent
    from webhooks.model.events import Receipt as Receipt
    from webhooks.model.events import ReceiptStatus as ReceiptStatus
    from webhooks.model.events import Verified as Verified
    from webhooks.model.events import id_at as id_at
    from webhooks.model.events import instant_of as instant_of
    from webhooks.model.events import new_id as new_id
    from webhooks.model.events import new_request_id as new_request_id
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "events": [
                "Attempt",
                "AttemptOutcome",
                "Challenge",
                "Content",
                "ContentReader",
                "Delivery",
                "DeliveryClass",
                "DeliveryState",
                "EMPTY",
                "Event",
                "Headers",
                "InboundRequest",
                "Origin",
                "ParsedEvent",
                "Receipt",
                "ReceiptStatus",
                "Verified",
                "id_at",
                "instant_of",
                "new_id",
                "new_request_id",
            ],
        },
    )
