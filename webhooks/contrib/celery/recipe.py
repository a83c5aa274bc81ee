"""A handler that hands its event over to a Celery task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from webhooks.formats import iso_text
from webhooks.model import Delivery, Event


def hand_over(task: Any, **options: Any) -> Callable[[Event, Delivery], None]:
    """Make a handler that calls a Celery task with each event, as `task(event, idempotency_key)`.

    task: a task of yours; `event` is a dict of JSON (`event_document`). The handler is called as the task is, unless `@on` is
        given a name.
    options: of `apply_async`, such as `queue="crm"`.

    The delivery is done once the broker has taken the message. When it does not take it, that is a failed attempt, which is
    tried again; so the task may be called twice for one event, each time with the same idempotency key. Celery does not
    try again by itself unless the options say `retry=True`, because a handler's time-out ends while it waits.
    """

    def handler(event: Event, delivery: Delivery) -> None:
        arguments = {"event": event_document(event), "idempotency_key": delivery.idempotency_key}
        task.apply_async(kwargs=arguments, **{"retry": False, **options})

    module, _, name = str(task.name).rpartition(".")
    handler.__module__ = module or handler.__module__
    handler.__name__ = handler.__qualname__ = name
    handler.__doc__ = f"Hand events over to the task {task.name!r}."
    return handler


def event_document(event: Event) -> dict[str, Any]:
    """What a task gets: `id`, `source`, `type`, `key`, `occurred_at`, and `data`, the object after the change."""
    return {
        "id": str(event.id),
        "source": event.source,
        "type": event.type,
        "key": event.dedup_key,
        "occurred_at": iso_text(event.occurred_at),
        "data": event.data,
    }


__all__ = ["event_document", "hand_over"]
