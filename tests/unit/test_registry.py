"""Handlers are registered, checked where they stand, and found by type and source."""

from __future__ import annotations

import asyncio
import functools
import gc
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.errors import (
    HandlerAlreadyRegistered,
    InvalidHandler,
    InvalidPattern,
    RegistrationError,
    WebhooksError,
)
from webhooks.model import Content, Event
from webhooks.operations.handlers import options_in_words
from webhooks.routing import (
    ARGUMENTS,
    Debounce,
    EventSignal,
    Handler,
    Pattern,
    Registry,
    RetryPolicy,
    changed,
    event_signal,
    field,
    on,
)
from webhooks.routing import registry as registry_module
from webhooks.routing.registry import ROUTES_REMEMBERED

NOW = datetime(2026, 3, 10, tzinfo=UTC)
BURST = Debounce(quiet=timedelta(seconds=5), at_most=timedelta(minutes=1))


def an_event(**content: Any) -> Event:
    found = Content(**content)
    return Event(
        id=1,
        source="close",
        type="lead.deleted",
        dedup_key="ev_1",
        raw=b"{}",
        occurred_at=NOW,
        received_at=NOW,
        reader=lambda raw, type: found,
    )


@pytest.fixture
def registry() -> Registry:
    return Registry()


def names(handlers: Collection[Handler]) -> list[str]:
    return [handler.name for handler in handlers]


# functions of a module, as receivers must be


def first(sender: str, event: Event) -> tuple[str, int]:
    return sender, event.id


def second(sender: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return sender, arguments


async def waits(sender: str, event: Event) -> str:
    return sender


def plain(event: Event, session: Any) -> tuple[Event, Any]:
    return event, session


def everything(*arguments: Any, **named: Any) -> Any:
    return arguments, named


def nothing() -> None: ...


#: Where `nothing` stands, as warnings begin.
AT = f"{__file__}, line {nothing.__code__.co_firstlineno}: "


def positional(sender: str, /, event: Event) -> str:
    return sender


class Mailer:
    def send(self, sender: str, event: Event) -> None: ...

    @classmethod
    def send_all(cls, sender: str, event: Event) -> str:
        return sender

    @staticmethod
    def send_one(sender: str, event: Event) -> str:
        return sender

    def __call__(self, event: Event) -> None: ...


# -- routing -----------------------------------------------------------------------------------------------


def test_an_event_goes_to_the_handlers_whose_patterns_match_it(registry: Registry) -> None:
    @registry.on("lead.*", name="any_lead")
    @registry.on("lead.created", "lead.deleted", name="some_leads")
    @registry.on("**", name="all")
    @registry.on("activity.**", name="activities")
    def handler(event: Event) -> None: ...

    assert names(registry.route("close", "lead.created")) == ["all", "some_leads", "any_lead"]
    assert names(registry.route("close", "lead.updated")) == ["all", "any_lead"]
    assert names(registry.route("close", "activity.call.created")) == ["activities", "all"]
    assert names(registry.route("close", "")) == ["all"]


def test_a_handler_of_a_source_hears_of_no_other(registry: Registry) -> None:
    @registry.on("lead.*", source="close", name="close_only")
    @registry.on("lead.*", name="any")
    def handler(event: Event) -> None: ...

    assert names(registry.route("close", "lead.created")) == ["any", "close_only"]
    assert names(registry.route("stripe", "lead.created")) == ["any"]


def test_a_handler_gets_an_event_once_however_many_patterns_match(registry: Registry) -> None:
    registry.add(nothing, "lead.created", "lead.*", "**", "lead.created")

    assert names(registry.route("close", "lead.created")) == [f"{__name__}.nothing"]
    (handler,) = registry.handlers()
    assert [str(pattern) for pattern in handler.patterns] == ["lead.created", "lead.*", "**"]


def test_the_decorator_returns_the_function_itself(registry: Registry) -> None:
    assert registry.on("lead.created")(nothing) is nothing
    assert registry.handlers()[0].function is nothing


def test_a_decorated_local_function_is_not_forgotten(registry: Registry) -> None:
    def register() -> None:
        @registry.on("lead.created", name="local")
        def handler(event: Event) -> None: ...

    register()
    gc.collect()

    assert names(registry.route("close", "lead.created")) == ["local"]


def test_routes_follow_registration_that_comes_later(registry: Registry) -> None:
    assert registry.route("close", "lead.created") == ()

    registry.add(nothing, "lead.created", name="late")

    assert names(registry.route("close", "lead.created")) == ["late"]


def test_remembered_routes_are_bounded(registry: Registry) -> None:
    registry.add(nothing, "**", name="all")

    for number in range(ROUTES_REMEMBERED + 100):
        registry.route("close", f"type.{number}")

    assert registry._routes.cache_info().currsize == ROUTES_REMEMBERED


def test_two_registries_know_nothing_of_each_other(registry: Registry) -> None:
    other = Registry()
    registry.add(nothing, "**", name="mine")
    other.add(nothing, "**", name="theirs")

    assert names(registry.route("close", "x")) == ["mine"]
    assert names(other.route("close", "x")) == ["theirs"]
    assert registry.event_signal("**") is not other.event_signal("**")


def test_the_module_registers_with_the_default_registry(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    monkeypatch.setattr(registry_module, "default_registry", registry)
    other = Registry()

    on("lead.created", name="x")(nothing)
    on("lead.created", name="y", registry=other)(nothing)

    assert names(registry.handlers()) == ["x"]
    assert names(other.handlers()) == ["y"]
    assert event_signal("lead.created") is registry.event_signal("lead.created")


_TYPES = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4).map(".".join)
_PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=4).map(".".join)


