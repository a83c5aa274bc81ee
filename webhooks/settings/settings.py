"""The settings: `webhooks.toml`, then the environment, then what the application hands in; checked all at once.

`load_settings` reads the three layers as plain values, later ones winning setting by setting, converts each by its
type, and collects every mistake into one `ConfigurationError`. Each names the setting as its author wrote it, says
what was wrong and what is expected; the value of a secret is never in it.

The surprising facts: names are case-insensitive (names of sources become lower case), `__` nests
(`WEBHOOKS_SOURCES__close__SECRET`), an empty environment variable is one that is not set (but an empty secret is a
mistake), secrets may come from files (`…_FILE`), and `WEBHOOKS_TEST_*` is left to tests.

Not here: what only one scheme understands (`SourceSettings.options`, checked by the source), the content of a
`secret_file` (`sources.keys`, which reads it again when it changed).
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from webhooks.errors import ConfigurationError, looks_like_key
from webhooks.formats import json as jsonio

PREFIX = "WEBHOOKS_"
FILE = "webhooks.toml"
DEFAULT_DATABASE = "sqlite:///webhooks.db"
#: Dedup keys outlive payloads by at least this long, so that a late copy is still known as a duplicate.
DEDUP_MARGIN = timedelta(days=5)
#: Environment variables that are no settings: set by our own processes for their children.
RESERVED = frozenset(("embedded", "application"))

_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_SOURCE_NAME_RULE = "a source's name has a-z, 0-9, _ and -, at most 64 of them, and begins with a letter or digit"


class Secret:
    """A secret with the label under which people know it; never shown.

    value: the text as configured. Two secrets are equal when label and value are.
    """

    __slots__ = ("_value", "label")

    def __init__(self, value: str, label: str = "1") -> None:
        self._value = value
        self.label = label

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.label, self._value) == (other.label, other._value)

    def __hash__(self) -> int:
        return hash((self.label, self._value))

    def __repr__(self) -> str:
        return f"Secret(label={self.label!r}, value='***')"

    __str__ = __repr__


@dataclass(frozen=True)
class SourceSettings:
    """What the operator says of one source; the section `[sources.<name>]` of `webhooks.toml`.

    scheme: default the source's name. secrets: from `secret` (text, a list, or a table of label and key).
    secret_file: more of them (text, or JSON of labels and keys), read at start and again when it changes. tolerance,
    tolerance_ahead: how old, and how far ahead of our clock, a signed timestamp may be; None means the scheme's own.
    on_unparseable: "quarantine" or "reject". accept_unsigned_body: start a scheme that does not sign the whole body.
    public_url: what the sender posts to, for schemes that sign it. own: our own API key and OAuth client ids, for
    `ignore_own`. options: the keys that only this scheme knows, validated by it at start.
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
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold keys and tokens


# -- reading one value: each raises ValueError that says what was expected ------------------------------------

Reader = Callable[[Any], Any]

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(us|ms|s|m|min|h|d|w)?", re.ASCII)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d{1,15})\s*(b|kb|kib|mb|mib|gb|gib)?", re.ASCII | re.IGNORECASE)
_BYTES = {"b": 1, "kb": 1000, "kib": 1024, "mb": 10**6, "mib": 2**20, "gb": 10**9, "gib": 2**30}
_LONGEST = timedelta(days=3660)


def read_duration(value: Any) -> timedelta:
    """A duration from "30s", "5m", "6h", "2d", a number of seconds or a `timedelta`."""
    expected = "expected a duration such as '30s', '5m', '6h' or '2d'"
    if isinstance(value, timedelta):
        found = value
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        found = _seconds(float(match[1]) * _SECONDS[match[2] or "s"])
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = _seconds(value)
    else:
        raise ValueError(expected)
    if found > _LONGEST:
        raise ValueError("expected a duration of at most ten years")
    return found


def _seconds(number: float) -> timedelta:
    try:
        return timedelta(seconds=number)
    except (OverflowError, ValueError):  # too large, infinite, not a number
        raise ValueError("expected a duration of at most ten years") from None


