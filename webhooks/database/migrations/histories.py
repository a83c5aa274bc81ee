"""Histories: directories of revisions, read without running them, and which tables each makes.

Every line of migrations is a `History`: revisions that follow one another to one head, and a version table of its own
(`webhooks_version`, `webhooks_version_<plugin>`), so that adding or removing a plugin never touches another. A plugin
is a handler module with revisions beside it: `whatsapp.py` has them in `migrations/whatsapp/`, a package `whatsapp/` in
`whatsapp/migrations/`.

Not here: how far a database is (`compare`), running migrations (`run`).
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData

from webhooks.database import tables as schema
from webhooks.database.migrations import ownership
from webhooks.errors import ConfigurationError, WebhooksError
from webhooks.forks import PerProcess

CORE = "core"
#: PostgreSQL cuts longer names off without a word.
_LONGEST_NAME = 63
#: `alembic.op` and `alembic.context` are module globals: two threads would run each other's migrations.
one_at_a_time = PerProcess(threading.RLock)


class MigrationError(WebhooksError):
    """A history that cannot be read, or a migration that failed; its text says what state the database is in."""


@dataclass(frozen=True)
class Revision:
    """One step of a history, read from its file. down: the revisions that it follows, () for the first."""

    id: str
    down: tuple[str, ...]
    message: str
    path: Path


@dataclass(frozen=True)
class History:
    """One line of migrations.

    name: `core`, or the plugin's.
    directory: of its revisions; it may not exist yet.
    version_table: where the database remembers how far it is.
    prefix: what its tables' names begin with by custom; nothing is decided by it.
    module: the handler module, for plugins.
    """

    name: str
    directory: Path
    version_table: str
    prefix: str
    module: str | None = None

    @property
    def metadata(self) -> MetaData | None:
        """The tables that the code wants: a plugin's are its module's `metadata`, once that module is loaded.

        Or those of a base class of models that the module defines.
        """
        if self.name == CORE:
            return schema.metadata
        module = sys.modules.get(self.module or "")
        found = getattr(module, "metadata", None)
        if not isinstance(found, MetaData):
            own = [value for value in vars(module).values() if isinstance(value, type)] if module is not None else []
            bases = [each for each in own if each.__module__ == self.module and "registry" in vars(each)]
            found = next((vars(each).get("metadata") for each in bases), None)
        return found if isinstance(found, MetaData) else None

    @property
    def made(self) -> Mapping[str, frozenset[str]]:
        """What its migrations make: {table: names of its columns, indexes and constraints}. Loads Alembic."""
        paths = tuple(revision.path for revision in self.revisions)
        declared = frozenset(self.metadata.tables) if self.metadata is not None else frozenset()
        return _made(paths, declared) if paths else {}

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """Its steps, first to last. Raises `MigrationError` when they do not follow one another to one head."""
        return _read_revisions(self)

    @property
    def head(self) -> str | None:
        """The last revision; None when there is none yet."""
        revisions = self.revisions
        return revisions[-1].id if revisions else None

    def owns_table(self, name: str) -> bool:
        """Whether its migrations make that table; how it is named says nothing."""
        return name in self.made


def core_directory() -> Path:
    """Where env.py, the template and the core's revisions are: inside the installed package, or beside it."""
    inside = Path(__file__).parents[2] / "migrations"
    return inside if (inside / "env.py").exists() else Path(__file__).parents[3] / "migrations"


def core() -> History:
    """The history of the core's own tables."""
    return History(CORE, core_directory() / "versions", "webhooks_version", "webhooks_")


def plugin(module: str) -> History:
    """The history of a handler module, whether it has revisions yet or not; the module is not imported.

    Raises `ConfigurationError` when there is no such module, or its name makes no name for a table.
    """
    name = module.rpartition(".")[2]
    version_table = f"webhooks_version_{name}"
    if len(version_table.encode()) > _LONGEST_NAME:
        raise ConfigurationError(
            f"the handler module {module!r} has too long a name for its version table; "
            f"shorten it to {_LONGEST_NAME - len('webhooks_version_')} letters"
        )
    if name == CORE:
        raise ConfigurationError(f"the handler module {module!r} has the name of the core's own history; rename it")
    return History(name, _directory_of(module, name), version_table, f"{name}_", module)