@given(
    st.lists(st.tuples(st.lists(_PATTERNS, min_size=1, max_size=3), st.sampled_from([None, "close", "x"])), max_size=6),
    _TYPES,
    st.sampled_from(["close", "x", "other"]),
)
def test_routing_is_what_patterns_and_sources_say(
    handlers: list[tuple[list[str], str | None]], type: str, source: str
) -> None:
    registry = Registry()
    for number, (patterns, wanted) in enumerate(handlers):
        registry.add(nothing, *patterns, source=wanted, name=f"h{number}")

    assert names(registry.route(source, type)) == [
        f"h{number}"
        for number, (patterns, wanted) in enumerate(handlers)
        if wanted in (None, source) and any(Pattern(pattern).matches(type) for pattern in patterns)
    ]


# -- names -------------------------------------------------------------------------------------------------


def test_the_default_name_is_module_and_function(registry: Registry) -> None:
    def local(event: Event) -> None: ...

    assert registry.add(nothing, "x").name == f"{__name__}.nothing"
    assert registry.add(plain, "x", name="n").name == "n"
    assert registry.add(local, "x").name == (f"{__name__}.test_the_default_name_is_module_and_function.local")


def test_two_handlers_of_one_name_are_refused_with_the_place_of_the_other(registry: Registry) -> None:
    registry.add(nothing, "x", name="same")

    with pytest.raises(HandlerAlreadyRegistered) as caught:
        registry.add(plain, "x", name="same")

    text = str(caught.value)
    assert text.startswith(f"handler 'same' is already registered, by nothing ({__file__}, line ")
    assert text.endswith("); give one of the two another name=")
    assert names(registry.handlers()) == ["same"]
    assert registry.get("same") is registry.handlers()[0]
    assert registry.get("other") is None


@pytest.mark.parametrize("name", ["", "a b", "größe", "-x", "x" * 201, "a/b", "a\n", 5])
def test_a_name_that_cannot_be_typed_is_refused(registry: Registry, name: Any) -> None:
    with pytest.raises(InvalidHandler, match="cannot be a handler's name"):
        registry.add(nothing, "x", name=name)


@pytest.mark.parametrize(
    "function", [lambda event: None, functools.partial(plain, session=1), Mailer()], ids=["lambda", "partial", "object"]
)
def test_a_function_without_a_name_needs_one(registry: Registry, function: Callable[..., Any]) -> None:
    with pytest.raises(InvalidHandler, match="pass name="):
        registry.add(function, "x")

    assert registry.add(function, "x", name="given").name == "given"


# -- arguments ---------------------------------------------------------------------------------------------


def test_arguments_are_those_that_the_function_names(registry: Registry) -> None:
    def all_of_them(log, headers, raw, changed, previous, data, delivery, session, event):  # type: ignore[no-untyped-def]
        ...

    assert registry.add(nothing, "x").arguments == ()
    assert registry.add(plain, "x").arguments == ("event", "session")
    assert registry.add(all_of_them, "x").arguments == ARGUMENTS
    assert registry.add(Mailer(), "x", name="object").arguments == ("event",)
    assert registry.get(f"{__name__}.plain") is not None
    assert [handler.wants_session for handler in registry.handlers()] == [False, True, True, False]


def test_parameters_with_defaults_of_their_own_are_left_alone(registry: Registry) -> None:
    def handler(event: Event, client: str = "c", *, log: Any = None) -> None: ...

    assert registry.add(handler, "x").arguments == ("event", "log")


def test_a_wrapped_function_asks_for_what_the_inner_one_names(registry: Registry) -> None:
    @functools.wraps(plain)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        return plain(*arguments, **named)

    assert registry.add(wrapper, "x").arguments == ("event", "session")


def takes_positional(event: Event, /) -> None: ...


def takes_unknown(event: Event, lead: Any) -> None: ...


def takes_misspelled(evnt: Event) -> None: ...


