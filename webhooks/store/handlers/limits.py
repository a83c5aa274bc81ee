"""Limits of a handler across all workers: how many may start now. Pure; instants are microseconds since 1970."""

from __future__ import annotations

from typing import NamedTuple


class Usage(NamedTuple):
    """What is used of a handler's limits.

    concurrency: the most that may run at once; None: no limit.
    starts, period: as many starts in so many microseconds; None: no limit.
    used_until: up to when earlier starts have used the rate; None: not at all.
    now: by the database's clock.
    running: how many deliveries run.
    """

    concurrency: int | None
    starts: int | None
    period: int | None
    used_until: int | None
    now: int
    running: int

    def admits(self, wanted: int, tighter: int | None = None) -> int:
        """How many of `wanted` may start. tighter: another limit of those that run at once."""
        limits = [limit for limit in (self.concurrency, tighter) if limit is not None]
        if limits:
            wanted = min(wanted, max(0, min(limits) - self.running))
        if self.starts and self.period:
            wanted = min(wanted, admitted(self.starts, self.period, self.used_until, self.now))
        return wanted

    def after(self, more: int) -> int:
        """Up to when the rate is used once `more` have started."""
        assert self.starts
        assert self.period
        return max(_used_until(self.used_until, self.now, self.period), self.now) + more * self.period // self.starts


def admitted(count: int, period: int, at: int | None, now: int) -> int:
    """How many starts a rate of `count` in `period` microseconds leaves.

    at: the instant up to which earlier starts have used the rate. A tenth of the count may come at once, so any
    stretch of one period sees at most 1.1 × count starts (generic cell rate algorithm, ITU-T I.371).
    """
    burst = max(1, count // 10)
    ahead = max(0, _used_until(at, now, period) - now)
    return max(0, (burst * period // count - ahead) * count // period)


def _used_until(at: int | None, now: int, period: int) -> int:
    """Up to when a rate is used; no start uses more than a period ahead, so what says more is a wrong clock's."""
    return now if at is None or at > now + period else at


__all__ = ["Usage", "admitted"]
