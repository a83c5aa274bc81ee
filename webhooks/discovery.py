"""Load handlers: the directory `handlers/`, the modules that HANDLERS names, and the entry points of installed packages.

A module that does not import stops the start, naming file and line: a service that runs without some of its handlers
would take events in and lose their deliveries.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

from webhooks.errors import HandlerImportError, RegistrationError

ENTRY_POINTS = "webhooks.handlers"


def find_modules(directory: str, modules: Sequence[str] = ()) -> list[str]:
    """The names of the modules to load, in order, each once. Files and folders that begin with `_` or `.` are left out."""
    names: list[str] = []
    folder = Path(directory)
    if folder.is_dir():
        for entry in sorted(folder.iterdir()):
            is_package = entry.is_dir() and (entry / "__init__.py").exists()
            if entry.name.startswith(("_", ".")) or not (is_package or entry.suffix == ".py"):
                continue
            names.append(".".join([*folder.parts, entry.stem]))
    names.extend(modules)
    names.extend(point.value.partition(":")[0] for point in importlib.metadata.entry_points(group=ENTRY_POINTS))
    return list(dict.fromkeys(names))


def load_modules(names: Iterable[str]) -> None:
    """Import each. Raises `HandlerImportError` with file and line; errors of registration pass as they are."""
    working_directory = str(Path.cwd())
    if working_directory not in sys.path:
        sys.path.insert(0, working_directory)  # a console script does not put it there
    for name in names:
        try:
            importlib.import_module(name)
        except RegistrationError:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise HandlerImportError(_explain(name, error)) from error


def _explain(name: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name):
        return (
            f"there is no module {name!r} to load handlers from; correct the setting HANDLERS, "
            f"or run from the directory that holds it (now: {Path.cwd().name!r})"
        )
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and "importlib" not in frame.filename and frame.filename != __file__
    ]
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    elif frames:
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
    else:
        place = name
    return f"handlers of {name!r} do not import: {type(error).__name__}: {error} ({place})"
