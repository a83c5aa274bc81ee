"""Whether Celery runs what it should: a pure function of the processes that reported."""

from __future__ import annotations

from datetime import timedelta

from tests.support import START, each
from webhooks.operations.engine import engine_trouble, silence_of
from webhooks.store import Process


def process(kind: str, silent_for: float | None = None) -> Process:
    since = None if silent_for is None else START - timedelta(seconds=silent_for)
    return Process(kind, kind, START, START, "1", (), silent_since=since)


@each(
    ("processes", "is_due", "words"),
    [
        ([], True, None),
        ([process("worker")], True, None),
        ([process("feeder"), process("celery")], True, None),
        ([process("feeder", 59), process("celery")], True, None),
        ([process("feeder", 60), process("celery")], False, "for 1 min"),
        ([process("feeder"), process("feeder", 3600)], False, "for 1 h"),
        ([process("feeder", 3600), process("worker")], False, "for 1 h"),
        ([process("celery")], True, "no `webhooks feed` runs"),
        ([process("celery"), process("web")], True, "no `webhooks feed` runs"),
        ([process("celery")], False, None),
        ([process("celery"), process("worker")], True, None),
    ],
)
def test_what_keeps_celery_from_running_deliveries(processes: list[Process], is_due: bool, words: str | None) -> None:
    trouble = engine_trouble(processes, START, is_due=is_due)
    assert (trouble is None) == (words is None), trouble
    assert trouble is None or words is None or words in trouble.text


def test_the_age_of_what_is_offered_is_that_of_the_most_silent_feeder() -> None:
    assert silence_of([process("celery")], START) is None
    assert silence_of([process("feeder")], START) == timedelta(0)
    assert silence_of([process("feeder", 10), process("feeder", 70)], START) == timedelta(seconds=70)
    assert silence_of([process("feeder", -5)], START) == timedelta(0), "a clock that is ahead"
