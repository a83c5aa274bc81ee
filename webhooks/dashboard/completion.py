"""What could stand where the cursor is: names of conditions, and values that are known.

`complete` is pure. What is known comes from the settings, the registry and the latest rows, kept for a minute; behind
`where:` it is what the latest events hold.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from webhooks.dashboard.services import Services
from webhooks.formats import ROOTS
from webhooks.selection import CONDITIONS, STATES, UNROUTED, Selection
from webhooks.selection.line import quoted

#: Suggestions at once.
MOST = 12
#: What is known is asked for again after so long.
KEPT_SECONDS = 60.0
#: The latest events whose paths are offered.
EVENTS = 50
#: Paths that are offered at most, and values of each.
MOST_PATHS, MOST_VALUES = 400, 20

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
TIMES = ("15m", "1h", "6h", "24h", "7d", "today", "yesterday")


class Suggestion(NamedTuple):
    """A text for the characters from start to end. about: what it is."""

    text: str
    start: int
    end: int
    about: str


@dataclass(frozen=True, slots=True)
class Known:
    """What may be offered.

    values: {condition: its values}.
    paths: {path of content: values seen there, as JSON}.
    """

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    paths: Mapping[str, Sequence[str]] = field(default_factory=dict)


def complete(line: str, at: int, known: Known) -> list[Suggestion]:
    """What could stand at a place of a line, the likeliest first."""
    before = line[:at]
    where = re.search(r"(?:^|\s)where:\s*", before)
    if where is not None:
        return _in_expression(before, known)[:MOST]
    start = at - len(re.split(r"\s", before)[-1])
    end = at + len(re.match(r"\S*", line[at:])[0])  # type: ignore[index]
    word = line[start:at]
    name, colon, rest = word.partition(":")
    if not colon:
        found = [Suggestion(f"{each}:", start, end, "condition") for each in _like(word, CONDITIONS) if each != "event"]
        found += [
            Suggestion(f"{condition}:{quoted(value)}", start, end, condition)
            for condition in ("handler", "source", "type")
            for value in _like(word, known.values.get(condition, ()))
            if word
        ]
        return found[:MOST]
    rest = rest.strip("\"'")
    head, comma, last = rest.rpartition(",") if name == "state" else ("", "", rest)
    offered = _like(last, known.values.get(name, ()))
    return [Suggestion(f"{name}:{quoted(f'{head}{comma}{value}')}", start, end, name) for value in offered][:MOST]


def _in_expression(before: str, known: Known) -> list[Suggestion]:
    """Paths where one begins, values behind a comparison."""
    at = len(before)
    compared = re.search(r"([A-Za-z_][\w.\[\]-]*)\s*(?:==|!=|contains|in)\s*(\S*)$", before)
    if compared is not None and compared[1] in known.paths:
        begin = at - len(compared[2])
        return [
            Suggestion(value, begin, at, compared[1])
            for value in known.paths[compared[1]]
            if value.strip('"').startswith(compared[2].strip('"'))
        ]
    word = re.search(r"[A-Za-z_][\w.\[\]-]*$", before)
    begun = word[0] if word is not None else ""
    return [Suggestion(path, at - len(begun), at, "in the latest events") for path in _like(begun, known.paths)]


def _like(word: str, values: Iterable[str]) -> list[str]:
    """Those that begin with a word, then those that hold it."""
    low = word.lower()
    every = [value for value in values if low in value.lower() and value != word]
    return sorted(every, key=lambda value: not value.lower().startswith(low))


# -- what is known ---------------------------------------------------------------------------------------------


def known(services: Services, *, with_values: bool, errors: Sequence[str] = ()) -> Known:
    """What may be offered. with_values: also values of payloads. errors: of failures, as one may see them."""
    found: Known = services.kept.get(f"completion {with_values}", lambda: _ask(services, with_values), KEPT_SECONDS)
    return dataclasses.replace(found, values={**found.values, "error": errors})


def _ask(services: Services, with_values: bool) -> Known:
    handlers = services.registry.handlers()
    suggestions = services.store.listings.suggestions
    patterns = {str(pattern) for handler in handlers for pattern in handler.patterns}
    values = {
        "state": [*STATES, UNROUTED],
        "since": TIMES,
        "until": TIMES,
        "source": sorted({*services.sources, *suggestions("source")}),
        "handler": sorted({*(handler.name for handler in handlers), *suggestions("handler")}),
        "type": sorted({*patterns, *suggestions("type")}),
    }
    latest = services.store.listings.events(Selection(), limit=EVENTS, with_event=True)
    contents = [one.event.data for one in latest if one.event is not None]
    return Known(values, paths_of(contents, with_values=with_values))


def paths_of(contents: Iterable[Any], *, with_values: bool) -> dict[str, Sequence[str]]:
    """{path: values seen there} of what events hold. with_values: else without any."""
    found: dict[str, dict[str, None]] = {root: {} for root in ROOTS}
    for content in contents:
        for path, value in _leaves("data", content):
            if path not in found and len(found) >= MOST_PATHS:
                continue
            seen = found.setdefault(path, {})
            if with_values and len(seen) < MOST_VALUES:
                seen[value] = None
    return {path: list(seen) for path, seen in found.items()}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """(path, value as JSON) of each plain value, without recursion."""
    waiting = [(path, value, 0)]
    while waiting:
        path, value, depth = waiting.pop()
        if isinstance(value, Mapping) and depth < 6:
            waiting += [
                (
                    f"{path}.{key}" if _NAME.fullmatch(key) else f"{path}[{json.dumps(key, ensure_ascii=False)}]",
                    each,
                    depth + 1,
                )
                for key, each in list(value.items())[:200]
            ]
        elif isinstance(value, (str, int, float, bool)) and len(str(value)) <= 100:
            yield path, json.dumps(value, ensure_ascii=False)


__all__ = ["Known", "Suggestion", "complete", "known", "paths_of"]
