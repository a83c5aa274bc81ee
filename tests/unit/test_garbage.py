"""How often a worker looks for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from webhooks.cli.worker import LOOK_FOR_GARBAGE_AFTER, _collect_seldom


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("young", "then"), [(700, LOOK_FOR_GARBAGE_AFTER), (2 * LOOK_FOR_GARBAGE_AFTER, 2 * LOOK_FOR_GARBAGE_AFTER), (0, 0)]
)
def test_what_python_does_is_changed_and_what_somebody_chose_is_not(young: int, then: int) -> None:
    gc.set_threshold(young, 11, 12)
    _collect_seldom()
    assert gc.get_threshold() == (then, 11, 12)
    assert gc.get_freeze_count() > 0
