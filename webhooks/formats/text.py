"""Text that can always be stored and shown: without controls, cut where it is long, and made of any error.

Nothing here can fail, whatever an error's `__str__` does.
"""

from __future__ import annotations

import traceback

from webhooks.errors import AttemptTimeout, LeaseLost, Retry
from webhooks.formats import sqlstates

#: Stored error text is cut at this many characters (checklist section 6).
ERROR_TEXT_LIMIT = 10_000


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

    Our own control-flow errors (`Retry`, a lost lease, a time-out) have no traceback worth keeping.
    """
    if isinstance(error, (Retry, LeaseLost, AttemptTimeout)):
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