def takes_misspelled_default(event: Event, sesion: Any = None) -> None: ...


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (takes_unknown, "asks for 'lead', which does not exist; it can ask for event, session, delivery"),
        (takes_misspelled, "asks for 'evnt', which does not exist (did you mean 'event'?)"),
        (takes_misspelled_default, "asks for 'sesion' (did you mean 'session'?)"),
        (takes_positional, "takes 'event' by position only, and is called by name; take the / out"),
        (everything, "takes *arguments, which does not say what it needs"),
        (lambda event, **named: None, "takes **named, which does not say what it needs"),
        (Mailer.send, "asks for 'self': it is a method"),
        (first, "asks for 'sender', which only receivers get that are connected to a signal; ask for event"),
        (dict.get, "pass name= with"),
    ],
    ids=["unknown", "misspelled", "default", "positional", "args", "kwargs", "self", "sender", "builtin"],
)
def test_a_function_that_cannot_be_called_by_name_is_refused(
    registry: Registry, function: Callable[..., Any], complaint: str
) -> None:
    with pytest.raises(InvalidHandler) as caught:
        registry.add(function, "x", name="h" if "name=" not in complaint else "no name")

    assert complaint in str(caught.value)
    assert registry.handlers() == []


def generator(event: Event) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (generator, "has a yield in it, so calling it would run nothing"),
        (Mailer, "is no function"),
        ("text", "'text' is no function"),
    ],
    ids=["generator", "class", "text"],
)
def test_what_is_no_function_is_refused(registry: Registry, function: Any, complaint: str) -> None:
    with pytest.raises(InvalidHandler) as caught:
        registry.add(function, "x", name="h")

    assert complaint in str(caught.value)


class AsyncCallable:
    async def __call__(self, event: Event) -> None: ...


def test_async_functions_are_told_apart(registry: Registry) -> None:
    @functools.wraps(waits)
    def returns_a_coroutine(*arguments: Any, **named: Any) -> Any: ...

    async def handler(event: Event) -> None: ...

    assert registry.add(handler, "x").is_async
    assert registry.add(functools.partial(handler), "x", name="partial").is_async
    assert registry.add(AsyncCallable(), "x", name="object").is_async
    assert registry.add(lambda event: handler(event), "x", name="lambda").is_async is False
    assert registry.add(nothing, "x").is_async is False


# -- options -----------------------------------------------------------------------------------------------


def test_options_become_fields(registry: Registry) -> None:
    condition = changed("status_id")
    handler = registry.add(
        plain,
        "lead.*",
        name="h",
        source="close",
        where=condition,
        ordered_by="object_id",
        on_failure="skip",
        stale="skip",
        retry=RetryPolicy(3),
        timeout=timedelta(seconds=5),
        concurrency=4,
        rate="10/s",
        ignore_own=True,
        isolation="process",
        rehearsable=True,
        queue="video",
    )

    assert handler.where is condition
    assert (handler.source, handler.ordered_by, handler.on_failure, handler.stale) == (
        "close",
        "object_id",
        "skip",
        "skip",
    )
    assert (handler.retry, handler.timeout, handler.concurrency) == (RetryPolicy(3), timedelta(seconds=5), 4)
    assert (handler.rate, handler.ignore_own) == ((10, timedelta(seconds=1)), True)
    assert (handler.isolation, handler.rehearsable, handler.queue) == ("process", True, "video")


def test_latest_and_its_debounce_are_kept_and_late_or_dead_ones_hold_nothing_up(registry: Registry) -> None:
    handler = registry.add(nothing, "x", name="h", latest="object_id", debounce=BURST)
    assert (handler.latest, handler.debounce, handler.lane_by) == ("object_id", BURST, "object_id")
    assert (handler.ordered_by, handler.stale, handler.on_failure) == (None, "skip", "skip")
    assert handler.lane_key(an_event(object_id="lead_1")) == "lead_1"
    assert options_in_words(handler)[:2] == ("latest by object_id", "debounce 5 s, at most 1 min")


