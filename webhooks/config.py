"""The settings: `webhooks.toml`, then the environment, then what the application hands in; checked all at once.

`load_settings` reads the three layers as plain values, converts each field by its type and collects every mistake into
one `ConfigurationError`, each naming the setting as its author wrote it. No value of a secret appears in a message.

The surprising facts: names are case-insensitive (sources are lower case), `__` nests (`WEBHOOKS_SOURCES__close__SECRET`),
every secret may come from a file (`…_FILE`), and `WEBHOOKS_TEST_*` is left to tests.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from webhooks.errors import ConfigurationError

PREFIX = "WEBHOOKS_"
FILE = "webhooks.toml"
DEFAULT_DATABASE = "sqlite:///webhooks.db"
#: Dedup keys outlive payloads by at least this long, so that a late copy is still known as a duplicate.
DEDUP_MARGIN = timedelta(days=5)

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|min|h|d|w)?\s*", re.ASCII)
_DURATION_UNITS = {
    "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
}  # fmt: skip
_SIZE = re.compile(r"\s*(\d+)\s*(b|kb|kib|mb|mib|gb|gib)?\s*", re.ASCII | re.IGNORECASE)
_SIZE_UNITS = {"b": 1, "kb": 1000, "kib": 1024, "mb": 10**6, "mib": 2**20, "gb": 10**9, "gib": 2**30}
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)


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

    scheme: default the source's name. secrets: from `secret` (text, a list, or a table of label and key) or
    `secret_file` (text, or JSON of labels and keys, read again when it changes). tolerance, tolerance_ahead: how old,
    and how far ahead of our clock, a signed timestamp may be; None means the scheme's own. on_unparseable: "quarantine"
    or "reject". accept_unsigned_body: start a scheme that does not sign the whole body. public_url: what the sender
    posts to, for schemes that sign it. own: our own API key and OAuth client ids, for `ignore_own`. options: the keys
    that only this scheme knows, validated by it at start.
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
    options: Mapping[str, Any] = field(default_factory=dict)


def _setting(default: Any, text: str, read: Callable[[Any], Any] | None = None) -> Any:
    metadata = {"text": text, "read": read}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def read_duration(value: Any) -> timedelta:
    """A duration from "30s", "5m", "6h", "2d" or a number of seconds. Raises ValueError with what was expected."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool):
        raise ValueError("expected a duration such as '30s', '5m', '6h' or '2d'")
    match = _DURATION.fullmatch(str(value)) if isinstance(value, (str, int, float)) else None
    if match is None:
        raise ValueError("expected a duration such as '30s', '5m', '6h' or '2d'")
    seconds = float(match[1]) * _DURATION_UNITS[match[2] or "s"]
    if seconds > 10 * 366 * 86400:
        raise ValueError("expected a duration of at most ten years")
    return timedelta(seconds=seconds)


def read_size(value: Any) -> int:
    """A number of bytes from "1MiB", "500kB" or a whole number. Raises ValueError with what was expected."""
    match = _SIZE.fullmatch(str(value)) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    if match is None:
        raise ValueError("expected a size such as '1MiB', or a number of bytes")
    return int(match[1]) * _SIZE_UNITS[(match[2] or "b").lower()]


def read_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, int)) and str(value).strip().lower() in ("true", "1"):
        return True
    if isinstance(value, (str, int)) and str(value).strip().lower() in ("false", "0"):
        return False
    raise ValueError("expected true, false, 1 or 0")


def read_count(value: Any) -> int:
    try:
        number = msgspec.convert(value, int, strict=False)
    except msgspec.ValidationError:
        raise ValueError("expected a whole number") from None
    if isinstance(value, bool) or number < 0:
        raise ValueError("expected a whole number of at least 0")
    return number


