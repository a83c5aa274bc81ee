"""What a feeder offers to one queue of the engine, and what it remembers of it. Asks no clock, no database, no broker.

At most a window of deliveries is offered and not claimed yet, so that the backlog, its order and its shares stay in the
rows. What stays unclaimed is offered again, later each time: a message may be lost. Sooner would only double messages,
since a slow pool has them still.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from webhooks.delivery.scheduling import allocate, slots_for
from webhooks.store.deliveries import Offered, Queue

#: A message holds the ids of as many deliveries of one handler as run in so many seconds,
AHEAD_SECONDS = 0.2
#: at most so many, since a process that dies loses an attempt of each.
LARGEST_MESSAGE = 20
#: What is not claimed is offered again after so many seconds, twice as many each time,
AGAIN_SECONDS = 60.0
#: at most so many.
LONGEST_AGAIN_SECONDS = 600.0
#: The same for a handler with limits over all workers, whose ids are passed over where another process was quicker.
LIMITED_AGAIN_SECONDS, LONGEST_LIMITED_AGAIN_SECONDS = 2.0, 60.0
#: Where offers wait and none was claimed for so long, the engine is silent.
SILENT_SECONDS = 10.0


@dataclass(slots=True)
class Offer:
    """One wait of a delivery that was offered. times: how often. again_at: when it is offered again."""

    of: Offered
    times: int
    again_at: float


class Offers:
    """The offers to one queue of the engine that are not claimed, as far as is known. Instants: of one clock, in seconds.

    again: seconds until what is not claimed is offered again, the first time.
    """

    def __init__(self, again: float = AGAIN_SECONDS) -> None:
        self._again = again
        self._offers: dict[int, Offer] = {}
        self._alive_at: float | None = None

    def __len__(self) -> int:
        return len(self._offers)

    @property
    def ids(self) -> list[int]:
        """Of the deliveries."""
        return list(self._offers)

    def counts(self) -> Counter[Queue]:
        """{(handler, class): how many}."""
        return Counter(offer.of.queue for offer in self._offers.values())

    def settle(self, waiting: Iterable[Offered], now: float) -> int:
        """Forget what was claimed since; how many that were. waiting: those of `ids` that may be claimed still."""
        tokens = {each.id: each.token for each in waiting}
        gone = [id for id, offer in self._offers.items() if tokens.get(id) != offer.of.token]
        for id in gone:
            del self._offers[id]
        if gone or not self._offers:
            self._alive_at = now
        return len(gone)

    def new(self, found: Iterable[Offered]) -> list[Offered]:
        """Those that are not offered."""
        return [each for each in found if each.id not in self._offers]

    def due_again(self, now: float) -> list[Offered]:
        """Those that have waited for long enough to be offered again."""
        return [offer.of for offer in self._offers.values() if offer.again_at <= now]

    def offered(self, each: Offered, now: float, *, is_limited: bool = False) -> None:
        """Remember that a delivery was offered, for the first time or again."""
        known = self._offers.get(each.id)
        times = 1 if known is None else known.times + 1
        if is_limited:
            pause = again_after(times, min(self._again, LIMITED_AGAIN_SECONDS), LONGEST_LIMITED_AGAIN_SECONDS)
        else:
            pause = again_after(times, self._again)
        self._offers[each.id] = Offer(each, times, now + pause)

    def silent_since(self, now: float) -> float | None:
        """Since when none of the offers was claimed, if that is `SILENT_SECONDS` or longer; None while all is well."""
        if not self._offers or self._alive_at is None or now - self._alive_at < SILENT_SECONDS:
            return None
        return self._alive_at

    def is_alive(self, now: float) -> None:
        """Something else shows that the engine works: what it claimed before still runs."""
        self._alive_at = now


def again_after(times: int, first: float = AGAIN_SECONDS, longest: float = LONGEST_AGAIN_SECONDS) -> float:
    """Seconds until what was offered so many times is offered again.

    first: the first time.
    longest: at most.
    """
    return float(min(first * 2 ** min(times - 1, 10), longest))


def shares(
    due: Mapping[Queue, int],
    offered: Mapping[Queue, int],
    window: int,
    most: Mapping[str, int],
    round: int = 0,
) -> dict[Queue, int]:
    """How many more of each queue are to be offered, {(handler, class): number}.

    due: how many may be claimed, those that are offered among them.
    offered: how many are.
    window: how many may be offered together.
    most: {handler: how many more at most} of those with limits over all workers; the others may fill the window, or three
        quarters of it where there are others.
    round: counts looks; it moves odd places from one to the next.
    """
    names = {name for name, _ in due}
    of_handler: Counter[str] = Counter()
    for (name, _), n in offered.items():
        of_handler[name] += n
    rest = {queue: n - offered.get(queue, 0) for queue, n in due.items() if n > offered.get(queue, 0)}
    capacity = {
        name: max(0, min(slots_for(name, window, names), most.get(name, window)) - of_handler[name]) for name in names
    }
    return allocate(rest, window - sum(of_handler.values()), capacity, round)


def messages(
    found: Sequence[Offered],
    seconds: Mapping[str, float],
    alone: Collection[str] = (),
) -> list[list[Offered]]:
    """Pack deliveries into messages, those of a handler together, in their order.

    seconds: {handler: mean of its runs}; of others it is not known, so a message of theirs names one delivery.
    alone: handlers of which a message names one delivery.
    """
    packed: list[list[Offered]] = []
    open_ones: dict[str, list[Offered]] = {}
    for each in found:
        size = 1 if each.alone or each.handler in alone else message_size(seconds.get(each.handler))
        into = open_ones.get(each.handler)
        if size == 1 or into is None or len(into) >= size:
            into = []
            packed.append(into)
            if size > 1:
                open_ones[each.handler] = into
        into.append(each)
    return packed


def message_size(seconds: float | None) -> int:
    """How many ids a message of a handler holds. seconds: mean of its runs."""
    if seconds is None:
        return 1
    return max(1, min(LARGEST_MESSAGE, int(AHEAD_SECONDS / max(seconds, 0.0001))))


__all__ = [
    "AGAIN_SECONDS",
    "LARGEST_MESSAGE",
    "LIMITED_AGAIN_SECONDS",
    "LONGEST_AGAIN_SECONDS",
    "SILENT_SECONDS",
    "Offers",
    "again_after",
    "message_size",
    "messages",
    "shares",
]
