"""Who gets an event, under which conditions, and when it runs again: rules, without a database.

Promises: what can be refused is refused when a handler is registered; the decisions are pure and take the clock from
outside. Not here: running handlers (`delivery`), storing deliveries (`store`).

An event meets `registry` (which handlers), `patterns` (by its type), `ordering` (after which others), `conditions` (by what it
says); after an attempt `retry` decides, and `partial` which events of a batch are meant. `replies` says what the sender hears. A `handler`, its `arguments` and the type of its data (`payloads`) are checked when it is registered; `discovery`
loads the modules that do so before any of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.routing.arguments import ARGUMENTS as ARGUMENTS
    from webhooks.routing.conditions import changed as changed
    from webhooks.routing.conditions import field as field
    from webhooks.routing.debounce import Debounce as Debounce
    from webhooks.routing.discovery import find_modules as find_modules
    from webhooks.routing.discovery import load_modules as load_modules
    from webhooks.routing.handler import Handler as Handler
    from webhooks.routing.handler import HandlerOptions as HandlerOptions
    from webhooks.routing.ordering import OBJECT_KEY as OBJECT_KEY
    from webhooks.routing.ordering import ordering_failed as ordering_failed
    from webhooks.routing.ordering import ordering_key as ordering_key
    from webhooks.routing.ordering import require_lane as require_lane
    from webhooks.routing.partial import meant as meant
    from webhooks.routing.patterns import Pattern as Pattern
    from webhooks.routing.patterns import expand as expand
    from webhooks.routing.patterns import suggest as suggest
    from webhooks.routing.registry import EventSignal as EventSignal
    from webhooks.routing.registry import Registry as Registry
    from webhooks.routing.registry import default_registry as default_registry
    from webhooks.routing.registry import event_signal as event_signal
    from webhooks.routing.registry import on as on
    from webhooks.routing.registry import reply as reply
    from webhooks.routing.replies import Reply as Reply
    from webhooks.routing.replies import ReplyOptions as ReplyOptions
    from webhooks.routing.replies import why_not_sync as why_not_sync
    from webhooks.routing.retry import SUCCEEDED as SUCCEEDED
    from webhooks.routing.retry import RetryPolicy as RetryPolicy
    from webhooks.routing.retry import Verdict as Verdict
    from webhooks.routing.retry import decide as decide
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "arguments": ["ARGUMENTS"],
            "conditions": ["changed", "field"],
            "debounce": ["Debounce"],
            "discovery": ["find_modules", "load_modules"],
            "handler": ["Handler", "HandlerOptions"],
            "ordering": ["OBJECT_KEY", "ordering_failed", "ordering_key", "require_lane"],
            "partial": ["meant"],
            "patterns": ["Pattern", "expand", "suggest"],
            "registry": ["EventSignal", "Registry", "default_registry", "event_signal", "on", "reply"],
            "replies": ["Reply", "ReplyOptions", "why_not_sync"],
            "retry": ["RetryPolicy", "SUCCEEDED", "Verdict", "decide"],
        },
    )
