"""What `store.tallies` counted, as charts and figures with their words. Pure.

Figures are about right, and said so (≈) where they come from buckets of times. What nothing is known of is a gap, not a 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from markupsafe import Markup

from webhooks.dashboard import show
from webhooks.dashboard.charts import Chart, Mark, Series, bars, lines, nice
from webhooks.model import DeliveryState, Disposition
from webhooks.store.tallies import ChartWindow, Kind, LevelSample, Points, Ran, instant_of_minute, quantile_ms

#: {receipt: (its place in a chart, the word there)}; what is in none is refused.
_TAKEN: Mapping[int, int] = {
    Disposition.STORED.code: 0,
    Disposition.REVISION.code: 1,
    Disposition.QUARANTINED.code: 3,
    **{each.code: 2 for each in Disposition if each not in (Disposition.STORED, Disposition.REVISION, Disposition.QUARANTINED)},
}  # fmt: skip
_TAKEN_WORDS = (("stored", 1), ("revision", 2), ("duplicate", 3), ("quarantined", 4), ("refused", 5))
_RAN_WORDS = ((Ran.SUCCEEDED, "succeeded", 6), (Ran.RETRIED, "to be retried", 4), (Ran.DEAD, "dead", 5), (Ran.CANCELLED, "cancelled", 3))  # fmt: skip
_SHARES = ((0.5, "p50", 1, ""), (0.95, "p95", 2, "dash"), (0.99, "p99", 4, "dot"))


#: A time of day that may be shown in the browser's zone.
_TIME = Markup('<time data-clock="minute" datetime="{}">{}</time>')


class Happened(NamedTuple):
    """Something to mark in every chart."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the row of figures. kind: of the comparison: "", "ok", "warn", "bad". link: what is behind it."""

    title: str
    number: str
    unit: str
    comparison: str
    kind: str = ""
    icon: str = ""
    link: str = ""


def labels(points: Points) -> list[str]:
    """When each point begins, as people write it: with its day where points are longer than half an hour."""
    form = "%H:%M" if points.step <= 30 else "%Y-%m-%d %H:%M"
    return [f"{instant_of_minute(at):{form}}" for at in points.at]


