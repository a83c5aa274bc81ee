"""Options of a source laid over its row: which there are, how each is written, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from webhooks.formats import did_you_mean
from webhooks.sources.declared.checks import problems
from webhooks.sources.declared.claims import read_rule
from webhooks.sources.declared.scheme import Scheme

#: Options by which a source may read events otherwise than its row says.
READING_OPTIONS = frozenset(
    (
        *("body", "charset", "decode", "items", "around", "unwrap", "id", "type", "dotted", "occurred_at", "object_id"),
        *("data", "previous", "leave_out"),
    )
)
_TUPLES = frozenset(("signature", "id", "type", "occurred_at", "object_id", "items", "url_forms", "leave_out"))
_TABLES = {
    "require": "require must be a table of headers and their values, all text",
    "decode": "decode must be a table of paths and how each is written, such as { payload = 'json' }",
}
_FLAGS = frozenset(("around",))
_NUMBERS = frozenset(("min_secret_bytes",))
_NOT_SETTABLE = frozenset(
    (
        *(
            "name",
            "title",
            "documentation",
            "retries",
            "tolerance",
            "tolerance_ahead",
            "handshake",
            "success",
            "as_form",
        ),
        *("certificate", "certificate_pattern", "algorithm_at", "needs", "greetings", "pings", "dedup"),
    )
)
#: Options by which a source of its own describes itself.
ROW_OPTIONS = frozenset(each.name for each in fields(Scheme)) - _NOT_SETTABLE


def with_options(row: Scheme, options: Mapping[str, Any], allowed: frozenset[str]) -> tuple[Scheme, list[str]]:
    """The row with a source's options laid over it, and everything that is wrong with them."""
    row, wrong = _with_needs(row, options)
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if name in row.needs:
            continue
        if name not in allowed:
            hint = did_you_mean(name, sorted(allowed)) or f"; it knows {', '.join(sorted(allowed))}"
            wrong.append(f"unknown option {name!r} for scheme {row.name!r}{hint}")
            continue
        try:
            changes[name] = read_rule(value, row.jwt) if name == "jwt" else _read(name, value)
        except ValueError as error:
            wrong.append(str(error))
    if "items" in changes and "around" not in changes:
        changes["around"] = False  # a list of the source's own is cut as its own options say
    changed = replace(row, **changes)
    return changed, wrong + problems(changed)


def _with_needs(row: Scheme, options: Mapping[str, Any]) -> tuple[Scheme, list[str]]:
    """The row with the texts that it needs in their places, and what is wrong with these."""
    wrong = []
    signed, expect = row.signed, dict(row.expect)
    for name, what in row.needs.items():
        given = options.get(name)
        texts = (given,) if isinstance(given, str) else given
        if not isinstance(texts, list | tuple) or not texts or not all(_is_harmless(each) for each in texts):
            wrong.append(f"scheme {row.name!r} needs {name}: {what}")
            continue
        signed = signed.replace(f"{{{name}}}", texts[0])
        expect = {path: tuple(texts) if wanted == (f"{{{name}}}",) else wanted for path, wanted in expect.items()}
    return replace(row, signed=signed, expect=expect), wrong


def _is_harmless(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[0-9A-Za-z:/._+-]{1,300}", text) is not None


def _read(name: str, value: Any) -> Any:
    """The value of one option. Raises ValueError, without the value."""
    if name in _TUPLES:
        return _texts(name, value)
    if name in _TABLES:
        if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
            raise ValueError(_TABLES[name])
        return {key.lower(): each for key, each in value.items()} if name == "require" else dict(value)
    if name == "expect":
        if not isinstance(value, Mapping) or not all(isinstance(path, str) for path in value):
            raise ValueError("expect must be a table of paths and what stands there, such as { TopicArn = 'arn:…' }")
        return {path: _texts(f"expect.{path}", wanted) for path, wanted in value.items()}
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
