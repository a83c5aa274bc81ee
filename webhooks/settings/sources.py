"""One sender as its section `[sources.<name>]` describes it, and secrets that are never shown.

What only one scheme understands stays in `options`, and is checked by the source at start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any


class Secret:
    """A secret with the label under which people know it; never shown.

    value: the text as configured. Two secrets are equal when label and value are.
    """

    __slots__ = ("_value", "label")

    def __init__(self, value: str, label: str = "1") -> None:
        self._value = value
        self.label = label

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.label, self._value) == (other.label, other._value)

    def __hash__(self) -> int:
        return hash((self.label, self._value))

    def __repr__(self) -> str:
        return f"Secret(label={self.label!r}, value='***')"

    __str__ = __repr__


#: Schemes whose sender publishes its keys, so that a section has no secret; a test holds them together with the table.
KEYLESS = frozenset(("google-pubsub", "paypal", "sns"))


@dataclass(frozen=True)
class SourceSettings:
    """What the operator says of one source; the section `[sources.<name>]` of `webhooks.toml`.

    scheme: default the source's name.
    secrets: from `secret` (text, a list, or a table of label and key).
    secret_file: more of them (text, or JSON of labels and keys), read at start and again when it changes.
    tolerance, tolerance_ahead: how old, and how far ahead of our clock, a signed timestamp may be; None means the scheme's
    own.
    on_unparseable: "quarantine" or "reject".
    accept_unsigned_body: start a scheme that does not sign the whole body.
    public_url: what the sender posts to, for schemes that sign it.
    own: our own API key and OAuth client ids, for `ignore_own`.
    expect_within: it sends at least this often; when it does not, the alarm `source-silent` is raised.
    options: the keys that only this scheme knows, validated by it at start.
    """

    name: str
    scheme: str
    secrets: Sequence[Secret] = ()
    secret_file: Path | None = None
    tolerance: timedelta | None = None
    tolerance_ahead: timedelta | None = None
    on_unparseable: str = "quarantine"
    accept_unsigned_body: bool = False
    public_url: str = ""
    own: Sequence[str] = ()
    expect_within: timedelta | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold keys and tokens


__all__ = ["KEYLESS", "Secret", "SourceSettings"]
