"""Replies: functions that say what a sender hears of an event, in the answer to its own request.

Few senders want one: a modal of Slack's, a call of Twilio's, an interaction of Discord's. A reply is asked after the event is
stored, and again for each copy of it, so it must have no effect; effects belong to handlers. It is no handler: nothing is
stored for it, and it is not tried again.

Not here: calling one within its time (`intake.replies`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from webhooks.errors import HandlerAlreadyRegistered, InvalidHandler, RegistrationError
from webhooks.formats import did_you_mean
from webhooks.formats import json as jsonio
from webhooks.model import Challenge, Event
from webhooks.routing.conditions import require_function_of_event
from webhooks.routing.handler import called, place_of, require_patterns
from webhooks.routing.patterns import Pattern

#: What a text is sent as, unless its reply says otherwise.
TEXT = "text/plain; charset=utf-8"
#: A longer answer is not sent.
MOST_BYTES = 256 * 1024
#: Replies are looked up for so many (source, type) once. Types are senders' words, so it is bounded.
REMEMBERED = 1024


class ReplyOptions(TypedDict, total=False):
    """The options of `reply`, which describes them."""

    name: str | None
    source: str | None
    content_type: str


@dataclass(frozen=True, eq=False)
class Reply:
    """One registered function of an event and what it answers; the options are described at `reply`."""

    name: str
    function: Callable[[Event], Any]
    patterns: tuple[Pattern, ...]
    source: str | None = None
    content_type: str = TEXT

    def answers(self, source: str, type: str) -> bool:
        """Whether it is asked for events of this source and type."""
        return self.source in (None, source) and any(pattern.matches(type) for pattern in self.patterns)

    def answer(self, value: Any) -> Challenge | None:
        """What the function returned as an answer; None is the default one. Raises ValueError for what cannot be sent."""
        if value is None:
            return None
        if isinstance(value, str | bytes):
            body, kind = value.encode("utf-8") if isinstance(value, str) else value, self.content_type
        elif isinstance(value, dict | list):
            body, kind = _json(value), "application/json"
        else:
            raise ValueError(
                f"it returned {type(value).__name__}; return None, text, bytes, or what JSON can hold (a dict or list)"
            )
        if len(body) > MOST_BYTES:
            raise ValueError(f"it returned {len(body)} bytes, and at most {MOST_BYTES} are sent; answer with less")
        return Challenge(body, kind)


def _json(value: Any) -> bytes:
    try:
        return jsonio.dump(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it returned what JSON cannot hold: {error}") from None


class Replies:
    """The replies of one application, in the order of registration. The first that is asked for an event answers."""

    def __init__(self) -> None:
        self._replies: list[Reply] = []
        self._frozen = False
        self._found = functools.lru_cache(maxsize=REMEMBERED)(self._find)

    def add(self, function: Callable[[Event], Any], *patterns: str, **options: Any) -> Reply:
        """Register `function` for events of any of `patterns`; the options are those of `reply`.

        Raises `InvalidPattern`, `InvalidHandler`, `HandlerAlreadyRegistered` or `RegistrationError`, each naming the fix.
        """
        reply = make_reply(function, patterns, options)
        if self._frozen:
            raise RegistrationError(
                f"reply {reply.name!r} comes after the start; register it in a module that is loaded at start: one in the "
                "directory handlers/, or named in the setting HANDLERS"
            )
        self._require_alone(reply)
        self._replies.append(reply)
        self._found.cache_clear()
        return reply

    def freeze(self) -> None:
        """End registration; harmless when called again."""
        self._frozen = True

    def of(self, modules: Collection[str] | None) -> Replies:
        """Those that stand in some modules, or all of them; these stay as they are."""
        other = Replies()
        other._replies = [each for each in self._replies if modules is None or each.function.__module__ in modules]
        return other

    def all(self) -> list[Reply]:
        """Every reply, in the order of registration."""
        return list(self._replies)

    def find(self, source: str, type: str) -> Reply | None:
        """The one that answers an event; None when its sender gets the default."""
        return self._found(source, type) if self._replies else None

    def _find(self, source: str, type: str) -> Reply | None:
        return next((reply for reply in self._replies if reply.answers(source, type)), None)

    def _require_alone(self, reply: Reply) -> None:
        """Raises `HandlerAlreadyRegistered` where another has the name, or answers the same: a sender hears one answer."""
        for known in self._replies:
            if known.name == reply.name:
                raise HandlerAlreadyRegistered(
                    f"reply {reply.name!r} is already registered, by {place_of(known.function)}; give one of the two another name="
                )
            same = {pattern.text for pattern in known.patterns} & {pattern.text for pattern in reply.patterns}
            if same and (known.source == reply.source or None in (known.source, reply.source)):
                raise HandlerAlreadyRegistered(
                    f"reply {reply.name!r} answers {min(same)!r}, as {known.name!r} does ({place_of(known.function)}); a sender "
                    "hears one answer, so take one of them out, or give each a source="
                )


def make_reply(function: Callable[[Event], Any], patterns: tuple[str, ...], options: Any) -> Reply:
    """Check everything about a reply and make its record. Raises `InvalidPattern` or `InvalidHandler`."""
    require_patterns(patterns)
    name = options.get("name") or _default_name(function)
    try:
        for option in options:
            if option not in ReplyOptions.__annotations__:
                raise ValueError(f"there is no option {option!r}{did_you_mean(option, ReplyOptions.__annotations__)}")
        source = _read_source(options.get("source"))
        content_type = _read_content_type(options.get("content_type", TEXT))
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            raise ValueError("it is async, and a reply is called in a thread; make it an ordinary function")
        require_function_of_event(function)
    except (TypeError, ValueError) as error:
        raise InvalidHandler(f"reply {name!r}: {error}") from None
    return Reply(name, function, tuple(map(Pattern, dict.fromkeys(patterns))), source, content_type)


def _default_name(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}.{called(function)}".lstrip(".")


def _read_source(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value or value != value.lower()):
        raise ValueError(f"source is {value!r}; give the name of a source, which is lower case")
    return value


def _read_content_type(value: Any) -> str:
    if not isinstance(value, str) or "/" not in value or not value.isascii() or not value.isprintable():
        raise ValueError(f"content_type is {value!r}; give one such as 'text/xml; charset=utf-8'")
    return value


def why_not_sync(replies: Sequence[Reply]) -> str | None:
    """Why a server that answers one request at a time cannot serve these; None where there are none."""
    if not replies:
        return None
    return (
        f"reply {replies[0].name!r} may take up to two seconds, and gunicorn's worker class sync answers nothing else "
        "meanwhile: set worker_class to gevent or gthread, or take @reply out"
    )


__all__ = ["MOST_BYTES", "TEXT", "Replies", "Reply", "ReplyOptions", "make_reply", "why_not_sync"]
