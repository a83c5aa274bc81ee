"""What a comparison found: as a table for people, as JSON on request."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from benchmarks import measure

#: How often a run is done again at most when others disturbed it, if one is patient.
ATTEMPTS = 5


@dataclass(frozen=True)
class Column:
    """One figure of the table. key: its name in results and JSON."""

    key: str
    title: str
    digits: int


@dataclass
class Comparison:
    """Some contenders under the same circumstances, round by round.

    results: {contender: {figure: its value in each round}}. references: see `measure.reference`.
    """

    title: str
    columns: Sequence[Column]
    labels: dict[str, str] = field(default_factory=dict)
    results: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    references: list[measure.Reference] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    judged: list[dict[str, object]] = field(default_factory=list)

    def run(self, name: str, label: str, act: Callable[[], dict[str, float]], patience: float) -> None:
        """Run one contender once, between two references.

        patience: seconds to wait for a quiet machine before it; a run in which the quiet ended is then done again, a few
        times at most. What `act` raises passes.
        """
        for attempt in range(ATTEMPTS if patience else 1):
            best = min((one.seconds for one in self.references), default=None)
            before = measure.wait_for_quiet(patience, best)
            figures = act()
            after = measure.reference()
            if measure.is_quiet(after, best) or attempt == ATTEMPTS - 1 or not patience:
                break
        self.references += [before, after]
        self.add(name, label, figures)

    def add(self, name: str, label: str, figures: dict[str, float]) -> None:
        self.labels[name] = label
        mine = self.results.setdefault(name, {})
        for key, value in figures.items():
            mine.setdefault(key, []).append(value)

    @property
    def noisy(self) -> str | None:
        return measure.noise(self.references)

    @property
    def is_complete(self) -> bool:
        """Whether everything that was answered with 2xx was found afterwards."""
        return all(min(figures.get("stored", [1.0])) >= 1.0 for figures in self.results.values())

    def judge(self, ours: str, peer: str, figure: str, goal: measure.Goal | None) -> None:
        """Note the ratio of one figure, if both were measured in every round."""
        one, other = self.results.get(ours, {}).get(figure, []), self.results.get(peer, {}).get(figure, [])
        if not one or len(one) != len(other):
            return
        ratio = measure.ratios(one, other)
        self.judged.append(
            {
                "ours": ours,
                "peer": peer,
                "figure": figure,
                "ratio": asdict(ratio),
                "goal": None if goal is None else goal.show(),
                "verdict": measure.verdict(ratio, goal, self.noisy),
                "shown": ratio.show(2),
            }
        )

    def judge_value(self, name: str, figure: str, goal: measure.Goal) -> None:
        """The same for a figure of ours that has a limit of its own."""
        values = self.results.get(name, {}).get(figure, [])
        if not values:
            return
        summary = measure.summarise(values)
        self.judged.append(
            {
                "ours": name,
                "peer": None,
                "figure": figure,
                "ratio": asdict(summary),
                "goal": goal.show(),
                "verdict": measure.verdict(summary, goal, self.noisy),
                "shown": summary.show(2),
            }
        )

    def show(self) -> str:
        lines = [f"\n{self.title}", ""]
        rows = []
        for name, figures in self.results.items():
            row = {"": self.labels[name]}
            for column in self.columns:
                values = figures.get(column.key)
                if values is None:
                    row[column.title] = "–"
                elif column.key == self.columns[0].key:
                    row[column.title] = measure.summarise(values).show(column.digits)
                else:
                    row[column.title] = f"{measure.summarise(values).median:,.{column.digits}f}"
            rows.append(row)
        lines.append(measure.table(rows))
        if self.judged:
            lines += ["", measure.table([self._judgement(entry) for entry in self.judged])]
        lines.append("")
        lines += [f"not run: {label}: {reason}" for label, reason in self.missing.items()]
        if self.references:
            reference = measure.summarise([one.seconds for one in self.references])
            lines.append(self.noisy or f"reference work varied by {reference.spread:.0%} over {reference.rounds} runs")
        return "\n".join(lines)

    def _judgement(self, entry: dict[str, object]) -> dict[str, str]:
        titles = {column.key: column.title for column in self.columns}
        what = f"{titles[str(entry['figure'])]}: {self.labels[str(entry['ours'])]}"
        if entry["peer"] is not None:
            what += f" ÷ {self.labels[str(entry['peer'])]}"
        return {
            "compared round by round": what,
            "median (range)": str(entry["shown"]),
            "goal": str(entry["goal"] or ""),
            "": str(entry["verdict"]),
        }

    def plain(self) -> dict[str, object]:
        return {
            "title": self.title,
            "contenders": {
                name: {"label": self.labels[name], "rounds": rounds} for name, rounds in self.results.items()
            },
            "ratios": self.judged,
            "references": [asdict(one) for one in self.references],
            "noise": self.noisy,
            "missing": self.missing,
        }


def add_options(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """The options that all benchmarks have; from here on SIGTERM stops what a benchmark started, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds; 3 to judge (%(default)s)")
    parser.add_argument(
        "--wait", type=float, default=0, metavar="S", help="before each run, wait so long at most for a quiet machine"
    )
    parser.add_argument("--json", metavar="FILE", help="keep every round's figures there")


def progress(text: str) -> None:
    """One line on a terminal that replaces itself; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def keep(file: str | None, what: str, comparisons: Sequence[Comparison]) -> None:
    """Write everything to `file` as JSON, with what the machine is."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if file is None:
        return
    document = {
        "benchmark": what,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "comparisons": [comparison.plain() for comparison in comparisons],
    }
    with open(file, "w", encoding="utf-8") as output:
        json.dump(document, output, indent=1)
        output.write("\n")
