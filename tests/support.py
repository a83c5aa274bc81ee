"""What tests of every floor share and cannot be a fixture: where things are, and a clock that stands still."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

#: The checkout.
ROOT = Path(__file__).resolve().parent.parent

#: Close's sample payloads, as they travel in the wheel.
PAYLOADS = ROOT / "webhooks" / "sources" / "close" / "payloads"

#: {marker of tests that run only when asked for: (variable and value that ask, the command that sets it)}.
LEFT_OUT = {
    "thorough": ("WEBHOOKS_TEST_PROFILE=full", "WEBHOOKS_TEST_PROFILE=full make test"),
    "long": ("WEBHOOKS_TEST_LONG=1", "make crash"),
    "release": ("WEBHOOKS_TEST_RELEASE=1", "make test-release"),
    "alone": ("WEBHOOKS_TEST_ALONE=1", "make test-alone"),
    "brokers": ("WEBHOOKS_TEST_BROKERS=1", "make test-brokers"),
    "hosts": ("WEBHOOKS_TEST_HOSTS=1", "make test-hosts"),
    "browser": ("WEBHOOKS_TEST_BROWSER=1", "make test-browser"),
}

#: How many examples Hypothesis tries: `full`, as .ci/run asks, or a third of them.
PROFILE = os.environ.get("WEBHOOKS_TEST_PROFILE", "quick")

#: Where the slowness that was measured at the beginning of the run is kept.
SLOWNESS = "WEBHOOKS_TEST_SLOWNESS"

#: What the measure takes on an idle machine, and how many times that is heeded at most.
IDLE_START_SECONDS, SLOWEST = 0.6, 6.0

#: Where Linux tells how many processes run or want to, in its fourth word.
LOAD = Path("/proc/loadavg")

#: A little after the timestamps of the sample payloads.
START = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)


def examples(full: int, share: int = 5) -> int:
    """For `@settings(max_examples=…)`: `full` where the profile says so, else a fifth of it, or another share."""
    return full if PROFILE == "full" else max(1, full // share)


def some(*values: Any) -> tuple[Any, ...]:
    """Of cases that say nearly the same: all in the profile `full`, else the first."""
    return values if PROFILE == "full" else values[:1]


def pairs(*values: Any) -> list[tuple[Any, str]]:
    """(value, database) for `parametrize(…, indirect=["database_url"])`, where the one does not hang on the other.

    Each value once and each database in turn; every pair in the profile `full`.
    """
    if PROFILE == "full":
        return list(itertools.product(values, ("sqlite", "postgresql")))
    return list(zip(values, itertools.cycle(("postgresql", "sqlite")), strict=False))


#: For tests whose promise is not the database's: one of the two, both in the profile `full`.
either_database = pytest.mark.parametrize(
    "database_url", ("sqlite", "postgresql") if PROFILE == "full" else ("sqlite",), indirect=True
)


def each(names: str | Sequence[str], values: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `pytest.mark.parametrize`, in one test, which goes through all the values and fails with every message.

    For cases that say one thing and may share their fixtures: a test of its own costs more than most of them take.
    names: of one argument, or of several.
    values: of that argument, or a tuple of as many values.
    """
    wanted = (names,) if isinstance(names, str) else tuple(names)
    cases = [dict(zip(wanted, (value,) if isinstance(names, str) else value, strict=True)) for value in values]

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def go_through(**fixtures: Any) -> None:
            failed: list[Exception] = []
            for case in cases:
                try:
                    test(**fixtures, **case)
                except Exception as error:
                    error.add_note(f"with {case!r:.1000}")
                    failed.append(error)
                except pytest.fail.Exception as error:  # which is no Exception
                    failed.append(AssertionError(f"with {case!r}: {error}").with_traceback(error.__traceback__))
            if failed:
                raise ExceptionGroup(f"{len(failed)} of {len(cases)}", failed)

        signature = inspect.signature(test)
        left = [parameter for name, parameter in signature.parameters.items() if name not in wanted]
        go_through.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return go_through

    return decorate


