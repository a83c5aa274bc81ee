"""PostgreSQL's binary arrays, each packed at once: how a batch of events travels to the server.

psycopg packs a list by asking for every element what it is and which dumper it wants; for the arrays of one batch that
costs as much as everything else we do on the way to the database. Here the caller says the type, as the statement does
too. Values are never None: statements say `nullif`.

`register` tells psycopg that these are parameters already; `database` calls it before it connects.
Source: array_send in PostgreSQL's src/backend/utils/adt/arrayfuncs.c; psycopg's own packing is the witness in the tests.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

#: dimensions, whether there are NULLs, type of the elements, their number, index of the first
_HEAD = struct.Struct("!iiIii")
_EMPTY = struct.Struct("!iiI")
_LENGTH = struct.Struct("!i").pack
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_BYTEA, _INT8, _INT2, _TEXT, _TIMESTAMPTZ = 17, 20, 21, 25, 1184


class PackedArray(bytes):
    """A parameter that is a whole array in PostgreSQL's binary format. oid: the array's type."""

    __slots__ = ()
    oid = 0


class ByteaArray(PackedArray):
    __slots__ = ()
    oid = 1001


class BigintArray(PackedArray):
    __slots__ = ()
    oid = 1016


class SmallintArray(PackedArray):
    __slots__ = ()
    oid = 1005


class TextArray(PackedArray):
    __slots__ = ()
    oid = 1009


class InstantArray(PackedArray):
    __slots__ = ()
    oid = 1185


def pack_bytea(values: Sequence[bytes]) -> ByteaArray:
    """An array of byte strings."""
    return ByteaArray(_pack_pieces(_BYTEA, values))


def pack_text(values: Sequence[str]) -> TextArray:
    """Raises UnicodeEncodeError for a lone surrogate."""
    if len(values) > 1 and values.count(values[0]) == len(values):
        # of one source, by one key, with the same headers: half of a batch's columns say the same in every row
        value = values[0].encode()
        return TextArray(_HEAD.pack(1, 0, _TEXT, len(values), 1) + (_LENGTH(len(value)) + value) * len(values))
    return TextArray(_pack_pieces(_TEXT, [value.encode() for value in values]))


def pack_bigint(values: Sequence[int]) -> BigintArray:
    """Raises struct.error for a number beyond 64 bits."""
    return BigintArray(_pack_numbers(_INT8, "q", 8, values))


def pack_smallint(values: Sequence[int]) -> SmallintArray:
    """Raises struct.error for a number beyond 16 bits."""
    return SmallintArray(_pack_numbers(_INT2, "h", 2, values))


def pack_instants(values: Iterable[datetime]) -> InstantArray:
    """values: aware."""
    return InstantArray(_pack_numbers(_TIMESTAMPTZ, "q", 8, [(value - _EPOCH) // _MICROSECOND for value in values]))


_PACKERS: Mapping[str, Callable[[Sequence[Any]], PackedArray]] = {
    "bytea": pack_bytea,
    "bigint": pack_bigint,
    "smallint": pack_smallint,
    "text": pack_text,
    "timestamptz": pack_instants,
}


def pack_rows(columns: Iterable[tuple[str, str]], rows: Sequence[tuple[Any, ...]]) -> list[PackedArray]:
    """One array for each column of `rows`. columns: [(name, type as PostgreSQL calls it)]."""
    return [_PACKERS[kind](values) for (_, kind), values in zip(columns, zip(*rows, strict=True), strict=True)]


def _pack_pieces(type: int, values: Sequence[bytes]) -> bytes:
    if not values:
        return _EMPTY.pack(0, 0, type)
    pieces = [_HEAD.pack(1, 0, type, len(values), 1)]
    pieces += [piece for value in values for piece in (_LENGTH(len(value)), value)]
    return b"".join(pieces)


def _pack_numbers(type: int, code: str, size: int, values: Sequence[int]) -> bytes:
    if not values:
        return _EMPTY.pack(0, 0, type)
    flat = [size] * (2 * len(values))
    flat[1::2] = values
    return _HEAD.pack(1, 0, type, len(values), 1) + struct.pack("!" + f"i{code}" * len(values), *flat)


def register() -> None:
    """Let every psycopg connection made from now on take these as they are."""
    import psycopg
    from psycopg.abc import Buffer
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class AsItIs(Dumper):
        format = Format.BINARY

        def dump(self, obj: PackedArray) -> Buffer:
            return obj

    for kind in (ByteaArray, BigintArray, SmallintArray, TextArray, InstantArray):
        dumper = type(f"{kind.__name__}Dumper", (AsItIs,), {"oid": kind.oid})
        psycopg.adapters.register_dumper(kind, dumper)
