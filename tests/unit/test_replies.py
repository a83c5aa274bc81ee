"""What a sender hears of an event: functions of the user's, registered, found and called within their time."""

from __future__ import annotations

import logging
import sys
import threading
import types
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.errors import HandlerAlreadyRegistered, InvalidHandler, InvalidPattern, RegistrationError
from webhooks.intake.replies import MOST_THREADS, ReplyRunner
from webhooks.model import Challenge, Event
from webhooks.routing import Registry, Reply, why_not_sync
from webhooks.routing.replies import MOST_BYTES, TEXT, Replies, make_reply

NOW = datetime(2026, 3, 10, tzinfo=UTC)
EVENT = Event(id=7, source="slack", type="view_submission", dedup_key="1", raw=b"{}", occurred_at=NOW, received_at=NOW)


def greet(event: Event) -> str:
    return f"hello {event.source}"


def other(event: Event) -> None:
    return None


def a_reply(function: Callable[[Event], Any], **options: Any) -> Reply:
    return make_reply(function, ("view_submission",), {"name": "it", **options})


# -- registering ---------------------------------------------------------------------------------------------


def test_a_decorated_function_stays_itself_and_answers_its_types_and_source() -> None:
    registry = Registry()
    assert registry.reply("command.*", source="slack")(greet) is greet
    found = registry.replies.find("slack", "command./weather")
    assert found is not None
    assert found.name == f"{__name__}.greet"
    assert registry.replies.find("other", "command./weather") is None
    assert registry.replies.find("slack", "view_submission") is None


def test_of_several_that_fit_the_first_answers() -> None:
    replies = Replies()
    replies.add(greet, "command./weather")
    replies.add(other, "command.*", source="slack")
    found = replies.find("slack", "command./weather")
    assert found is not None
    assert found.function is greet


@pytest.mark.parametrize(
    ("sources", "is_refused"),
    [((None, None), True), (("slack", None), True), (("slack", "slack"), True), (("slack", "discord"), False)],
)
def test_two_answers_to_one_question_are_refused(sources: tuple[str | None, str | None], is_refused: bool) -> None:
    replies = Replies()
    replies.add(greet, "a.b", source=sources[0])
    if not is_refused:
        replies.add(other, "a.b", source=sources[1])
        return
    with pytest.raises(HandlerAlreadyRegistered, match="a sender hears one answer, so take one of them out"):
        replies.add(other, "a.b", source=sources[1])


def test_a_name_is_given_once() -> None:
    replies = Replies()
    replies.add(greet, "a", name="x")
    with pytest.raises(HandlerAlreadyRegistered, match="give one of the two another name="):
        replies.add(other, "b", name="x")


async def later(event: Event) -> None: ...


@pytest.mark.parametrize(
    ("function", "patterns", "options", "text"),
    [
        (later, ("a",), {}, "make it an ordinary function"),
        (lambda: None, ("a",), {}, "cannot be called with the event alone"),
        (lambda event, session: None, ("a",), {}, "cannot be called with the event alone"),
        (greet, ("a",), {"source": "Slack"}, "give the name of a source, which is lower case"),
        (greet, ("a",), {"content_type": "xml"}, "give one such as 'text/xml"),
        (greet, ("a",), {"content_type": "text/xml\r\nX: 1"}, "give one such as 'text/xml"),
        (greet, ("a",), {"sorce": "a"}, "there is no option 'sorce'"),
    ],
)
def test_what_cannot_answer_is_refused_where_it_stands(
    function: Any, patterns: tuple[str, ...], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidHandler, match=text):
        Replies().add(function, *patterns, **options)


def test_a_reply_needs_a_type() -> None:
    with pytest.raises(InvalidPattern):
        Registry().reply()


def test_after_the_start_none_is_added() -> None:
    registry = Registry()
    registry.freeze()
    with pytest.raises(RegistrationError, match="comes after the start"):
        registry.reply("a")(greet)


def test_a_part_of_a_registry_leaves_the_whole_open() -> None:
    registry = Registry()
    registry.reply("a")(greet)
    part = registry.only((), (__name__,))
    assert [each.function for each in part.replies.all()] == [greet]
    assert registry.only((), ("elsewhere",)).replies.all() == []
    registry.reply("b")(other)


def test_a_source_that_is_not_configured_is_named() -> None:
    registry = Registry()
    registry.reply("a", source="slak", name="it")(greet)

    class Slack:
        known_types = ()
        group_name = ""

    (complaint,) = registry.check_known({"slack": Slack()})
    where, _, said = complaint.partition(": ")
    assert "test_replies.py, line " in where
    assert said == (
        "reply 'it' wants events of source 'slak', which is not configured (did you mean 'slack'?); configured: slack"
    )


def test_a_server_of_one_request_at_a_time_is_told_why_not() -> None:
    assert why_not_sync([]) is None
    text = why_not_sync([a_reply(greet)])
    assert text is not None
    assert "reply 'it'" in text
    assert "set worker_class to gevent or gthread" in text


