"""Ids grow and differ between a process and its fork; values are the same as JSON says; rows become records."""

from __future__ import annotations

import copy
import os
import pickle
import random
from dataclasses import FrozenInstanceError, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Generic, TypeVar

import pytest

from tests.support import each
from webhooks.model import (
    Delivery,
    DeliveryCause,
    DeliveryClass,
    DeliveryState,
    Headers,
    id_at,
    ids_in,
    instant_of,
    new_id,
    same_json,
)
from webhooks.model.ids import IdMaker
from webhooks.model.making import unfrozen
from webhooks.store.deliveries.records import delivery_from

T = TypeVar("T")


def test_ids_grow_strictly() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert 0 < ids[0] < ids[-1] < 2**63


def test_making_an_id_leaves_the_random_numbers_of_others_alone() -> None:
    before = random.getstate()
    new_id()
    assert random.getstate() == before


def test_a_forked_child_draws_other_numbers_than_its_parent() -> None:
    ids = IdMaker()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, bytes(ids._own.get()[0].getrandbits(8) for _ in range(16)))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    theirs = os.read(reader, 16)
    os.close(reader)
    assert theirs != bytes(ids._own.get()[0].getrandbits(8) for _ in range(16))


def test_ids_grow_by_as_much_as_a_time_says() -> None:
    at = datetime(2026, 3, 10, tzinfo=UTC)

    assert id_at(at) + ids_in(timedelta(minutes=1)) == id_at(at + timedelta(minutes=1))
    assert instant_of(id_at(at) + ids_in(timedelta(seconds=1)) - 1) == at + timedelta(microseconds=999_999)


@each(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (True, True, True),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        ([True], [1], False),
        ([1, "a"], (1.0, "a"), True),
        ([1], [1, 2], False),
        ({"a": [{"b": True}]}, {"a": [{"b": 1}]}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": None}, {}, False),
    ],
)
def test_values_are_the_same_as_json_says(left: object, right: object, same: bool) -> None:
    assert same_json(left, right) is same
    assert same_json(right, left) is same


def test_blanks_around_a_header_of_wsgi_are_no_part_of_its_value() -> None:
    """Werkzeug's server leaves those behind a value where they are."""
    headers = Headers.of_wsgi(
        {"HTTP_X_SIGNATURE": "\t 1f 2e \t", "HTTP_X_BLANK": " ", "CONTENT_TYPE": "a/b ", "PATH_INFO": " / "}
    )

    assert dict(headers.items()) == {"x-signature": b"1f 2e", "x-blank": b"", "content-type": b"a/b"}
    assert headers.one("x-blank") is None


@dataclass(frozen=True, slots=True)
class _Slotted:
    one: int
    two: list[int] = field(default_factory=list)
    three: str = "three"


@dataclass(frozen=True)
class _Generic(Generic[T]):
    one: int
    two: list[int] = field(default_factory=list)
    three: str = "three"

    @cached_property
    def sum(self) -> int:
        return self.one + sum(self.two)


@pytest.mark.parametrize("frozen", [_Slotted, _Generic])
def test_what_is_made_of_a_frozen_class_quickly_is_one_like_others(frozen: Any) -> None:
    new = unfrozen(frozen)
    for fields in ({"one": 1}, {"one": 1, "two": [2], "three": "x"}):
        made = new(**fields)
        made.__class__ = frozen
        assert type(made) is frozen
        assert made == frozen(**fields)
        assert repr(made) == repr(frozen(**fields))
        assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == replace(made, three=made.three) == made
        with pytest.raises(FrozenInstanceError):
            made.one = 2
    with pytest.raises(TypeError):
        new()


def test_one_with_a_cached_property_keeps_it() -> None:
    made = unfrozen(_Generic)(1, [2])
    made.__class__ = _Generic
    assert made.sum == made.sum == 3


def test_a_row_becomes_a_delivery_field_by_field() -> None:
    at = [datetime(2026, 3, day, tzinfo=UTC) for day in range(1, 5)]
    row = (1, 2, "h", 3, 1, 2, "lane", at[0], 4, 5, 6, at[1], "w", True, False, "why", at[2], at[3], 1)
    delivery = delivery_from(row, lambda value: value)
    assert delivery == Delivery(
        id=1, event_id=2, handler="h", replay_id=3, state=DeliveryState(1), delivery_class=DeliveryClass(2), lane="lane",
        due_at=at[0], number=4, failures=5, token=6, lease_until=at[1], worker="w", alone=True, stale=False, reason="why",
        created_at=at[2], finished_at=at[3], cause=DeliveryCause(1), idempotency_key="2:h:3",
    )  # fmt: skip
    assert type(delivery) is Delivery
