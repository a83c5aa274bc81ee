"""What is wrong with a row of the table, ours or one that `webhooks.toml` describes: one sentence each.

Not here: options that are no text or unknown (`options`), settings around the row (`source`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from webhooks.settings import shown
from webhooks.sources.declared.claims import JwtRule, rule_problems
from webhooks.sources.declared.places import HEADER, PATH, has_loose_braces, places, why_no_place
from webhooks.sources.declared.scheme import (
    ALGORITHMS,
    BODY_FORMATS,
    CHARSETS,
    DIGESTS,
    FIELD_ENCODINGS,
    JWT,
    RESERVED,
    SECRET_ENCODINGS,
    TIMESTAMP_FORMATS,
    TOKENS,
    URL_FORMS,
    Scheme,
)
from webhooks.sources.signing import ENCODERS

_PART_NUMBER = re.compile(r"part:[0-9]")


def problems(row: Scheme) -> list[str]:
    """Everything that is wrong with this row; empty when it can be used."""
    found = [*_choices(row), *_signature(row), *_timestamp(row), *_signed(row), *_reading(row)]
    if row.algorithm == JWT:
        found += rule_problems(row.jwt)
    elif row.jwt != JwtRule():
        found.append("jwt says what a token must be; set algorithm = 'jwt', or leave it out")
    for path in row.expect:
        if not PATH.fullmatch(path):
            found.append(f"expect names {shown(path)}, which is not a path such as 'TopicArn'")
    for header in row.require:
        if not HEADER.fullmatch(header):
            found.append(f"require names {shown(header)}, which is not a header in lower case")
    if row.min_secret_bytes < 1:
        found.append("min_secret_bytes must be at least 1")
    return found


def _choices(row: Scheme) -> Iterator[str]:
    for name, allowed in (
        ("algorithm", ALGORITHMS),
        ("encoding", tuple(ENCODERS)),
        ("secret_encoding", SECRET_ENCODINGS),
        ("timestamp_format", TIMESTAMP_FORMATS),
        ("body", BODY_FORMATS),
        ("charset", CHARSETS),
    ):
        if getattr(row, name) not in allowed:
            yield f"{name} is {shown(getattr(row, name))}; it must be one of {', '.join(allowed)}"

    for form in row.url_forms:
        if form not in URL_FORMS:
            yield f"url_forms names {shown(form)}; it must be of {', '.join(URL_FORMS)}"


def _signature(row: Scheme) -> Iterator[str]:
    if not row.signature:
        yield "signature is missing; name the header that carries it, such as '@x-acme-signature'"
    for place in row.signature:
        yield from _place("signature", place)
        if place.startswith("key:"):
            yield f"signature is {shown(place)}; a key's name is no signature"
    if len({place.startswith(("@", "query:")) for place in row.signature}) > 1:
        yield "signature names headers and fields of the body; it must be one kind"
    if row.is_in_body and row.body == "raw":
        yield "signature is a field of the body, but body = 'raw' has none; name a header, or say how the body is written"
    if row.is_in_body and (len(row.items) > 1 or row.around or any("*" in items for items in row.items)):
        yield "signature stands in each item, so items must be one list, without '*' and around"


def _timestamp(row: Scheme) -> Iterator[str]:
    if not row.timestamp.startswith("part:"):
        if row.timestamp:
            yield from _place("timestamp", row.timestamp)
        return
    if not row.split or row.timestamp == "part:":
        yield (
            f"timestamp is {shown(row.timestamp)}, which needs split and a beginning, such as 'part:t=', or a position, such "
            "as 'part:0'"
        )


def _signed(row: Scheme) -> Iterator[str]:
    if row.algorithm in (*TOKENS, JWT):
        return
    if has_loose_braces(row.signed):
        yield f"signed is {shown(row.signed)}, whose braces do not match"
        return
    names = places(row.signed)
    for name in names:
        if name not in RESERVED:
            yield from _place("signed", name)
    if not set(names) - {"secret"}:
        yield f"signed is {shown(row.signed)}, which holds nothing of the request; put in '{{body}}'"
    if "timestamp" in names and not row.timestamp:
        yield "signed holds {timestamp}, but timestamp does not say where that stands"
    if row.timestamp.startswith(("@", "part:")) and not {"timestamp", row.timestamp} & set(names):
        yield "timestamp names a header that is not signed: put {timestamp} into signed, or leave timestamp out"
    if "id" in names and not (len(row.id) == 1 and re.fullmatch(r"\{@[^{}]+\}", row.id[0])):
        yield "signed holds {id}, so id must be exactly one header, such as '{@x-acme-id}'"
    if "body" in names and row.is_in_body:
        yield "signed holds {body}, but the signature stands in the body itself"
    if row.signed.replace("{", "").startswith(("timestamp}body", "id}body")) and "id}" in row.signed:
        yield "signed joins {id} and {body} with nothing between, so one signature fits several requests"
    fixed = [name for name in names if name not in RESERVED and not name.startswith("@") and name not in row.needs]
    if fixed and not row.is_in_body:
        yield f"signed holds {{{fixed[0]}}}, a field of the body, but the signature stands in a header"
    yield from _secret(row, names)


def _secret(row: Scheme, names: list[str]) -> Iterator[str]:
    if row.algorithm in DIGESTS and "secret" not in names:
        yield (
            f"algorithm is {row.algorithm!r}, a digest without a key, so signed must hold {{secret}}; for an HMAC set "
            f"algorithm = 'hmac-{row.algorithm}'"
        )
    if row.algorithm not in DIGESTS and "secret" in names:
        yield "signed holds {secret}, which is for plain digests such as algorithm = 'sha256'"


def _reading(row: Scheme) -> Iterator[str]:
    for name in ("id", "type", "occurred_at", "object_id"):
        for text in getattr(row, name):
            yield from _template(name, text)
    if not row.type:
        yield "type is missing; say where the event's type stands, or give a fixed one such as 'event'"
    for name in ("data", "previous", "unwrap"):
        if getattr(row, name) and not PATH.fullmatch(getattr(row, name)):
            yield f"{name} is {shown(getattr(row, name))}, which is not a path such as 'data.object'"
    for path in row.leave_out:
        if not PATH.fullmatch(path):
            yield f"leave_out names {shown(path)}, which is not a path such as 'attemptNumber'"
    for items in row.items:
        if items != "." and not PATH.fullmatch(items):
            yield f"items is {shown(items)}; it must be '.' or a path such as 'events' or 'entry.*.changes'"
    for path, encoding in row.decode.items():
        if not PATH.fullmatch(path) or encoding not in FIELD_ENCODINGS:
            yield (
                f"decode names {shown(path)} as {shown(encoding)}; it must be a path and one of "
                f"{', '.join(FIELD_ENCODINGS)}, such as {{ \"message.data\" = 'base64-json' }}"
            )
    yield from _together(row)


def _together(row: Scheme) -> Iterator[str]:
    """Options that do not go together."""
    fields = [
        place
        for texts in (row.id, row.type, row.occurred_at, row.object_id)
        for text in texts
        for place in places(text)
        if not place.startswith(("@", "query:"))
    ]
    if row.body == "raw" and (row.items or row.decode or fields):
        yield (
            "body = 'raw' takes the bytes as the event, so nothing in them can be named: type and id are fixed, headers, or "
            f"parameters (query:…){f', not {{{fields[0]}}}' if fields else ''}"
        )
    if row.around and not row.items:
        yield "around says what each item keeps, and there are no items; name their list, or leave around out"
    if row.around and (row.unwrap or row.decode or row.body not in ("json", "json-or-form")):
        yield "around keeps the whole JSON body around each item: leave out unwrap and decode, and body as 'json'"


def _place(name: str, place: str) -> Iterator[str]:
    problem = why_no_place(place)
    if problem is not None:
        yield f"{name} is {shown(place)}; {problem}"


def _template(name: str, template: str) -> Iterator[str]:
    if has_loose_braces(template):
        yield f"{name} is {shown(template)}, whose braces do not match"
        return
    for place in places(template):
        yield from _place(name, place)