def _directory_of(module: str, name: str) -> Path:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as for loading handlers: a console script does not put it there
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        raise ConfigurationError(f"there is no handler module {module!r}; `webhooks handlers` lists those there are")
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))) / "migrations"
    return Path(str(spec.origin)).parent / "migrations" / name


def histories_of(modules: Iterable[str]) -> tuple[History, ...]:
    """The histories of handler modules, with those that have no revision yet."""
    return tuple(plugin(module) for module in modules)


def find_plugins(modules: Iterable[str]) -> tuple[History, ...]:
    """The histories of those handler modules that have revisions, by name.

    Raises `ConfigurationError` when two modules would share a version table.
    """
    found: dict[str, History] = {}
    for module in modules:
        history = plugin(module)
        if not history.directory.is_dir():
            continue
        other = found.setdefault(history.name, history)
        if other.module != history.module:
            raise ConfigurationError(
                f"the handler modules {other.module!r} and {history.module!r} both keep their migrations in "
                f"{history.version_table}; rename one of them"
            )
    known_plugins.update(dict.fromkeys(found.values()))
    return tuple(found[name] for name in sorted(found))


#: Every plugin with revisions that this process has found; a dictionary, to keep their order.
known_plugins: dict[History, None] = {}


def is_core_table(name: str) -> bool:
    """Whether a table is the core's, one of its partitions, or the version table of any history."""
    # what is called after the table of events is a partition of it: `store.retention.partitions`, or made by hand
    return (
        name in schema.metadata.tables
        or name == core().version_table
        or name.startswith(("webhooks_version_", "webhooks_events_"))
    )


def _read_revisions(history: History) -> tuple[Revision, ...]:
    return _read_directory(history.name, history.directory)


@functools.cache
def _read_directory(name: str, directory: Path) -> tuple[Revision, ...]:
    """The revisions of a directory in order. Read once a process: the code does not change under it either."""
    found = {revision.id: revision for revision in map(_read_revision, sorted(directory.glob("[!_.]*.py")))}
    followed: dict[str, list[str]] = {}
    for revision in found.values():
        for down in revision.down:
            if down not in found:
                raise MigrationError(
                    f"{revision.path.name} of {name} follows revision {down!r}, which is not in {directory}"
                )
            followed.setdefault(down, []).append(revision.id)
    heads = [id for id in found if id not in followed]
    if len(heads) > 1:
        raise MigrationError(
            f"the migrations of {name} end in {len(heads)} heads ({', '.join(sorted(heads))}); "
            "let one follow the other: change its down_revision"
        )
    ordered: list[Revision] = []
    at = heads[0] if heads else None
    while at is not None and len(ordered) < len(found):
        ordered.append(found[at])
        at = found[at].down[0] if found[at].down else None
    if len(ordered) != len(found):
        raise MigrationError(f"the migrations of {name} in {directory} are no single line from first to last")
    return tuple(reversed(ordered))


@functools.cache
def _made(paths: tuple[Path, ...], declared: frozenset[str]) -> Mapping[str, frozenset[str]]:
    with one_at_a_time.get():
        return ownership.made(paths, declared)


def _read_revision(path: Path) -> Revision:
    """What a revision's file says about itself, without running it."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise MigrationError(f"{path}:{error.lineno}: {error.msg}") from error
    said: dict[str, Any] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        for target in targets:
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision") and value is not None:
                with contextlib.suppress(ValueError):
                    said[target.id] = ast.literal_eval(value)
    if not isinstance(said.get("revision"), str) or "down_revision" not in said:
        raise MigrationError(f"{path} is no migration: it must say revision = '…' and down_revision = '…' or None")
    down = said["down_revision"]
    message = (ast.get_docstring(tree) or path.stem).partition("\n")[0].rstrip(".")
    return Revision(said["revision"], (down,) if isinstance(down, str) else tuple(down or ()), message, path)


def forget_revisions() -> None:
    """Read directories anew when next asked: a migration was written."""
    _read_directory.cache_clear()