def show_duration(duration: timedelta) -> str:
    """As `read_duration` reads it: `timedelta(hours=6)` is "6h"."""
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60)):
        if duration and duration % timedelta(seconds=seconds) == timedelta(0):
            return f"{duration // timedelta(seconds=seconds)}{unit}"
    return f"{duration.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


def duration(least: str, most: str) -> Reader:
    shortest, longest = read_duration(least), read_duration(most)

    def read(value: Any) -> timedelta:
        found = read_duration(value)
        if not shortest <= found <= longest:
            raise ValueError(f"expected a duration from {least} to {most}")
        return found

    return read


def read_size(value: Any) -> int:
    """A number of bytes from "1MiB", "500kB" or a whole number."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return int(match[1]) * _BYTES[(match[2] or "b").lower()]
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("expected a size such as '1MiB' or '500kB', or a number of bytes")


def size(least: int, most: int) -> Reader:
    def read(value: Any) -> int:
        found = read_size(value)
        if not least <= found <= most:
            raise ValueError(f"expected {least} to {most} bytes, such as '1MiB'")
        return found

    return read


def read_bool(value: Any) -> bool:
    try:
        return msgspec.convert(value, bool, strict=False)
    except (msgspec.ValidationError, UnicodeError):
        raise ValueError("expected true or false") from None


def count(least: int, most: int) -> Reader:
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
    names = read_names(value)
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            fixed = name.removesuffix(".py").replace("/", ".").replace("-", "_").strip(".")
            example = fixed if re.fullmatch(r"[a-z0-9_.]{1,60}", fixed) and name.endswith(".py") else "my_app.handlers"
            raise ValueError(f"expected modules as they are imported, such as {example!r}")
    return names


def one_of(*choices: str) -> Reader:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value.strip().lower() not in choices:
            raise ValueError(f"expected {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}")
        return value.strip().lower()

    return read


def read_prefix(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value, re.ASCII):
        raise ValueError("expected a path such as '/webhooks', without a slash at its end")
    return value


def read_public_url(value: Any) -> str:
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


def hide_password(url: str) -> str:
    """A database URL as it may be shown; rather hides too much than too little."""
    shown = re.sub(r"://([^:/@]*):.*@", r"://\1:***@", url, flags=re.DOTALL)
    return re.sub(r"([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", shown, flags=re.IGNORECASE)


# -- the settings ------------------------------------------------------------------------------------------


def _about(text: str, read: Reader | None, *, secret: bool = False) -> Mapping[str, Any]:
    """What is known of a setting: its line in the documentation, how it is read, whether its value is never shown."""
    return {"text": text, "read": read, "secret": secret}


@dataclass(frozen=True, repr=False)
class Settings:
    """Every setting with its default; `SETTINGS` holds the same for documentation.

    Made directly only in tests: `load_settings` is what checks.
    """

    # where things are
    database_url: str = field(
        default=DEFAULT_DATABASE,
        metadata=_about(
            "where everything is kept: sqlite:///… or postgresql://…; falls back to DATABASE_URL",
            read_database_url,
            secret=True,
        ),
    )
    sources: Mapping[str, SourceSettings] = field(
        default_factory=dict, metadata=_about("the senders, a section each: [sources.close]", None)
    )
    handlers: tuple[str, ...] = field(
        default=(), metadata=_about("modules with handlers, besides those in handlers_dir", read_modules)
    )
    handlers_dir: str = field(
        default="handlers", metadata=_about("directory whose modules are loaded as handlers", read_text)
    )

    # taking events in
    url_prefix: str = field(
        default="/webhooks", metadata=_about("path below which every source has its route", read_prefix)
    )
    max_body: int = field(
        default=2**20, metadata=_about("largest body that is taken; a larger one gets 413", size(1, 2**30))
    )
    incomplete_bodies: int = field(
        default=64 * 2**20,
        metadata=_about(
            "bytes that one process keeps of requests that are still incomplete; the slowest give way (gevent)",
            size(2**20, 2**40),
        ),
    )
    waiting_room: int = field(
        default=512,
        metadata=_about("requests of one process that may wait for a commit; more get 503", count(1, 100_000)),
    )
    in_flight_per_source: int = field(
        default=256,
        metadata=_about("requests of one source that a process answers at once; more get 503", count(1, 100_000)),
    )
    strict_types: bool = field(
        default=False,
        metadata=_about("whether a pattern that matches no known type stops the start instead of warning", read_bool),
    )
    capture_rejected: bool = field(
        default=False,
        metadata=_about("whether samples of rejected requests keep their bytes, at most 64 kB each", read_bool),
    )
    sample_rejected: timedelta = field(
        default=timedelta(seconds=1),
        metadata=_about(
            "of the requests of a source that are refused for one reason one in this time is kept, for `webhooks explain`; "
            "0 keeps each, as `webhooks dev` does; the latest 500 stay",
            duration("0s", "1d"),
        ),
    )

    # running handlers
    timeout: timedelta = field(
        default=timedelta(seconds=30), metadata=_about("how long one attempt may run", duration("1ms", "7d"))
    )
    max_attempts: int = field(
        default=20, metadata=_about("runs of a delivery, the first included, before it is dead", count(1, 10_000))
    )
    retry_base: timedelta = field(
        default=timedelta(seconds=10),
        metadata=_about("bound of the first wait before a retry; doubles each time", duration("0s", "30d")),
    )
    retry_cap: timedelta = field(
        default=timedelta(hours=6), metadata=_about("longest bound of such a wait", duration("0s", "30d"))
    )
    sqlite_write_limit: timedelta = field(
        default=timedelta(seconds=1),
        metadata=_about(
            "how long a handler may hold SQLite's write lock, from its first write to its end",
            duration("1ms", "2s"),  # ingest waits for the lock at most so long
        ),
    )

    # the worker
    concurrency: int = field(default=8, metadata=_about("handlers that one worker runs at once", count(1, 1000)))
    lease: timedelta = field(
        default=timedelta(seconds=30),
        metadata=_about(
            "how long a claimed delivery stays with a worker that is not heard of", duration("100ms", "1h")
        ),
    )
    heartbeat: timedelta = field(
        default=timedelta(seconds=10), metadata=_about("how often a worker extends its leases", duration("10ms", "1h"))
    )
    grace: timedelta = field(
        default=timedelta(seconds=25),
        metadata=_about("how long a stopping worker waits for its handlers", duration("0s", "1h")),
    )
    poll_interval: timedelta = field(
        default=timedelta(seconds=1),
        metadata=_about("how often an idle worker looks by itself, should a wake-up get lost", duration("10ms", "10m")),
    )
    abandoned_threads: int = field(
        default=0,
        metadata=_about(
            "threads that ran past their time-out before a worker replaces itself; 0: four for each of `concurrency`",
            count(0, 10_000),
        ),
    )

    # keeping
    payload_retention: timedelta = field(
        default=timedelta(days=30),
        metadata=_about("how long events and their deliveries are kept", duration("1m", "3660d")),
    )
    dedup_retention: timedelta = field(
        default=timedelta(days=35),
        metadata=_about("how long a dedup key is kept after it was last seen", duration("1m", "3660d")),
    )

    # the process
    host: str = field(default="127.0.0.1", metadata=_about("address that `webhooks dev` binds", read_text))
    port: int = field(default=8000, metadata=_about("port of `webhooks dev`; falls back to PORT", count(0, 65535)))
    worker_class: str = field(
        default="gevent", metadata=_about("gunicorn's worker class", one_of("gevent", "gthread", "sync"))
    )
    trusted_proxies: int = field(
        default=0,
        metadata=_about("proxies in front whose X-Forwarded-For is believed, for the log only", count(0, 100)),
    )
    log_level: str = field(
        default="info",
        metadata=_about(
            "least severe line that is logged; falls back to LOG_LEVEL", one_of("debug", "info", "warning", "error")
        ),
    )
    log_format: str = field(
        default="console",
        metadata=_about("one line for people or one JSON object; falls back to LOG_FORMAT", one_of("console", "json")),
    )

    #: no database was named: the schema is applied at start
    has_default_database: bool = field(default=True, metadata={"internal": True})

    @property
    def shown_database_url(self) -> str:
        """The database URL without its password."""
        return hide_password(self.database_url)

    def __repr__(self) -> str:
        return f"<Settings database={self.shown_database_url} sources={sorted(self.sources)}>"


#: {setting: environment variable of other tools that means the same}; our own name wins over it.
FALLBACKS = {"database_url": "DATABASE_URL", "port": "PORT", "log_level": "LOG_LEVEL", "log_format": "LOG_FORMAT"}

_FIELDS = {f.name: f for f in dataclasses.fields(Settings) if not f.metadata.get("internal")}


@dataclass(frozen=True, slots=True)
class SettingDoc:
    """One setting for documentation. default: as it would be written in `webhooks.toml`; "" for `sources`."""

    name: str
    variable: str
    default: str
    text: str


def _written(value: Any) -> str:
    if isinstance(value, timedelta):
        return f'"{show_duration(value)}"'
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else f'"{value}"' if isinstance(value, str) else str(value)


#: Every setting, in the order of `Settings`.
SETTINGS = tuple(
    SettingDoc(
        name,
        PREFIX + name.upper() if name != "sources" else f"{PREFIX}SOURCES__<name>__<KEY>",
        "" if name == "sources" else _written(f.default),
        f.metadata["text"],
    )
    for name, f in _FIELDS.items()
)


# -- loading -----------------------------------------------------------------------------------------------

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, and where, in the words of whoever wrote it. is_file: it names a file that has it."""

    raw: Any
    where: str
    is_file: bool = False


