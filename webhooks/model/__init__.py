"""The records that travel along the road: requests, events, deliveries, attempts. Plain, frozen, without services.

Promises: a record made here can be stored and sent as it is; ids grow with time, and are as unique as the store needs.
Not here: where they come from (`sources`), how they are kept (`store`).

In the order in which data meets them: `requests`, `events`, `deliveries`; each gets one of the `ids`. `disposition` says what became of
an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.model.deliveries import Attempt as Attempt
    from webhooks.model.deliveries import AttemptOutcome as AttemptOutcome
    from webhooks.model.deliveries import Delivery as Delivery
    from webhooks.model.deliveries import DeliveryClass as DeliveryClass
    from webhooks.model.deliveries import DeliveryState as DeliveryState
    from webhooks.model.disposition import UNDELIVERED as UNDELIVERED
    from webhooks.model.disposition import DeliveryCause as DeliveryCause
    from webhooks.model.disposition import Disposition as Disposition
    from webhooks.model.events import EMPTY as EMPTY
    from webhooks.model.events import Content as Content
    from webhooks.model.events import ContentReader as ContentReader
    from webhooks.model.events import Event as Event
    from webhooks.model.events import OddItem as OddItem
    from webhooks.model.events import Origin as Origin
    from webhooks.model.events import ParsedEvent as ParsedEvent
    from webhooks.model.events import Receipt as Receipt
    from webhooks.model.events import same_json as same_json
    from webhooks.model.ids import id_at as id_at
    from webhooks.model.ids import ids_in as ids_in
    from webhooks.model.ids import instant_of as instant_of
    from webhooks.model.ids import new_id as new_id
    from webhooks.model.ids import new_request_id as new_request_id
    from webhooks.model.requests import Challenge as Challenge
    from webhooks.model.requests import Headers as Headers
    from webhooks.model.requests import InboundRequest as InboundRequest
    from webhooks.model.requests import Verified as Verified
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "deliveries": ["Attempt", "AttemptOutcome", "Delivery", "DeliveryClass", "DeliveryState"],
            "disposition": ["DeliveryCause", "Disposition", "UNDELIVERED"],
            "events": [
                "Content",
                "ContentReader",
                "EMPTY",
                "Event",
                "OddItem",
                "Origin",
                "ParsedEvent",
                "Receipt",
                "same_json",
            ],
            "ids": ["id_at", "ids_in", "instant_of", "new_id", "new_request_id"],
            "requests": ["Challenge", "Headers", "InboundRequest", "Verified"],
        },
    )
