"""What can be turned on a local Close; the defaults are what Close says of itself, or a small guess.

A guess is marked (?); docs/sandbox.md lists them. Change rules with `world.set_rules(disorder=…)`, or with
`POST /sandbox/rules` while it runs; both refuse names and values that make no sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

from webhooks.sandbox.refusals import Invalid


@dataclass(frozen=True)
class Rules:
    """Durations are `timedelta`; over HTTP they are seconds."""

    #: how long after a change another one still goes into the same log entry (?)
    consolidation: timedelta = timedelta(seconds=5)
    #: how long webhooks for updated and deleted wait after the last change (?)
    delivery_delay: timedelta = timedelta(seconds=5)
    #: whether a `created` entry merges the changes made right after it (?)
    created_absorbs: bool = False
    #: how long the log keeps an entry
    log_keeps: timedelta = timedelta(days=30)
    #: after this, entries lack `data` and `previous_data` for keys that are not an administrator's
    full_for_all: timedelta = timedelta(hours=1)
    #: how long a cursor of the log is good for (?)
    cursor_lifetime: timedelta = timedelta(minutes=30)
    #: an entry shows up in the log later by a random time up to this
    log_delay: timedelta = timedelta(0)
    #: entries on a page of the log, at most
    page: int = 50

    #: the first wait after a failed delivery, doubled each time (?) up to `retry_cap`
    retry_base: timedelta = timedelta(seconds=5)
    retry_cap: timedelta = timedelta(minutes=20)
    #: when a delivery is given up
    retry_for: timedelta = timedelta(hours=72)
    #: whether a retry gets a signature of its own, or that of the first try (?)
    resign_retries: bool = True
    #: waiting deliveries at which a subscription is paused and its queue emptied
    backlog: int = 100_000
    #: a subscription is paused when every delivery failed for this long
    failing_for: timedelta = timedelta(days=3)
    #: subscriptions in all
    subscriptions: int = 40
    #: whether reading a subscription shows its signature_key (?)
    show_keys: bool = True

    #: each delivery comes later by a random time up to this, so that they change places
    disorder: timedelta = timedelta(0)
    #: share of deliveries, 0 to 1, that come a second time although they were taken
    duplicates: float = 0.0
    #: also send `outcome.*` events, which Close does not publish
    unlisted: bool = False

    #: how long mail stays in the outbox
    sending: timedelta = timedelta(seconds=3)
    #: requests for each key and group of addresses within `rate_window`; 0 is no limit
    rate_limit: int = 0
    rate_window: timedelta = timedelta(seconds=10)

    def changed(self, values: Mapping[str, Any]) -> Rules:
        """These rules with other values; durations as `timedelta` or seconds. Raises Invalid."""
        known = {each.name: getattr(self, each.name) for each in fields(self)}
        made: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise Invalid.field(name, f"there is no such rule; there are {', '.join(sorted(known))}")
            made[name] = _fitting(name, value, known[name])
        return replace(self, **made)


def _fitting(name: str, value: Any, old: Any) -> Any:
    """`value` as the type of `old`. Raises Invalid."""
    if isinstance(old, bool):
        if isinstance(value, bool):
            return value
        raise Invalid.field(name, f"is true or false, not {value!r}")
    if isinstance(old, timedelta) and isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid.field(name, f"is a number, not {value!r}")
    if isinstance(old, timedelta):
        if not 0 <= value <= 10**9:
            raise Invalid.field(name, f"is a number of seconds from 0 to 10**9, not {value!r}")
        return timedelta(seconds=value)
    if isinstance(old, int) and (not isinstance(value, int) or value < 0):
        raise Invalid.field(name, f"is a whole number, 0 or more, not {value!r}")
    if isinstance(old, float) and not 0 <= value <= 1:
        raise Invalid.field(name, f"is a share from 0 to 1, not {value!r}")
    return value