@each(
    ("quiet", "at_most", "complaint"),
    [
        (timedelta(0), timedelta(1), "use 0 < quiet <= at_most"),
        (timedelta(2), timedelta(1), "use 0 < quiet <= at_most"),
        (5, timedelta(1), "quiet is 5; give a duration, such as timedelta(seconds=5)"),
    ],
)
def test_a_debounce_that_makes_no_sense_is_refused(quiet: Any, at_most: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Debounce(quiet=quiet, at_most=at_most)


def test_effects_in_the_session_alone_may_be_said_in_two_ways(registry: Registry) -> None:
    assert registry.add(takes_session, "x", name="old", rehearsable=True).effects == "session"
    new = registry.add(takes_session, "x", name="new", effects="session")
    assert (new.rehearsable, new.together) == (True, 100)
    assert registry.add(takes_session, "x", name="apart", effects="session", isolation="process").together == 1
    assert registry.add(takes_session, "x", name="any").together == 1
    with pytest.raises(InvalidHandler, match="says the same as effects='session'"):
        registry.add(takes_session, "x", name="both", rehearsable=True, effects="anywhere")


@each(
    ("options", "complaint"),
    [
        ({"isolation": "process"}, "such a process runs one delivery; leave one out"),
        ({"concurrency": 4}, "concurrency=4 counts deliveries, so a batch would never have 10; give at least 10"),
        ({"ordered_by": "object_id"}, "batch= with an order needs session"),
        ({"latest": "object_id"}, "batch= with an order needs session"),
    ],
)
def test_what_cannot_be_done_with_several_at_once_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidHandler, match=re.escape(complaint)):
        Registry().add(takes_events, "x", name="h", batch=10, **options)


def test_one_that_takes_several_asks_for_events_and_others_do_not(registry: Registry) -> None:
    handler = registry.add(takes_events, "x", name="several", batch=10)
    assert (handler.arguments, handler.together) == (("events", "log"), 10)
    with pytest.raises(InvalidHandler, match="asks for 'events', which is for handlers that take several"):
        registry.add(takes_events, "x", name="one")
    with pytest.raises(
        InvalidHandler, match="asks for 'event'; with batch= it can ask for events, session, deliveries"
    ):
        registry.add(event_and_more, "x", name="both", batch=10)


def takes_events(events: Any, log: Any) -> None:
    pass


def takes_session(session: Any) -> None:
    pass


def test_options_given_as_none_are_not_given(registry: Registry) -> None:
    assert (
        registry.add(
            nothing,
            "x",
            where=None,
            ordered_by=None,
            retry=None,
            timeout=None,
            concurrency=None,
            rate=None,
            source=None,
        ).concurrency
        is None
    )
    assert registry.add(nothing, "x", name="elsewhere", queue=None).queue == "default"


# -- queues ------------------------------------------------------------------------------------------------


def test_the_operator_wins_over_the_author_and_the_first_match_over_the_next(registry: Registry) -> None:
    for name, queue in (("video.cut", "gpu"), ("video.mail", None), ("mail.send", "mail"), ("lead", None)):
        registry.add(nothing, "x", name=name, queue=queue)

    doubts = registry.assign_queues({"video.mail": "mail", "video.*": "video", "vdeo.*": "video"})

    assert {handler.name: handler.queue for handler in registry.handlers()} == {
        "video.cut": "video",
        "video.mail": "mail",
        "mail.send": "mail",
        "lead": "default",
    }
    assert doubts == ["pattern 'vdeo.*' in [queues] matches no handler (did you mean 'video.cut'?)"]
    assert [handler.queue for handler in registry.route("close", "x")] == ["video", "mail", "mail", "default"]


def test_a_table_that_says_no_more_leaves_handlers_where_their_authors_put_them(registry: Registry) -> None:
    registry.add(nothing, "x", name="video.cut", queue="gpu")
    registry.assign_queues({"*": "video"})
    assert registry.assign_queues({}) == []
    assert [handler.queue for handler in registry.handlers()] == ["gpu"]


def test_a_plain_receiver_stays_in_its_queue_when_it_is_connected_again(registry: Registry) -> None:
    registry.event_signal("a").connect(plain)
    registry.assign_queues({"*plain": "video"})
    registry.event_signal("b").connect(plain)
    assert [(handler.queue, len(handler.patterns)) for handler in registry.handlers()] == [("video", 2)]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("10/s", (10, timedelta(seconds=1))),
        ("100/min", (100, timedelta(minutes=1))),
        (" 5 / minute ", (5, timedelta(minutes=1))),
        ("1/h", (1, timedelta(hours=1))),
        ("2/day", (2, timedelta(days=1))),
    ],
)
def test_rates_are_read(registry: Registry, rate: str, expected: tuple[int, timedelta]) -> None:
    assert registry.add(nothing, "x", rate=rate).rate == expected


