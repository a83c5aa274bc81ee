"""Text that can always be stored and shown: without controls, cut where it is long, and made of any error.

Counts, durations and instants in words, and the nearest known word, are said here too, so that one screen says them in
one way. How people write quantities is read by `quantities`.

Nothing here can fail, whatever an error's `__str__` does.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from webhooks.errors import AttemptTimeout, LeaseLost, PayloadMismatch, Retry
from webhooks.formats import sqlstates

#: Stored error text is cut at this many characters.
ERROR_TEXT_LIMIT = 10_000

#: What is said before the frames of an attempt whose time was up.
STOOD_AT = "where it stood then (most recent call last):"

#: Bytes that an id, a type or an ordering key may have, on both databases.
MAX_KEY_BYTES = 255

#: How like a known word must be to be offered (`difflib`'s ratio).
LIKE_ENOUGH = 0.6
#: How like a known word must be where the likeness alone is a reason to refuse: a slip of one or two letters.
ALMOST_THE_SAME = 0.8

#: From how many seconds on a duration is said in which two units: (from, unit, seconds of the smaller unit, its name).
_SPANS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def printable(text: str, limit: int = ERROR_TEXT_LIMIT) -> str:
    """`text` cut at `limit`, with NUL, controls (but newline and tab), bidirectional marks and surrogates as escapes."""
    cut = text[:limit]
    if not cut.isascii() or not cut.isprintable():
        cut = "".join(_escape(character) for character in cut)
    return cut[:limit] + ("… (cut)" if len(text) > limit or len(cut) > limit else "")


def _escape(character: str) -> str:
    if character in "\n\t":
        return character
    if character.isprintable() or (
        ord(character) > 0x7F and character.isspace() and character not in "\u2028\u2029\x85"
    ):
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def one_line(text: str, limit: int = 300) -> str:
    """The same on one line, for reasons and tables."""
    return printable(" ".join(text[: 4 * limit].split()), limit)


def text_of(error: BaseException, limit: int = 2000) -> str:
    """The beginning of what an error says, a database's without values; cannot fail, whatever its `__str__` does."""
    try:
        text = sqlstates.text_without_values(error)
        return str.__getitem__(str(error) if text is None else text, slice(0, limit))
    except BaseException as broken:
        return f"(its text cannot be had: {type(broken).__name__})"


def error_summary(error: BaseException) -> str:
    """`ValueError: what it says`, on one line; cannot fail."""
    text = text_of(error)
    name = type.__getattribute__(type(error), "__name__")
    return one_line(f"{name}: {text}" if text else name)


def error_text(error: BaseException) -> str:
    """The traceback as text that can be stored: the last `ERROR_TEXT_LIMIT` characters; cannot fail.

    Our own errors (`Retry`, a lost lease, data of another type) have no traceback worth keeping; a time-out has the frames
    of the thread that was left behind.
    """
    if isinstance(error, AttemptTimeout) and error.stack:
        room = ERROR_TEXT_LIMIT - 400
        return printable(f"{error_summary(error)}\n{STOOD_AT}\n{error.stack[-room:]}".rstrip(), ERROR_TEXT_LIMIT)
    if isinstance(error, (Retry, LeaseLost, AttemptTimeout, PayloadMismatch)):
        return error_summary(error)
    try:
        frames = traceback.extract_tb(error.__traceback__, limit=-30)
        trace = "Traceback (most recent call last):\n" + "".join(frames.format()[-30:])
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        tail = error_summary(error) + (f"\ncaused by {error_summary(cause)}" if cause is not None else "")
        room = ERROR_TEXT_LIMIT - len(tail) - 20
        return printable(trace[-room:] + tail, ERROR_TEXT_LIMIT)
    except BaseException:
        return error_summary(error)


def exception_text(error: BaseException) -> str:
    """An exception for the log: frames, what it says on one line each, and what led to it; cannot fail.

    As Python prints it, but without values that a database quotes, and with nothing that could forge a line.
    """
    try:
        chain: list[BaseException] = []
        at: BaseException | None = error
        while at is not None and at not in chain and len(chain) < 5:
            chain.append(at)
            at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
        parts = [f"{_frames(each)}{error_summary(each)}" for each in reversed(chain)]
        return "\n\nwhich led to:\n\n".join(parts)
    except BaseException:
        return error_summary(error)


def _frames(error: BaseException) -> str:
    if error.__traceback__ is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__, limit=-30).format()
    return printable("Traceback (most recent call last):\n" + "".join(frames), 4 * ERROR_TEXT_LIMIT)


def why_no_key(text: str) -> str | None:
    """What keeps a text from being an id, a type or an ordering key that both databases hold; None when nothing does."""
    try:
        size = len(text) if text.isascii() else len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    if size > MAX_KEY_BYTES:
        return f"has {size} bytes; at most {MAX_KEY_BYTES} can be kept"
    return "holds a NUL" if "\0" in text else None


# -- words for people -----------------------------------------------------------------------------------------


def nearest(word: str, known: Iterable[str], at_least: float = LIKE_ENOUGH) -> str | None:
    """The one of `known` that is most like `word`; None when none is like it. at_least: `difflib`'s ratio."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=at_least)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest of `known`, or nothing; to be put behind the wrong word."""
    near = nearest(word, known)
    return f" (did you mean {near!r}?)" if near is not None else ""


def counted(number: int, noun: str, is_more: bool = False) -> str:
    """`1 event`, `2,000 deliveries`. is_more: counting stopped there, so `at least` comes before it."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{'at least ' if is_more else ''}{number:,} {noun if number == 1 else plural}"


def span(duration: timedelta) -> str:
    """A duration for people: 850 ms, 12 s, 3 min 5 s, 2 h 5 min, 3 d 4 h."""
    seconds = duration.total_seconds()
    if seconds < 0:
        return f"-{span(-duration)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    size, unit, small_size, small_unit = next(row for row in _SPANS if seconds >= row[0])
    rest = int(seconds % size // small_size)
    return f"{int(seconds // size)} {unit}" + (f" {rest} {small_unit}" if rest else "")


def shown_instant(instant: datetime) -> str:
    """An instant in a sentence: UTC, to the second, `2026-03-10T14:05:12Z`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_text(instant: datetime) -> str:
    """An instant in JSON and wherever it is read back: UTC, as exact as it is, `2026-03-10T14:05:12.417000Z`."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
