"""Which directory is read, and whether a project is meant that stands above or below it.

Settings and handlers are those of the working directory, as for make or git's index. Who types a command one directory
too deep gets an empty installation, so what says that there is nothing says also where it looked, and where there is
something.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from webhooks.settings.settings import FILE

#: How many directories above, and how many beside each other below, are looked at.
_ABOVE, _BELOW = 4, 200


def is_project(directory: Path) -> bool:
    """Whether there are settings of ours, or modules of handlers."""
    try:
        return (directory / FILE).is_file() or any((directory / "handlers").glob("*.py"))
    except OSError:
        return False


def project_near(directory: Path) -> Path | None:
    """The nearest project above a directory, or the only one right below; None where there is none."""
    for above in list(directory.parents)[:_ABOVE]:
        if above != Path.home() and is_project(above):
            return above
    below = [each for each in _directories(directory) if is_project(each)]
    return below[0] if len(below) == 1 else None


def _directories(directory: Path) -> Iterator[Path]:
    try:
        entries = sorted(directory.iterdir())[:_BELOW]
    except OSError:
        return
    yield from (each for each in entries if each.is_dir() and not each.name.startswith("."))


def where_read(directory: Path) -> str:
    """What was read, and which project may be meant: a sentence, to stand behind what was not found."""
    read = f"read was {directory}, which has no {FILE}" if not (directory / FILE).exists() else f"read was {directory}"
    near = None if is_project(directory) else project_near(directory)
    if near is None:
        return read
    place = "above" if near in directory.parents else "below"
    return f"{read}; there is a project {place}: cd {near}"


__all__ = ["is_project", "project_near", "where_read"]
