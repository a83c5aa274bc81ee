"""Charts drawn here: stacked bars, lines and sparklines as SVG, which need no script, print, and are read aloud.

A drawing is stretched to its place, so it has no text in it: axes, keys and sentences are HTML beside it (`pieces.html`).
Each bar says its numbers on hover; `Chart.table` has all of them. Colours are classes of the sheet, for both themes; lines
differ by pattern as well. Pure functions of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH, HEIGHT = 600, 112
Value = float | None
#: Written with `format`, which escapes what it is given.
_RECT = '<path class="f{}" d="M{:.1f} {:.1f}h{:.1f}v{:.1f}h-{:.1f}z"/>'
_GRID = Markup('<path class="grid" d="M0 .5H600M0 56H600"/><path class="grid base" d="M0 112H600"/>')
_OPEN = Markup('<svg viewBox="0 0 600 112" preserveAspectRatio="none" role="img" aria-label="{}">')


@dataclass(frozen=True, slots=True)
class Series:
    """One row of numbers. colour: 1 to 6 of the sheet. pattern: "", "dash" or "dot". total: what the key says of it."""

    label: str
    values: Sequence[Value]
    colour: int
    pattern: str = ""
    total: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened. place: 0 to 1, from left to right. at: when, as `figures.times` writes it; in no drawing."""

    place: float
    text: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """What a template needs. axis: from top to bottom. times: from left to right. notes: beside the key."""

    drawing: Markup
    axis: Sequence[str]
    times: Sequence[str]
    series: Sequence[Series]
    labels: Sequence[str]
    notes: Sequence[str] = ()
    marks: Sequence[Mark] = field(default_factory=tuple)
    is_lines: bool = False


def bars(series: Sequence[Series], labels: Sequence[str], sentence: str, *, marks: Sequence[Mark] = ()) -> Markup:
    """Bars of numbers on top of each other. labels: of the points. sentence: what the drawing shows."""
    top = nice(max((sum(_at(each, point) for each in series) for point in range(len(labels))), default=0))
    step = WIDTH / max(1, len(labels))
    drawn = []
    for point, label in enumerate(labels):
        pieces, below, said = [], float(HEIGHT), []
        for each in series:
            value = _at(each, point)
            if not value:
                continue
            height = max(0.5, value / top * HEIGHT)
            below -= height
            pieces.append(_RECT.format(each.colour, point * step + step * 0.1, below, step * 0.8, height, step * 0.8))
            said.append(f"{value:,.0f} {each.label}")
        if pieces:
            title = escape(f"{label}: {', '.join(said)}")
            drawn.append(f"<g><title>{title}</title>{''.join(pieces)}</g>")
    return _svg(sentence, Markup("".join(drawn)), marks)  # each title is escaped, all else is numbers


def lines(
    series: Sequence[Series],
    count: int,
    sentence: str,
    *,
    low: float = 0.0,
    top: float,
    logarithmic: bool = False,
    area: bool = False,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Lines over `count` points; a missing number is a gap.

    low, top: of the axis.
    logarithmic: each step of the axis is a multiple.
    area: what lies below the first line is shaded.
    """
    step = WIDTH / max(1, count)

    def height(value: float) -> float:
        share = math.log(max(value, low) / low) / math.log(top / low) if logarithmic else (value - low) / (top - low)
        return HEIGHT * (1 - min(1.0, max(0.0, share)))

    drawn = Markup("")
    for number, each in enumerate(series):
        for run in _runs(each.values):
            places = [(point * step + step / 2, height(value)) for point, value in run]
            if len(places) == 1:  # one point alone would be no line
                places = [(places[0][0] - step / 2, places[0][1]), (places[0][0] + step / 2, places[0][1])]
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            if area and number == 0:
                closed = f"{path}L{places[-1][0]:.1f} {HEIGHT}L{places[0][0]:.1f} {HEIGHT}z"
                drawn += Markup('<path class="a{}" d="{}"/>').format(each.colour, closed)
            drawn += Markup('<path class="l{} {}" d="{}"/>').format(each.colour, each.pattern, path)
    return _svg(sentence, drawn, marks)


def sparkline(values: Sequence[float], sentence: str, colour: int = 5) -> Markup:
    """A small row of bars. sentence: what it shows."""
    top, step = max([*values, 1.0]), 96 / max(1, len(values))
    path = "".join(
        f"M{point * step:.1f} 22v-{max(1.5, value / top * 21):.1f}h{step * 0.8:.1f}V22z"
        for point, value in enumerate(values)
        if value
    )
    form = '<svg class="spark" viewBox="0 0 96 22" role="img" aria-label="{}"><path class="f{}" d="{}"/></svg>'
    return Markup(form).format(sentence, colour, path)  # escapes


def nice(value: float) -> float:
    """The next number above that reads well at the top of an axis, and halved in its middle."""
    if value <= 2:
        return 2.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _svg(sentence: str, drawn: Markup, marks: Sequence[Mark]) -> Markup:
    line = Markup('<path class="mark" d="M{0:.1f} 0V112"><title>{1}</title></path>')
    marked = Markup("").join(
        line.format(mark.place * WIDTH, f"{Markup(mark.at).striptags()} {mark.text}".strip()) for mark in marks
    )
    return _OPEN.format(sentence) + _GRID + drawn + marked + Markup("</svg>")


def _at(series: Series, point: int) -> float:
    return series.values[point] or 0.0


def _runs(values: Sequence[Value]) -> list[list[tuple[int, float]]]:
    """The numbers with their points, apart at gaps."""
    runs: list[list[tuple[int, float]]] = [[]]
    for point, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((point, value))
    return [run for run in runs if run]


__all__ = ["Chart", "Mark", "Series", "bars", "lines", "nice", "sparkline"]
