"""The settings of a project as tests use them: what `webhooks.toml` says, without what is secret or reaches out.

Neither the environment nor any file with a secret is read. Keys of senders are made for the run; API keys, targets of
alarms and of the dead man's switch, and the database are left out. What a test says comes on top, and wins.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

from webhooks.errors import ConfigurationError
from webhooks.settings import FIELDS, FILE
from webhooks.testing.keys import make_key

#: Settings that tests never take from a project: who else is told or asked, where things are, and ports that are bound.
LEFT_OUT = frozenset(
    (
        *("alarms", "heartbeat_url", "database_url", "database_schema", "celery_app", "celery_broker_url"),
        *("metrics", "metrics_port", "dashboard", "tracing"),
        *(name for name, field in FIELDS.items() if field.metadata.get("secret")),
        *(f"{name}_file" for name, field in FIELDS.items() if field.metadata.get("secret")),
    )
)
#: The same of a source.
LEFT_OUT_OF_SOURCES = frozenset(("secret", "secrets", "secret_file", "secrets_from", "api_key", "api_key_file"))
#: What tests have otherwise than the service: no figures for charts, and each refusal kept for `webhooks explain`.
DEFAULTS: Mapping[str, Any] = {"tallies": False, "sample_rejected": "0s"}


def find_project(*places: Path) -> Path:
    """The directory that has `webhooks.toml`: the first of these places, or what is above one; else the first place."""
    above = (each for place in places for each in (place, *place.parents))
    return next((each for each in above if (each / FILE).is_file()), places[0])


def read_table(project: Path) -> dict[str, Any]:
    """What `webhooks.toml` says, names in lower case; nothing where there is none. Raises `ConfigurationError`."""
    path = project / FILE
    try:
        return {name.lower(): value for name, value in tomllib.loads(path.read_text("utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError([f"{path} cannot be read: {error}"]) from error


def table_for_tests(
    table: Mapping[str, Any],
    overrides: Mapping[str, Any],
    wanted: Collection[str] = (),
    secrets: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The settings by name, as `load_settings` takes them in its overrides.

    table: what `webhooks.toml` says.
    overrides: what the test says.
    wanted: sources that handlers name; those that are not configured (their keys are in an environment) are added.
    secrets: {source: key} where the test gives one.
    """
    kept = {name: value for name, value in table.items() if name not in LEFT_OUT}
    said = {name.lower(): value for name, value in overrides.items()}
    sections = {
        name: {key: value for key, value in section.items() if key.lower() not in LEFT_OUT_OF_SOURCES}
        for name, section in _sections(kept.get("sources"))
    }
    for name, section in _sections(said.get("sources")):
        sections.setdefault(name, {}).update(section)
    for name in wanted if sections or wanted else ("close",):
        sections.setdefault(name, {"accept_unsigned_body": True})
    sources = {name: _with_key(name, section, (secrets or {}).get(name)) for name, section in sections.items()}
    made = {"metrics_token": token_hex()} if said.get("metrics") else {}
    return {**DEFAULTS, **made, **kept, **said, "sources": sources}


def with_source(overrides: Mapping[str, Any], name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """What a test says, with settings of one source that it has not said itself."""
    said = {key.lower(): value for key, value in overrides.items()}
    sources = dict(_sections(said.get("sources")))
    return {**said, "sources": {**sources, name: {**section, **sources.get(name, {})}}}


def _sections(sources: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    """The sections of sources by name; what is none is left for `load_settings` to name."""
    if not isinstance(sources, Mapping):
        return []
    return [(str(name).lower(), dict(section)) for name, section in sources.items() if isinstance(section, Mapping)]


def _with_key(name: str, section: Mapping[str, Any], given: str | None) -> dict[str, Any]:
    """A section with what signs, and with an address for the senders that sign it."""
    made: dict[str, Any] = {"public_url": f"https://hooks.example.com/webhooks/{name}", **section}
    if given is not None:
        return {**made, "secret": given}
    if not LEFT_OUT_OF_SOURCES & made.keys():
        made.update(make_key(str(section.get("scheme", name)), section))
    return made


__all__ = ["find_project", "read_table", "table_for_tests", "with_source"]
