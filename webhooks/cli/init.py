"""`webhooks init`: write the starter project, which travels in the wheel as `webhooks/starter/`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import click

from webhooks.cli import Failure, output

#: Beside this package. Names that begin with `dot-` are written with a dot: build tools leave dot-files out.
STARTER = Path(__file__).resolve().parent.parent / "starter"
#: What may be in the directory already: what git, a virtual environment and the shell leave there, and what our own
#: commands do when they are tried before this one.
ALLOWED = (
    ".git", ".venv", "venv", ".python-version", ".DS_Store",
    "webhooks.db", "webhooks.db-*", "webhooks.demo-secret", ".webhooks.demo-secret.lock", ".webhooks",
)  # fmt: skip


def starter_files() -> dict[str, Path]:
    """{path in the new project: file to copy}."""
    return {
        str(file.relative_to(STARTER)).replace("dot-", "."): file
        for file in sorted(STARTER.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }


def write_project(directory: Path) -> list[str]:
    """Copy the starter project into an empty (or missing) directory; what was written. Raises `Failure`."""
    if directory.exists() and not directory.is_dir():
        raise Failure(f"{str(directory)!r} is a file; name a directory, or none for this one")
    if directory.is_dir():
        there = sorted(
            entry.name for entry in directory.iterdir() if not any(fnmatchcase(entry.name, name) for name in ALLOWED)
        )
        if there:
            shown = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
            raise Failure(f"{str(directory)!r} is not empty: {shown}; nothing was written; name another directory")
    files = starter_files()
    try:
        for name, source in files.items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    except OSError as error:
        raise Failure(f"{str(directory)!r} cannot be written: {error.strerror}") from error
    return list(files)


@click.command(epilog="Example: webhooks init my-consumer && cd my-consumer && webhooks dev --demo")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("."))
def init(directory: Path) -> None:
    """Write a starter project (handlers/, settings, wsgi.py, gunicorn.conf.py, Makefile) into an empty directory."""
    for name in write_project(directory):
        click.echo(name)
    there = "" if directory.resolve() == Path.cwd() else f"cd {directory} && "
    output.print_note(f"next: {there}webhooks dev --demo")