class _Problems(list[str]):
    """Every mistake found so far. failed: the settings that could not be read."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: set[str] = set()


def load_settings(
    environ: Mapping[str, str], *, file: Path | str | None = FILE, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read the layers (file, environment, overrides; later ones win) and check everything.

    file: may be missing. overrides: names as in `Settings`, or `WEBHOOKS_…` and `WEBHOOKS` as in `app.config`, whose
    other names (in capitals) are left alone. Raises `ConfigurationError` with every mistake, and nothing else.
    """
    problems = _Problems()
    given: dict[_Path, _Given] = {}
    if file is not None:
        given.update(_one_each(_from_file(Path(file), problems), problems))
    given.update(_from_fallbacks(environ))
    given.update(_one_each(_from_environment(environ, problems), problems))
    given.update(_one_each(_from_overrides(overrides or {}, problems), problems))
    fields = _read_fields(given, problems)
    settings = Settings(**fields)
    problems.extend(_contradictions(settings, problems.failed))
    if problems:
        raise ConfigurationError(problems)
    return settings


def require_sources(settings: Settings) -> None:
    """Raise `ConfigurationError` with the line to add when no source is configured."""
    if not settings.sources:
        raise ConfigurationError(
            "no source is configured, so nothing could be taken in; set WEBHOOKS_SOURCES__close__SECRET to the "
            f'signature key of your Close subscription, or write to {FILE}: [sources.close] and below it secret = "…". '
            "To look around without one: webhooks dev --demo"
        )


