"""Long lists on a page: their beginning and their end are shown, what is between them is folded. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from webhooks.model import Attempt
from webhooks.operations.events import Moment

Each = TypeVar("Each")
#: Of many, so many are shown from the beginning and from the end; where less than three would be folded, all are.
FIRST, LAST, LEAST = 1, 5, 3
#: Of what is folded the latest so many are written; the command lists the others.
MOST = 30
#: Letters of an error within a fold.
LONGEST_ERROR = 2_000


class Fold(NamedTuple):
    """What is folded in the middle of a list. left_out: how many older ones are not even there. name: of the handler."""

    folded: Sequence[Moment]
    left_out: int
    name: str
    delivery_id: int

    @property
    def stands_for(self) -> int:
        """How many attempts."""
        return len(self.folded) + self.left_out


def split(every: Sequence[Each], first: int = FIRST, last: int = LAST) -> tuple[Sequence[Each], Sequence[Each]]:
    """(what is folded, what of the end is shown) of a list; what stands before the fold is always shown."""
    if len(every) < first + last + LEAST:
        return (), every[first:]
    return every[first : len(every) - last], every[len(every) - last :]


def same_errors(attempts: Mapping[int, Sequence[Attempt]]) -> frozenset[tuple[int, int]]:
    """(delivery, attempt) of those that failed as the one before them did, so that it is said once.

    What is shown first behind a fold says its error again. attempts: {delivery: its attempts, the first first}.
    """
    found = set()
    for every in attempts.values():
        folded, shown = split(every)
        again = shown[0].number if folded and shown else None
        for before, after in itertools.pairwise(every):
            if after.error and after.error == before.error and after.number != again:
                found.add((after.delivery_id, after.number))
    return frozenset(found)


def fold(moments: Sequence[Moment], attempts: Mapping[int, Sequence[Attempt]]) -> Iterator[Moment | Fold]:
    """A timeline in which the attempts in the middle of many of a delivery are one line. attempts: see `same_errors`."""
    hidden = {(id, attempt.number) for id, every in attempts.items() for attempt in split(every)[0]}
    mine: dict[int, list[Moment]] = {}
    for moment in moments:
        if moment.attempt is not None and (moment.attempt.delivery_id, moment.attempt.number) in hidden:
            mine.setdefault(moment.attempt.delivery_id, []).append(moment)
    for moment in moments:
        attempt = moment.attempt
        if attempt is None or (attempt.delivery_id, attempt.number) not in hidden:
            yield moment
        elif (every := mine[attempt.delivery_id])[0] is moment:
            name = "" if moment.delivery is None else moment.delivery.handler
            yield Fold(every[-MOST:], max(0, len(every) - MOST), name, attempt.delivery_id)


__all__ = ["FIRST", "LONGEST_ERROR", "Fold", "fold", "same_errors", "split"]
