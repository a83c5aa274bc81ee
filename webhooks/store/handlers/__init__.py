"""The handlers that processes have registered, and what holds all workers together about each of them.

A row says how much of a handler may be claimed: paused by an operator, limited in concurrency or rate, held back by an
open circuit breaker. Workers read the rows every second, so a change is felt everywhere within two.

On PostgreSQL another client may hold a lock on a row: what workers do here passes it over and says so, and they try again.

`handlers` has the rows, `names` moves what is stored of one to another name, `records` what they say, `limits` the arithmetic of concurrency and rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.handlers.handlers import Handlers as Handlers
    from webhooks.store.handlers.names import HandlerNames as HandlerNames
    from webhooks.store.handlers.records import BREAKER_LONGEST as BREAKER_LONGEST
    from webhooks.store.handlers.records import BreakerState as BreakerState
    from webhooks.store.handlers.records import HandlerRow as HandlerRow
    from webhooks.store.handlers.records import HandlerState as HandlerState
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "handlers": ["Handlers"],
            "names": ["HandlerNames"],
            "records": ["BREAKER_LONGEST", "BreakerState", "HandlerRow", "HandlerState"],
        },
    )