def event_and_more(event: Event, more: int) -> str | None: ...


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"retries": 3}, "there is no option 'retries' (did you mean 'retry'?)"),
        ({"source": ""}, "give the name of a source"),
        ({"source": "Close"}, "write source='close'"),
        ({"where": "data.x"}, "where: 'data.x' is no condition; use changed"),
        ({"where": field("data.x")}, 'where: field("data.x") alone says nothing'),
        ({"where": event_and_more}, "cannot be called with the event alone"),
        (
            {"ordered_by": "data.lead"},
            "ordered_by is 'data.lead'; give 'object_id', the name of a source's groups, or a",
        ),
        ({"ordered_by": 5}, "ordered_by is 5; give 'object_id'"),
        ({"ordered_by": event_and_more}, "ordered_by: event_and_more cannot be called with the event alone"),
        ({"ordered_by": waits}, "ordered_by: waits is async"),
        ({"retry": 5}, "retry is 5; give RetryPolicy(max_attempts=…)"),
        ({"timeout": 30}, "timeout is 30; give a duration, such as timedelta(seconds=30)"),
        ({"timeout": "30s"}, "timeout is '30s'; give a duration"),
        ({"timeout": timedelta(0)}, "it must be longer than nothing"),
        ({"concurrency": 0}, "concurrency is 0; give a whole number from 1 on"),
        ({"concurrency": True}, "concurrency is True"),
        ({"rate": "fast"}, "rate is 'fast'; write '10/s', '100/min' or '1/h'"),
        ({"rate": "0/s"}, "rate is '0/s'"),
        ({"rate": 10}, "rate is 10"),
        ({"rate": "٣/s"}, "rate is '٣/s'"),
        ({"ignore_own": "yes"}, "ignore_own is 'yes'; give True or False"),
        ({"isolation": "container"}, "isolation is 'container'; it can be 'thread' or 'process'"),
        ({"on_failure": "stop", "ordered_by": "object_id"}, "it can be 'block' or 'skip'"),
        ({"stale": "drop", "ordered_by": "object_id"}, "it can be 'run' or 'skip'"),
        ({"stale": "skip"}, "stale='skip' needs ordered_by="),
        ({"on_failure": "skip"}, "on_failure='skip' needs ordered_by="),
        (
            {"latest": "data.lead"},
            "latest is 'data.lead'; give 'object_id', the name of a source's groups, or a function",
        ),
        ({"latest": waits}, "latest: waits is async"),
        (
            {"latest": "object_id", "ordered_by": "object_id"},
            "ordered_by= runs every event of a key and latest= only the",
        ),
        ({"latest": "object_id", "stale": "skip"}, "stale='skip' needs ordered_by="),
        ({"latest": "object_id", "on_failure": "skip"}, "on_failure='skip' needs ordered_by="),
        ({"debounce": BURST}, "debounce= needs latest=, the key of which a burst runs once; write latest='object_id'"),
        ({"debounce": 5, "latest": "object_id"}, "debounce is 5; give Debounce(quiet=timedelta(seconds=5), at_most="),
        ({"rehearsable": True}, "so ask for session"),
        ({"effects": "session"}, "so ask for session"),
        ({"batch": 1}, "batch is 1; give how many deliveries the handler may get at once, from 2 to 1000"),
        ({"batch": 100}, "does not ask for events, which batch= gives it"),
        ({"effects": "nowhere"}, "effects is 'nowhere'; it can be 'anywhere' or 'session'"),
        ({"queue": "Video"}, "queue is 'Video'; expected the name of a queue: a-z"),
        ({"queue": "x" * 41}, "at most 40"),
        ({"queue": 3}, "queue is 3"),
    ],
    # without addresses: every process of a run must give a test the same name
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value))[:60] if isinstance(value, dict) else "",
)
def test_an_option_that_makes_no_sense_is_refused(registry: Registry, options: Any, complaint: str) -> None:
    with pytest.raises(InvalidHandler) as caught:
        registry.add(nothing, "x", name="h", **options)

    assert str(caught.value).startswith("handler 'h': ")
    assert complaint in str(caught.value)
    assert registry.handlers() == []
    assert registry.route("close", "x") == ()


@pytest.mark.parametrize(
    ("patterns", "complaint"),
    [
        ((), "a handler needs at least one event type"),
        ((nothing,), "write @on('lead.created') with parentheses"),
        ((["a", "b"],), "several patterns are several arguments; write on(*['a', 'b'])"),
        (("lead..created",), "did you mean 'lead.created'?"),
        ((5,), "a pattern is text"),
    ],
    ids=["none", "function", "list", "malformed", "number"],
)
def test_wrong_patterns_are_refused_before_a_function_is_decorated(
    registry: Registry, patterns: Any, complaint: str
) -> None:
    for register in (registry.on, functools.partial(registry.add, nothing)):
        with pytest.raises(InvalidPattern) as caught:
            register(*patterns)
        assert complaint in str(caught.value)


# -- the order of a lane -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ordered_by", "content", "expected"),
    [
        (None, {"object_id": "o"}, None),
        ("object_id", {"object_id": "o"}, "o"),
        ("object_id", {}, None),
        ("lead_id", {"meta": {"lead_id": "l"}}, "l"),
        ("lead_id", {}, None),
        (lambda event: event.data["number"], {"data": {"number": 7}}, "7"),
        (lambda event: "", {}, None),
        (lambda event: None, {}, None),
    ],
    ids=["none", "object", "no object", "lead", "no lead", "function", "empty", "function none"],
)
def test_the_ordering_key_comes_from_the_event(
    registry: Registry, ordered_by: Any, content: dict[str, Any], expected: str | None
) -> None:
    assert registry.add(nothing, "x", ordered_by=ordered_by).lane_key(an_event(**content)) == expected