# -- what it returns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (None, None),
        ("", Challenge(b"", TEXT)),
        ("höi", Challenge("höi".encode(), TEXT)),
        (b"\x00", Challenge(b"\x00", TEXT)),
        ({"a": [1]}, Challenge(b'{"a":[1]}', "application/json")),
        ([], Challenge(b"[]", "application/json")),
    ],
)
def test_what_is_returned_is_what_is_sent(value: Any, answer: Challenge | None) -> None:
    assert a_reply(greet).answer(value) == answer


def test_text_is_sent_as_it_is_said_to_be() -> None:
    assert a_reply(greet, content_type="text/xml").answer("<Response/>") == Challenge(b"<Response/>", "text/xml")


@pytest.mark.parametrize("value", [1, True, object(), {"a": object()}, "x" * (MOST_BYTES + 1), (1, 2)])
def test_what_cannot_be_sent_is_an_error(value: Any) -> None:
    with pytest.raises(ValueError, match="it returned"):
        a_reply(greet).answer(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_anything_that_json_holds_is_sent_or_said(value: Any) -> None:
    try:
        answer = a_reply(greet).answer(value)
    except ValueError:
        return
    assert answer is None or answer.status == 200


# -- calling it ----------------------------------------------------------------------------------------------


def test_it_is_called_in_a_thread_of_its_own() -> None:
    names: list[str] = []
    runner = ReplyRunner(patience_seconds=60)
    answer = runner.answer(a_reply(lambda event: names.append(threading.current_thread().name)), EVENT, "r")
    assert answer is None
    assert names == ["webhooks-reply"]


@pytest.mark.parametrize(("error", "said"), [(KeyError("x"), "KeyError: 'x'"), (SystemExit(3), "SystemExit: 3")])
def test_a_failure_is_a_line_and_the_default(error: BaseException, said: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> None:
        raise error

    runner = ReplyRunner(patience_seconds=60)
    for _ in range(MOST_THREADS + 1):  # its place is given back
        assert runner.answer(a_reply(fail), EVENT, "r") is None
    record = caplog.records[-1]
    assert record.getMessage() == f"reply it failed, and its sender got the default answer: {said}"
    assert (vars(record)["event_id"], vars(record)["request_id"], vars(record)["source"]) == (7, "r", "slack")
    assert len(caplog.records) == MOST_THREADS + 1


def test_what_is_no_answer_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    assert ReplyRunner(patience_seconds=60).answer(a_reply(lambda event: 5), EVENT, "r") is None
    assert "it returned int; return None, text, bytes" in caplog.text


def test_those_that_hang_keep_their_places_and_no_others(caplog: pytest.LogCaptureFixture) -> None:
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def hang(event: Event) -> str:
        begun.release()
        assert go_on.wait(60)
        return "too late"

    impatient = ReplyRunner(patience_seconds=0.01)
    try:
        for _ in range(MOST_THREADS):
            assert impatient.answer(a_reply(hang), EVENT, "r") is None
            assert begun.acquire(timeout=60)
        assert impatient.answer(a_reply(greet), EVENT, "r") is None
    finally:
        go_on.set()
    first, *_, last = (record.getMessage() for record in caplog.records)
    assert first == "reply it took longer than 0.01 s; its sender got the default answer"
    assert last == "reply it was not asked, since 2 others are under way; its sender got the default answer"
    for thread in threading.enumerate():
        if thread.name == "webhooks-reply":
            thread.join(60)
    patient = ReplyRunner(patience_seconds=60)
    assert patient.answer(a_reply(greet), EVENT, "r") == Challenge(b"hello slack", TEXT)


def test_where_no_thread_can_be_started_the_default_is_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    runner = ReplyRunner()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(MOST_THREADS + 1):
            assert runner.answer(a_reply(greet), EVENT, "r") is None
    assert caplog.records[-1].getMessage().endswith("RuntimeError: can't start new thread")
    assert ReplyRunner(patience_seconds=60).answer(a_reply(greet), EVENT, "r") is not None


def test_it_runs_in_the_context_of_the_application() -> None:
    import contextlib

    inside: list[str] = []

    @contextlib.contextmanager
    def context() -> Any:
        inside.append("in")
        yield
        inside.append("out")

    runner = ReplyRunner(lambda: context, patience_seconds=60)
    runner.answer(a_reply(lambda event: inside.append("reply")), EVENT, "r")
    assert inside == ["in", "reply", "out"]


def test_under_gevent_it_waits_for_a_native_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkey: Any = types.ModuleType("gevent.monkey")
    monkey.is_module_patched = lambda name: name == "threading"
    monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
    spawned: list[float] = []

    class Result:
        def __init__(self, call: Callable[[], None]) -> None:
            call()

        def wait(self, timeout: float) -> None:
            spawned.append(timeout)

    class Pool:
        spawn = Result

    runner = ReplyRunner(patience_seconds=3)
    runner._pool = types.SimpleNamespace(get=Pool)  # type: ignore[assignment]
    assert runner.answer(a_reply(greet), EVENT, "r") == Challenge(b"hello slack", TEXT)
    assert spawned == [3]


def test_nothing_is_logged_when_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ReplyRunner(patience_seconds=60).answer(a_reply(greet), EVENT, "r")
    assert caplog.records == []
