"""A sample of a source that describes itself: a body in which everything stands that its row reads, for `trigger` and the kit.

Not for rows that have samples of their own; and None for a row whose places contradict each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from webhooks.errors import Rejected
from webhooks.formats import json as jsonio
from webhooks.model import Headers, InboundRequest
from webhooks.sources.declared.fields import json_path
from webhooks.sources.declared.places import places
from webhooks.sources.samples import Sample

if TYPE_CHECKING:
    from webhooks.sources.declared.scheme import Scheme
    from webhooks.sources.declared.source import DeclaredSource

_INSTANT = "2026-03-10T14:05:12Z"
_SHOWS = "made of what the source reads"


def made_sample(source: DeclaredSource) -> Sample | None:
    """A sample of the source's own row; None where none that it could read can be made."""
    row = source.row
    event, headers = _fields(row)
    if row.body == "raw":
        body = b"a sample"
    elif row.body in ("form", "form-or-multipart"):
        flat = {name: value for name, value in event.items() if isinstance(value, str)}
        body, headers["content-type"] = urlencode(flat).encode(), "application/x-www-form-urlencoded"
    else:
        body = jsonio.dump(_around(row, event))
    try:
        first, *_ = source.parse(InboundRequest(Headers(headers), body))
    except (Rejected, ValueError):
        return None
    return Sample(first.type, body, headers, _SHOWS)


def _fields(row: Scheme) -> tuple[dict[str, Any], dict[str, str]]:
    """(an event with a value at each place that the row reads, the headers with the others)."""
    event: dict[str, Any] = {}
    headers: dict[str, str] = {}
    for path, texts in row.expect.items():
        _put(event, path, texts[0])
    wanted = [
        (row.type[:1], "sample"),
        (row.id[:1], "sample-1"),
        (row.occurred_at[:1], _INSTANT),
        (row.object_id[:1], "object-1"),
        ([f"{{{row.data}}}"] if row.data else [], {"sample": True}),
    ]
    for templates, value in wanted:
        for place in (place for template in templates for place in places(template)):
            if place.startswith("@"):
                headers[place[1:]] = str(value)
            elif place.startswith("key:"):
                _put_key(event, place.removeprefix("key:"))
            elif not place.startswith(("query:", "part:")):
                _put(event, place, value)
    return event, headers


def _put(holder: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at a path, unless something stands there or on the way to it already."""
    *way, last = [str(step) for step in json_path(path).steps]
    for step in way:
        inner = holder.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        holder = inner
    holder.setdefault(last, value)


def _put_key(event: dict[str, Any], place: str) -> None:
    """Have the key there whose name is read: the first that is named, or one that is none of those left out."""
    way, _, last = place.rpartition(".")
    name = "sample" if last.startswith("!") else last.partition("|")[0]
    _put(event, f"{way}.{name}" if way else name, {"sample": True})


def _around(row: Scheme, event: dict[str, Any]) -> Any:
    """The body that holds the event where the row cuts it out."""
    whole: Any = event
    if row.unwrap:
        whole = {}
        _put(whole, row.unwrap, event)
    if not row.items:
        return whole
    for path in reversed(row.items[0].split("*")):
        inner = [whole]
        if path.strip(".") == "":
            whole = inner
        else:
            whole = {}
            _put(whole, path.strip("."), inner)
    return whole


__all__ = ["made_sample"]