@pytest.mark.parametrize("key", [{}, True, 1.5, b"x"], ids=repr)
def test_what_is_no_ordering_key_is_refused(registry: Registry, key: Any) -> None:
    handler = registry.add(nothing, "x", name="h", ordered_by=lambda event: key)

    with pytest.raises(TypeError, match=r"the key function of handler 'h' gave .*; it must give text or None"):
        handler.lane_key(an_event())


@pytest.mark.parametrize(
    "key", ["x" * 256, "é" * 128, "a\0b", "a\ud800"], ids=["long", "long in bytes", "NUL", "surrogate"]
)
def test_an_ordering_key_that_a_database_cannot_hold_is_refused(registry: Registry, key: str) -> None:
    handler = registry.add(nothing, "x", name="h", ordered_by=lambda event: key)
    with pytest.raises(ValueError, match="an ordering key"):
        handler.lane_key(an_event())
    assert registry.add(nothing, "x", ordered_by=lambda event: "x" * 255).lane_key(an_event()) == "x" * 255


# -- plain blinker -----------------------------------------------------------------------------------------


def call(handler: Handler, **more: Any) -> Any:
    """As the dispatcher does: by name, with what the handler asks for."""
    offered = {**dict.fromkeys(ARGUMENTS), "event": an_event(data={"id": "lead_1"}), "data": {"id": "lead_1"}, **more}
    return handler.function(**{name: offered[name] for name in handler.arguments})


def test_connecting_to_a_signal_registers_a_handler(registry: Registry) -> None:
    assert registry.event_signal("lead.deleted").connect(first) is first

    (handler,) = registry.route("close", "lead.deleted")
    assert handler.name == f"{__name__}.first"
    assert call(handler) == ("close", 1)
    assert registry.route("close", "lead.created") == ()


def test_a_receiver_is_called_as_blinker_calls_it(registry: Registry) -> None:
    signal = registry.event_signal("lead.deleted")
    for receiver in (first, second, waits, plain, everything, nothing, positional, Mailer.send_all, Mailer.send_one):
        signal.connect(receiver)
    handlers = {handler.name.rpartition(".")[2]: handler for handler in registry.handlers()}

    assert call(handlers["first"]) == ("close", 1)
    sender, arguments = call(handlers["second"], delivery="d")
    assert sender == "close"
    assert set(arguments) == {"event", "data", "delivery"}
    assert asyncio.run(call(handlers["waits"])) == "close"
    assert handlers["waits"].is_async
    assert call(handlers["plain"], session="s")[1] == "s"
    assert handlers["plain"].wants_session
    positional_part, named = call(handlers["everything"])
    assert positional_part == ("close",)
    assert set(named) == {"event", "data", "delivery"}
    assert not handlers["everything"].wants_session
    call(handlers["nothing"])
    assert call(handlers["positional"]) == "close"
    assert call(handlers["send_all"]) == "close"
    assert call(handlers["send_one"]) == "close"


def test_connect_via_and_connected_to_work(registry: Registry) -> None:
    signal = registry.event_signal("lead.deleted")
    signal.connect_via("close")(first)

    assert names(registry.route("close", "lead.deleted")) == [f"{__name__}.first"]
    assert registry.route("stripe", "lead.deleted") == ()
    with signal.connected_to(second):
        assert len(registry.route("close", "lead.deleted")) == 2
    assert len(registry.route("close", "lead.deleted")) == 1


def test_a_receiver_connected_to_several_patterns_and_senders_is_one_handler(registry: Registry) -> None:
    registry.event_signal("lead.deleted").connect(first, sender="close")
    registry.event_signal("lead.merged").connect(first, sender="close")
    (handler,) = registry.handlers()
    assert ([str(pattern) for pattern in handler.patterns], handler.source) == (
        ["lead.deleted", "lead.merged"],
        "close",
    )

    registry.event_signal("lead.merged").connect(first, sender="stripe")
    registry.event_signal("lead.merged").connect(first, sender="stripe")

    (handler,) = registry.handlers()
    assert handler.source is None
    assert len(registry.route("close", "lead.deleted")) == 1
    assert registry.route("stripe", "lead.deleted") == ()
    assert len(registry.route("stripe", "lead.merged")) == 1
    assert registry.route("x", "lead.merged") == ()