def require_dedup_covers(settings: Settings, tolerances: Mapping[str, timedelta]) -> None:
    """Raise `ConfigurationError` when an accepted signature may be older than what dedup remembers.

    tolerances: {source: how old its signatures may be}, the scheme's own where the settings name none.
    """
    problems = [
        f"source {name!r}: signatures are taken for {show_duration(tolerance)}, not shorter than dedup_retention "
        f"{show_duration(settings.dedup_retention)}; an old request sent again would be taken for a new event: "
        f"raise dedup_retention, or set a shorter tolerance in [sources.{name}]"
        for name, tolerance in tolerances.items()
        if tolerance >= settings.dedup_retention
    ]
    if problems:
        raise ConfigurationError(problems)


# -- the layers: (path, value) pairs -------------------------------------------------------------------------

_Layer = Iterable[tuple[_Path, _Given]]


def _from_file(path: Path, problems: list[str]) -> _Layer:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        problems.append(f"{path} cannot be read: {reason}; correct it, or take it away")
        return
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it cannot be read"
        problems.append(f"{path} is not TOML: {reason}")
        return
    yield from _from_table(table, lambda name: f"{name} in {path}", problems)


def _from_table(table: Mapping[Any, Any], where: Callable[[str], str], problems: list[str]) -> _Layer:
    """Settings from nested mappings; below a source's key, tables are the scheme's and stay whole."""
    for name, value in table.items():
        if str(name).lower() != "sources":
            yield (str(name).lower(),), _Given(value, where(str(name)))
            continue
        if not isinstance(value, Mapping):
            problems.append(f"{where('sources')}: expected a section for each source, such as [sources.close]")
            continue
        for source, section in value.items():
            here = f"sources.{source}"
            if not isinstance(section, Mapping):
                problems.append(f'{where(here)}: expected a section, such as [{here}] with secret = "…" below it')
                continue
            if not section:
                yield ("sources", str(source).lower(), ""), _Given(None, where(here))
            for key, part in section.items():
                yield ("sources", str(source).lower(), str(key).lower()), _Given(part, where(f"{here}.{key}"))


