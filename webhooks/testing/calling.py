"""Units: an event that is stored nowhere, a handler called with it, and who would get it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from webhooks.errors import NotFound
from webhooks.model import Content, Delivery, DeliveryState, Event, Headers, InboundRequest, new_id
from webhooks.store.deliveries import idempotency_key
from webhooks.testing.part import KitPart
from webhooks.testing.records import Filtered, Values, What

if TYPE_CHECKING:
    from webhooks.routing import Handler
    from webhooks.sources import Source


class Calling(KitPart):
    """The part of a `Kit` that works on single functions and events."""

    def event(
        self,
        what: What,
        *,
        source: str | None = None,
        set: Values | None = None,
        previous: Mapping[str, Any] | None = None,
    ) -> Event:
        """An event that is stored nowhere, as a handler would get it.

        what, source, set: see `post`.
        previous: old values, whose names are the changed fields; None: those of the body.

        >>> event = kit.event("lead.created", set={"data.name": "Quayside"}, previous={"name": "Quay"})
        >>> event.type, event.data["name"], event.previous["name"], event.changed_fields
        ('lead.created', 'Quayside', 'Quay', ('name',))
        """
        sender = self.poster.source(source, what)
        now = self._clock()
        body, headers = self.poster.body(what, sender, set or {}, now)
        first, *_ = sender.parse(InboundRequest(Headers(headers), sender.prepare(body, now)))
        return Event(
            id=new_id(),
            source=sender.name,
            type=first.type,
            dedup_key=first.dedup_key,
            raw=first.body,
            occurred_at=first.occurred_at or now,
            received_at=now,
            revision=max(0, first.revision),
            headers=headers,
            reader=_reader(sender, previous),
        )

    def call(
        self,
        handler: str | Callable[..., Any],
        what: What | Event,
        *,
        session: Any = None,
        delivery: Delivery | None = None,
        **arguments: Any,
    ) -> Any:
        """Call a handler with what it asks for by name; what it returned. One that is `async` is awaited.

        handler: its name, or its function.
        what: an event, or what `event` makes one of.
        session: for one that asks for it; None: one whose writes are rolled back afterwards.
        delivery: for one that asks for it; None: that of a first attempt.
        arguments: in place of what it would get, by name.

        Raises `Filtered` where it would not get the event, and what it raises.

        >>> kit.call("welcome", "lead.created")
        >>> kit.call("welcome", "lead.updated")
        Traceback (most recent call last):
        webhooks.testing.records.Filtered: not subscribed: it asks for lead.created
        """
        found = self._find(handler)
        event = what if isinstance(what, Event) else self.event(what)
        delivery = delivery or self._first_attempt(found, event)
        why_not = self._why_not(found, event)
        if why_not is not None:
            raise Filtered(why_not)
        dispatcher = self.webhooks.dispatcher
        with self._session_for(found, session) as opened:
            given = {**dispatcher.arguments(found, event, delivery, opened), **arguments}
            result = found.function(**given)
            return self._awaited(result) if found.is_async and asyncio.iscoroutine(result) else result

    def reply(self, what: What | Event, *, source: str | None = None, set: Values | None = None) -> Any:
        """What the reply for an event returns, checked as one that is sent; called here, without its time limit.

        what, source, set: see `post`, whose `Posted.body` has what the sender would hear.

        Raises `Filtered` where no reply is asked, ValueError for what cannot be sent, and what the reply raises.

        >>> kit.reply("lead.deleted")
        {'deleted': 'lead.deleted'}
        """
        event = what if isinstance(what, Event) else self.event(what, source=source, set=set)
        replies = self.webhooks.registry.replies
        found = replies.find(event.source, event.type)
        if found is None:
            there = ", ".join(each.name for each in replies.all()) or "none"
            raise Filtered(f"no reply is asked for {event.type!r} of {event.source!r}; there are: {there}")
        returned = found.function(event)
        found.answer(returned)
        return returned

    def routes(self, what: What | Event) -> list[str]:
        """The names of the handlers that would run for an event, filters included.

        >>> kit.routes("lead.created")
        ['welcome']
        """
        return [name for name, why_not in self._judged(what) if why_not is None]

    def explain(self, what: What | Event) -> dict[str, str]:
        """Why the other handlers would not run: {name: why}.

        >>> kit.explain("lead.updated")["welcome"]
        'not subscribed: it asks for lead.created'
        """
        return {name: why_not for name, why_not in self._judged(what) if why_not is not None}

    def _judged(self, what: What | Event) -> Iterator[tuple[str, str | None]]:
        event = what if isinstance(what, Event) else self.event(what)
        for handler in self.webhooks.registry.handlers():
            yield handler.name, self._why_not(handler, event)

    def _why_not(self, handler: Handler, event: Event) -> str | None:
        routed = self.webhooks.registry.route(event.source, event.type)
        if handler.name not in {each.name for each in routed}:
            of = f" of source {handler.source}" if handler.source not in (None, event.source) else ""
            return f"not subscribed: it asks for {', '.join(pattern.text for pattern in handler.patterns)}{of}"
        why_not = self.webhooks.dispatcher.why_not(handler, event, self._first_attempt(handler, event))
        return None if why_not is None else why_not[0]

    def _awaited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        results: list[Any] = []

        async def keep() -> None:
            results.append(await coroutine)

        self.webhooks.dispatcher.loop.submit(keep()).result()
        return results[0]

    def _find(self, handler: str | Callable[..., Any]) -> Handler:
        """A handler by its name or function. Raises `NotFound`."""
        if isinstance(handler, str):
            self._drainer.require([handler])
        for each in self.webhooks.registry.handlers():
            if handler in (each.name, each.function):
                return each
        raise NotFound(f"{handler!r} is registered with no handler here; decorate it with @on(…), or call it yourself")

    def _first_attempt(self, handler: Handler, event: Event) -> Delivery:
        now, id = self._clock(), new_id()
        key = idempotency_key(event.id, handler.name)
        return Delivery(id, event.id, handler.name, DeliveryState.RUNNING, now, now, number=1, idempotency_key=key)

    @contextlib.contextmanager
    def _session_for(self, handler: Handler, given: Any) -> Iterator[Any]:
        if given is not None or not handler.wants_session:
            yield given
            return
        with self.webhooks.dispatcher.sessions.open() as opened:
            yield opened.session
            opened.flush()


def _reader(source: Source, previous: Mapping[str, Any] | None) -> Callable[[bytes, str], Content]:
    if previous is None:
        return source.read
    return lambda raw, type: replace(source.read(raw, type), previous=dict(previous), changed_fields=tuple(previous))


__all__ = ["Calling"]
