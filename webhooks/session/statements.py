"""The first words of a statement for PostgreSQL: whether it would begin or end a transaction.

PostgreSQL tells that a transaction was ended only when it is over, so this one question is asked of the text. That is
safe because the extended protocol takes one statement at a time: nothing can hide behind a semicolon.
"""

from __future__ import annotations

import functools

#: PostgreSQL's white space. Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
_SPACE = b" \t\n\r\f\v"
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_CONTROLS = frozenset((b"begin", b"start", b"commit", b"end", b"abort"))


# an application has few statements, each of which runs again and again
@functools.lru_cache(maxsize=500)
def controls_transaction(statement: bytes) -> bool:
    """Whether `statement` begins, ends or prepares a transaction. `rollback to savepoint` does not."""
    first, second, third = first_words(statement)
    if first == b"rollback":
        return b"to" not in ((third,) if second in (b"work", b"transaction") else (second,))
    return first in _CONTROLS or (first == b"prepare" and second == b"transaction")


def first_words(statement: bytes) -> tuple[bytes, bytes, bytes]:
    """The first three words, in lower case, b"" where something else stands; empty statements before them are passed over."""
    words: list[bytes] = []
    place = _skip(statement, 0, b";")
    while len(words) < 3:
        end = place
        while end < len(statement) and statement[end] in _WORD:
            end += 1
        words.append(statement[place:end].lower())
        place = _skip(statement, end, b"")
    return words[0], words[1], words[2]


def _skip(statement: bytes, place: int, also: bytes) -> int:
    """The next place that is neither space, nor comment, nor one of `also`. Comments between stars nest."""
    while place < len(statement):
        if statement[place] in _SPACE or statement[place] in also:
            place += 1
        elif statement.startswith(b"--", place):
            ends = [end for end in (statement.find(b"\n", place), statement.find(b"\r", place)) if end >= 0]
            place = min(ends, default=len(statement))
        elif statement.startswith(b"/*", place):
            place = _end_of_comment(statement, place)
        else:
            break
    return place


def _end_of_comment(statement: bytes, place: int) -> int:
    depth = 0
    while place < len(statement):
        if statement.startswith(b"/*", place):
            depth += 1
            place += 2
        elif statement.startswith(b"*/", place):
            depth -= 1
            place += 2
            if not depth:
                break
        else:
            place += 1
    return place
