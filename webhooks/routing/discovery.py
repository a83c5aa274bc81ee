"""Load handlers: the directory `handlers/`, the modules that HANDLERS names, and the entry points of installed packages.

Loading is importing: a module's `@on(…)` registers while it is imported. A module that does not import stops the start,
naming file and line: a service that ran without some of its handlers would store events and make no delivery of them.

In the directory every `name.py` and every package counts, but what begins with `_` or `.`: helpers go there. They are
imported as `handlers.name`, so the directory that holds `handlers/` is put on `sys.path` (a console script is
started without it).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

from webhooks.errors import ConfigurationError, HandlerImportError, RegistrationError, hide_keys
from webhooks.settings import shown_path

ENTRY_POINTS = "webhooks.handlers"
#: The directory that may be missing: it is looked for without being named.
DEFAULT_DIRECTORY = "handlers"


def find_modules(directory: str, modules: Sequence[str] = ()) -> list[str]:
    """The names of the modules to load, in order, each once.

    directory: relative to the working directory, or absolute. Raises `ConfigurationError` when it is not there and
    not the default, and `HandlerImportError` for a file whose name cannot be imported.
    """
    names = _in_directory(Path(directory))
    names += modules
    names += [point.value.partition(":")[0].strip() for point in importlib.metadata.entry_points(group=ENTRY_POINTS)]
    return list(dict.fromkeys(names))


def _in_directory(folder: Path) -> list[str]:
    if not folder.is_dir():
        if str(folder) == DEFAULT_DIRECTORY:
            return []
        raise ConfigurationError(
            f"handlers_dir is {shown_path(folder)}, and there is no such directory in {str(Path.cwd())!r}; correct it, or make it"
        )
    root, package = _root_and_package(folder)
    _put_first(root)
    names: list[str] = []
    for entry in sorted(folder.iterdir()):
        is_package = entry.is_dir() and (entry / "__init__.py").exists()
        if entry.name.startswith(("_", ".")) or not (is_package or entry.suffix == ".py"):
            continue
        if not entry.stem.isidentifier():
            raise HandlerImportError(
                f"{folder / entry.name} cannot be imported under that name; rename it to letters, digits and _, or let it "
                "begin with _ if it is no handler"
            )
        names.append(f"{package}.{entry.stem}")
    return names


def _root_and_package(folder: Path) -> tuple[Path, str]:
    """Where the import of a directory starts, and its name from there."""
    parts = folder.parts
    if folder.is_absolute() or ".." in parts:
        folder = folder.resolve()
        return folder.parent, folder.name
    return Path.cwd(), ".".join(parts)


def load_modules(names: Iterable[str]) -> None:
    """Import each. Raises `HandlerImportError` with file and line; errors of registration keep their type."""
    _put_first(Path.cwd())
    for name in names:
        try:
            importlib.import_module(name)
        except KeyboardInterrupt:
            raise
        except RegistrationError as error:
            raise type(error)(f"{_place(error, name)}: {error}") from error
        except BaseException as error:  # a module may do anything while it is imported, exit too
            raise HandlerImportError(_explain(name, error)) from error


def _put_first(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
        importlib.invalidate_caches()


def _explain(name: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        return (
            f"there is no module {hide_keys(name)!r} to load handlers from; correct the setting HANDLERS, install the package that "
            f"has it, or start in the directory that holds it (now {str(Path.cwd())!r})"
        )
    missing = isinstance(error, ModuleNotFoundError) and error.name
    fix = f"; install {error.name!r} beside webhooks" if missing and isinstance(error, ModuleNotFoundError) else ""
    return f"{_place(error, name)}: {type(error).__name__}: {_text(error)}{fix}"


def _text(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _place(error: BaseException, name: str) -> str:
    """File and line of what went wrong: the innermost line of the deployer's, or else of any other."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    ours = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        # not the import system's, not ours, not code that was made at run time
        if not frame.filename.startswith(("<", ours)) and Path(frame.filename).parent.name != "importlib"
    ]
    own = [
        frame
        for frame in frames
        if Path(frame.filename).is_relative_to(Path.cwd()) and "site-packages" not in Path(frame.filename).parts
    ]
    if not frames:
        return f"module {name!r}"
    where = (own or frames)[-1]
    return f"{where.filename}, line {where.lineno}"
