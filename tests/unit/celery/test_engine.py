"""What a message may hold: whatever comes over a broker is read as ids, or dropped."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import each, examples
from webhooks.contrib.celery.engine import LARGEST_ID, read_ids
from webhooks.contrib.celery.offers import LARGEST_MESSAGE

#: What JSON can hold, and more.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@each(
    ("value", "ids"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ((1,), [1]),
        ([3, 3, 1], [3, 1]),
        ([LARGEST_ID, LARGEST_ID + 1, 0, -1], [LARGEST_ID]),
        ([True, 1.0, "1", None, [1]], []),
        ([], []),
        (None, []),
        ("123", []),
        ({"1": 1}, []),
        (list(range(1, LARGEST_MESSAGE + 2)), []),
    ],
)
def test_a_message_is_read_as_ids(value: Any, ids: list[int]) -> None:
    assert read_ids(value) == ids


@settings(max_examples=examples(300))
@given(ANYTHING)
def test_whatever_comes_over_a_broker_is_ids_that_the_database_takes_or_nothing(value: Any) -> None:
    ids = read_ids(value)
    assert all(type(id) is int and 0 < id <= LARGEST_ID for id in ids)
    assert len(ids) == len(set(ids)) <= LARGEST_MESSAGE
