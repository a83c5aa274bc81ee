"""Post events as their senders would: samples, files and stored bodies, signed now, or wrongly, or as if long ago.

The command `trigger` and the console of `webhooks dev` do it by these functions. Nothing here touches a database.
"""

from __future__ import annotations

import http.client
import json
import secrets
import string
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from webhooks.errors import Malformed, NotFound, SelectionError, WebhooksError
from webhooks.formats import MISSING, JsonPath, did_you_mean, one_line, path_of, span
from webhooks.formats import json as jsonio
from webhooks.model import Headers, InboundRequest

if TYPE_CHECKING:
    from webhooks.settings import Settings
    from webhooks.sources import Source

#: Longest wait for an answer.
TIMEOUT_SECONDS = 10.0
_LETTERS = string.ascii_letters + string.digits
#: How a key begins that is the digest of an event's bytes.
_DIGEST = "sha256:"
#: A part of an id that is shorter may stand anywhere in a body.
_SHORTEST = 6
#: A post whose number is not said has one of so many.
_NUMBERS = 1000


class Routes(Protocol):
    """What says who gets an event: `routing.Registry`."""

    def route(self, source: str, type: str) -> Sequence[object]:
        """The handlers of an event."""


class NoAnswer(WebhooksError):
    """Nothing answered a post."""


@dataclass(frozen=True, slots=True)
class PostAnswer:
    """What the server answered to one post. body: decoded, or None where it is not JSON."""

    status: int
    body: Any
    text: str


# -- what to send ----------------------------------------------------------------------------------------------


def choose(what: str, source: Source) -> tuple[bytes, Mapping[str, str], bool]:
    """The body and its headers for a TYPE or FILE, and whether it is a sample. Raises `NotFound`."""
    from webhooks.sources.samples import find, samples_of

    path = Path(what)
    if path.is_file():
        return path.read_bytes(), {"content-type": "application/json"}, False
    sample = find(source, what)
    if sample is not None:
        return sample.body, {"content-type": "application/json", **sample.headers}, True
    types = sorted({each.type for each in samples_of(source)})
    if "/" in what or what.endswith(".json"):
        raise NotFound(f"there is no file {what!r}, and no sample of that type")
    others = f", or one of {', '.join(types)}" if types else ""
    raise NotFound(
        f"no sample of type {what!r} for source {source.name!r}{did_you_mean(what, types)}; give a file with a body{others}"
    )


def suggestion(registry: Routes, sources: Mapping[str, Source]) -> str | None:
    """A command that posts a sample which a handler here gets; None where no sample is for one.

    The first of its source's samples, of the first source that has one.
    """
    from webhooks.sources.samples import samples

    for name, source in sources.items():
        for sample in samples(source.settings.scheme):
            if registry.route(name, sample.type):
                return f"webhooks trigger {sample.type}" + (f" --source {name}" if len(sources) > 1 else "")
    return None


def freshen(body: bytes, scheme: str, now: datetime, label: str = "") -> bytes:
    """A sample as a new event of now: another id, other dates; so that it is no duplicate. Those of declared sources stay.

    label: of the key that signs it; where that is the subscription's, the event is one of it.
    """
    if scheme != "close":
        return body
    try:
        value = jsonio.load(body)
        event = value["event"]
        event["id"] = "ev_" + "".join(secrets.choice(_LETTERS) for _ in range(22))
        event["date_created"] = event["date_updated"] = now.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "000"
    except (ValueError, KeyError, TypeError):
        return body
    if label.startswith("whsub_"):
        value["subscription_id"] = label
    return jsonio.dump(value)