def on_one_database(items: list[pytest.Item]) -> list[pytest.Item]:
    """Leave out one of two that differ in their database alone, where one says enough outside the profile `full`.

    In files marked `one_database` a third runs on PostgreSQL. Elsewhere a test with several cases has them on either in
    turn, so on both of them; one without cases runs on both, and so does what runs only when asked for.
    """
    found: dict[tuple[str, str], list[pytest.Item]] = {}
    for item in items:
        if (on := _database_of(item)) is not None and not any(map(item.get_closest_marker, LEFT_OUT)):
            test, _, case = item.nodeid.partition("[")
            found.setdefault((test, "-".join(sorted(part for part in case[:-1].split("-") if part != on))), []).append(
                item
            )
    cases: dict[str, list[list[pytest.Item]]] = {}
    for (test, _), two in sorted(found.items(), key=lambda one: one[0]):
        if len(two) == 2:
            cases.setdefault(test, []).append(two)
    left_out = set()
    for test, all_cases in cases.items():
        for number, two in enumerate(all_cases, zlib.crc32(test.encode())):
            if two[0].get_closest_marker("one_database"):
                on = "postgresql" if number % 3 == 0 else "sqlite"
            elif len(all_cases) > 1:
                on = "postgresql" if number % 2 == 0 else "sqlite"
            else:
                continue
            left_out |= {id(item) for item in two if _database_of(item) != on}
    return [item for item in items if id(item) not in left_out]


def _database_of(item: pytest.Item) -> str | None:
    """Which of the two a test runs on; None where it is not on one by a parameter."""
    params: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    for name in ("database_url", "empty_database_url"):
        if params.get(name) in ("sqlite", "postgresql"):
            return str(params[name])
    return None


class Clock:
    """A clock that shows the same instant until it is moved. Call it for the time."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, by: timedelta) -> datetime:
        """Go forward, or back with a negative `by`; returns the new time."""
        self.now += by
        return self.now


def slowness() -> float:
    """How many times longer than on an idle machine a process took to start at the beginning of the run: 1 to 6."""
    return float(os.environ.get(SLOWNESS, "1"))


def crowd() -> float:
    """How many processes want each core: over the last minute, or now where that is more.

    The average of a minute says little about the first half of a run, whose own processes are the crowd.
    """
    wanting = os.getloadavg()[0]
    with contextlib.suppress(OSError, ValueError, IndexError):  # only Linux tells of now
        wanting = max(wanting, float(LOAD.read_text().split()[3].partition("/")[0]))
    return wanting / (os.cpu_count() or 1)


def allowed(seconds: float) -> float:
    """A bound for what a test measures: `seconds` on an idle machine, more on a slow or busy one, never less.

    Ask for it after what it bounds: a run makes its own machine busy.
    """
    return seconds * min(max(slowness(), crowd()), SLOWEST)


def patience(seconds: float) -> float:
    """How long to wait for what will come: as `allowed`, but never so long that the time-out of the test comes first."""
    return min(allowed(seconds), max(seconds, 80.0))


def measure_slowness() -> None:
    """Measure it, for this process and those that it starts, unless one that started this did."""
    if SLOWNESS in os.environ:
        return
    took: list[float] = []
    for _ in range(2):  # the first one may read from a cold disk
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import flask, sqlalchemy.orm"], check=True)
        took.append(time.monotonic() - began)
        if took[-1] <= IDLE_START_SECONDS:
            break
    os.environ[SLOWNESS] = f"{min(max(1.0, min(took) / IDLE_START_SECONDS), SLOWEST):.2f}"


def wait_until(
    condition: Callable[[], object], timeout: timedelta = timedelta(seconds=10), what: str = "the condition"
) -> None:
    """Return as soon as `condition()` is true.

    timeout: on an idle machine; longer on a busy one, see `patience`.
    Raises AssertionError when it is not true within that.
    """
    seconds = timeout.total_seconds()
    began = time.monotonic()
    pause = 0.001
    while not condition():
        waited = time.monotonic() - began
        if waited >= seconds and waited >= patience(seconds):
            longer = f"; {waited:.0f} s, since the machine is busy" if waited > seconds + 1 else ""
            raise AssertionError(f"waited {seconds:g} s in vain for {what}{longer}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
