"""How a selection names what stands on a line: `data.remote_phone` for what the body has at `event.data.remote_phone`.

What an event's `data` is, its source reads; here it is found again in the body by its value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from webhooks.formats import json as jsonio
from webhooks.model import Event
from webhooks.model.events import same_json

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
#: How deep an event's data may stand in its body.
_DEEPEST = 3

Steps = Sequence[str | int]


def place_of_data(event: Event) -> tuple[str, ...] | None:
    """The keys (as written) that lead to the event's data in its body; None where it is not found."""
    data = event.data
    if not isinstance(data, (Mapping, list)):
        return None
    try:
        waiting: list[tuple[tuple[str, ...], Any]] = [((), jsonio.load(event.raw))]
    except jsonio.ERRORS:
        return None
    while waiting:
        place, value = waiting.pop(0)
        if type(value) is type(data) and len(value) == len(data) and same_json(value, data):
            return place
        if isinstance(value, dict) and len(place) < _DEEPEST:
            waiting += [((*place, json.dumps(key)), each) for key, each in list(value.items())[:100]]
    return None


def in_selection(path: Steps, data: tuple[str, ...] | None) -> str | None:
    """The path of a line as a selection writes it; None for what no selection can name. data: where the event's data stands."""
    if data is None or len(path) <= len(data):
        return None
    if [_unquoted(step) for step in path[: len(data)]] != [_unquoted(step) for step in data]:
        return None
    return dotted(path[len(data) :], "data")


def dotted(path: Steps, root: str = "") -> str:
    """A path as people and selections write it: `event.data["a key"][0]`."""
    text = root
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        key = _unquoted(step)
        text += (f".{key}" if text else key) if _PLAIN.fullmatch(key) else f"[{json.dumps(key, ensure_ascii=False)}]"
    return text


def _unquoted(step: str | int) -> str:
    return str(json.loads(step)) if isinstance(step, str) else str(step)


__all__ = ["dotted", "in_selection", "place_of_data"]