def renewed(
    body: bytes, headers: Mapping[str, str], source: Source, at: datetime, number: int = 0, label: str = ""
) -> tuple[bytes, Mapping[str, str]]:
    """A sample as another event of that instant: with ids in the shape of the first ones, and other bytes where a digest is the id.

    Some have an id of their own already.

    number: of the post, if there are several; so many blanks follow JSON (in a form as well), and stand at the end of items
        without an id; another form has it as a field. 0: one at random.
    label: see `freshen`.
    """
    if source.settings.scheme == "close":
        return freshen(body, source.settings.scheme, at, label), headers
    number = number or 1 + secrets.randbelow(_NUMBERS)
    prepared = source.prepare(body, at)
    try:
        events = source.parse(InboundRequest(Headers({**headers, **source.sign(prepared, at)}), prepared))
    except Malformed:
        events = ()
    keys = {event.dedup_key for event in events}
    for piece in sorted({piece for key in keys for piece in key.split(":") if len(piece) >= _SHORTEST}):
        new = "".join(_like(letter) for letter in piece)
        body = body.replace(piece.encode(), new.encode())
        headers = {name: value.replace(piece, new) for name, value in headers.items()}
    for item in {event.body for event in events if event.dedup_key.startswith(_DIGEST) and event.body != body}:
        body = body.replace(item, item[:-1] + b" " * number + item[-1:])
    if body.lstrip()[:1] in (b"{", b"["):
        return body + b" " * number, headers
    is_one_field = b"&" not in body and body.startswith(b"payload=")  # JSON in a form, which is read in its place
    return body + (b"+" * number if is_one_field else b"&number=%d" % number), headers


def _like(letter: str) -> str:
    """A random letter or digit in place of one; never a zero, which may stand first in a number."""
    if letter in string.digits:
        return secrets.choice(string.digits[1:])
    if letter in "abcdef":
        return secrets.choice("abcdef")
    if letter in string.ascii_lowercase:
        return secrets.choice(string.ascii_lowercase)
    return secrets.choice(string.ascii_uppercase) if letter in string.ascii_uppercase else letter


def apply_sets(body: bytes, sets: Sequence[str]) -> bytes:
    """The body with values replaced: `event.data.direction=outgoing`. A value is JSON if it can be, else text.

    A path that begins with a member of the inner `event` may leave `event.` out. Raises `SelectionError`.
    """
    return replace_values(body, read_sets(sets), "--set")


def read_sets(sets: Sequence[str]) -> list[tuple[str, Any, str]]:
    """(path, value, what was written) of each `path=value`; a value is JSON if it can be, else text. Raises `SelectionError`."""
    values: list[tuple[str, Any, str]] = []
    for text in sets:
        path, equals, raw = text.partition("=")
        if not equals or not path:
            raise SelectionError(
                f"--set {text[:80]!r} is not path=value, such as event.data.direction=outgoing", text, len(path)
            )
        try:
            values.append((path, json.loads(raw), text))
        except ValueError:
            values.append((path, raw, text))
    return values


def replace_values(body: bytes, values: Sequence[tuple[str, Any, str]], called: str) -> bytes:
    """The body with values replaced.

    values: (path, new value, the text that said so, which begins with the path).
    called: what says so, for messages: "--set".

    Raises `SelectionError`.
    """
    if not values:
        return body
    try:
        value = jsonio.load(body)
    except ValueError as error:
        raise SelectionError(f"{called} needs a JSON body; this one is none: {error}") from error
    for path, new, text in values:
        _replace(value, path, new, text, called)
    return jsonio.dump(value)


def _replace(value: Any, path: str, new: Any, text: str, called: str) -> None:
    """Replace what is at a path, or add a key to an object that is there. Raises `SelectionError` at the wrong step."""
    steps = path.split(".")
    if isinstance(value, dict) and steps[0] not in value and isinstance(value.get("event"), dict):
        value = value["event"]
    found = path_of(path).place(value)
    if found is not None:
        found[0][found[1]] = new
        return
    number, holder = 0, value
    while number < len(steps) - 1 and (inner := JsonPath(steps[: number + 1]).look_up(value)) is not MISSING:
        number, holder = number + 1, inner
    step, position = steps[number], sum(len(step) + 1 for step in steps[:number])
    if isinstance(holder, list):
        raise SelectionError(f"{called}: {step!r} is no place in a list of {len(holder)}", text, position)
    if not isinstance(holder, dict):
        raise SelectionError(f"{called}: nothing is inside {steps[number - 1]!r}", text, position)
    if number < len(steps) - 1:
        known = [str(key) for key in holder]
        raise SelectionError(
            f"{called}: there is no {step!r} here{did_you_mean(step, known)}; there are: {', '.join(known)}",
            text,
            position,
        )
    holder[step] = new


