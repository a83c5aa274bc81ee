"""A plot of a few lines over two logarithmic axes, as SVG that reads on light and dark pages. No library draws it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 16, 48
#: Of lines that are not dashed, in their order: told apart by people who see no difference of red and green as well.
COLOURS = ("#3b76c4", "#c77700", "#7a4fb5")
GREY = "#808080"


@dataclass(frozen=True)
class Line:
    """One line. points: (x, y), both above 0."""

    label: str
    points: Sequence[tuple[float, float]]
    is_dashed: bool = False


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis from the power of ten below the smallest value to the one above the largest."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return cls(low, max(high, low + 1), start, end)

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def draw(lines: Sequence[Line], *, x_title: str, y_title: str) -> str:
    """The SVG. Raises ValueError without a point."""
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("nothing was measured, so there is nothing to draw")
    x = _Axis.over([at for at, _ in points], LEFT, WIDTH - RIGHT)
    y = _Axis.over([value for _, value in points], HEIGHT - BOTTOM, TOP)
    parts = [*_grid(x, y), *_titles(x_title, y_title), *_lines(lines, x, y)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" '
        f'font-size="12" fill="{GREY}"><title>{escape(f"{y_title}, by {x_title}")}</title>'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def _grid(x: _Axis, y: _Axis) -> Iterator[str]:
    for tick in x.ticks:
        at = x.place(tick)
        yield f'<path d="M{at} {TOP}V{HEIGHT - BOTTOM}" stroke="{GREY}" stroke-opacity="0.3"/>'
        yield f'<text x="{at}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:,g}</text>'
    for tick in y.ticks:
        at = y.place(tick)
        yield f'<path d="M{LEFT} {at}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-opacity="0.3"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{tick:,.0f}</text>'


def _titles(x_title: str, y_title: str) -> Iterator[str]:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_title)}</text>'
    yield (
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(y_title)}</text>'
    )


def _lines(lines: Sequence[Line], x: _Axis, y: _Axis) -> Iterator[str]:
    colours = iter(COLOURS)
    for number, line in enumerate(lines):
        colour = GREY if line.is_dashed else next(colours)
        path = "L".join(f"{x.place(at)} {y.place(value)}" for at, value in line.points)
        dashes = ' stroke-dasharray="5 4"' if line.is_dashed else ""
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
        if not line.is_dashed:
            for at, value in line.points:
                text = escape(f"{line.label}: {value:,.0f}")
                yield f'<circle cx="{x.place(at)}" cy="{y.place(value)}" r="3" fill="{colour}"><title>{text}</title></circle>'
        below = TOP + 14 + 18 * number
        yield f'<path d="M{WIDTH - RIGHT + 8} {below - 4}h18" stroke="{colour}" stroke-width="2"{dashes}/>'
        yield f'<text x="{WIDTH - RIGHT + 30}" y="{below}">{escape(line.label)}</text>'


__all__ = ["Line", "draw"]
