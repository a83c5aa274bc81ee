"""Packed arrays: byte for byte what psycopg makes of the same lists."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.numeric import Int2, Int8

from webhooks.database import postgresql_arrays as arrays


def packed_by_psycopg(values: list[Any]) -> bytes:
    dumped = Transformer().dump_sequence([values], [PyFormat.BINARY])[0]
    assert dumped is not None
    return bytes(dumped)


INSTANTS = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11))])
)
KINDS: list[Any] = [
    pytest.param(st.binary(max_size=5000), arrays.pack_bytea, lambda value: value, id="bytea"),
    pytest.param(st.text(st.characters(codec="utf-8", exclude_characters="\0")), arrays.pack_text, str, id="text"),
    pytest.param(st.integers(-(2**63), 2**63 - 1), arrays.pack_bigint, Int8, id="bigint"),
    pytest.param(st.integers(-(2**15), 2**15 - 1), arrays.pack_smallint, Int2, id="smallint"),
    pytest.param(INSTANTS, arrays.pack_instants, lambda value: value, id="instants"),
]


@pytest.mark.parametrize(("values", "pack", "typed"), KINDS)
@given(data=st.data())
def test_an_array_is_packed_as_psycopg_packs_it(
    data: st.DataObject, values: st.SearchStrategy[Any], pack: Callable[[list[Any]], bytes], typed: Callable[..., Any]
) -> None:
    some = data.draw(st.lists(values, min_size=1, max_size=30))
    assert pack(some) == packed_by_psycopg([typed(value) for value in some])


@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), rows=st.integers(2, 300))
def test_a_column_that_says_the_same_in_every_row_is_packed_the_same_way(value: str, rows: int) -> None:
    assert arrays.pack_text([value] * rows) == packed_by_psycopg([value] * rows)


@pytest.mark.parametrize("pack", [kind.values[1] for kind in KINDS])
def test_an_empty_array_has_no_dimension(pack: Callable[[list[Any]], bytes]) -> None:
    assert struct.unpack("!ii", pack([])[:8]) == (0, 0)
    assert len(pack([])) == 12


def test_what_does_not_fit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(struct.error):
        arrays.pack_bigint([2**63])
    with pytest.raises(UnicodeEncodeError):
        arrays.pack_text(["\ud800"])


@pytest.mark.parametrize(
    "kind",
    [arrays.ByteaArray, arrays.BigintArray, arrays.SmallintArray, arrays.TextArray, arrays.InstantArray],
)
def test_a_packed_array_names_the_type_that_the_server_has_for_it(kind: type[arrays.PackedArray]) -> None:
    element = {"ByteaArray": "bytea", "BigintArray": "int8", "SmallintArray": "int2", "TextArray": "text"}
    name = element.get(kind.__name__, "timestamptz")
    info = psycopg.adapters.types.get(name)
    assert info is not None
    assert info.array_oid == kind.oid


def test_psycopg_sends_a_packed_array_as_it_is() -> None:
    arrays.register()
    value = arrays.pack_bigint([1, 2])
    transformer = Transformer()
    assert transformer.dump_sequence([value], [PyFormat.AUTO]) == [value]
    assert transformer.types == (arrays.BigintArray.oid,)