def break_signature(headers: Mapping[str, str], source: Source) -> dict[str, str]:
    """The headers with the last character of every signature changed."""
    names = {name.lower() for name in source.sensitive_headers}
    return {
        name: value[:-1] + ("0" if value[-1:] != "0" else "1") if name.lower() in names else value
        for name, value in headers.items()
    }


# -- sending -----------------------------------------------------------------------------------------------------


def complete_url(to: str, settings: Settings, source: str) -> str:
    """An address given without a path, with that of `source` in this directory; any other as it stands."""
    try:
        parts = urllib.parse.urlsplit(to)
    except ValueError:
        return to  # `post` says what is wrong with it
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/") or parts.query:
        return to
    return f"{parts.scheme}://{parts.netloc}{settings.url_prefix}/{source}"


def explain_missing(url: str, settings: Settings, source: str) -> str:
    """What to say when a server answered 404."""
    parts = urllib.parse.urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    usual = f"{settings.url_prefix}/{source}"
    found = f"nothing takes posts at {parts.path or '/'} of {origin}"
    if parts.path != usual:
        return f"{found}; a source's path here is {usual}: --to {origin}{usual}"
    return (
        f"{found}: that server has no source {source!r}, or another url_prefix; `webhooks sources` beside it "
        f"lists its paths: --to {origin}/PATH"
    )


def explain_refused(
    answer: PostAnswer, url: str, source: Source, age: timedelta, *, bad_signature: bool = False
) -> str:
    """What to say when a server answered 401. age: how long ago it was signed."""
    if bad_signature:
        return "refused, as it should be: the signature is wrong"
    if source.tolerance is not None and age > source.tolerance:
        return (
            f"refused, as it should be: it is signed as if sent {span(age)} ago, and a signature of source "
            f"{source.name!r} is good for {span(source.tolerance)}"
        )
    parts = urllib.parse.urlsplit(url)
    request_id = answer.body.get("request_id") if isinstance(answer.body, dict) else None
    explain = f"webhooks explain {one_line(request_id, 40)}" if isinstance(request_id, str) else "webhooks explain"
    return (
        f"refused: the server at {parts.scheme}://{parts.netloc} has another secret for source {source.name!r} than this "
        f"command, which took that of the settings and environment here; see the server's log, or where it runs: {explain}"
    )


def post(url: str, body: bytes, headers: Mapping[str, str]) -> PostAnswer:
    """Post once, following no redirect. Raises `NoAnswer` when there is no answer."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SelectionError(f"--to {url[:100]!r} is no address such as http://127.0.0.1:8000/webhooks/close", url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)
    except (ValueError, http.client.InvalidURL) as error:
        raise SelectionError(f"--to {url[:100]!r}: {error}", url) from error
    try:
        connection.request(
            "POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, dict(headers)
        )
        response = connection.getresponse()
        raw = response.read(1_000_000)
    except ConnectionRefusedError as error:
        raise NoAnswer(
            f"nothing listens at {parts.scheme}://{parts.netloc}; start a server first: webhooks dev"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(
            f"no answer from {parts.scheme}://{parts.netloc}: {one_line(str(error)) or type(error).__name__}"
        ) from error
    finally:
        connection.close()
    try:
        decoded = jsonio.load(raw)
    except ValueError:
        decoded = None
    return PostAnswer(response.status, decoded, raw.decode("utf-8", "backslashreplace"))


def send(
    source: Source,
    body: bytes,
    headers: Mapping[str, str],
    url: str,
    signed_at: datetime,
    *,
    bad_signature: bool = False,
) -> PostAnswer:
    """Sign as the sender would, and post."""
    prepared = source.prepare(body, signed_at)
    signature = source.sign(prepared, signed_at)
    if bad_signature:
        signature = break_signature(signature, source)
    return post(url, prepared, {**headers, **signature})


__all__ = [
    "NoAnswer",
    "PostAnswer",
    "apply_sets",
    "break_signature",
    "choose",
    "complete_url",
    "explain_missing",
    "explain_refused",
    "freshen",
    "post",
    "renewed",
    "replace_values",
    "send",
]
