"""Load the settings: `webhooks.toml`, then the environment, then what the application hands in; checked all at once.

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
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webhooks.errors import ConfigurationError, looks_like_key
from webhooks.formats import did_you_mean
from webhooks.formats import json as jsonio
from webhooks.settings.alarms import AlarmTarget, read_target
from webhooks.settings.checks import contradictions
from webhooks.settings.service_links import without_service_links
from webhooks.settings.settings import (
    FALLBACKS,
    FIELDS,
    FILE,
    PREFIX,
    SECTIONS,
    Settings,
)
from webhooks.settings.sources import KEYLESS, Secret, SourceSettings
from webhooks.settings.values import (
    Reader,
    duration,
    one_of,
    read_bool,
    read_duration,
    read_names,
    read_path,
    read_public_url,
    read_text,
    shown,
    shown_path,
)

#: Environment variables that are no settings: set by our own processes for their children.
RESERVED = frozenset(("embedded", "application", "console", "ready_fd", "dashboard_bind", "dashboard_behind_tls"))

_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_SOURCE_NAME_RULE = "a source's name has a-z, 0-9, _ and -, at most 64 of them, and begins with a letter or digit"

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, and where, as its author wrote it. is_file: it names a file that has it."""

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

    environ: the variables of the process.
    file: may be missing; None is none.
    overrides: names as in `Settings`, or `WEBHOOKS_…` and `WEBHOOKS` as in `app.config`, whose
    other names (in capitals) are left alone. Raises `ConfigurationError` with every mistake, and nothing else.
    """
    problems = _Problems()
    given: dict[_Path, _Given] = {}
    if file is not None:
        given.update(_one_each(_from_file(Path(file), problems), problems))
    environ = without_service_links(environ)
    given.update(_from_fallbacks(environ))
    given.update(_one_each(_from_environment(environ, problems), problems))
    given.update(_one_each(_from_overrides(overrides or {}, problems), problems))
    fields = _read_fields(given, problems)
    settings = Settings(**fields)
    problems.extend(contradictions(settings, problems.failed))
    if problems:
        raise ConfigurationError(problems)
    return settings


# -- the layers: (path, value) pairs -------------------------------------------------------------------------

_Layer = Iterable[tuple[_Path, _Given]]

#: {setting of sections: (what each is of, a name, a line of one)}
_ABOUT_SECTIONS = {"sources": ("source", "close", 'secret = "…"'), "alarms": ("target", "ops", 'kind = "slack"')}


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
        kind = str(name).lower()
        if kind not in SECTIONS:
            yield (kind,), _Given(value, where(str(name)))
            continue
        of_each, example, line = _ABOUT_SECTIONS[kind]
        if not isinstance(value, Mapping):
            problems.append(f"{where(kind)}: expected a section for each {of_each}, such as [{kind}.{example}]")
            continue
        for each, section in value.items():
            here = f"{kind}.{each}"
            if not isinstance(section, Mapping):
                problems.append(f"{where(here)}: expected a section, such as [{here}] with {line} below it")
                continue
            if not section:
                yield (kind, str(each).lower(), ""), _Given(None, where(here))
            for key, part in section.items():
                yield (kind, str(each).lower(), str(key).lower()), _Given(part, where(f"{here}.{key}"))


def _from_fallbacks(environ: Mapping[str, str]) -> Iterator[tuple[_Path, _Given]]:
    for name, variable in FALLBACKS.items():
        if environ.get(variable):
            yield (name,), _Given(environ[variable], variable)
        elif FIELDS[name].metadata.get("secret") and environ.get(f"{variable}_FILE"):
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
        if path[0] in SECTIONS and len(path) < 3:
            kind, key = ("source", "SECRET") if path[0] == "sources" else ("target", "KIND")
            wanted = path[1] if len(path) == 2 and path[1] else _ABOUT_SECTIONS[path[0]][1]
            problems.append(
                f"{variable} names no setting of a {kind}; write {PREFIX}{path[0].upper()}__{wanted}__{key}, or use {FILE}"
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
    if parts[0].lower() not in SECTIONS:
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
            if len(path) == 1 and path[0] in SECTIONS:
                found.update(_from_table({path[0]: value}, lambda name: f"{name} in app.config", problems))
            elif path[0] in SECTIONS and (len(path) < 3 or labels):
                example = _ABOUT_SECTIONS[path[0]][1]
                problems.append(
                    f"app.config[{name!r}]: write it as app.config['WEBHOOKS_{path[0].upper()}'] = {{{example!r}: {{…}}}}"
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
        elif secret != path[0] and secret in FIELDS and FIELDS[secret].metadata.get("secret"):
            path, given = (secret,), dataclasses.replace(given, is_file=True)
        if path in found:
            problems.append(f"{given.where} and {found[path].where} are the same setting; keep one of them")
        found[path] = given
    return found


# -- from values to settings ---------------------------------------------------------------------------------


def _read_fields(given: Mapping[_Path, _Given], problems: _Problems) -> dict[str, Any]:
    fields: dict[str, Any] = {"has_default_database": ("database_url",) not in given}
    sections: dict[str, dict[str, dict[str, _Given]]] = {kind: {} for kind in SECTIONS}
    for path, value in given.items():
        name = path[0]
        if name in SECTIONS:
            sections[name].setdefault(path[1], {})[path[2]] = value
        elif name not in FIELDS:
            problems.append(f"{value.where}: there is no such setting{_nested(name) or _meant(name)}")
        else:
            _read_field(name, value, fields, problems)
    fields["sources"] = {name: _read_source(name, each, problems) for name, each in sections["sources"].items()}
    targets = (_read_target(name, each, problems) for name, each in sections["alarms"].items())
    fields["alarms"] = {target.name: target for target in targets if target is not None}
    return fields


def _read_target(name: str, section: Mapping[str, _Given], problems: _Problems) -> AlarmTarget | None:
    target, wrong = read_target(name, {key: value.raw for key, value in section.items() if key})
    for key, problem in wrong:
        given = section.get(key)
        where = given.where if given is not None else f"[alarms.{name}]"
        problems.append(f"{where}{f' is {shown(given.raw)}' if given is not None else ''}: {problem}")
    if not _SOURCE_NAME.fullmatch(name):
        problems.append(f"[alarms.{name}]: {_SOURCE_NAME_RULE.replace('source', 'target')}")
    return target


def _read_field(name: str, value: _Given, fields: dict[str, Any], problems: _Problems) -> None:
    metadata = FIELDS[name].metadata
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
    "expect_within": duration("1s", "365d"),
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
    # `jwt` may name the address of keys; where it does not, the source itself misses its secret
    if (
        not section.keys() & {"secret", "secret_file", "secrets_from", "jwt"}
        and fields.get("scheme", name) not in KEYLESS
    ):
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


# -- hints ---------------------------------------------------------------------------------------------------


def _nested(name: str) -> str:
    """The hint for a source's setting with too few underscores: `WEBHOOKS_SOURCES_close_SECRET`."""
    match = re.fullmatch(r"sources?_+(.+?)_+(secrets?(?:_file)?|scheme|tolerance|own|public_url)", name)
    if match is None:
        return ""
    return f"; did you mean {PREFIX}SOURCES__{match[1]}__{match[2].upper()}, with two underscores?"


def _slip(section: Iterable[str]) -> str:
    """The hint for a source without a secret that has a key of nearly that name."""
    for key in section:
        meant = "" if key in _SOURCE_READERS else did_you_mean(key, ("secret", "secret_file"))
        if meant:
            return f" but {key!r}{meant}"
    return ""


def _meant(name: str) -> str:
    return did_you_mean(name, FIELDS) or " (the list is in docs/settings.md)"
