"""What Close's API answers, read: how long to wait, what an error says, subscriptions. Pure.

Source: developer.close.com/api/overview/rate-limits and /api/resources/webhooks (see docs/close.md).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from webhooks.formats import json as jsonio
from webhooks.formats import one_line, read_iso
from webhooks.settings import Secret
from webhooks.sources.remote import ApiMalformed, Subscription, Topic

_RESET = re.compile(r"(?:^|[,;\s])reset=([0-9]{1,9}(?:\.[0-9]{1,9})?)(?:$|[,;\s])", re.ASCII)
_REMAINING = re.compile(r"(?:^|[,;\s])remaining=([0-9]{1,9})(?:$|[,;\s])", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)


def asked_wait(headers: Mapping[str, str]) -> timedelta | None:
    """How long an answer asks to wait: `reset` of RateLimit, else Retry-After in seconds; None when it does not say.

    Source: developer.close.com/api/overview/rate-limits ("reset", a decimal; "retry-after" is the same rounded up).
    """
    reset = _RESET.search(headers.get("RateLimit", ""))
    if reset is not None:
        return timedelta(seconds=float(reset[1]))
    text = headers.get("Retry-After", "").strip()
    return timedelta(seconds=float(text)) if _SECONDS.fullmatch(text) else None


def is_used_up(headers: Mapping[str, str]) -> bool:
    """Whether the rate limit allows no further request at once."""
    remaining = _REMAINING.search(headers.get("RateLimit", ""))
    return remaining is not None and int(remaining[1]) == 0


def said(raw: bytes) -> str:
    """What an error's body says, on one line; never more than a few words of it."""
    text = ""
    with contextlib.suppress(*jsonio.ERRORS):
        found = jsonio.load(raw)
        if isinstance(found, Mapping):
            error = found.get("error")
            text = str(error.get("message", "") if isinstance(error, Mapping) else error or "")
            fields = found.get("field-errors")
            if not text and isinstance(fields, Mapping):
                text = "; ".join(f"{name}: {problem}" for name, problem in fields.items())
    return one_line(text) or "no reason given"


def read_subscription(raw: Any) -> Subscription:
    """A subscription from JSON; what is absent is read as null. Raises ApiMalformed."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("id"), str) or not isinstance(raw.get("url"), str):
        raise ApiMalformed("Close answered with a subscription that has no id or url")
    topics = []
    events = raw.get("events")
    for each in events if isinstance(events, list) else ():
        if (
            isinstance(each, Mapping)
            and isinstance(each.get("object_type"), str)
            and isinstance(each.get("action"), str)
        ):
            extra = each.get("extra_filter")
            topics.append(
                Topic(f"{each['object_type']}.{each['action']}", extra if isinstance(extra, Mapping) else None)
            )
    key = _text(raw, "signature_key")
    return Subscription(
        id=raw["id"],
        url=raw["url"],
        status=_text(raw, "status") or "active",
        topics=tuple(topics),
        verify_ssl=raw.get("verify_ssl") is not False,
        health_status=_text(raw, "health_status"),
        latest_error=_words(raw.get("latest_error")),
        pause_reason=_text(raw, "pause_reason"),
        paused_by_call=raw.get("pause_reason") == "api",
        created_at=_instant(raw, "date_created"),
        updated_at=_instant(raw, "date_updated"),
        key=None if key is None else Secret(key, raw["id"]),
    )


def written_topic(topic: Topic) -> dict[str, Any]:
    """A topic as Close's API takes it: object_type, action, and extra_filter where there is one."""
    object_type, _, action = topic.type.rpartition(".")
    pair: dict[str, Any] = {"object_type": object_type, "action": action}
    return pair if topic.filter is None else {**pair, "extra_filter": topic.filter}


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    return value if isinstance(value, str) and value else None


def _words(value: Any) -> str | None:
    """`latest_error`, whose shape Close does not publish, in words."""
    if not value:
        return None
    text = value if isinstance(value, str) else jsonio.dump(value).decode("utf-8", "replace")
    return one_line(text, 200)


def _instant(raw: Mapping[str, Any], name: str) -> datetime | None:
    return read_iso(_text(raw, name) or "")


__all__ = ["asked_wait", "is_used_up", "read_subscription", "said", "written_topic"]
