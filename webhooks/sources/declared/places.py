"""Where a value is: the notation of places, and templates that are filled with what stands there.

A place is `@x-github-event` (a header), `query:token` (a parameter of the address), `data.object.id` (a path into the
body), or `key:message|edited` (the *name* of the key that is there: the first of those named; `key:!update_id` is the
first that is not named; a path may stand before it, as in `key:data.a|b`). A key that holds a dot, a space or one of
`{}@:?` at its beginning stands in double quotes: `resourceData."@odata.type"`. A template has places in braces, with `?`
behind one that may be missing.

`Template` is cut up once, at start. Not here: what may be signed (`signed`), whether a row makes sense (`checks`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from webhooks.model import InboundRequest
from webhooks.sources.declared.fields import at, keys_at, text_of

HEADER = re.compile(r"[a-z0-9!#$%&'*+.^`|~-]+")
_STEP = r'(?:"[^"{}]+"|[^\s{}.:?"]+)'
PATH = re.compile(rf"(?!@){_STEP}(?:\.{_STEP})*")
PARAMETER = re.compile(r"[0-9A-Za-z_.~\[\]-]{1,64}")
_KEY = re.compile(rf"(?:({_STEP}(?:\.{_STEP})*)\.)?(!?)([^\s{{}}.:?\"!|]+(?:\|[^\s{{}}.:?\"!|]+)*)")
_BRACES = re.compile(r"\{([^{}]*)\}")


def places(template: str) -> list[str]:
    """What stands in braces, without the `?`."""
    return [name.removesuffix("?") for name in _BRACES.findall(template)]


def pieces(template: str) -> list[tuple[str, str, bool]]:
    """A template cut up: [(literal text before, place or "", whether it may be missing)]."""
    found = []
    end = 0
    for match in _BRACES.finditer(template):
        name = match.group(1)
        found.append((template[end : match.start()], name.removesuffix("?"), name.endswith("?")))
        end = match.end()
    if template[end:]:
        found.append((template[end:], "", False))
    return found


def has_loose_braces(template: str) -> bool:
    """Whether a brace stands alone."""
    rest = _BRACES.sub("", template)
    return "{" in rest or "}" in rest


def why_no_place(place: str) -> str | None:
    """Why a text is no place, for people; None when it is one."""
    if place.startswith("@"):
        if "_" in place and HEADER.fullmatch(place[1:].replace("_", "-")):
            return "servers drop headers whose name holds '_'; have the sender use '-', or a token in the address (query:…)"
        return None if HEADER.fullmatch(place[1:]) else "after the @ a header's name in lower case must follow"
    kind, colon, rest = place.partition(":")
    if colon and kind == "query":
        return None if PARAMETER.fullmatch(rest) else "after 'query:' a parameter's name must follow"
    if colon and kind == "key":
        return (
            None
            if _KEY.fullmatch(rest)
            else "after 'key:' names must follow, such as 'key:message|edited' or 'key:!id'"
        )
    return (
        None
        if PATH.fullmatch(place)
        else "it must be '@' and a header, or a path into the body such as 'signature.value'"
    )


def parameter(query: bytes, name: str) -> bytes | None:
    """The decoded value of a query's parameter; None when it is missing, empty or there twice."""
    found = [
        value
        for each, _, value in (part.partition(b"=") for part in query.split(b"&"))
        if unquote_to_bytes(each.replace(b"+", b" ")) == name.encode()
    ]
    return unquote_to_bytes(found[0].replace(b"+", b" ")) or None if len(found) == 1 else None


def _key_there(value: Any, rest: str) -> str | None:
    """The name of a key of an object, as `key:` says."""
    match = _KEY.fullmatch(rest)
    if match is None:
        return None
    path, others, names = match.groups()
    there = keys_at(value, path or "")
    wanted = names.split("|")
    if others:
        return next((key for key in there if key not in wanted), None)
    return next((name for name in wanted if name in there), None)


class Template:
    """A template, cut up once. text: as the row has it."""

    __slots__ = ("_pieces", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces = pieces(text)

    def fill(self, value: Any, request: InboundRequest) -> str | None:
        """The template filled with fields and headers; None when a place that must be there is not."""
        text = ""
        for literal, place, is_optional in self._pieces:
            text += literal
            if not place:
                continue
            found = value_at(place, value, request)
            if found is None and not is_optional:
                return None
            text += found or ""
        return text

    @property
    def place(self) -> str:
        """The place of a template that is one place alone; "" for every other."""
        return self._pieces[0][1] if len(self._pieces) == 1 and not self._pieces[0][0] else ""


def value_at(place: str, value: Any, request: InboundRequest) -> str | None:
    """The text at a place; None where there is none."""
    if place.startswith("@"):
        raw = request.headers.one(place[1:])
        return None if raw is None else raw.decode("utf-8", "replace")
    if place.startswith("query:"):
        raw = parameter(request.query, place[6:])
        return None if raw is None else raw.decode("utf-8", "replace")
    if place.startswith("key:"):
        return _key_there(value, place[4:])
    return text_of(at(value, place))


def templates(texts: Sequence[str]) -> tuple[Template, ...]:
    """Each text cut up."""
    return tuple(Template(text) for text in texts)


def first(templates: Sequence[Template], value: Any, request: InboundRequest) -> str | None:
    """The first template whose places are all there, filled in; None when none is."""
    for template in templates:
        filled = template.fill(value, request)
        if filled is not None:
            return filled
    return None


__all__ = ["HEADER", "PARAMETER", "PATH", "Template", "first", "has_loose_braces", "parameter", "pieces", "places", "templates", "value_at", "why_no_place"]  # fmt: skip
