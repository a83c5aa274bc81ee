"""Which event types are asked for: dotted patterns with `*` and `**`.

A type is dotted segments (`activity.whatsapp_message.created`). In a pattern `*` stands for exactly one segment and
`**` for any number of them, none included: `activity.whatsapp_message.**` matches `activity.whatsapp_message` too.
Every other segment stands for itself, letter by letter: types are the sender's words, so case counts.

A wildcard is a whole segment; `foo*` is refused rather than guessed at. Matching takes time proportional to pattern ×
type, whatever either of them says, because patterns are typed into dashboards as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from webhooks.errors import InvalidPattern
from webhooks.formats import nearest

#: Types are at most this long, so a longer pattern matches nothing.
LONGEST_PATTERN_BYTES = 255

ONE = "*"
ANY = "**"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, checked when it is made. Raises `InvalidPattern`, which names the fix."""

    text: str
    _segments: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise InvalidPattern(f"a pattern is text such as 'lead.created', not {type(self.text).__name__}")
        _check(self.text)
        segments = self.text.split(".")
        # "**.**" says no more than "**"
        kept = [s for s, before in zip(segments, ["", *segments], strict=False) if not s == before == ANY]
        object.__setattr__(self, "_segments", tuple(kept))

    def __str__(self) -> str:
        return self.text

    @property
    def is_exact(self) -> bool:
        """Whether it has no wildcard, so that it matches one type only."""
        return ONE not in self._segments and ANY not in self._segments

    def matches(self, type: str) -> bool:
        """Whether events of `type` are asked for. Raises nothing."""
        return self.text == type or _match(self._segments, type.split("."))


def _match(pattern: tuple[str, ...], segments: list[str]) -> bool:
    """Glob matching over segments; it goes back only to the last `**`, which is enough and never explodes."""
    at = place = 0
    after_any, resume = -1, 0  # where the pattern goes on after the last `**`, and from which segment to try it next
    while place < len(segments):
        if at < len(pattern) and pattern[at] == ANY:
            after_any, resume = at + 1, place
            at += 1
        elif at < len(pattern) and pattern[at] in (ONE, segments[place]):
            at += 1
            place += 1
        elif after_any >= 0:
            resume += 1
            at, place = after_any, resume
        else:
            return False
    return all(segment == ANY for segment in pattern[at:])


def expand(pattern: Pattern, known_types: Iterable[str]) -> list[str]:
    """Those of `known_types` that the pattern matches, sorted."""
    return sorted(type for type in known_types if pattern.matches(type))


def suggest(pattern: Pattern, known_types: Iterable[str]) -> str | None:
    """A pattern close to `pattern` that matches something of `known_types`; None when nothing is close.

    Wildcards are kept where they are, the other segments are corrected one by one: for `activity.whatsap.*` the
    answer is `activity.whatsapp_message.*`, not some type that happens to be spelled like it.
    """
    known = sorted(set(known_types))
    if pattern.is_exact:
        return nearest(pattern.text, known)
    segments = pattern.text.split(".")
    vocabulary = sorted({segment for type in known for segment in type.split(".")})
    corrected = list(segments)
    for place, segment in enumerate(segments):
        if segment in (ONE, ANY) or segment in vocabulary:
            continue
        near = nearest(segment, vocabulary)
        if near is None:
            return None
        corrected[place] = near
    candidate = Pattern(".".join(corrected))
    if not any(candidate.matches(type) for type in known):
        # every segment is a word of theirs, but not in this place, or one segment too few: try it open at the end
        while corrected and corrected[-1] in (ONE, ANY):
            corrected.pop()
        candidate = Pattern(".".join([*corrected, ANY]))
    return candidate.text if any(candidate.matches(type) for type in known) else None


def _check(text: str) -> None:
    if not text:
        raise InvalidPattern("a pattern is empty; write a type such as 'lead.created', or '**' for all of them")
    if any(not character.isprintable() or character.isspace() for character in text):
        raise InvalidPattern(
            f"pattern {_shown(text)} holds a space or a character that cannot be printed; write 'lead.created', and "
            "several patterns as several arguments"
        )
    if len(text.encode()) > LONGEST_PATTERN_BYTES:
        raise InvalidPattern(
            f"pattern {_shown(text)} has {len(text.encode())} bytes and would match nothing, because no type has more "
            f"than {LONGEST_PATTERN_BYTES}; shorten it, with '**' for the rest"
        )
    segments = text.split(".")
    for segment in segments:
        if not segment:
            fixed = ".".join(each for each in segments if each) or ANY
            raise InvalidPattern(f"pattern {text!r} has an empty segment; did you mean {fixed!r}?")
        if "*" in segment and segment not in (ONE, ANY):
            raise InvalidPattern(
                f"pattern {text!r}: {segment!r} mixes a wildcard with other characters; '*' is one whole segment and "
                f"'**' any number of them{_without_star(segments, segment)}"
            )


def _without_star(segments: list[str], wrong: str) -> str:
    fixed = [ANY if set(s) == {"*"} and len(s) > 2 else ONE if s == wrong else s for s in segments]
    return f": did you mean {'.'.join(fixed)!r}?"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
