"""Read one value: each reader takes what a file, a variable or Python gave, and raises ValueError that says what was expected.

How quantities are written is said in `formats.quantities`; a number without a unit is seconds, or bytes. Here are the
bounds, and what else settings can be. `shown` is for messages: it never shows what may be a secret.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from webhooks import formats
from webhooks.errors import looks_like_key
from webhooks.formats import json as jsonio

Reader = Callable[[Any], Any]

_LONGEST = timedelta(days=3660)
_TOO_LONG = "expected a duration of at most ten years"


def read_duration(value: Any) -> timedelta:
    """A duration from text such as "30s", "5min" or "1h30m", a number of seconds or a `timedelta`; at most ten years.

    Raises ValueError.
    """
    expected = "expected a duration such as '30s', '5m', '6h' or '2d'"
    if isinstance(value, str):
        try:
            found = formats.read_duration(value, bare=timedelta(seconds=1))
        except formats.Unreadable as error:
            raise ValueError(expected if error.position == 0 else f"{expected}; {error}") from None
    elif isinstance(value, timedelta):
        found = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            found = timedelta(seconds=value)
        except (OverflowError, ValueError):  # too large, infinite, not a number
            raise ValueError(_TOO_LONG) from None
    else:
        raise ValueError(expected)
    if found > _LONGEST:
        raise ValueError(_TOO_LONG)
    return found


def duration(least: str, most: str) -> Reader:
    """A reader of durations within bounds, inclusive, which are written as `read_duration` reads them."""
    shortest, longest = read_duration(least), read_duration(most)

    def read(value: Any) -> timedelta:
        found = read_duration(value)
        if not shortest <= found <= longest:
            raise ValueError(f"expected a duration from {least} to {most}")
        return found

    return read


def read_size(value: Any) -> int:
    """A number of bytes from "1MiB", "500kB" or a whole number. Raises ValueError."""
    if isinstance(value, str):
        with contextlib.suppress(formats.Unreadable):
            return formats.read_size(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("expected a size such as '1MiB' or '500kB', or a number of bytes")


def size(least: int, most: int) -> Reader:
    """A reader of numbers of bytes within bounds, inclusive."""

    def read(value: Any) -> int:
        found = read_size(value)
        if not least <= found <= most:
            raise ValueError(f"expected {least} to {most} bytes, such as '1MiB'")
        return found

    return read


def read_bool(value: Any) -> bool:
    """True or false, also as the texts true, false, 1 and 0. Raises ValueError."""
    try:
        return msgspec.convert(value, bool, strict=False)
    except (msgspec.ValidationError, UnicodeError):
        raise ValueError("expected true or false") from None


def count(least: int, most: int) -> Reader:
    """A reader of whole numbers within bounds, inclusive."""

    def read(value: Any) -> int:
        expected = f"expected a whole number from {least} to {most}"
        try:
            found = msgspec.convert(value, int, strict=False)
        except (msgspec.ValidationError, UnicodeError):
            raise ValueError(expected) from None
        if isinstance(value, bool) or not least <= found <= most:
            raise ValueError(expected)
        return found

    return read


def read_text(value: Any) -> str:
    """Text that is not blank and that every system can hold."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected text")
    if "\0" in value:
        raise ValueError("expected text without NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("expected text in UTF-8") from None
    return value.strip()


def read_token(value: Any) -> str:
    """What a header can carry as a credential, and what cannot be guessed."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{16,256}", value.strip(), re.ASCII):
        raise ValueError(
            "expected 16 to 256 letters, digits and signs without a space; openssl rand -hex 24 makes some"
        )
    return value.strip()


def read_path(value: Any) -> Path:
    """The path of a file that may not be there yet; not the secret itself, by which a file would be made and shown."""
    text = read_text(value)
    if "://" in text or looks_like_key(text.rpartition("/")[2]):
        raise ValueError("expected the path of a file; the secret itself goes into secret")
    return Path(text)


def read_names(value: Any) -> tuple[str, ...]:
    """Names from a list, from a JSON list, or from text with commas between."""
    expected = "expected a list of names, or names with commas between"
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = jsonio.load(text.encode())
            except jsonio.ERRORS:
                raise ValueError(expected) from None
        else:
            value = [part for part in re.split(r"[,\s]+", text) if part]
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(expected)
    return tuple(read_text(name) for name in value)


def read_modules(value: Any) -> tuple[str, ...]:
    """Names of modules as `import` takes them. Raises ValueError with the likely name for a path of a file."""
    names = read_names(value)
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            fixed = name.removesuffix(".py").replace("/", ".").replace("-", "_").strip(".")
            example = fixed if re.fullmatch(r"[a-z0-9_.]{1,60}", fixed) and name.endswith(".py") else "my_app.handlers"
            raise ValueError(f"expected modules as they are imported, such as {example!r}")
    return names


def read_queue_names(value: Any) -> tuple[str, ...]:
    """Names of queues, as `read_names` reads names. Raises ValueError."""
    return tuple(formats.read_queue(name) for name in read_names(value))


def read_queue_table(value: Any) -> dict[str, str]:
    """{pattern of handlers' names: queue} in the order in which it is written, from a table or JSON of one. Raises ValueError."""
    expected = "expected a table of handlers' names and queues, such as { 'video.*' = 'video' }"
    if isinstance(value, str):
        try:
            value = jsonio.load(value.encode())
        except jsonio.ERRORS:
            raise ValueError(expected) from None
    if not isinstance(value, Mapping):
        raise ValueError(expected)
    if any(isinstance(each, Mapping) for each in value.values()):
        raise ValueError(f"{expected}; a name with dots has to stand in quotes")
    return {formats.read_handler_pattern(pattern): formats.read_queue(queue) for pattern, queue in value.items()}


def one_of(*choices: str) -> Reader:
    """A reader of one word of these, in any case."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value.strip().lower() not in choices:
            raise ValueError(f"expected {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")
        return value.strip().lower()

    return read


def read_prefix(value: Any) -> str:
    """A path of a URL that begins with a slash and does not end with one. Raises ValueError."""
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value, re.ASCII):
        raise ValueError("expected a path such as '/webhooks', without a slash at its end")
    return value


def read_public_url(value: Any) -> str:
    """An absolute http or https address. Raises ValueError."""
    text = read_text(value)
    if not re.match(r"https?://[^/?#]", text):
        raise ValueError("expected the address that the sender calls, such as 'https://example.com/webhooks/name'")
    return text


def read_database_url(value: Any) -> str:
    """The URL with the driver that we use. What it says beyond its scheme is checked when it is opened."""
    expected = "expected sqlite:///webhooks.db or postgresql://user:password@host/name"
    if not isinstance(value, str):
        raise ValueError(expected)
    text = read_text(value)
    scheme, separator, rest = text.partition("://")
    if scheme in ("postgres", "postgresql"):
        scheme = "postgresql+psycopg"  # SQLAlchemy refuses the first; the second means another driver in version 2.0
    if not separator or scheme not in ("sqlite", "postgresql+psycopg"):
        raise ValueError(expected)
    return f"{scheme}://{rest}"


def read_broker_url(value: Any) -> str:
    """The URL of a message broker, as Celery takes it. Raises ValueError."""
    text = read_text(value)
    if not re.match(r"[a-z][a-z0-9+.-]*://", text):
        raise ValueError("expected a URL such as amqp://user:password@host// or redis://host:6379/0")
    return text


def read_schema(value: Any) -> str:
    """The name of a schema, as it needs no quotes."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value, re.ASCII):
        raise ValueError("expected a schema's name of a-z, 0-9 and _, at most 63 of them")
    return value


def hide_password(url: str) -> str:
    """A database URL as it may be shown; rather hides too much than too little."""
    shown = re.sub(r"://([^:/@]*):.*@", r"://\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", shown, flags=re.IGNORECASE)


# -- shown in messages -----------------------------------------------------------------------------------

#: Text that is shown as it was given: a number with its unit, one short word, a header or a template. All else may be a secret.
_HARMLESS = re.compile(
    r"[+-]?[0-9][0-9._]{0,11} ?[A-Za-z]{0,3}|(?:[a-z]{1,12} )?[a-z]{0,12}|[a-z]{1,4}[0-9]{1,3}|[A-Z]{1,8}|@[a-z0-9-]{1,40}|[a-z0-9_.@:?=, -]{0,20}\{[{}a-z0-9_.@:?=, -]{0,60}"
)
_PATH_CHARACTERS = re.compile(r"[A-Za-z0-9_./~-]{1,200}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}\.[a-z][a-z0-9]{0,5}|[a-z0-9_.-]{1,30}")


def shown(value: Any) -> str:
    """A value in a message, wherever it was given: itself when it is harmless by its shape, else only that shape.

    People put a key, or an address with its password, in the place of any other setting.
    """
    if isinstance(value, str):
        if _HARMLESS.fullmatch(value):
            return repr(value)
        return f"text of {len(value)} characters"
    if isinstance(value, bool | float | timedelta | None) or (isinstance(value, int) and abs(value) < 10**12):
        return repr(value)
    if isinstance(value, list | tuple | dict):
        return repr(value) if not value else f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"


def shown_path(path: Path | str) -> str:
    """A file's name in a message, if it is one by its looks; else only that there is something else in its place."""
    text = str(path)
    name = text.rpartition("/")[2]
    is_name = (
        _PATH_CHARACTERS.fullmatch(text) is not None
        and _FILE_NAME.fullmatch(name) is not None
        and not looks_like_key(name)
        and ("/" not in text or Path(text).parent.is_dir())
    )
    return repr(text) if is_name else f"(text of {len(text)} characters; it must be a path, not the value itself)"