def times(points: Points) -> list[str]:
    """Four times and now, along the bottom."""
    every = [(show.iso(instant_of_minute(at)), label) for at, label in zip(points.at, labels(points), strict=True)]
    return [_TIME.format(*every[len(every) * part // 4]) for part in range(4)] + ["now"]


def marks(points: Points, happened: Sequence[Happened]) -> list[Mark]:
    """Where in the charts what happened stands."""
    length = points.until - points.since
    found = []
    for each in happened:
        place = (each.at.timestamp() / 60 - points.since) / length
        if 0 <= place <= 1:
            label = f"{each.at.astimezone(UTC):%H:%M}"
            found.append(Mark(place, each.text, _TIME.format(show.iso(each.at), label)))
    return found


def taken(points: Points, happened: Sequence[Happened] = ()) -> Chart:
    """Events by receipt, and requests that were refused."""
    counts = points.counts(Kind.REQUESTS)
    rows = [[0] * len(points.at) for _ in _TAKEN_WORDS]
    for number, at in enumerate(points.at):
        for what, n in counts.get(at, {}).items():
            rows[_TAKEN.get(what, 4)][number] += n
    series = [
        _series(word, row, colour)
        for (word, colour), row in zip(_TAKEN_WORDS, rows, strict=True)
        if any(row) or colour == 1
    ]
    return _bars(points, series, "Accepted and refused", happened)


def ran(points: Points, happened: Sequence[Happened] = ()) -> Chart:
    """Runs by outcome."""
    counts = points.counts(Kind.RUNS)
    series = []
    for what, word, colour in _RAN_WORDS:
        row = [counts.get(at, {}).get(what, 0) for at in points.at]
        if any(row) or what is Ran.SUCCEEDED:
            series.append(_series(word, row, colour))
    return _bars(points, series, "Runs by outcome", happened)


def handled(points: Points, happened: Sequence[Happened] = (), *, kind: Kind = Kind.RUNS) -> Chart:
    """How long it took from arrival to the end of the last run (or, of requests, to the answer): percentiles."""
    buckets = points.buckets(kind)
    every: dict[int, int] = {}
    for point in buckets.values():
        for bucket, n in point.items():
            every[bucket] = every.get(bucket, 0) + n
    series = []
    for share, word, colour, pattern in _SHARES:
        values = [quantile_ms(buckets.get(at, {}), share) for at in points.at]
        series.append(Series(word, values, colour, pattern, milliseconds(quantile_ms(every, share))))
    known = [value for each in series for value in each.values if value is not None]
    low, top = _decades(known)
    what = "From arrival to handled" if kind == Kind.RUNS else "From request to answer"
    sentence = f"{what}: " + ", ".join(f"{each.label} {each.total}" for each in series)
    drawing = lines(series, len(points.at), sentence, low=low, top=top, logarithmic=True, marks=marks(points, happened))
    axis = [milliseconds(top), milliseconds((low * top) ** 0.5), milliseconds(low)]
    return Chart(drawing, axis, times(points), series, labels(points), marks=marks(points, happened), is_lines=True)


def waiting(points: Points, happened: Sequence[Happened] = ()) -> Chart:
    """How many deliveries waited and ran, as sampled each minute."""
    counts = points.counts(Kind.LEVELS)

    def row(*levels: LevelSample) -> list[float | None]:
        return [
            sum(counts[at].get(level, 0) for level in levels) if LevelSample.SAMPLED in counts.get(at, {}) else None
            for at in points.at
        ]

    pending, running = row(LevelSample.DUE, LevelSample.SCHEDULED), row(LevelSample.RUNNING)
    series = [
        Series("pending", pending, 4, "", _last(pending)),
        Series("running", running, 1, "dash", _last(running)),
    ]
    top = nice(max([value for each in series for value in each.values if value is not None], default=0))
    sentence = f"Deliveries that wait: {_last(pending)} pending, {_last(running)} running"
    drawing = lines(series, len(points.at), sentence, top=top, area=True, marks=marks(points, happened))
    return Chart(
        drawing, _axis(top), times(points), series, labels(points), marks=marks(points, happened), is_lines=True
    )


def attempts(ended: Mapping[tuple[int, DeliveryState], int], most: int) -> Chart:
    """At which attempt deliveries ended, by how. ended: {(attempts, state): how many}. most: attempts that are shown apart."""
    last = min(most, max([number for number, _ in ended], default=1))
    every = [
        *(f"attempt {number}" for number in range(1, last)),
        f"attempt {last}{' and later' if last == most else ''}",
    ]
    series = []
    for state, word, colour in ((DeliveryState.SUCCEEDED, "succeeded", 6), (DeliveryState.DEAD, "dead", 5)):
        row = [0] * last
        for (number, each), n in ended.items():
            if each is state:
                row[min(max(number, 1), last) - 1] += n
        series.append(_series(word, row, colour))
    sums = [sum(each.values[point] or 0 for each in series) for point in range(last)]
    sentence = f"Attempts after which deliveries ended: {', '.join(f'{n:,} at {label}' for n, label in zip(sums, every, strict=True))}"
    axis = [each.removeprefix("attempt ") for each in (every[0], every[-1])] if last > 1 else ["1"]
    return Chart(bars(series, every, sentence), _axis(nice(max(sums))), axis, series, every)


# -- figures ---------------------------------------------------------------------------------------------------


class Sums(NamedTuple):
    """What a time adds up to. requests, runs: {what: n}. answered, handled: {bucket: n}. minutes: of it, as far as is known."""

    requests: Mapping[int, int]
    runs: Mapping[int, int]
    answered: Mapping[int, int]
    handled: Mapping[int, int]
    minutes: float

    @property
    def events(self) -> int:
        """That came, refused requests left out."""
        return sum(n for what, n in self.requests.items() if what < 100)

    @property
    def refused(self) -> int:
        """Requests that were."""
        return sum(n for what, n in self.requests.items() if what >= 100)

    def per_minute(self, number: int) -> float:
        """A number of these for each minute."""
        return number / self.minutes if self.minutes > 0 else 0.0


def sums(totals: Mapping[tuple[int, str, int, int], int], minutes: float, name: str | None = None) -> Sums:
    """Add up. totals: of `Tallies.totals`. minutes: of that time. name: of one source or handler."""
    found: tuple[dict[int, int], dict[int, int], dict[int, int], dict[int, int]] = ({}, {}, {}, {})
    for (kind, each, what, bucket), n in totals.items():
        if name is not None and each != name:
            continue
        by_what, by_time = (found[0], found[2]) if kind == Kind.REQUESTS else (found[1], found[3])
        by_what[what] = by_what.get(what, 0) + n
        by_time[bucket] = by_time.get(bucket, 0) + n
    return Sums(*found, minutes)


def row(
    now: Sums,
    before: Sums,
    window: ChartWindow,
    waits: tuple[int, datetime | None, bool],
    dead: tuple[int, bool],
    at: datetime,
) -> list[Figure]:
    """The five figures at the head of the overview; links are put in by the page.

    before: of the time that is compared.
    waits: how many deliveries, since when the oldest is due, and whether there are more.
    dead: how many deliveries, and whether there are more.
    at: now.
    """
    earlier = "yesterday" if window.minutes < 24 * 60 else "the time before"
    answered, handled_in = quantile_ms(now.answered, 0.95), quantile_ms(now.handled, 0.95)
    requests = now.events + now.refused
    good = 100 * now.events / requests if requests else 100.0
    died = now.runs.get(Ran.DEAD, 0)
    oldest = waits[1]
    return [
        Figure("Accepted", rate(now.per_minute(now.events)), "/min", *_change(now.per_minute(now.events), before.per_minute(before.events), earlier)),
        Figure("Answered in", milliseconds(answered), "p95 ≈" if answered is not None else "",
               f"{good:.4g} % of them 2xx" if requests else "no requests", "ok" if good >= 99 else "warn" if good >= 90 else "bad",
               "check" if good >= 99 else "warning"),
        Figure("Handled within", milliseconds(handled_in), "p95 ≈" if handled_in is not None else "",
               *_slower(handled_in, quantile_ms(before.handled, 0.95), earlier)),
        Figure("Waiting", f"{waits[0]:,}{'+' if waits[2] else ''}", "",
               f"oldest {show.rough(max(timedelta(0), at - oldest))}" if oldest is not None else "none is due",
               "bad" if oldest is not None and at - oldest > timedelta(minutes=5) else "", "clock"),
        Figure("Dead", f"{dead[0]:,}{'+' if dead[1] else ''}", "", f"{died:,} in the last {window.words}",
               "bad" if died else "", "cross" if died else "check"),
    ]  # fmt: skip


def milliseconds(value: float | None) -> str:
    """A time for people; a dash where nothing is known."""
    return "–" if value is None else show.span(timedelta(milliseconds=round(value, 1 if value < 10 else 0)))


def _change(now: float, before: float, earlier: str) -> tuple[str, str, str]:
    if not before:
        return f"nothing {earlier} to compare with", "", ""
    percent = round(100 * (now - before) / before)
    if not percent:
        return f"as {earlier}", "", ""
    return f"{abs(percent):,} % {'over' if percent > 0 else 'below'} {earlier}", "", "up" if percent > 0 else "down"


def _slower(now: float | None, before: float | None, earlier: str) -> tuple[str, str, str]:
    if now is None or before is None:
        return f"nothing {earlier} to compare with" if now is not None else "nothing ended", "", ""
    is_slower = now > 2 * before and now > 100
    return f"{milliseconds(before)} {earlier}", "warn" if is_slower else "", "up" if now > before else "down"


def rate(value: float) -> str:
    """A number a minute, for people."""
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2g}"


def _series(word: str, row: Sequence[int], colour: int) -> Series:
    return Series(word, row, colour, "", f"{sum(row):,}")


def _bars(points: Points, series: Sequence[Series], what: str, happened: Sequence[Happened]) -> Chart:
    sums = [sum(each.values[point] or 0 for each in series) for point in range(len(points.at))]
    top = nice(max(sums, default=0))
    every = labels(points)
    most = max(range(len(sums)), key=sums.__getitem__) if any(sums) else None
    sentence = f"{what}: {', '.join(f'{each.total} {each.label}' for each in series)}"
    if most is not None:
        sentence += f"; at most {sums[most]:,.0f} at {every[most]}"
    drawing = bars(series, every, sentence, marks=marks(points, happened))
    return Chart(drawing, _axis(top), times(points), series, every, marks=marks(points, happened))


def _axis(top: float) -> list[str]:
    return [f"{top:,.0f}", f"{top / 2:,.0f}", "0"]


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Powers of ten around values, in milliseconds."""
    low, top = min(values, default=1.0), max(values, default=100.0)
    first, last = 1.0, 10.0
    while first * 10 <= low:
        first *= 10
    while last < top or last <= first:
        last *= 10
    return first, last


def _last(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{known[-1]:,.0f}" if known else "–"


__all__ = [
    "Figure",
    "Happened",
    "Sums",
    "attempts",
    "handled",
    "labels",
    "marks",
    "milliseconds",
    "ran",
    "rate",
    "row",
    "sums",
    "taken",
    "times",
    "waiting",
]