def read_names(value: Any) -> tuple[str, ...]:
    """Names from a list, from JSON, or from text with commas."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text)
            except ValueError:
                raise ValueError("expected a list of names, or names with commas between") from None
        else:
            value = [part for part in re.split(r"[,\s]+", text) if part]
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise ValueError("expected a list of names, or names with commas between")
    return tuple(value)


def one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if str(value).lower() not in choices:
            raise ValueError(f"expected {' or '.join(repr(choice) for choice in choices)}")
        return str(value).lower()

    return read


def read_prefix(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value):
        raise ValueError("expected a path such as '/webhooks'")
    return value


def read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


@dataclass(frozen=True)
class Settings:
    """Every setting with its default; `docs/operations.md` says the same in a table."""

    database_url: str = _setting(
        DEFAULT_DATABASE,
        "where everything is kept; falls back to DATABASE_URL, then to a SQLite file in the working directory",
        read_text,
    )
    sources: Mapping[str, SourceSettings] = _setting({}, "the senders, a section each")
    handlers: tuple[str, ...] = _setting((), "modules with handlers, besides the directory", read_names)
    handlers_dir: str = _setting("handlers", "directory whose modules are loaded as handlers", read_text)
    url_prefix: str = _setting("/webhooks", "path under which the routes of the sources are", read_prefix)
    max_body: int = _setting(2**20, "largest body taken; more is 413", read_size)
    waiting_room: int = _setting(512, "requests of one process that may wait for a commit; more get 503", read_count)
    in_flight_per_source: int = _setting(256, "requests of one source under way at once in one process", read_count)
    strict_types: bool = _setting(False, "a pattern that matches no known type stops the start", read_bool)
    lease: timedelta = _setting(timedelta(seconds=30), "how long a claim lasts unless extended", read_duration)
    heartbeat: timedelta = _setting(timedelta(seconds=10), "how often a worker extends its claims", read_duration)
    timeout: timedelta = _setting(timedelta(seconds=30), "how long one attempt may run", read_duration)
    grace: timedelta = _setting(timedelta(seconds=25), "how long a stopping worker waits for handlers", read_duration)
    max_attempts: int = _setting(20, "runs of a delivery, the first included, before it is dead", read_count)
    retry_base: timedelta = _setting(timedelta(seconds=10), "bound of the first wait; doubles each time", read_duration)
    retry_cap: timedelta = _setting(timedelta(hours=6), "longest bound of a wait", read_duration)
    concurrency: int = _setting(8, "handlers that one worker runs at once", read_count)
    poll_interval: timedelta = _setting(timedelta(seconds=1), "how often an idle worker looks by itself", read_duration)
    abandoned_threads: int = _setting(4, "threads that outlived their time-out before a worker replaces itself", read_count)
    sqlite_write_limit: timedelta = _setting(
        timedelta(seconds=1), "how long a handler may hold SQLite's write lock", read_duration
    )
    payload_retention: timedelta = _setting(timedelta(days=30), "how long events and deliveries are kept", read_duration)
    dedup_retention: timedelta = _setting(timedelta(days=35), "how long a dedup key is kept after its last sight", read_duration)
    capture_rejected: bool = _setting(False, "keep the bytes of sampled rejected requests (at most 64 kB each)", read_bool)
    host: str = _setting("127.0.0.1", "address that `webhooks dev` binds", read_text)
    port: int = _setting(8000, "port of `webhooks dev`; falls back to PORT", read_count)
    worker_class: str = _setting("gthread", "gunicorn's worker class", one_of("gthread", "gevent", "sync"))
    trusted_proxies: int = _setting(0, "proxies in front whose X-Forwarded-For is believed (for the log only)", read_count)
    log_level: str = _setting("info", "falls back to LOG_LEVEL", one_of("debug", "info", "warning", "error"))
    log_format: str = _setting("console", "falls back to LOG_FORMAT", one_of("console", "json"))
    #: no database was named: the schema is applied at start
    has_default_database: bool = field(default=True, metadata={"internal": True})

    def __repr__(self) -> str:
        shown = re.sub(r"://([^:/@]*):[^@]*@", r"://\1:***@", self.database_url)
        return f"<Settings database={shown} sources={sorted(self.sources)}>"


#: {setting: environment variable of other tools that means the same}
FALLBACKS = {"database_url": "DATABASE_URL", "port": "PORT", "log_level": "LOG_LEVEL", "log_format": "LOG_FORMAT"}
_FIELDS = {f.name: f for f in dataclasses.fields(Settings) if not f.metadata.get("internal")}


@dataclass(frozen=True, slots=True)
class SettingDoc:
    """One setting for documentation."""

    name: str
    default: Any
    text: str


SETTINGS = tuple(
    SettingDoc(name, None if name == "sources" else f.default, f.metadata["text"]) for name, f in _FIELDS.items()
)


@dataclass(frozen=True, slots=True)
class _Value:
    """A raw value and where it was written."""

    raw: Any
    where: str


def load_settings(
    environ: Mapping[str, str], *, file: Path | str | None = FILE, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read the layers (file, environment, overrides; later ones win) and check everything.

    overrides: names as in `Settings`, or `WEBHOOKS_…` as in `app.config`. Raises `ConfigurationError` with every mistake.
    """
    problems: list[str] = []
    tree: dict[str, Any] = {}
    if file is not None:
        _merge(tree, _read_file(Path(file), problems))
    for name, fallback in FALLBACKS.items():
        if environ.get(fallback):
            tree[name] = _Value(environ[fallback], fallback)
        elif name == "database_url" and environ.get("DATABASE_URL_FILE"):
            tree[name + "_file"] = _Value(environ["DATABASE_URL_FILE"], "DATABASE_URL_FILE")
    _merge(tree, _read_environment(environ))
    _merge(tree, _read_overrides(overrides or {}))
    _read_url_file(tree, problems)
    fields: dict[str, Any] = {}
    for name, value in tree.items():
        if name == "sources":
            continue
        known = _FIELDS.get(name)
        if known is None or not isinstance(value, _Value):
            where = value.where if isinstance(value, _Value) else next(_wheres(value), name)
            problems.append(f"{where}: there is no such setting{_did_you_mean(name, _FIELDS)}")
            continue
        try:
            fields[name] = known.metadata["read"](value.raw)
        except (ValueError, TypeError) as error:
            shown = "" if name == "database_url" else f" is {value.raw!r};"
            problems.append(f"{value.where}{shown} {error}")
    fields["sources"] = _read_sources(tree.get("sources", {}), problems)
    fields["has_default_database"] = "database_url" not in tree
    if problems:
        raise ConfigurationError(problems)
    settings = Settings(**fields)
    problems = _check(settings)
    if problems:
        raise ConfigurationError(problems)
    return settings


