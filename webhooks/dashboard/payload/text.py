"""A body as text, or as bytes where it is none: sixteen to a line, with what is printable of them beside."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

#: Bytes are shown up to here, a thousand lines.
MOST_BYTES = 16_000
_PER_LINE = 16
#: Control characters that neither text nor JSON has: all but tab and ends of lines.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class Shown(NamedTuple):
    """What is shown of a body. is_cut: there is more of it."""

    text: str
    is_cut: bool


def shown(raw: bytes, most: int) -> Shown:
    """A body for people. most: so many bytes of it, where it is text."""
    text = _text_of(raw[:most], is_whole=len(raw) <= most)
    if text is not None:
        return Shown(text, len(raw) > most)
    most = min(most, MOST_BYTES)
    return Shown(_dump(raw[:most]), len(raw) > most)


def _text_of(raw: bytes, *, is_whole: bool) -> str | None:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(raw, final=is_whole)
    except UnicodeDecodeError:
        return None
    return None if _NO_TEXT.search(text) else text


def _dump(raw: bytes) -> str:
    return "\n".join(_line(start, raw[start : start + _PER_LINE]) for start in range(0, len(raw), _PER_LINE))


def _line(start: int, some: bytes) -> str:
    readable = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in some)
    return f"{start:08x}  {some.hex(' '):<{3 * _PER_LINE - 1}}  {readable}"


__all__ = ["MOST_BYTES", "Shown", "shown"]
