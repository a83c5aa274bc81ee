"""What refused requests leave behind: counts, and a bounded number of lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.errors import (
    Overloaded,
    PayloadTooLarge,
    Refusal,
    Rejected,
    SignatureError,
    StorageUnavailable,
    UnknownSource,
)
from webhooks.intake import Refusals
from webhooks.intake.refusals import LINES_A_MINUTE, RefusedRequest
from webhooks.model import Headers, InboundRequest

NOW = datetime(2026, 3, 10, 14, 5, tzinfo=UTC)


class Moment:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Kept:
    """A sampler that remembers in memory."""

    def __init__(self) -> None:
        self.refused_ones: list[RefusedRequest] = []
        self.woken = 0

    def refused(self, refused: RefusedRequest) -> None:
        self.refused_ones.append(refused)

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def moment() -> Moment:
    return Moment()


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def refusals(moment: Moment, kept: Kept) -> Refusals:
    return Refusals({"close", "meta"}, clock=lambda: NOW, sampler=kept, monotonic=moment)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "webhooks.intake.refusals")
    return lambda: [record.getMessage() for record in caplog.records]


def test_of_a_flood_a_few_lines_a_minute_are_logged_and_then_how_many_more(
    refusals: Refusals, moment: Moment, kept: Kept, lines: Any
) -> None:
    for number in range(346):
        refusals.record(
            SignatureError("none of 1 secrets made this signature"), source="close", request_id=f"{number:016x}"
        )
    assert len(lines()) == LINES_A_MINUTE
    assert lines()[0] == ("refused a request to source 'close' (signature, 401): none of 1 secrets made this signature")
    assert (kept.woken, refusals.turn()) == (1, True)  # somebody looks again when the minute is over
    moment.now += 60
    assert not refusals.turn()
    assert len(lines()) == LINES_A_MINUTE + 1
    assert "and 341 more in the last minute, the last: none of 1" in lines()[-1]
    refusals.record(SignatureError("another"), source="close", request_id="1")
    assert lines()[-1].endswith("another")
    assert refusals.counts() == {("close", Refusal.SIGNATURE): 347}
    assert len(kept.refused_ones) == 347


def test_a_minute_that_is_over_is_summed_up_by_the_next_refusal_too(
    refusals: Refusals, moment: Moment, lines: Any
) -> None:
    for _ in range(LINES_A_MINUTE + 2):
        refusals.record(PayloadTooLarge("2 MB"), source="close", request_id="1")
    moment.now += 61
    refusals.record(PayloadTooLarge("3 MB"), source="close", request_id="2")
    assert "and 2 more in the last minute" in lines()[-2]
    assert "3 MB" in lines()[-1]


def test_one_kind_hides_no_other(refusals: Refusals, lines: Any) -> None:
    for _ in range(50):
        refusals.record(SignatureError("wrong"), source="close", request_id="1")
    refusals.record(PayloadTooLarge("too much"), source="close", request_id="2")
    refusals.record(SignatureError("wrong as well"), source="meta", request_id="3")
    refusals.record(StorageUnavailable("locked"), source="close", request_id="4")
    refusals.record(Overloaded("full"), source="close", request_id="5")
    refusals.record(ZeroDivisionError("ours"), source="close", request_id="6")
    assert len(lines()) == LINES_A_MINUTE + 5


def test_what_is_left_is_said_when_the_process_closes(refusals: Refusals, lines: Any) -> None:
    for _ in range(LINES_A_MINUTE + 1):
        refusals.record(SignatureError("wrong"), source="close", request_id="1")
    refusals.lines.flush(at_once=True)
    assert "and 1 more" in lines()[-1]


def test_each_is_logged_where_each_is_kept(kept: Kept, lines: Any) -> None:
    refusals = Refusals({"close"}, clock=lambda: NOW, sampler=kept, sample=timedelta(0))
    for _ in range(40):
        refusals.record(SignatureError("wrong"), source="close", request_id="1")
    assert len(lines()) == 40


def test_a_name_that_is_no_source_counts_for_none(refusals: Refusals, kept: Kept) -> None:
    for number in range(300):
        refusals.record(UnknownSource("none"), source=f"made-up-{number}", request_id="1")
    assert refusals.counts() == {("", Refusal.NOT_FOUND): 300}
    assert {refused.source for refused in kept.refused_ones} == {""}


@given(text=st.text(max_size=2000), odd=st.binary(max_size=300))
def test_whatever_a_client_sends_is_one_line_without_controls(text: str, odd: bytes) -> None:
    kept, said = Kept(), []
    refusals = Refusals({"close"}, clock=lambda: NOW, sampler=kept, sample=timedelta(0))
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("webhooks.intake.refusals")
    logger.addHandler(handler)
    try:
        request = InboundRequest(Headers({"x": odd}), odd, id="1")
        refusals.record(Rejected(text), source="close", request_id="1", request=request)
        refusals.record(Rejected(text + odd.decode("latin-1")), source="close", request_id="1", request=request)
    finally:
        logger.removeHandler(handler)
    assert len(said) == 2
    for line in (*said, *(refused.text for refused in kept.refused_ones)):
        assert len(line) < 500
        assert not any(
            ord(character) < 32 or 127 <= ord(character) < 160 or character in "\u202e\u2028\u2066"
            for character in line
        )


def test_recording_cannot_fail(refusals: Refusals, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    monkeypatch.setattr(kept, "refused", lambda refused: 1 / 0)
    refusals.record(Broken(), source="close", request_id="1")
    assert refusals.counts() == {("close", Refusal.FAULT): 1}


def test_every_error_that_refuses_has_a_reason_of_the_closed_set() -> None:
    def below(kind: type[Any]) -> Iterator[type[Any]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    for kind in (Rejected, *below(Rejected), StorageUnavailable, *below(StorageUnavailable)):
        assert isinstance(getattr(kind, "refusal", None), Refusal), kind
