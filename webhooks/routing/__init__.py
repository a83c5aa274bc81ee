"""Who gets an event, under which conditions, and when it runs again: rules, without a database.

Promises: what can be refused is refused when a handler is registered; the decisions are pure and take the clock from
outside. Not here: running handlers (`delivery`), storing deliveries (`store`).

An event meets `registry` (which handlers), `patterns` (by its type), `conditions` (by what it says); after an attempt
`retry` decides. `discovery` loads the modules of handlers before any of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.routing.conditions import changed as changed
    from webhooks.routing.conditions import field as field
    from webhooks.routing.discovery import find_modules as find_modules
    from webhooks.routing.discovery import load_modules as load_modules
    from webhooks.routing.patterns import Pattern as Pattern
    from webhooks.routing.patterns import expand as expand
    from webhooks.routing.patterns import suggest as suggest
    from webhooks.routing.registry import Handler as Handler
    from webhooks.routing.registry import Registry as Registry
    from webhooks.routing.registry import default_registry as default_registry
    from webhooks.routing.registry import event_signal as event_signal
    from webhooks.routing.registry import on as on
    from webhooks.routing.registry import require_lane as require_lane
    from webhooks.routing.retry import SUCCEEDED as SUCCEEDED
    from webhooks.routing.retry import RetryPolicy as RetryPolicy
    from webhooks.routing.retry import Verdict as Verdict
    from webhooks.routing.retry import decide as decide
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "conditions": ["changed", "field"],
            "discovery": ["find_modules", "load_modules"],
            "patterns": ["Pattern", "expand", "suggest"],
            "registry": ["Handler", "Registry", "default_registry", "event_signal", "on", "require_lane"],
            "retry": ["RetryPolicy", "SUCCEEDED", "Verdict", "decide"],
        },
    )