def test_disconnecting_is_respected(registry: Registry) -> None:
    signal = registry.event_signal("lead.deleted")
    signal.connect(first)
    registry.event_signal("lead.merged").connect(first)
    assert len(registry.route("close", "lead.deleted")) == 1

    signal.disconnect(first)

    assert registry.route("close", "lead.deleted") == ()
    assert len(registry.route("close", "lead.merged")) == 1
    assert [str(pattern) for pattern in registry.handlers()[0].patterns] == ["lead.merged"]
    registry.event_signal("lead.merged").disconnect(first)
    assert registry.handlers() == []
    signal.connect(first)
    assert len(registry.route("close", "lead.deleted")) == 1


def test_disconnecting_one_sender_leaves_the_others(registry: Registry) -> None:
    signal = registry.event_signal("lead.deleted")
    signal.connect(first, sender="close")
    signal.connect(first, sender="stripe")

    signal.disconnect(first, sender="close")

    assert registry.route("close", "lead.deleted") == ()
    assert len(registry.route("stripe", "lead.deleted")) == 1
    assert registry.handlers()[0].source == "stripe"
    signal.disconnect(first, sender="stripe")
    assert registry.handlers() == []


def test_a_decorated_handler_can_be_disconnected_by_its_function(registry: Registry) -> None:
    registry.add(plain, "lead.deleted", "lead.merged", name="one")
    registry.add(plain, "lead.deleted", name="two")
    registry.event_signal("lead.deleted").disconnect(plain)

    assert registry.route("close", "lead.deleted") == ()
    assert names(registry.route("close", "lead.merged")) == ["one"]
    assert names(registry.handlers()) == ["one"]


def test_disconnecting_what_was_never_connected_is_ignored(registry: Registry) -> None:
    registry.event_signal("lead.deleted").disconnect(first)


def test_after_the_start_disconnecting_stops_new_events_but_stored_ones_find_their_handler(registry: Registry) -> None:
    signal = registry.event_signal("lead.deleted")
    signal.connect(first)
    registry.freeze()

    signal.disconnect(first)

    assert registry.route("close", "lead.deleted") == ()
    assert registry.get(f"{__name__}.first") is not None


def make_local() -> Callable[..., Any]:
    def local(sender: str, event: Event) -> None: ...

    return local


@pytest.mark.parametrize(
    ("receiver", "what"),
    [
        (lambda sender, event: None, "a lambda"),
        (make_local(), "made inside another function"),
        (functools.partial(first, "close"), "an object without a name"),
        (Mailer(), "an object without a name"),
        (Mailer().send, "a method of an object"),
    ],
    ids=["lambda", "local", "partial", "object", "method"],
)
def test_a_receiver_without_a_stable_name_is_refused(registry: Registry, receiver: Any, what: str) -> None:
    for weak in (True, False):
        with pytest.raises(InvalidHandler) as caught:
            registry.event_signal("lead.deleted").connect(receiver, weak=weak)
        assert what in str(caught.value)
        assert "use on(…, name=…)" in str(caught.value)
    assert registry.route("close", "lead.deleted") == ()


def test_a_receiver_that_cannot_be_called_is_refused_and_not_connected(registry: Registry) -> None:
    with pytest.raises(InvalidHandler, match="asks for 'lead', which does not exist"):
        registry.event_signal("lead.deleted").connect(takes_unknown)

    assert registry.route("close", "lead.deleted") == ()
    assert registry.handlers() == []


def test_the_sender_is_a_source_by_name(registry: Registry) -> None:
    with pytest.raises(InvalidHandler, match="give the name of a source, such as sender='close'"):
        registry.event_signal("lead.deleted").connect(first, sender=object())


def test_a_connected_and_a_decorated_handler_of_one_name_are_refused(registry: Registry) -> None:
    registry.add(first_for_both, "lead.created")

    with pytest.raises(HandlerAlreadyRegistered):
        registry.event_signal("lead.deleted").connect(first_for_both)


def first_for_both(event: Event) -> None: ...


def test_sending_by_hand_is_refused_and_names_the_commands(registry: Registry) -> None:
    signal = registry.event_signal("lead.deleted")
    signal.connect(first)

    with pytest.raises(WebhooksError, match=r"`webhooks trigger` makes one .* `webhooks replay`"):
        signal.send("close", event=None)
    with pytest.raises(WebhooksError, match="`webhooks trigger` makes one"):
        asyncio.run(signal.send_async("close", event=None))
    with pytest.raises(WebhooksError, match="cannot be muted"):
        signal.muted()


def test_a_signal_is_the_same_for_the_same_pattern_and_a_malformed_one_is_refused(registry: Registry) -> None:
    assert isinstance(registry.event_signal("lead.*"), EventSignal)
    assert registry.event_signal("lead.*") is registry.event_signal("lead.*")
    with pytest.raises(InvalidPattern):
        registry.event_signal("lead.")


