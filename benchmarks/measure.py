"""Numbers out of interleaved rounds: medians with their spread, ratios of pairs, and when not to judge.

A figure by itself says little on a machine that does other things too. So every contender runs once in each round, a
ratio is made within a round and then summarised over rounds, and before each run a fixed piece of work (`reference`)
is timed. When that drifts, or shows that other programs took part of the machine, by more than `NOISE_LIMIT`, nothing is
judged: the numbers are shown, and why they say little.

A goal counts as reached or missed when all rounds agree, or when three or more of them lie close together and their
median says so; otherwise it is "undecided", and more rounds would tell.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: How much the reference may vary ((largest − smallest) / median), or lose to other programs, before nothing is judged.
NOISE_LIMIT = 0.15
_REFERENCE_ITERATIONS = 150_000


@dataclass(frozen=True)
class Summary:
    """What several rounds say: median, smallest, largest."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def spread(self) -> float:
        """(largest − smallest) / median; 0 when the median is 0."""
        return (self.high - self.low) / self.median if self.median else 0.0

    def show(self, digits: int = 0) -> str:
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} – {self.high:,.{digits}f})"


def summarise(values: Sequence[float]) -> Summary:
    """Median and range. Raises ValueError without a value."""
    if not values:
        raise ValueError("nothing was measured")
    return Summary(statistics.median(values), min(values), max(values), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Summary:
    """Our figure divided by theirs, round by round. Raises ValueError when the rounds do not pair up."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds of ours, {len(theirs)} of theirs: they must be pairs")
    if not all(theirs):
        raise ValueError("a peer measured 0; there is no ratio to it")
    return summarise([one / other for one, other in zip(ours, theirs, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


# -- noise -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """One run of the fixed piece of work. share: of the cores' time, how much of it we got (1: nothing else ran)."""

    seconds: float
    share: float


def reference() -> Reference:
    """Time a fixed piece of work on every core at once."""

    def spin() -> None:
        hashlib.pbkdf2_hmac("sha256", b"reference", b"reference", _REFERENCE_ITERATIONS)  # lets the GIL go

    threads = [threading.Thread(target=spin) for _ in range(os.cpu_count() or 1)]
    started, cpu = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    return Reference(seconds, (time.process_time() - cpu) / (seconds * len(threads)))


def wait_for_quiet(patience: float, best: float | None) -> Reference:
    """The reference once other programs leave the machine alone, or after `patience` seconds as it is then.

    best: the shortest time that the work took so far.
    """
    deadline = time.monotonic() + patience
    while True:
        one = reference()
        if is_quiet(one, best) or time.monotonic() > deadline:
            return one
        time.sleep(0.3)


def is_quiet(one: Reference, best: float | None) -> bool:
    """Whether hardly anything else ran; best: the shortest time that the reference took so far."""
    return one.share > 1 - NOISE_LIMIT / 2 and (best is None or one.seconds < best * (1 + NOISE_LIMIT / 2))


def noise(references: Sequence[Reference]) -> str | None:
    """Why nothing should be judged from a run with these references; None when it was quiet enough."""
    if len(references) < 2:
        return "too few references to tell how noisy the machine was; use more rounds"
    times = [one.seconds for one in references]
    drift = summarise(times).spread
    taken = 1 - statistics.median(one.share for one in references)
    if drift > NOISE_LIMIT:
        return (
            f"too noisy to judge: the same work took {min(times) * 1000:.0f} to {max(times) * 1000:.0f} ms "
            f"({drift:.0%} apart, at most {NOISE_LIMIT:.0%} is allowed); run it again when the machine is idle"
        )
    if taken > NOISE_LIMIT:
        return (
            f"too noisy to judge: other programs took {taken:.0%} of the machine (at most {NOISE_LIMIT:.0%} is allowed); "
            "run it again when it is idle"
        )
    return None


# -- goals -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """What a ratio is to reach. at_most: smaller is better."""

    value: float
    at_most: bool = False

    def show(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:g}"


def verdict(ratio: Summary, goal: Goal | None, noisy: str | None) -> str:
    """`reached`, `not reached`, `undecided`, `not judged`, or "" without a goal."""
    if goal is None:
        return ""
    if noisy is not None:
        return "not judged"

    def good(value: float) -> bool:
        return value <= goal.value if goal.at_most else value >= goal.value

    answers = {good(value) for value in (ratio.low, ratio.median, ratio.high)}
    if len(answers) == 1:
        return "reached" if answers.pop() else "not reached"
    if ratio.rounds >= 3 and ratio.spread <= NOISE_LIMIT:
        return "reached" if good(ratio.median) else "not reached"
    return "undecided"


# -- tables ------------------------------------------------------------------------------------------------


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as text columns: the first to the left, the others to the right."""
    if not rows:
        return ""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in names}
    lines = []
    for row in ({name: name for name in names}, *rows):
        first, *others = names
        cells = [row.get(first, "").ljust(widths[first]), *(row.get(name, "").rjust(widths[name]) for name in others)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