def _from_fallbacks(environ: Mapping[str, str]) -> Iterator[tuple[_Path, _Given]]:
    for name, variable in FALLBACKS.items():
        if environ.get(variable):
            yield (name,), _Given(environ[variable], variable)
        elif _FIELDS[name].metadata.get("secret") and environ.get(f"{variable}_FILE"):
            yield (name,), _Given(environ[f"{variable}_FILE"], f"{variable}_FILE", is_file=True)


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> _Layer:
    nested: dict[_Path, tuple[dict[str, Any], str]] = {}
    for variable in sorted(environ):
        if not variable.upper().startswith(PREFIX) or variable.upper().startswith(f"{PREFIX}TEST_"):
            continue
        path, labels = _path_of(variable)
        if path[0] in RESERVED:
            continue
        value = environ[variable]
        if path[0] == "sources" and len(path) < 3:
            wanted = path[1] if len(path) == 2 and path[1] else "close"
            problems.append(
                f"{variable} names no setting of a source; write {PREFIX}SOURCES__{wanted}__SECRET, or use {FILE}"
            )
        elif labels:
            # below a source's key: labels of secrets, or a table of its scheme; their case is the author's
            nested.setdefault(path, ({}, variable))[0]["__".join(labels)] = value
        elif value or path[-1] in ("secret", "secrets"):
            yield path, _Given(value, variable)
    for path, (table, variable) in nested.items():
        yield path, _Given(table, variable)


def _path_of(variable: str) -> tuple[_Path, tuple[str, ...]]:
    """The path of a variable, and what stands below the key of a source."""
    parts = variable[len(PREFIX) :].split("__")
    if parts[0].lower() != "sources":
        return ("__".join(parts).lower(),), ()
    return tuple(part.lower() for part in parts[:3]), tuple(parts[3:])


def _from_overrides(overrides: Mapping[str, Any], problems: list[str]) -> _Layer:
    found: dict[_Path, _Given] = {}
    whole = overrides.get("WEBHOOKS", {})
    if isinstance(whole, Mapping):
        found.update(
            _one_each(_from_table(whole, lambda name: f"{name} in app.config['WEBHOOKS']", problems), problems)
        )
    else:
        problems.append("app.config['WEBHOOKS']: expected a mapping of settings")
    for name, value in overrides.items():
        if name.startswith(PREFIX):
            path, labels = _path_of(name)
            if path == ("sources",):
                found.update(_from_table({"sources": value}, lambda name: f"{name} in app.config", problems))
            elif path[0] == "sources" and (len(path) < 3 or labels):
                problems.append(
                    f"app.config[{name!r}]: write it as app.config['WEBHOOKS_SOURCES'] = {{'close': {{…}}}}"
                )
            elif path[0] not in RESERVED and not path[0].startswith("test_"):
                found[path] = _Given(value, f"app.config[{name!r}]")
        elif name.lower() == name:  # Flask's own settings, and those of extensions, are in capitals
            found.update(_from_table({name: value}, lambda name: f"setting {name}", problems))
    yield from found.items()


