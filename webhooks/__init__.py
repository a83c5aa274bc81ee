"""Take webhooks in, keep every one, and run handlers on them exactly as promised.

What a handler needs is here: `from webhooks import on, changed, field, Retry, Discard, RetryPolicy, Debounce`. An application
needs `Webhooks` or `create_app`. Names are imported when first used, so that a command that needs little loads little.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from webhooks.version import VERSION as __version__

#: {public name: module that has it}
_PUBLIC = {
    "Attempt": "webhooks.model.deliveries",
    "ConfigurationError": "webhooks.errors",
    "DashboardUser": "webhooks.dashboard.access.records",
    "Debounce": "webhooks.routing.debounce",
    "Delivery": "webhooks.model.deliveries",
    "Discard": "webhooks.errors",
    "Event": "webhooks.model.events",
    "Registry": "webhooks.routing.registry",
    "Retry": "webhooks.errors",
    "RetryPolicy": "webhooks.routing.retry",
    "Webhooks": "webhooks.app.webhooks",
    "WebhooksError": "webhooks.errors",
    "changed": "webhooks.routing.conditions",
    "create_app": "webhooks.app.flask",
    "event_signal": "webhooks.routing.registry",
    "field": "webhooks.routing.conditions",
    "on": "webhooks.routing.registry",
    "reply": "webhooks.routing.registry",
    "trace_headers": "webhooks.tracing",
}

if TYPE_CHECKING:
    from webhooks.app import Webhooks, create_app
    from webhooks.dashboard import DashboardUser
    from webhooks.errors import ConfigurationError, Discard, Retry, WebhooksError
    from webhooks.model import Attempt, Delivery, Event
    from webhooks.routing import Debounce, Registry, RetryPolicy, changed, event_signal, field, on, reply
    from webhooks.tracing import trace_headers


def __getattr__(name: str) -> Any:
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module 'webhooks' has no attribute {name!r}") from None
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])


__all__ = [
    "Attempt", "ConfigurationError", "DashboardUser", "Debounce", "Delivery", "Discard", "Event", "Registry", "Retry", "RetryPolicy",
    "Webhooks", "WebhooksError", "__version__", "changed", "create_app", "event_signal", "field", "on",
    "reply", "trace_headers",
]  # fmt: skip
