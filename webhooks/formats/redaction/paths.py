"""Hide values of JSON by their paths: `data.remote_phone`, `**.email`.

A pattern is a dotted path as `paths` writes it, with `*` for one step and `**` for any number; it may begin anywhere in the
body, since senders wrap what they mean. `data` also means `previous_data`, so what a value was is hidden with what it is. A
step into a list needs no step of the pattern: `data.contacts.email` hides the e-mail of each. A key that holds dots is read
as several steps. What is hidden is hidden with all that is in it.

`Redaction.hide` works on decoded JSON, `hide_body` on bytes, which stay as they were written apart from what is hidden;
`texts` and `scrub` take the same values out of other texts, such as errors of handlers. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from webhooks.formats import json as jsonio
from webhooks.formats.paths import Step

#: What stands in place of a value, and its JSON.
HIDDEN = "[hidden]"
_HIDDEN_JSON = b'"[hidden]"'
#: Shorter texts are not looked for in other texts: they would be found everywhere.
SHORTEST = 4
#: Names of what an object was before, in the place of `data`.
_BEFORE = ("previous_data", "previous", "previous_attributes")
_MOST_SEGMENTS = 20

#: How far each pattern is matched: (its number, how many of its segments).
Progress = frozenset[tuple[int, int]]


class Redaction:
    """Which values are hidden. patterns: dotted, see above. Raises ValueError for what is none."""

    __slots__ = ("_patterns", "patterns")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self.patterns = tuple(patterns)
        self._patterns = tuple(_read(pattern) for pattern in self.patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Redaction) and other.patterns == self.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __repr__(self) -> str:
        return f"Redaction({list(self.patterns)!r})"

    # -- one path ------------------------------------------------------------------------------------------

    def begin(self) -> Progress:
        """At the root of a body."""
        return self._rested((number, 0) for number in range(len(self._patterns)))

    def step(self, at: Progress, step: Step) -> Progress:
        """One step further. step: a key, or a place in a list."""
        if not self._patterns:
            return at
        if isinstance(step, int):
            # a place in a list matches a wildcard or its number, or nothing at all
            return at | self._advanced(at, str(step))
        for part in step.split("."):
            at = self._advanced(at, part)
        return at

    def hides_here(self, at: Progress) -> bool:
        """Whether what stands here is hidden."""
        return any(matched == len(self._patterns[number]) for number, matched in at)

    def hides(self, path: Sequence[Step]) -> bool:
        """Whether what stands at this path, or something around it, is hidden."""
        at = self.begin()
        for each in path:
            at = self.step(at, each)
            if self.hides_here(at):
                return True
        return False

    def names(self, path: Sequence[Step]) -> bool:
        """Whether a pattern ends at this path, or at the list whose element stands there; what is around it does not count."""
        keys = list(path)
        while keys and isinstance(keys[-1], int):
            keys.pop()
        at = self.begin()
        for each in keys:
            at = self.step(at, each)
        return bool(keys) and self.hides_here(at)

    def _advanced(self, at: Progress, part: str) -> Progress:
        after: set[tuple[int, int]] = set()
        for number, matched in at:
            pattern = self._patterns[number]
            if matched == len(pattern):
                continue
            segment = pattern[matched]
            if segment == "**":
                after.add((number, matched))
            elif segment in ("*", part) or (segment == "data" and part in _BEFORE):
                after.add((number, matched + 1))
        return self._rested(after)

    def _rested(self, at: Iterable[tuple[int, int]]) -> Progress:
        """With what `**` for nothing allows."""
        found = set(at)
        waiting = list(found)
        while waiting:
            number, matched = waiting.pop()
            pattern = self._patterns[number]
            if matched < len(pattern) and pattern[matched] == "**" and (number, matched + 1) not in found:
                found.add((number, matched + 1))
                waiting.append((number, matched + 1))
        return frozenset(found)

    # -- values --------------------------------------------------------------------------------------------

    def hide(self, value: Any) -> Any:
        """Decoded JSON with `HIDDEN` in place of what is hidden; the value itself stays as it is."""
        return value if not self._patterns else self._hide(value, self.begin(), [])

    def hide_at(self, root: str, value: Any) -> Any:
        """The same for what stands below one key, such as `data`; `HIDDEN` where all of it is."""
        return value if not self._patterns else self._hide_one(value, self.step(self.begin(), root), [])

    def texts(self, value: Any) -> set[str]:
        """What is hidden in decoded JSON, as texts: for `scrub`."""
        found: list[Any] = []
        self._hide(value, self.begin(), found)
        return {text for each in found for text in _texts_in(each) if len(text) >= SHORTEST}

    def _hide(self, value: Any, at: Progress, found: list[Any]) -> Any:
        """What `formats.json` decodes is at most a hundred levels deep."""
        if isinstance(value, Mapping):
            return {key: self._hide_one(each, self.step(at, key), found) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._hide_one(each, self.step(at, place), found) for place, each in enumerate(value)]
        return value

    def _hide_one(self, value: Any, at: Progress, found: list[Any]) -> Any:
        if self.hides_here(at):
            found.append(value)
            return HIDDEN
        return self._hide(value, at, found)

    # -- bytes ---------------------------------------------------------------------------------------------

    def hide_body(self, raw: bytes) -> bytes:
        """A body with what is hidden replaced, and everything else as it was written.

        What is no JSON is hidden as a whole: nothing is known of what stands where.
        """
        if not self._patterns:
            return raw
        try:
            jsonio.load(raw)
        except ValueError:
            return HIDDEN.encode()
        return b"".join(self._pieces(raw))

    def _pieces(self, raw: bytes) -> Iterator[bytes]:
        reader = _Reader(self, raw)
        done = 0
        for start, end in reader.hidden():
            yield raw[done:start]
            yield _HIDDEN_JSON
            done = end
        yield raw[done:]


_TOKEN = re.compile(rb'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^ \t\r\n{}\[\],:"]+)', re.DOTALL)


class _Reader:
    """Finds where hidden values stand in JSON that was read before; without recursion."""

    def __init__(self, redaction: Redaction, raw: bytes) -> None:
        self._redaction = redaction
        self._raw = raw
        #: of each bracket that is open: where its values stand, and the place of the next one; None: an object
        self._open: list[tuple[Progress, int | None]] = []

    def hidden(self) -> Iterator[tuple[int, int]]:
        """(begin, end) of each hidden value, in their order."""
        redaction = self._redaction
        here = redaction.begin()
        is_key, hidden_since, depth_then = False, -1, 0
        for token in _TOKEN.finditer(self._raw):
            text, start, end = token[1], token.start(1), token.end(1)
            if text in (b"{", b"["):
                if hidden_since < 0 and redaction.hides_here(here):
                    hidden_since, depth_then = start, len(self._open)
                self._open.append((here, 0 if text == b"[" else None))
                is_key = text == b"{"
                here = self._inside(here)
            elif text in (b"}", b"]"):
                here = self._open.pop()[0]
                is_key = False
                if hidden_since >= 0 and len(self._open) == depth_then:
                    yield hidden_since, end
                    hidden_since = -1
            elif text == b",":
                here, is_key = self._next()
            elif text == b":":
                is_key = False
            elif is_key:
                here = redaction.step(self._open[-1][0], jsonio.load(text))
            elif hidden_since < 0 and redaction.hides_here(here):
                yield start, end

    def _inside(self, at: Progress) -> Progress:
        return at if self._open[-1][1] is None else self._redaction.step(at, 0)

    def _next(self) -> tuple[Progress, bool]:
        at, place = self._open[-1]
        if place is None:
            return at, True
        self._open[-1] = (at, place + 1)
        return self._redaction.step(at, place + 1), False


def scrub(text: str, hidden: Iterable[str]) -> str:
    """A text without these texts, the longest first. hidden: see `Redaction.texts`."""
    for each in sorted(hidden, key=len, reverse=True):
        text = text.replace(each, HIDDEN)
    return text


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _texts_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts_in(each)
    elif isinstance(value, str):
        yield value
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _read(pattern: str) -> tuple[str, ...]:
    segments = pattern.split(".")
    if not all(segments) or len(segments) > _MOST_SEGMENTS:
        raise ValueError(
            f"{pattern[:80]!r} is no path; write names with dots between, such as data.remote_phone or **.email"
        )
    if all(segment in ("*", "**") for segment in segments):
        raise ValueError(f"{pattern[:80]!r} hides everything; name what is to be hidden, such as **.email")
    while segments[0] == "**":
        segments = segments[1:]
    return ("**", *segments)


__all__ = ["HIDDEN", "SHORTEST", "Redaction", "scrub"]