def _one_each(layer: _Layer, problems: list[str]) -> dict[_Path, _Given]:
    """A layer as a mapping; what it says twice in different spellings is a mistake."""
    found: dict[_Path, _Given] = {}
    for path, given in layer:
        secret = path[0].removesuffix("_file")
        if path[2:] == ("secrets",):
            path = (*path[:2], "secret")
        elif secret != path[0] and secret in _FIELDS and _FIELDS[secret].metadata.get("secret"):
            path, given = (secret,), dataclasses.replace(given, is_file=True)
        if path in found:
            problems.append(f"{given.where} and {found[path].where} are the same setting; keep one of them")
        found[path] = given
    return found


# -- from values to settings ---------------------------------------------------------------------------------


def _read_fields(given: Mapping[_Path, _Given], problems: _Problems) -> dict[str, Any]:
    fields: dict[str, Any] = {"has_default_database": ("database_url",) not in given}
    sections: dict[str, dict[str, _Given]] = {}
    for path, value in given.items():
        name = path[0]
        if name == "sources":
            sections.setdefault(path[1], {})[path[2]] = value
        elif name not in _FIELDS:
            problems.append(f"{value.where}: there is no such setting{_nested(name) or _did_you_mean(name, _FIELDS)}")
        else:
            _read_field(name, value, fields, problems)
    fields["sources"] = {name: _read_source(name, section, problems) for name, section in sections.items()}
    return fields


def _read_field(name: str, value: _Given, fields: dict[str, Any], problems: _Problems) -> None:
    metadata = _FIELDS[name].metadata
    try:
        raw = _content(value) if value.is_file else value.raw
        fields[name] = metadata["read"](raw)
    except ValueError as error:
        problems.failed.add(name)
        problems.append(f"{value.where}{'' if metadata['secret'] else f' is {shown(value.raw)}'}: {error}")


def _content(value: _Given) -> str:
    path = read_text(value.raw)
    try:
        return Path(path).read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError(f"the file {shown_path(path)} is not UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"the file {shown_path(path)} cannot be read: {error.strerror}") from None


_SOURCE_READERS: Mapping[str, Reader] = {
    "scheme": read_text,
    "secret_file": lambda value: read_path(str(value) if isinstance(value, Path) else value),
    "tolerance": read_duration,
    "tolerance_ahead": read_duration,
    "on_unparseable": one_of("quarantine", "reject"),
    "accept_unsigned_body": read_bool,
    "public_url": read_public_url,
    "own": read_names,
}


def _read_source(name: str, section: Mapping[str, _Given], problems: _Problems) -> SourceSettings:
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if not _SOURCE_NAME.fullmatch(name):
        problems.append(f"{next(iter(section.values())).where}: {_SOURCE_NAME_RULE}")
    for key, value in section.items():
        if not key:
            continue  # an empty section
        reader = _SOURCE_READERS.get(key)
        try:
            if key == "secret":
                fields["secrets"] = _read_secrets(value.raw)
            elif reader is None:
                options[key] = value.raw
            else:
                fields[key] = reader(value.raw)
        except ValueError as error:
            problems.append(f"{value.where}{'' if key == 'secret' else f' is {shown(value.raw)}'}: {error}")
    if not section.keys() & {"secret", "secret_file", "secrets_from"}:
        problems.append(
            f"source {name!r} has no secret{_slip(section)}; set {PREFIX}SOURCES__{name}__SECRET, or secret (or "
            f"secret_file) in [sources.{name}]"
        )
    return SourceSettings(**{"name": name, "scheme": name, "options": options, **fields})


def _read_secrets(raw: Any) -> tuple[Secret, ...]:
    """Secrets from text, a list, or labels with keys; text may be JSON of either. Never says a value."""
    if callable(raw):
        try:
            raw = raw()
        except Exception as error:
            raise ValueError(f"the function given for it raised {type(error).__name__}") from error
    if isinstance(raw, str) and raw.lstrip()[:1] in ("[", "{"):
        try:
            raw = jsonio.load(raw.encode())
        except jsonio.ERRORS:
            raise ValueError(
                "it begins like JSON and is none; expected one secret, or a JSON list or object of them"
            ) from None
    if isinstance(raw, str):
        raw = {"1": raw}
    elif isinstance(raw, list | tuple):
        raw = {str(number): value for number, value in enumerate(raw, 1)}
    if not isinstance(raw, Mapping) or not all(isinstance(value, str) for value in raw.values()):
        raise ValueError("expected one secret, a list of them, or a table of labels and secrets")
    if not raw:
        raise ValueError("it is empty; expected at least one secret")
    require_labels(raw)
    for label, value in raw.items():
        if not value.strip():
            which = "it" if len(raw) == 1 else f"secret {label!r}"
            raise ValueError(f"{which} is blank; give its value, or take it away")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"secret {label!r} is not UTF-8 text") from None
    return tuple(Secret(value.strip(), str(label)) for label, value in raw.items())


