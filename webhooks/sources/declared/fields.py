"""Values taken out of what senders send, made fit for keys and columns.

Paths are those of `formats.paths` (`data.object.id`; numbers step into lists). What a key can be is said in
`formats.why_no_key`; an ordering key of another shape is replaced by its digest, because a lane only has to be the same
for the same object.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from webhooks.errors import Malformed
from webhooks.formats import MISSING, JsonPath, path_of, read_iso, why_no_key
from webhooks.formats import json as jsonio

#: Fields that a form may have; more is refused before anything is decoded.
MAX_FORM_FIELDS = 1000
#: Numbers from here on are milliseconds: as seconds they would be after the year 5000.
_MILLISECONDS_FROM = 100_000_000_000
_STEP = re.compile(r'"[^"]+"|[^."]+')


def at(value: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none. Raises Malformed where a key on the way stands twice."""
    found = json_path(path).look_up(value, _require_single)
    return None if found is MISSING else found


def json_path(text: str) -> JsonPath:
    """A path whose keys may stand in double quotes."""
    return _quoted_path(text) if '"' in text else path_of(text)


@lru_cache(maxsize=1024)
def _quoted_path(text: str) -> JsonPath:
    return JsonPath([step.strip('"') for step in _STEP.findall(text)])


def put(value: Any, path: str, new: Any) -> None:
    """Put `new` in the place of the value at `path`; nothing where there is none."""
    place = json_path(path).place(value)
    if place is not None:
        holder, key = place
        holder[key] = new


def drop(value: Any, path: str) -> None:
    """Take the value at `path` out of the object that holds it; nothing where there is none."""
    place = json_path(path).place(value)
    if place is not None and isinstance(place[0], dict):
        del place[0][place[1]]


def keys_at(value: Any, path: str) -> list[str]:
    """The keys of the object at a path ("" for the value itself); none for what is no object."""
    found = at(value, path) if path else value
    return list(found) if isinstance(found, Mapping) else []


def _require_single(holder: Any, key: str | int) -> None:
    if isinstance(holder, jsonio.Watched) and key in holder.doubled:
        raise Malformed(f"the key {key!r} stands twice, so the event is ambiguous")


def text_of(value: Any) -> str | None:
    """`value` as text if it can be part of a name: text that is not empty, or an integer."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def key_text(text: str, what: str) -> str:
    """`text` if it can be a key, else Malformed. what: for the message."""
    problem = why_no_key(text)
    if problem is not None:
        raise Malformed(f"{what} {problem}")
    return text


def ordering_key(text: str) -> str:
    """`text` where a column can hold it, else a digest: equal ids stay equal, different ones different."""
    if why_no_key(text) is None:
        return text
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def instant(value: Any) -> datetime | None:
    """The instant that a sender wrote as ISO 8601 text (UTC unless it says), or as seconds or milliseconds since 1970.

    None for anything else: when something happened is good to know, but no reason to refuse it.
    """
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 13):
            return read_iso(value)
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value / 1000 if abs(value) >= _MILLISECONDS_FROM else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def form_pairs(body: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a form, decoded to bytes, in order. Raises ValueError for what no form encoder writes."""
    if not body:
        return []
    parts = body.split(b"&")
    if len(parts) > MAX_FORM_FIELDS:
        raise ValueError(f"the form has more than {MAX_FORM_FIELDS} fields")
    pairs = []
    for part in parts:
        name, equals, value = part.partition(b"=")
        if not name or not equals or not part.isascii():
            raise ValueError("the body is not a form")
        pairs.append((unquote_to_bytes(name.replace(b"+", b" ")), unquote_to_bytes(value.replace(b"+", b" "))))
    return pairs


def form(body: bytes) -> jsonio.Watched:
    """A form as a mapping of text that knows its doubled names. Raises ValueError."""
    return jsonio.Watched([(name.decode("utf-8"), value.decode("utf-8")) for name, value in form_pairs(body)])


def sorted_form(body: bytes) -> bytes:
    """Every field of a form, names and values joined, sorted, repeated ones once: what Twilio signs. Raises ValueError.

    Source: twilio-python, twilio/request_validator.py (compute_signature)
    """
    return b"".join(name + value for name, value in sorted(set(form_pairs(body))))
