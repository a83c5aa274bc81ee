"""The language in which a sender is described: one `Scheme` is one row of the table in `schemes`.

Where a value is: `@x-github-event` is a header, `data.object.id` a path into the body, `part:t=` the part of the
signature header that begins with `t=`. Templates put such places in braces: the signed text `v0:{timestamp}:{body}`,
the event type `{type}.{action}`. In the signed text `{timestamp}`, `{id}`, `{body}`, `{url}`, `{method}` and `{form}`
have their own meaning (`{form}`: every form field, sorted, name and value joined); anything else is a field of the
body, with `?` behind it when it may be missing.

Verifying: the header is cut at `split`, and a part is right when it is `prefix` + the encoded MAC, byte for byte.

`Scheme.problems` says everything that is wrong with a row; the same check serves our rows (a test) and those that
users write in `webhooks.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any

from webhooks.formats import did_you_mean
from webhooks.settings import shown
from webhooks.sources.signing import ENCODERS

MACS = {"hmac-sha256": "sha256", "hmac-sha1": "sha1", "hmac-sha512": "sha512"}
PUBLIC_KEY_ALGORITHMS = ("ed25519", "ecdsa-sha256")
ALGORITHMS = (*MACS, *PUBLIC_KEY_ALGORITHMS, "token", "basic")
SECRET_ENCODINGS = ("text", "hex", "base64")
TIMESTAMP_FORMATS = ("seconds", "milliseconds", "iso")
BODY_FORMATS = ("json", "form", "json-or-form")
DEDUP_KEYS = ("id", "body", "both")
#: Names in a signed text that are not fields of the body.
RESERVED = frozenset(("timestamp", "id", "body", "url", "method", "form"))

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^`|~-]+")
_PATH = re.compile(r"[^\s{}.@:?]+(?:\.[^\s{}.@:?]+)*")
_PLACE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Scheme:
    """How one kind of sender signs and what its events look like; see the module for the notation.

    Verifying. algorithm: of `ALGORITHMS`. signature: places that carry one; any that matches will do. require:
    headers that must have exactly this value. secret_encoding: how the key is written, and secret_prefix what may
    stand before it. public_key_prefix: when not empty, secrets that begin with `whpk_` are Ed25519 keys whose parts
    begin with it.

    Reading. items: the path of the list whose elements are events ("." for the body itself), unwrap: the key inside
    each element. id, type, occurred_at, object_id: templates, the first whose places all exist counts; no id means
    the digest of the body. dotted: characters that become dots in a type. data, previous: paths for handlers.
    """

    name: str
    title: str = ""
    documentation: str = ""
    algorithm: str = "hmac-sha256"
    signature: tuple[str, ...] = ()
    split: str = ""
    prefix: str = ""
    encoding: str = "hex"
    signed: str = "{body}"
    secret_encoding: str = "text"
    secret_prefix: str = ""
    min_secret_bytes: int = 16
    public_key_prefix: str = ""
    timestamp: str = ""
    timestamp_format: str = "seconds"
    tolerance: timedelta = timedelta(seconds=300)
    tolerance_ahead: timedelta = timedelta(seconds=300)
    require: Mapping[str, str] = field(default_factory=dict)
    body: str = "json"
    items: str = ""
    unwrap: str = ""
    id: tuple[str, ...] = ()
    type: tuple[str, ...] = ("{type}",)
    dotted: str = ""
    occurred_at: tuple[str, ...] = ()
    object_id: tuple[str, ...] = ()
    data: str = ""
    previous: str = ""
    handshake: str = ""
    success: tuple[str, str] | None = None  #: content type and body of a 2xx, where the sender's protocol fixes it

    @property
    def is_in_body(self) -> bool:
        """Whether the signature is a field of the body, which is then decoded before it is verified."""
        return any(not place.startswith("@") for place in self.signature)

    @property
    def signs_whole_body(self) -> bool:
        """`{form}` covers a body because verifying refuses one that is not the form that it signs."""
        return "{body}" in self.signed or "{form}" in self.signed

    @property
    def needs_url(self) -> bool:
        """Whether the address is signed, so that it has to be configured."""
        return "{url}" in self.signed

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """The headers, lower case, that carry a signature."""
        return tuple(place[1:] for place in self.signature if place.startswith("@"))

    @property
    def signs_id(self) -> bool:
        """Whether everything that may become the id is covered by the signature."""
        return all(
            not place.startswith("@") or "{id}" in self.signed for text in self.id for place in places(text)
        ) and (self.signs_whole_body or not self.id)

    def problems(self) -> list[str]:
        """Everything that is wrong with this row, one sentence each; empty when it can be used."""
        found: list[str] = []
        for name, allowed in (
            ("algorithm", ALGORITHMS),
            ("encoding", tuple(ENCODERS)),
            ("secret_encoding", SECRET_ENCODINGS),
            ("timestamp_format", TIMESTAMP_FORMATS),
            ("body", BODY_FORMATS),
        ):
            if getattr(self, name) not in allowed:
                found.append(f"{name} is {shown(getattr(self, name))}; it must be one of {', '.join(allowed)}")
        if not self.signature:
            found.append("signature is missing; name the header that carries it, such as '@x-acme-signature'")
        for place in self.signature:
            found += _place_problems("signature", place)
        if len({place.startswith("@") for place in self.signature}) > 1:
            found.append("signature names headers and fields of the body; it must be one kind")
        found += self._timestamp_problems()
        found += self._signed_problems()
        for name in ("id", "type", "occurred_at", "object_id"):
            for text in getattr(self, name):
                found += _template_problems(name, text)
        if not self.type:
            found.append("type is missing; say where the event's type stands, or give a fixed one such as 'event'")
        for name in ("data", "previous", "unwrap"):
            if getattr(self, name) and not _PATH.fullmatch(getattr(self, name)):
                found.append(f"{name} is {shown(getattr(self, name))}, which is not a path such as 'data.object'")
        if self.items not in ("", ".") and not _PATH.fullmatch(self.items):
            found.append(f"items is {shown(self.items)}; it must be '.' or a path such as 'events'")
        for header in self.require:
            if not _HEADER.fullmatch(header):
                found.append(f"require names {shown(header)}, which is not a header in lower case")
        if self.min_secret_bytes < 1:
            found.append("min_secret_bytes must be at least 1")
        return found

    def _timestamp_problems(self) -> list[str]:
        if self.timestamp.startswith("part:"):
            if not self.split or self.timestamp == "part:":
                return [f"timestamp is {shown(self.timestamp)}, which needs split and a beginning, such as 'part:t='"]
            return []
        return _place_problems("timestamp", self.timestamp) if self.timestamp else []

    def _signed_problems(self) -> list[str]:
        if self.algorithm in ("token", "basic"):
            return []
        found = _template_problems("signed", self.signed)
        names = places(self.signed)
        if not names:
            found.append(f"signed is {shown(self.signed)}, which holds nothing of the request; put in '{{body}}'")
        if "timestamp" in names and not self.timestamp:
            found.append("signed holds {timestamp}, but timestamp does not say where that stands")
        if self.timestamp.startswith(("@", "part:")) and "timestamp" not in names:
            found.append(
                "timestamp names a header that is not signed: put {timestamp} into signed, or leave timestamp out"
            )
        if "id" in names and not (len(self.id) == 1 and re.fullmatch(r"\{@[^{}]+\}", self.id[0])):
            found.append("signed holds {id}, so id must be exactly one header, such as '{@x-acme-id}'")
        if "body" in names and self.is_in_body:
            found.append("signed holds {body}, but the signature stands in the body itself")
        if self.signed.replace("{", "").startswith(("timestamp}body", "id}body")) and "id}" in self.signed:
            found.append("signed joins {id} and {body} with nothing between, so one signature fits several requests")
        fixed = [name for name in names if name not in RESERVED]
        if fixed and not self.is_in_body:
            found.append(f"signed holds {{{fixed[0]}}}, a field of the body, but the signature stands in a header")
        return found


def places(template: str) -> list[str]:
    """What stands in braces, without the `?`."""
    return [name.removesuffix("?") for name in _PLACE.findall(template)]


def pieces(template: str) -> list[tuple[str, str, bool]]:
    """A template cut up: [(literal text before, place or "", whether it may be missing)]."""
    found = []
    end = 0
    for match in _PLACE.finditer(template):
        name = match.group(1)
        found.append((template[end : match.start()], name.removesuffix("?"), name.endswith("?")))
        end = match.end()
    if template[end:]:
        found.append((template[end:], "", False))
    return found


#: Options by which a source may read events otherwise than its row says.
READING_OPTIONS = frozenset(("items", "unwrap", "id", "type", "dotted", "occurred_at", "object_id", "data", "previous"))
_TUPLES = frozenset(("signature", "id", "type", "occurred_at", "object_id"))
_NOT_SETTABLE = frozenset(("name", "title", "documentation", "tolerance", "tolerance_ahead", "handshake", "success"))
#: Options by which a source of its own describes itself.
ROW_OPTIONS = frozenset(each.name for each in fields(Scheme)) - _NOT_SETTABLE


def with_options(row: Scheme, options: Mapping[str, Any], allowed: frozenset[str]) -> tuple[Scheme, list[str]]:
    """The row with a source's options laid over it, and everything that is wrong with them."""
    problems: list[str] = []
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if name not in allowed:
            hint = did_you_mean(name, sorted(allowed)) or f"; it knows {', '.join(sorted(allowed))}"
            problems.append(f"unknown option {name!r} for scheme {row.name!r}{hint}")
        elif name in _TUPLES:
            texts = (value,) if isinstance(value, str) else value
            if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
                changes[name] = tuple(
                    text.lower() if name == "signature" and text[:1] == "@" else text for text in texts
                )
            else:
                problems.append(f"{name} must be text or a list of texts")
        elif name == "require":
            if isinstance(value, Mapping) and all(isinstance(each, str) for pair in value.items() for each in pair):
                changes[name] = {header.lower(): wanted for header, wanted in value.items()}
            else:
                problems.append("require must be a table of headers and their values, all text")
        elif name == "min_secret_bytes":
            if isinstance(value, int) and not isinstance(value, bool):
                changes[name] = value
            else:
                problems.append("min_secret_bytes must be a whole number")
        elif not isinstance(value, str):
            problems.append(f"{name} must be text")
        else:
            changes[name] = value.lower() if name == "timestamp" and value.startswith("@") else value
    changed = replace(row, **changes)
    return changed, problems + changed.problems()


def _place_problems(name: str, place: str) -> list[str]:
    if place.startswith("@"):
        if _HEADER.fullmatch(place[1:]):
            return []
        return [f"{name} is {shown(place)}; after the @ a header's name in lower case must follow"]
    if _PATH.fullmatch(place):
        return []
    return [f"{name} is {shown(place)}; it must be '@' and a header, or a path into the body such as 'signature.value'"]


def _template_problems(name: str, template: str) -> list[str]:
    if "{" in _PLACE.sub("", template) or "}" in _PLACE.sub("", template):
        return [f"{name} is {shown(template)}, whose braces do not match"]
    found = []
    for place in places(template):
        if place.startswith("@") and name == "signed":
            found.append(f"signed holds {{{place}}}; a header can be signed only as {{timestamp}} or {{id}}")
        else:
            found += _place_problems(name, place)
    return found
