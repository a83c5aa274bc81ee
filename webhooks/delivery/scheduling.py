"""Who runs next: pure rules that keep one kind of work from starving another.

`allocate` shares the places of a claim between fresh deliveries, retries and replays, and between handlers.
`Slots` says how many threads of one worker a handler may occupy. Neither knows a clock, a thread or a database.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from webhooks.model import DeliveryClass

#: Of every full claim, at least this share goes to due retries, and to replays, while any wait.
RETRY_SHARE = 4  # one in four
REPLAY_SHARE = 8  # one in eight

#: Handlers whose runs take longer than this on average are slow: together they leave threads to the others.
SLOW_SECONDS = 1.0

_ORDER = (DeliveryClass.FRESH, DeliveryClass.RETRY, DeliveryClass.REPLAY)


def reserved(places: int, share: int, turn: int) -> int:
    """Places kept for a class in the claim number `turn`: exactly one in `share` over time, also when claims are small."""
    return (turn + 1) * places // share - turn * places // share if places < share else -(-places // share)


def allocate(
    waiting: Mapping[tuple[str, DeliveryClass], int], places: int, room: Mapping[str, int], turn: int = 0
) -> dict[tuple[str, DeliveryClass], int]:
    """Share `places` between the deliveries that wait; {(handler, class): how many to claim}.

    waiting: due ones per handler and class. room: how many each handler may take at all. turn: counts claims; it
    moves the odd place from handler to handler, and from class to class when claims are small.

    Fresh ones come first, but retries and replays get their reserved places while any wait, and what a class leaves
    unused goes to the others. Within a class every handler gets the same, as far as it has something waiting.
    """
    left = dict(room)
    quotas: dict[tuple[str, DeliveryClass], int] = {}

    def give(kind: DeliveryClass, n: int) -> int:
        wants = {
            handler: min(count - quotas.get((handler, kind), 0), left.get(handler, 0))
            for (handler, k), count in waiting.items()
            if k is kind
        }
        given = 0
        for handler, share in level(wants, n, turn).items():
            quotas[handler, kind] = quotas.get((handler, kind), 0) + share
            left[handler] -= share
            given += share
        return given

    rest = max(0, places)
    rest -= give(DeliveryClass.REPLAY, min(rest, reserved(places, REPLAY_SHARE, turn + 2)))
    rest -= give(DeliveryClass.RETRY, min(rest, reserved(places, RETRY_SHARE, turn)))
    for kind in _ORDER:
        rest -= give(kind, rest)
    return {queue: n for queue, n in quotas.items() if n}


def level(wants: Mapping[str, int], n: int, turn: int = 0) -> dict[str, int]:
    """Share `n` evenly, nobody more than it wants, the odd ones by turns."""
    names = sorted(name for name, want in wants.items() if want > 0)
    shares = dict.fromkeys(names, 0)
    while n > 0 and names:
        each, odd = divmod(n, len(names))
        if each == 0:
            first = turn % len(names)
            for name in (names[first:] + names[:first])[:odd]:
                shares[name] += 1
            break
        for name in names:
            share = min(each, wants[name] - shares[name])
            shares[name] += share
            n -= share
        names = [name for name in names if shares[name] < wants[name]]
    return shares


def slots_for(handler: str, slots: int, handlers: Collection[str]) -> int:
    """How many of a worker's threads one handler may occupy: all when it is alone, else three in four."""
    return slots if len(handlers) <= 1 or slots <= 1 else max(1, slots * 3 // 4)


def slots_for_slow(slots: int) -> int:
    """How many threads all slow handlers may occupy together while others exist."""
    return slots if slots <= 1 else max(1, slots * 3 // 4)
