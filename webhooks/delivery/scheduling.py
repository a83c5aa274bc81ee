"""Who runs next: pure rules that keep one kind of work from starving another.

`allocate` shares the places of a claim between fresh deliveries, retries and replays, and between handlers.
`slots_for` says how many threads of one worker a handler may occupy. Nothing here knows a clock, a thread or a database.
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


def reserved(places: int, share: int, round: int) -> int:
    """Places kept for a class in the claim number `round`: exactly one in `share` over time, also when claims are small."""
    return (round + 1) * places // share - round * places // share if places < share else -(-places // share)


def allocate(
    backlog: Mapping[tuple[str, DeliveryClass], int], places: int, capacity: Mapping[str, int], round: int = 0
) -> dict[tuple[str, DeliveryClass], int]:
    """Share `places` between the deliveries that wait; {(handler, class): how many to claim}.

    backlog: how many are due, per handler and class.
    places: how many may be claimed together.
    capacity: how many each handler may take at all.
    round: counts claims; it moves the odd place from handler to handler, and from class to class when claims are small.

    Fresh ones come first, but retries and replays get their reserved places while any wait, and what a class leaves
    unused goes to the others. Within a class every handler gets the same, as far as it has something waiting.
    """
    left = dict(capacity)
    quotas: dict[tuple[str, DeliveryClass], int] = {}

    def give(kind: DeliveryClass, n: int) -> int:
        wants = {
            handler: min(count - quotas.get((handler, kind), 0), left.get(handler, 0))
            for (handler, k), count in backlog.items()
            if k is kind
        }
        given = 0
        for handler, share in level(wants, n, round).items():
            quotas[handler, kind] = quotas.get((handler, kind), 0) + share
            left[handler] -= share
            given += share
        return given

    rest = max(0, places)
    rest -= give(DeliveryClass.REPLAY, min(rest, reserved(places, REPLAY_SHARE, round + 2)))
    rest -= give(DeliveryClass.RETRY, min(rest, reserved(places, RETRY_SHARE, round)))
    for kind in _ORDER:
        rest -= give(kind, rest)
    return {queue: n for queue, n in quotas.items() if n}


def level(wants: Mapping[str, int], n: int, round: int = 0) -> dict[str, int]:
    """Share `n` evenly, no handler more than it wants, the odd ones in turn."""
    names = sorted(name for name, want in wants.items() if want > 0)
    shares = dict.fromkeys(names, 0)
    while n > 0 and names:
        share_of_each, odd = divmod(n, len(names))
        if share_of_each == 0:
            first = round % len(names)
            for name in (names[first:] + names[:first])[:odd]:
                shares[name] += 1
            break
        for name in names:
            share = min(share_of_each, wants[name] - shares[name])
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
