"""One grammar of durations, sizes, rates and instants, whoever reads them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.errors import InvalidHandler, SelectionError
from webhooks.formats import (
    Unreadable,
    as_instant,
    is_by_the_wall,
    per_second,
    read_duration,
    read_instant,
    read_iso,
    read_rate,
    read_size,
    show_duration,
)
from webhooks.operations import parse_rate
from webhooks.routing import Registry
from webhooks.selection import parse_duration
from webhooks.settings import read_duration as read_setting

#: A Tuesday; in Paris it is 15:05:12, in New York 10:05:12 (daylight saving began two days before).
NOW = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)
PARIS, NEW_YORK = ZoneInfo("Europe/Paris"), ZoneInfo("America/New_York")
SECOND = timedelta(seconds=1)


def nothing() -> None:
    """A handler."""


# -- durations ------------------------------------------------------------------------------------------------

DURATIONS = [
    ("90s", timedelta(seconds=90)),
    ("500ms", timedelta(milliseconds=500)),
    ("20us", timedelta(microseconds=20)),
    ("5min", timedelta(minutes=5)),
    ("5m", timedelta(minutes=5)),
    ("6 hours", timedelta(hours=6)),
    ("1.5h", timedelta(minutes=90)),
    ("2d", timedelta(days=2)),
    ("1w", timedelta(days=7)),
    ("1h30m", timedelta(minutes=90)),
    ("1 h 30 min", timedelta(minutes=90)),
    ("1s2m", timedelta(seconds=121)),
    (" 2D ", timedelta(days=2)),
    ("0s", timedelta(0)),
]


@each(("text", "expected"), DURATIONS)
def test_settings_and_commands_read_a_duration_alike(text: str, expected: timedelta) -> None:
    assert read_duration(text) == expected
    assert read_setting(text) == expected
    assert parse_duration(text) == expected


def test_a_bare_number_counts_where_its_unit_is_known() -> None:
    assert read_duration(" 10 ", bare=SECOND) == timedelta(seconds=10)
    assert read_setting("10") == timedelta(seconds=10)
    with pytest.raises(Unreadable, match="a number without a unit"):
        read_duration("10")
    with pytest.raises(SelectionError, match="a number without a unit"):
        parse_duration("10")


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        ("", "nothing given", 0),
        ("  ", "nothing given", 0),
        ("soon", "cannot be read at character 1", 0),
        ("-1s", "cannot be read at character 1", 0),
        ("6x", "'x' is not a unit", 1),
        ("1h 30", "cannot be read at character 4", 3),
        ("1h-", "cannot be read at character 3", 2),
        ("1e3s", "'e' is not a unit", 1),
        ("٣s", "cannot be read at character 1", 0),
        ("999999999999w", "too long a time", 0),
    ],
)
def test_what_is_no_duration_is_refused_with_its_place(text: str, reason: str, position: int) -> None:
    with pytest.raises(Unreadable) as caught:
        read_duration(text, bare=SECOND)
    assert (str(caught.value), caught.value.position) == (reason, position)


@given(st.timedeltas(timedelta(0), timedelta(days=3000)))
def test_a_shown_duration_is_read_back(duration: timedelta) -> None:
    assert read_duration(show_duration(duration)) == duration


# -- sizes and rates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1MiB", 2**20), ("500 kB", 500_000), (" 64kib", 65536), ("17", 17), ("17b", 17), ("1GB", 10**9)],
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert read_size(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1.5MB", "1TB", "ib", "1ib", "٣", "1 0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        read_size(text)


RATES = [
    ("20/s", (20, SECOND), 20.0),
    ("20/second", (20, SECOND), 20.0),
    ("20", (20, SECOND), 20.0),
    ("100/min", (100, timedelta(minutes=1)), 100 / 60),
    ("90/m", (90, timedelta(minutes=1)), 1.5),
    ("3600 / hour", (3600, timedelta(hours=1)), 1.0),
    ("1/d", (1, timedelta(days=1)), 1 / 86400),
    ("0.5/s", (1, timedelta(seconds=2)), 0.5),
    ("2.5/min", (1, timedelta(seconds=24)), 2.5 / 60),
    ("20.0/s", (20, SECOND), 20.0),
]


@pytest.mark.parametrize(("text", "rate", "each_second"), RATES)
def test_handlers_and_commands_read_a_rate_alike(text: str, rate: tuple[int, timedelta], each_second: float) -> None:
    assert read_rate(text) == rate
    assert per_second(rate) == pytest.approx(each_second)
    assert parse_rate(text) == pytest.approx(each_second)
    assert Registry().add(nothing, "x", rate=text).rate == rate


@pytest.mark.parametrize("text", ["", "0/s", "0.0", "-1/s", "fast", "20/fortnight", "20/ms", "1e9/s", "٣/s", "20/5s"])
def test_what_is_no_rate_is_refused_by_both(text: str) -> None:
    with pytest.raises(Unreadable):
        read_rate(text)
    with pytest.raises(SelectionError, match="is not a rate; write 20/s"):
        parse_rate(text)
    with pytest.raises(InvalidHandler, match="write '10/s', '100/min' or '1/h'"):
        Registry().add(nothing, "x", rate=text)


# -- instants -------------------------------------------------------------------------------------------------


@each(
    ("text", "expected"),
    [
        ("2026-03-10", datetime(2026, 3, 10, tzinfo=UTC)),
        ("2026-03-10T14:05:12", NOW),
        ("2026-03-10T14:05:12Z", NOW),
        ("2026-03-10 15:05:12+01:00", NOW),
        ("2026-03-10T14:05:12.5", NOW + timedelta(milliseconds=500)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        # the offset leads out of the calendar
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("2026-02-30", None),
        ("", None),
        ("soon", None),
        ("14:30", None),
    ],
)
def test_iso_text_is_an_instant_in_utc(text: str, expected: datetime | None) -> None:
    assert read_iso(text) == expected
    assert as_instant(text) == expected


def test_an_instant_of_python_is_utc_unless_it_says() -> None:
    assert as_instant(NOW.astimezone(PARIS)) == NOW
    assert as_instant(NOW.replace(tzinfo=None)) == NOW
    assert as_instant(5) is None


WALL: list[tuple[str, Any, datetime]] = [
    ("today", PARIS, datetime(2026, 3, 9, 23, tzinfo=UTC)),
    ("today 18:00", PARIS, datetime(2026, 3, 10, 17, tzinfo=UTC)),
    ("yesterday", PARIS, datetime(2026, 3, 8, 23, tzinfo=UTC)),
    ("Yesterday 9:00", PARIS, datetime(2026, 3, 9, 8, tzinfo=UTC)),
    ("monday 9:00", PARIS, datetime(2026, 3, 9, 8, tzinfo=UTC)),
    ("mon 09:00:30", PARIS, datetime(2026, 3, 9, 8, 0, 30, tzinfo=UTC)),
    ("wednesday", PARIS, datetime(2026, 3, 3, 23, tzinfo=UTC)),
    # of the same day of the week, the latest that is over
    ("tuesday 15:00", PARIS, datetime(2026, 3, 10, 14, tzinfo=UTC)),
    ("tuesday 16:00", PARIS, datetime(2026, 3, 3, 15, tzinfo=UTC)),
    ("14:30", PARIS, datetime(2026, 3, 10, 13, 30, tzinfo=UTC)),
    ("15:30", PARIS, datetime(2026, 3, 9, 14, 30, tzinfo=UTC)),
    # the offset is that of the day: on Sunday the clocks went forward
    ("monday 9:00", NEW_YORK, datetime(2026, 3, 9, 13, tzinfo=UTC)),
    ("saturday 9:00", NEW_YORK, datetime(2026, 3, 7, 14, tzinfo=UTC)),
    # in another zone it is another day
    ("today", ZoneInfo("Pacific/Kiritimati"), datetime(2026, 3, 10, 10, tzinfo=UTC)),
]


@each(("text", "zone", "expected"), WALL)
def test_times_by_the_clock_on_the_wall_are_of_a_zone_and_come_out_in_utc(
    text: str, zone: Any, expected: datetime
) -> None:
    found = read_instant(text, NOW, zone)
    assert found == expected
    assert found.tzinfo is UTC
    assert is_by_the_wall(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("2h", NOW - timedelta(hours=2)),
        ("2h ago", NOW - timedelta(hours=2)),
        ("1h30m AGO", NOW - timedelta(minutes=90)),
        ("2026-03-10t14:05:12z", NOW),
    ],
)
def test_other_instants_are_the_same_in_every_zone(text: str, expected: datetime) -> None:
    assert read_instant(text, NOW, PARIS) == read_instant(text, NOW, NEW_YORK) == expected
    assert not is_by_the_wall(text)


def test_the_zone_is_the_system_s_where_none_is_given() -> None:
    midnight = read_instant("today", NOW).astimezone()
    assert (midnight.hour, midnight.minute) == (0, 0)
    assert midnight.date() == NOW.astimezone().date()


@pytest.mark.parametrize("text", ["", "tomorrow", "25:00", "monday9:00", "funday 9:00", "9:0", "10", "ago", "m 9:00"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        read_instant(text, NOW, PARIS)


READERS: list[Callable[[str], object]] = [
    lambda text: read_duration(text, bare=SECOND),
    read_size,
    read_rate,
    lambda text: read_instant(text, NOW, PARIS),
]


@given(st.one_of(st.text(max_size=20), st.from_regex(r"\A[0-9a-z.:/ -]{1,20}\Z")), st.sampled_from(READERS))
def test_any_text_is_read_or_refused_at_a_place_of_it(text: str, read: Callable[[str], object]) -> None:
    position = 0
    try:
        read(text)
    except Unreadable as error:
        position = error.position
    assert 0 <= position <= len(text)
