"""Cut JSON into the elements of its lists, each exactly as written: also of lists within lists.

A pattern says where the lists are: `events`, `.` for the text itself, `entry.*.changes` for the list in each element of
a list. Several patterns may meet; an element in which a further list has elements gives way to these, and one in which
none is there stands for itself, so that nothing of a text is lost.

With `around`, a slice is the whole text in which the lists on the way hold that one element alone, and other such lists
none. Bounded: `MAX_AROUND_BYTES`, since what stands around is written once for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from webhooks.formats.json import NotJSON, elements_at, find_at, skip_space
from webhooks.formats.paths import JsonPath

#: Slices of one text with what stands around them have at most so many bytes in sum.
MAX_AROUND_BYTES = 64 * 2**20


class _Element:
    """An element of a list, or the whole text. lists: those within it at which a pattern has arrived."""

    __slots__ = ("begin", "end", "lists", "parent")

    def __init__(self, begin: int, end: int, parent: _Element | None = None) -> None:
        self.begin = begin
        self.end = end
        self.parent = parent
        self.lists: dict[int, _List] = {}


class _List:
    """A list. end: behind its bracket."""

    __slots__ = ("begin", "elements", "end")

    def __init__(self, begin: int, end: int, elements: list[_Element]) -> None:
        self.begin = begin
        self.end = end
        self.elements = elements


def slices(
    raw: bytes, patterns: Sequence[Sequence[JsonPath | None]], *, around: bool = False, most: int
) -> list[bytes]:
    """The elements of the lists at `patterns`, in the order in which they stand there.

    raw: JSON that `json.load` or `json.load_watching` accepted.
    patterns: for each list on the way its path from the one before; None for the text, or the element, itself.
    around: whether each keeps what stands around it.
    most: slices, at most.

    Raises LookupError where no pattern finds a list, NotJSON for too many.
    """
    text = raw.decode("utf-8")
    root = _Element(0, len(text))
    for pattern in patterns:
        _grow(text, root, pattern)
    if not root.lists:
        raise LookupError("there is no list")
    leaves = [leaf for each in _in_order(root) for leaf in _leaves(each)]
    if len(leaves) > most:
        raise NotJSON(f"it holds {len(leaves)} events; at most {most} are accepted")
    if not around:
        return [text[leaf.begin : leaf.end].encode("utf-8") for leaf in leaves]
    found: list[bytes] = []
    size = 0
    for leaf in leaves:
        found.append(_with_around(text, leaf).encode("utf-8"))
        size += len(found[-1])
        if size > MAX_AROUND_BYTES:
            raise NotJSON(
                f"its {len(leaves)} events and what stands around each have more than {MAX_AROUND_BYTES} bytes"
            )
    return found


def _grow(text: str, root: _Element, pattern: Sequence[JsonPath | None]) -> None:
    """Follow one pattern, list by list."""
    level = [root]
    for path in pattern:
        below: list[_Element] = []
        for element in level:
            start = skip_space(text, element.begin)
            at = start if path is None else find_at(text, start, path)
            if at is None or text[at : at + 1] != "[":
                continue
            if at not in element.lists:
                spans, end = elements_at(text, at)
                element.lists[at] = _List(at, end, [_Element(begin, stop, element) for begin, stop in spans])
            below += element.lists[at].elements
        level = below


def _in_order(element: _Element) -> list[_Element]:
    """The elements of the lists within one, as they stand there."""
    return [each for start in sorted(element.lists) for each in element.lists[start].elements]


def _leaves(element: _Element) -> list[_Element]:
    """The elements within one that hold no further; itself, where there is none."""
    return [leaf for each in _in_order(element) for leaf in _leaves(each)] or [element]


def _with_around(text: str, leaf: _Element) -> str:
    """The whole text, in which the lists on the way to `leaf` hold that way alone."""
    inner = text[leaf.begin : leaf.end]
    child = leaf
    while child.parent is not None:
        parent = child.parent
        written = ""
        at = parent.begin
        for start in sorted(parent.lists):
            each = parent.lists[start]
            is_on_way = each.begin < child.begin < each.end
            written += text[at : each.begin] + (f"[{inner}]" if is_on_way else "[]")
            at = each.end
        inner = written + text[at : parent.end]
        child = parent
    return inner