def require_labels(table: Mapping[Any, str]) -> None:
    """Raise ValueError when labels and secrets changed places, so that a key would be shown as a label."""
    if any(looks_like_key(str(label)) and not looks_like_key(value.strip()) for label, value in table.items()):
        raise ValueError("a label looks like a key, and what it labels does not; write label = key")


# -- settings that contradict each other ---------------------------------------------------------------------


def _contradictions(settings: Settings, failed: Iterable[str]) -> Iterator[str]:
    """Mistakes that only several settings together make; those that could not be read are left out."""

    def known(*names: str) -> bool:
        return not set(names) & set(failed)

    least = settings.payload_retention + DEDUP_MARGIN
    if known("dedup_retention", "payload_retention") and settings.dedup_retention < least:
        yield (
            f"dedup_retention is {show_duration(settings.dedup_retention)} and payload_retention "
            f"{show_duration(settings.payload_retention)}; dedup keys must outlive payloads by {DEDUP_MARGIN.days} "
            f"days, or late copies would be new events: set dedup_retention to at least {show_duration(least)}"
        )
    if known("heartbeat", "lease") and settings.heartbeat * 2 > settings.lease:
        yield (
            f"heartbeat is {show_duration(settings.heartbeat)} and lease {show_duration(settings.lease)}; one late "
            f"heartbeat would lose the lease: set heartbeat to at most {show_duration(settings.lease / 2)}"
        )
    if known("retry_base", "retry_cap") and settings.retry_base > settings.retry_cap:
        yield (
            f"retry_base is {show_duration(settings.retry_base)}, above retry_cap {show_duration(settings.retry_cap)}; "
            "raise retry_cap or lower retry_base"
        )
    tolerances = {s.name: s.tolerance for s in settings.sources.values() if s.tolerance is not None}
    if known("dedup_retention"):
        try:
            require_dedup_covers(settings, tolerances)
        except ConfigurationError as error:
            yield from error.problems


# -- words -------------------------------------------------------------------------------------------------


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


def _nested(name: str) -> str:
    """The hint for a source's setting with too few underscores: `WEBHOOKS_SOURCES_close_SECRET`."""
    match = re.fullmatch(r"sources?_+(.+?)_+(secrets?(?:_file)?|scheme|tolerance|own|public_url)", name)
    if match is None:
        return ""
    return f"; did you mean {PREFIX}SOURCES__{match[1]}__{match[2].upper()}, with two underscores?"


def _slip(section: Iterable[str]) -> str:
    """The hint for a source without a secret that has a key of nearly that name."""
    for key in section:
        near = difflib.get_close_matches(key, ("secret", "secret_file"), n=1, cutoff=0.7)
        if near and key not in _SOURCE_READERS:
            return f" but {key!r} (did you mean {near[0]!r}?)"
    return ""


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else " (the list is in docs/settings.md)"