# -- the start ---------------------------------------------------------------------------------------------


def test_after_the_start_nothing_can_be_registered(registry: Registry) -> None:
    registry.add(nothing, "x")
    registry.freeze()
    registry.freeze()

    for register in (lambda: registry.add(plain, "x"), lambda: registry.event_signal("x").connect(first)):
        with pytest.raises(RegistrationError, match="comes after the start") as caught:
            register()
        assert "handlers/, or named in the setting HANDLERS" in str(caught.value)
    assert names(registry.route("close", "x")) == [f"{__name__}.nothing"]


@dataclass
class KnownTypes:
    """A source, as far as the check looks at it."""

    known_types: Collection[str]
    group_name: str = ""


CLOSE = KnownTypes(frozenset(("lead.created", "activity.whatsapp_message.created")), "lead_id")


def test_a_pattern_of_no_known_type_is_one_warning_with_a_suggestion(registry: Registry) -> None:
    registry.add(nothing, "lead.*", "lead.crated", name="h")

    assert registry.check_known({"close": CLOSE}) == [
        f"{AT}pattern 'lead.crated' of handler 'h' matches no event type that we know of close; did you mean 'lead.created'?"
    ]


def test_under_strict_types_it_is_an_error_with_all_of_them(registry: Registry) -> None:
    registry.add(nothing, "lead.crated", "qqq.**", name="h")

    with pytest.raises(RegistrationError) as caught:
        registry.check_known({"close": CLOSE}, strict=True)

    assert len(str(caught.value).splitlines()) == 2


def test_where_types_are_not_known_nothing_is_said(registry: Registry) -> None:
    registry.add(nothing, "lead.crated", name="any")
    registry.add(nothing, "invoice.paid", source="own", name="own")

    assert registry.check_known({"close": CLOSE, "own": KnownTypes(())}) == []
    assert registry.check_known({"own": KnownTypes(())}, strict=True) == []


@pytest.mark.parametrize(
    ("source", "ordered_by", "complaint"),
    [
        ("close", "object_id", None),
        ("close", "lead_id", None),
        (None, "lead_id", None),
        ("not_configured", "anything", None),
        ("close", "objekt_id", "ordered_by is 'objekt_id'; give 'object_id' or 'lead_id', or a function of the event"),
        (None, "objekt_id", "ordered_by is 'objekt_id'; give 'object_id' or 'lead_id', or a function of the event"),
        ("own", "lead_id", "ordered_by is 'lead_id'; give 'object_id', or a function of the event"),
    ],
)
def test_a_key_that_is_named_is_one_that_a_source_of_the_handler_gives(
    registry: Registry, source: str | None, ordered_by: str, complaint: str | None
) -> None:
    if complaint is not None:
        apart = Registry()
        apart.add(nothing, "lead.created", name="h", source=source, latest=ordered_by)
        with pytest.raises(InvalidHandler, match="latest is"):
            apart.check_known({"close": CLOSE, "own": KnownTypes(())})
    registry.add(nothing, "lead.created", name="h", source=source, ordered_by=ordered_by)
    sources = {"close": CLOSE, "own": KnownTypes(())}
    if complaint is None:
        registry.check_known(sources)
        return
    with pytest.raises(InvalidHandler, match=re.escape(f"handler 'h': {complaint}")):
        registry.check_known(sources)


def test_a_source_that_is_not_configured_is_a_warning(registry: Registry) -> None:
    registry.add(nothing, "lead.created", source="clsoe", name="h")

    assert registry.check_known({"close": CLOSE}) == [
        f"{AT}handler 'h' wants events of source 'clsoe', which is not configured (did you mean 'close'?); configured: close"
    ]


# -- former names --------------------------------------------------------------------------------------------------


def test_a_handler_says_what_it_was_called(registry: Registry) -> None:
    assert registry.add(nothing, "x", name="a", formerly=("b", "c", "b")).formerly == ("b", "c")
    registry.check_known({})


@pytest.mark.parametrize(
    ("formerly", "says"),
    [
        ("b", "formerly is 'b'; give the names that it had before"),
        (("b c",), "give the names that it had before"),
        (("a",), "formerly has the name that it has now"),
    ],
)
def test_former_names_that_cannot_be_are_refused(registry: Registry, formerly: Any, says: str) -> None:
    with pytest.raises(InvalidHandler, match=says):
        registry.add(nothing, "x", name="a", formerly=formerly)


def test_a_former_name_is_of_one_handler_that_is_not_there_any_more(registry: Registry) -> None:
    registry.add(nothing, "x", name="a", formerly=("b",))
    registry.add(positional_event, "x", name="b")
    with pytest.raises(InvalidHandler, match="'b' is in formerly=, and is also the name"):
        registry.check_known({})


def positional_event(event: Event) -> None: ...
