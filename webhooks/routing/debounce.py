"""How long a burst of events with one key is waited out, before its newest runs: `@on(latest=…, debounce=Debounce(…))`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Debounce:
    """Wait until no event of a key has come for a while.

    quiet: so long after the last event of a burst its newest runs.
    at_most: so long after the first one it runs, though more keep coming.

    Raises ValueError for a wait that is no longer than nothing, or a bound that is shorter than the wait.
    """

    quiet: timedelta
    at_most: timedelta

    def __post_init__(self) -> None:
        for name, value in (("quiet", self.quiet), ("at_most", self.at_most)):
            if not isinstance(value, timedelta):
                raise ValueError(f"{name} is {value!r}; give a duration, such as timedelta(seconds=5)")
        if not timedelta(0) < self.quiet <= self.at_most:
            raise ValueError(f"quiet is {self.quiet} and at_most is {self.at_most}; use 0 < quiet <= at_most")


__all__ = ["Debounce"]
