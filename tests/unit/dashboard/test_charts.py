"""Charts are whole without a script: well-formed, described, bounded, and made of numbers alone."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import each, examples
from webhooks.dashboard.charts import HEIGHT, WIDTH, Mark, Series, bars, lines, nice, sparkline

NAUGHTY = '"><script>alert(1)</script>&\x00\u202e'
NUMBERS = st.lists(st.one_of(st.none(), st.floats(min_value=0, max_value=1e12)), min_size=1, max_size=72)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("\x00", ""))


@given(st.lists(NUMBERS, min_size=1, max_size=5))
@settings(max_examples=examples(60))
def test_bars_stay_within_their_place_and_are_well_formed(rows: list[list[float | None]]) -> None:
    count = max(map(len, rows))
    series = [Series(f"s{n}", row + [None] * (count - len(row)), n + 1) for n, row in enumerate(rows)]
    drawing = parsed(bars(series, [str(n) for n in range(count)], "what it shows"))
    assert drawing.get("role") == "img"
    assert drawing.get("aria-label") == "what it shows"
    for group in drawing.iter("g"):
        assert group.find("title") is not None
        for path in group.iter("path"):
            x, y = map(float, (path.get("d") or "")[1:].partition("h")[0].split())
            assert 0 <= x <= WIDTH
            assert -3 <= y <= HEIGHT, "a thin bar is drawn at least half a pixel high"


@given(NUMBERS, st.booleans())
@settings(max_examples=examples(60))
def test_lines_stay_within_their_place_and_end_at_gaps(row: list[float | None], logarithmic: bool) -> None:
    top = nice(max([value for value in row if value is not None], default=0)) * 2
    series = [Series("s", row, 1)]
    drawing = parsed(lines(series, len(row), "s", low=1.0 if logarithmic else 0.0, top=top, logarithmic=logarithmic))
    drawn = [path for path in drawing.iter("path") if (path.get("class") or "").startswith("l1")]
    runs = "".join("x" if value is None else "o" for value in row).split("x")
    assert len(drawn) == sum(map(bool, runs))
    for path in drawn:
        for point in (path.get("d") or "")[1:].split("L"):
            x, y = map(float, point.split())
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_texts_are_escaped_wherever_they_stand() -> None:
    series, mark = [Series(NAUGHTY, [1.0], 1)], [Mark(0.5, NAUGHTY)]
    for svg in (
        bars(series, [NAUGHTY], NAUGHTY, marks=mark),
        lines(series, 1, NAUGHTY, top=2, marks=mark),
        sparkline([1, 2], NAUGHTY),
    ):
        assert "<script" not in svg
        parsed(svg)


def test_a_chart_of_the_most_points_is_small() -> None:
    series = [Series("word", [float(n % 90) + 1 for n in range(72)], colour) for colour in range(1, 6)]
    assert len(bars(series, ["16:13"] * 72, "it")) < 24_000


@each(("value", "top"), [(0, 2), (1.5, 2), (3, 3), (11, 20), (99, 100), (101, 200), (262, 300), (480, 500), (1e9, 1e9)])
def test_axes_end_at_numbers_that_read_well(value: float, top: float) -> None:
    assert math.isclose(nice(value), top)
