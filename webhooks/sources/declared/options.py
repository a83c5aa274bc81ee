"""Options of a source laid over its row: which there are, how each is written, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from webhooks.formats import did_you_mean
from webhooks.sources.declared.checks import problems
from webhooks.sources.declared.scheme import Scheme

#: Options by which a source may read events otherwise than its row says.
READING_OPTIONS = frozenset(
    (
        *("body", "charset", "decode", "items", "around", "unwrap", "id", "type", "dotted", "occurred_at", "object_id"),
        *("data", "previous"),
    )
)
_TUPLES = frozenset(("signature", "id", "type", "occurred_at", "object_id", "items", "url_forms"))
_TABLES = {
    "require": "require must be a table of headers and their values, all text",
    "decode": "decode must be a table of paths and how each is written, such as { payload = 'json' }",
}
_FLAGS = frozenset(("around",))
_NUMBERS = frozenset(("min_secret_bytes",))
_NOT_SETTABLE = frozenset(
    ("name", "title", "documentation", "tolerance", "tolerance_ahead", "handshake", "success", "as_form")
)
#: Options by which a source of its own describes itself.
ROW_OPTIONS = frozenset(each.name for each in fields(Scheme)) - _NOT_SETTABLE


def with_options(row: Scheme, options: Mapping[str, Any], allowed: frozenset[str]) -> tuple[Scheme, list[str]]:
    """The row with a source's options laid over it, and everything that is wrong with them."""
    wrong: list[str] = []
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if name not in allowed:
            hint = did_you_mean(name, sorted(allowed)) or f"; it knows {', '.join(sorted(allowed))}"
            wrong.append(f"unknown option {name!r} for scheme {row.name!r}{hint}")
            continue
        try:
            changes[name] = _read(name, value)
        except ValueError as error:
            wrong.append(str(error))
    changed = replace(row, **changes)
    return changed, wrong + problems(changed)


def _read(name: str, value: Any) -> Any:
    """The value of one option. Raises ValueError, without the value."""
    if name in _TUPLES:
        return _texts(name, value)
    if name in _TABLES:
        if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
            raise ValueError(_TABLES[name])
        return {key.lower(): each for key, each in value.items()} if name == "require" else dict(value)
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false")
        return value
    if name in _NUMBERS:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number")
        return value
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text")
    return value.lower() if name == "timestamp" and value.startswith("@") else value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be text or a list of texts")
    if name == "items" and texts == ("",):
        return ()
    return tuple(text.lower() if name == "signature" and text[:1] == "@" else text for text in texts)


__all__ = ["READING_OPTIONS", "ROW_OPTIONS", "with_options"]