def require_sources(settings: Settings) -> None:
    """Raise `ConfigurationError` with the line to add when no source is configured."""
    if not settings.sources:
        raise ConfigurationError(
            "no source is configured, so nothing could be taken in; set WEBHOOKS_SOURCES__close__SECRET to the signature "
            f'key of your Close subscription, or write to {FILE}: [sources.close] and below it secret = "…"'
        )


# -- layers ------------------------------------------------------------------------------------------------


def _read_file(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read: {error}")
        return {}
    try:
        return _tagged(tomllib.loads(text), str(path))
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: {error}")
        return {}


def _tagged(table: Mapping[str, Any], where: str, path: str = "") -> dict[str, Any]:
    tagged: dict[str, Any] = {}
    for name, value in table.items():
        here = f"{path}.{name}" if path else name
        # below a source, tables are the scheme's (or the labels of secrets) and stay whole
        if isinstance(value, Mapping) and here.count(".") < 2:
            tagged[name.lower()] = _tagged(value, where, here)
        else:
            tagged[name.lower()] = _Value(value, f"{here} in {where}" if where else here)
    return tagged


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name in sorted(environ):
        if not name.upper().startswith(PREFIX) or name.upper().startswith(PREFIX + "TEST_"):
            continue
        path = name[len(PREFIX) :].lower().split("__")
        if path == ["embedded"] or not all(path):
            continue
        place = tree
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                break
        else:
            place[path[-1]] = _Value(environ[name], name)
    return tree


def _read_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in overrides.items():
        if not isinstance(name, str):
            continue
        if name.upper() == "WEBHOOKS" and isinstance(value, Mapping):
            _merge(tree, _tagged(value, "app.config['WEBHOOKS']"))
        elif name.upper().startswith(PREFIX):
            _merge(tree, _tagged({name[len(PREFIX) :]: value}, "app.config"))
        elif name in _FIELDS:
            _merge(tree, _tagged({name: value}, ""))
    return tree


def _merge(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(tree.get(name), dict):
            _merge(tree[name], value)
        else:
            tree[name] = value


def _wheres(value: Any) -> Any:
    if isinstance(value, _Value):
        yield value.where
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _wheres(part)


def _read_url_file(tree: dict[str, Any], problems: list[str]) -> None:
    value = tree.pop("database_url_file", None)
    if isinstance(value, _Value):
        text = _read_secret_text(value, problems)
        if text is not None:
            tree["database_url"] = _Value(text, value.where)


def _read_secret_text(value: _Value, problems: list[str]) -> str | None:
    try:
        text = Path(str(value.raw)).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        problems.append(f"{value.where}: the file {str(value.raw)!r} cannot be read: {reason}")
        return None
    return text


# -- sources -----------------------------------------------------------------------------------------------

_SOURCE_READERS: dict[str, Callable[[Any], Any]] = {
    "scheme": read_text,
    "tolerance": read_duration,
    "tolerance_ahead": read_duration,
    "on_unparseable": one_of("quarantine", "reject"),
    "accept_unsigned_body": read_bool,
    "public_url": read_text,
    "own": read_names,
}


def _read_sources(tree: Any, problems: list[str]) -> dict[str, SourceSettings]:
    sources: dict[str, SourceSettings] = {}
    if isinstance(tree, _Value):
        problems.append(f"{tree.where}: expected a section for each source, such as [sources.close]")
        return sources
    for name, section in tree.items():
        if not _SOURCE_NAME.fullmatch(name):
            problems.append(f"{next(_wheres(section), name)}: {name!r} is no name for a source; use a-z, 0-9, _ and -")
            continue
        if isinstance(section, _Value):
            problems.append(f"{section.where}: expected a section, such as [sources.{name}] with secret = \"…\" below it")
            continue
        sources[name] = _read_source(name, section, problems)
    return sources


def _read_source(name: str, section: Mapping[str, Any], problems: list[str]) -> SourceSettings:
    fields: dict[str, Any] = {"name": name, "scheme": name}
    options: dict[str, Any] = {}
    for key, value in section.items():
        if key in ("secret", "secrets", "secret_file"):
            continue
        reader = _SOURCE_READERS.get(key)
        if not isinstance(value, _Value):
            options[key] = _raw(value)
        elif reader is None:
            options[key] = value.raw
        else:
            try:
                fields[key] = reader(value.raw)
            except (ValueError, TypeError) as error:
                problems.append(f"{value.where} is {value.raw!r}; {error}")
    secret = section.get("secret", section.get("secrets"))
    if isinstance(secret, _Value):
        fields["secrets"] = _secrets(secret.raw, secret.where, problems)
    elif isinstance(secret, Mapping):
        fields["secrets"] = _secrets(_raw(secret), next(_wheres(secret), name), problems)
    file = section.get("secret_file")
    if isinstance(file, _Value):
        fields["secret_file"] = Path(str(file.raw))
        text = _read_secret_text(file, problems)
        if text is not None:
            fields["secrets"] = [*fields.get("secrets", ()), *_secrets(text, file.where, problems)]
    if not fields.get("secrets") and not problems:
        problems.append(
            f"source {name!r} has no secret; set WEBHOOKS_SOURCES__{name}__SECRET, or secret (or secret_file) in "
            f"[sources.{name}]"
        )
    return SourceSettings(options=options, **fields)


def _raw(value: Any) -> Any:
    if isinstance(value, _Value):
        return value.raw
    return {name: _raw(part) for name, part in value.items()} if isinstance(value, Mapping) else value


def _secrets(raw: Any, where: str, problems: list[str]) -> list[Secret]:
    """Secrets from text, a list, or labels with keys; text may be JSON of either."""
    if callable(raw):
        raw = raw()
    if isinstance(raw, str) and raw.lstrip()[:1] in ("[", "{"):
        try:
            raw = json.loads(raw)
        except ValueError:
            problems.append(f"{where}: it looks like JSON and is not; write one secret, or a JSON list or object of them")
            return []
    if isinstance(raw, str):
        raw = {"1": raw}
    elif isinstance(raw, (list, tuple)):
        raw = {str(number): value for number, value in enumerate(raw, 1)}
    if not isinstance(raw, Mapping) or not all(isinstance(value, str) for value in raw.values()):
        problems.append(f"{where}: expected one secret, a list of them, or a table of labels and secrets")
        return []
    if not all(value.strip() for value in raw.values()):
        problems.append(f"{where}: a secret is blank; give its value, or leave the setting out")
        return []
    return [Secret(value.strip(), str(label)) for label, value in raw.items()]


# -- checks across settings --------------------------------------------------------------------------------


def _check(settings: Settings) -> list[str]:
    problems: list[str] = []
    if settings.dedup_retention < settings.payload_retention + DEDUP_MARGIN:
        problems.append(
            f"dedup_retention is {settings.dedup_retention} and payload_retention {settings.payload_retention}; dedup keys "
            f"must outlive payloads by at least {DEDUP_MARGIN.days} days, or late copies would be taken for new events"
        )
    if settings.heartbeat * 2 > settings.lease:
        problems.append(
            f"heartbeat is {settings.heartbeat} and lease {settings.lease}; the heartbeat may be at most half of the lease"
        )
    if settings.retry_base > settings.retry_cap:
        problems.append(f"retry_base is {settings.retry_base}, above retry_cap {settings.retry_cap}")
    for name, least in (("max_attempts", 1), ("concurrency", 1), ("max_body", 1), ("abandoned_threads", 1)):
        if getattr(settings, name) < least:
            problems.append(f"{name} is {getattr(settings, name)}; it must be at least {least}")
    for name in ("lease", "heartbeat", "timeout", "poll_interval", "sqlite_write_limit", "payload_retention"):
        if getattr(settings, name) <= timedelta(0):
            problems.append(f"{name} is {getattr(settings, name)}; it must be above zero")
    for source in settings.sources.values():
        if source.tolerance is not None and source.tolerance >= settings.dedup_retention:
            problems.append(
                f"source {source.name!r}: tolerance is {source.tolerance}, not shorter than dedup_retention "
                f"{settings.dedup_retention}; an old request could be sent again and be taken for a new event"
            )
    return problems


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
