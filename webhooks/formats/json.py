"""Read and write JSON: every call of a JSON library is in here.

What counts as JSON: UTF-8 text without a byte order mark, nothing after the value, no NaN or Infinity, at most 100
levels deep, integers of at most 4,300 digits. Lone surrogates, NUL, numbers beyond 64 bits and huge exponents are JSON:
they are read, if slowly. `load` turns bytes into Python, `load_watching` does so and tells which
keys were written twice, `require_limits` completes the judgement of a decoder that skipped parts.

The surprise: msgspec is several times faster than the standard library but skims over what it skips (it checks
neither UTF-8 nor depth there) and refuses lone surrogates. So the fast way is taken first, and what it cannot
read gets the standard library's verdict; a body that is JSON is never refused because the fast way could not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

import msgspec

from webhooks.formats.paths import JsonPath, path_of, place_in

#: How deep arrays and objects may be nested.
MAX_DEPTH = 100
#: How many digits an integer may have; Python's own limit, said here so that it never depends on the interpreter.
MAX_INTEGER_DIGITS = 4300

#: What decoding raises, here and in the libraries below. `UnicodeDecodeError` and msgspec's errors are ValueErrors.
ERRORS = (ValueError, RecursionError)

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NUMBER = re.compile(rb"-?([0-9]+)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# the look-behind makes the search linear: a run of digits is tried at its start only
_LONG_DIGITS = re.compile(rb"(?<![0-9])[0-9]{%d}" % (MAX_INTEGER_DIGITS + 1))
_TO_PARENTHESES = bytes.maketrans(b"[{]}", b"(())")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


class NotJSON(ValueError):
    """Bytes that are not JSON as this house understands it. The text says why and quotes nothing."""


def require_limits(raw: bytes) -> None:
    """Refuse well-formed JSON that is not UTF-8, nests too deep or holds too long an integer.

    raw: text that a JSON parser has accepted. Raises NotJSON.
    """
    if not raw.isascii():
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            raise NotJSON("the text is not UTF-8") from None
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _is_deeper_than(raw, MAX_DEPTH):
        raise NotJSON(f"nested deeper than {MAX_DEPTH} levels")
    if len(raw) > MAX_INTEGER_DIGITS and _LONG_DIGITS.search(raw) is not None and _has_long_integer(raw):
        raise NotJSON(f"an integer has more than {MAX_INTEGER_DIGITS} digits")


def load(raw: bytes) -> Any:
    """Decode JSON strictly. Raises NotJSON, and nothing else."""
    try:
        value = _DECODER.decode(raw)
    except ERRORS:
        value = _load_slowly(raw)
    require_limits(raw)
    return value


def load_watching(raw: bytes) -> Any:
    """Decode JSON strictly; each object is a `Watched`, which knows its doubled keys. Raises NotJSON."""
    value = _load_slowly(raw, Watched)
    require_limits(raw)
    return value


class Watched(dict[str, Any]):
    """A JSON object that remembers which of its keys were written more than once; the last value stands."""

    __slots__ = ("doubled",)

    def __init__(self, pairs: Collection[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.doubled: frozenset[str] = frozenset()
        if len(self) != len(pairs):
            seen: set[str] = set()
            self.doubled = frozenset(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def dump(value: Any) -> bytes:
    """Encode as compact UTF-8 JSON, keys in the order given."""
    try:
        return _ENCODER.encode(value)
    except (ValueError, OverflowError, RecursionError, TypeError):  # lone surrogates, integers beyond 64 bits
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def inert(text: str) -> str:
    """JSON text with all that a terminal or an editor could act on as \\u escapes: C1, DEL, bidirectional marks, surrogates.

    text: JSON, whose own whitespace is spaces and newlines. It stays JSON of the same value.
    """
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(c if c.isprintable() or c == "\n" else _as_escape(c) for c in text)


def _as_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def _load_slowly(raw: bytes, hook: Any = None) -> Any:
    try:
        # decoded here: json.loads would guess UTF-16 and UTF-32, and let UTF-8 surrogates pass
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=hook)
    except UnicodeDecodeError:
        raise NotJSON("the text is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise NotJSON(f"not JSON: {error.msg} at byte {error.pos} of {len(raw)}") from None
    except RecursionError:
        raise NotJSON(f"nested deeper than {MAX_DEPTH} levels") from None
    except NotJSON:
        raise
    except ValueError:
        raise NotJSON(f"an integer has more than {MAX_INTEGER_DIGITS} digits") from None


def _refuse_constant(name: str) -> Any:
    raise NotJSON(f"not JSON: {name} is not a JSON value")


def _is_deeper_than(raw: bytes, limit: int) -> bool:
    """Each pass removes the innermost level of everything, so what is left after `limit` passes is deeper."""
    brackets = _STRING.sub(b"", raw).translate(_TO_PARENTHESES, _NO_BRACKET)
    for _ in range(limit):
        if not brackets:
            return False
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)


def _has_long_integer(raw: bytes) -> bool:
    for number in _NUMBER.finditer(_STRING.sub(b"", raw)):
        digits, fraction, exponent = number.groups()
        if len(digits) > MAX_INTEGER_DIGITS and fraction is None and exponent is None:
            return True
    return False


# -- parts of a text, as they stand there ------------------------------------------------------------------

_SCANNER = json.JSONDecoder()
_SPACE = " \t\n\r"


def items(raw: bytes, path: str = "") -> list[bytes]:
    """The elements of the list at a dotted path (the whole text when empty), each exactly as written.

    raw: JSON that `load` or `load_watching` accepted. Raises LookupError when there is no list at the path.
    """
    text = raw.decode("utf-8")
    start = _find(text, path)
    if text[start : start + 1] != "[":
        raise LookupError("there is no list")
    return [text[begin:end].encode("utf-8") for begin, end in _elements(text, start)]


def member(raw: bytes, path: str) -> bytes:
    """The value at a dotted path, exactly as written. Raises LookupError when there is none."""
    text = raw.decode("utf-8")
    start = _find(text, path)
    _, end = _SCANNER.raw_decode(text, start)
    return text[start:end].encode("utf-8")


def elements_at(text: str, start: int) -> tuple[list[tuple[int, int]], int]:
    """((begin, end) of each element of the list that begins at `start`, where what follows the list begins)."""
    found = _elements(text, start)
    return found, _skip(text, found[-1][1] if found else start + 1) + 1


def find_at(text: str, start: int, path: JsonPath) -> int | None:
    """Where the value at a path from the value at `start` begins; None where there is none."""
    return _follow(text, start, path, 0)


def skip_space(text: str, start: int) -> int:
    """Where the next character that is no space stands."""
    return _skip(text, start)


def _find(text: str, path: str) -> int:
    """Where the value at a path begins; a path is read as `paths` reads it."""
    start = _skip(text, 0)
    found = _follow(text, start, path_of(path), 0) if path else start
    if found is None:
        raise LookupError(f"there is no {path!r}")
    return found


def _follow(text: str, start: int, path: JsonPath, at: int) -> int | None:
    if at == len(path.steps):
        return start
    if text[start] == "{":
        members = _members(text, start)
        for key, after in path.tries[at]:
            if key in members and (found := _follow(text, members[key], path, after)) is not None:
                return found
    elif text[start] == "[":
        elements = _elements(text, start)
        place = place_in(len(elements), path.steps[at])
        if place is not None:
            return _follow(text, elements[place][0], path, at + 1)
    return None


def _members(text: str, start: int) -> dict[str, int]:
    """{key: where its value begins} of the object that begins at `start`; of a doubled key, the last."""
    found: dict[str, int] = {}
    start = _skip(text, start + 1)
    while text[start] != "}":
        key, end = _SCANNER.raw_decode(text, start)
        start = _skip(text, _skip(text, end) + 1)
        found[key] = start
        start = _after_value(text, start)[1]
    return found


def _elements(text: str, start: int) -> list[tuple[int, int]]:
    """(begin, end) of each element of the list that begins at `start`."""
    found: list[tuple[int, int]] = []
    start = _skip(text, start + 1)
    while text[start] != "]":
        begin = start
        end, start = _after_value(text, start)
        found.append((begin, end))
    return found


def _after_value(text: str, start: int) -> tuple[int, int]:
    """(where the value that begins at `start` ends, where what follows its comma begins)."""
    _, end = _SCANNER.raw_decode(text, start)
    start = _skip(text, end)
    return end, _skip(text, start + 1) if text[start] == "," else start


def _skip(text: str, start: int) -> int:
    while start < len(text) and text[start] in _SPACE:
        start += 1
    return start
