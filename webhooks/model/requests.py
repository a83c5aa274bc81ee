"""What came over HTTP, before it means anything: a request, its headers, and what verifying it yields."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: {key of a WSGI environment: name of the header, or "" for what is none}; senders choose names, so it is bounded
_WSGI_NAMES = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


def _wsgi_name(key: str) -> str:
    """The name of the header that WSGI keeps under `key`, in lower case; "" for what is none."""
    name = key[5:].replace("_", "-").lower() if key.startswith("HTTP_") else ""
    if len(_WSGI_NAMES) < 200:
        _WSGI_NAMES[key] = name
    return name


class Headers:
    """The headers of one request: names in any case, every occurrence kept.

    Values are `bytes`: comparing text from outside in constant time raises on non-ASCII.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] = ()) -> None:
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        values: dict[str, list[bytes]] = {}
        for name, value in items:
            raw = value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            values.setdefault(name.lower(), []).append(raw)
        self._values = values

    @classmethod
    def of_wsgi(cls, environ: Mapping[str, Any]) -> Headers:
        """The headers of a WSGI request, where each name stands once and text is bytes read as latin-1.

        Names with `_` never get there: servers drop them, and WSGI could not tell them from those with `-`. Blanks around a
        value are no part of it, and some servers leave them there. Source: https://www.rfc-editor.org/rfc/rfc9110#section-5.5
        """
        headers = cls.__new__(cls)
        headers._values = {
            name: [value.strip(" \t").encode("latin-1", "replace")]
            for key, value in environ.items()
            if (name := _WSGI_NAMES[key] if key in _WSGI_NAMES else _wsgi_name(key)) and (value or key[:5] == "HTTP_")
        }
        return headers

    @classmethod
    def of_values(cls, values: dict[str, list[bytes]]) -> Headers:
        """Headers that have been read already; takes `values` ({name in lower case: values}) as its own."""
        headers = cls.__new__(cls)
        headers._values = values
        return headers

    def all(self, name: str) -> list[bytes]:
        """Every value sent under `name`, in order; empty when there is none."""
        return self._values.get(name.lower(), [])

    def one(self, name: str) -> bytes | None:
        """The value of `name`, or None when it is missing, empty or present more than once."""
        values = self._values.get(name.lower())
        return values[0] if values is not None and len(values) == 1 and values[0] else None

    def names(self) -> list[str]:
        """Every name once, in lower case, in the order in which they came."""
        return list(self._values)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def items(self) -> Iterator[tuple[str, bytes]]:
        """(name in lower case, value) of every occurrence."""
        for name, values in self._values.items():
            for value in values:
                yield name, value

    def with_one(self, name: str, value: bytes) -> Headers:
        """The same with `value` alone under `name`, in lower case."""
        return Headers.of_values({**self._values, name: [value]})

    def as_text(self, without: Collection[str]) -> dict[str, str]:
        """{name: value} but for the names in `without`; of a name that came twice, the last value."""
        return {name: values[-1].decode("latin-1") for name, values in self._values.items() if name not in without}

    def __repr__(self) -> str:  # values may be signatures
        return f"<Headers {', '.join(self._values)}>"


@dataclass(frozen=True, slots=True)
class InboundRequest:
    """One HTTP request to a source, as received.

    headers: all of them.
    body: the raw bytes, already limited in size.
    query: raw query string.
    url: the source's *configured* public URL (never made from Host or Forwarded), or "" when none is configured.
    id: ours, told to the caller as `request_id`.
    """

    headers: Headers
    body: bytes = b""
    method: str = "POST"
    query: bytes = b""
    url: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that was right. label: which of the source's secrets matched."""

    label: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """An answer that the sender's protocol fixes, sent as it stands. headers: beside the content type."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
