"""`webhooks init`: write the starter project, which travels in the wheel as `webhooks/starter/`.

What deploys it, `webhooks/starter_deploy/`, is written with --deploy, into a project that is there as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import click

from webhooks.cli import Failure, output

#: Beside this package. Names that begin with `dot-` are written with a dot: build tools leave dot-files out.
STARTER = Path(__file__).resolve().parent.parent / "starter"
DEPLOY = STARTER.with_name("starter_deploy")
#: What may be in the directory already: what git, a virtual environment and the shell leave there, and what our own
#: commands do when they are tried before this one.
ALLOWED = (
    ".git", ".venv", "venv", ".python-version", ".DS_Store",
    "webhooks.db", "webhooks.db-*", "webhooks.demo-secret", ".webhooks.demo-secret.lock", ".webhooks",
)  # fmt: skip


def starter_files(root: Path = STARTER) -> dict[str, Path]:
    """{path in the new project: file to copy}. root: `STARTER` or `DEPLOY`."""
    return {
        str(file.relative_to(root)).replace("dot-", "."): file
        for file in sorted(root.rglob("*"))
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
    return _copy(starter_files(), directory)


def write_deployment(directory: Path) -> list[str]:
    """Write what deploys a project into its directory; what was written. Raises `Failure`, and writes nothing over a file."""
    files = starter_files(DEPLOY)
    if there := [name for name in files if (directory / name).exists()]:
        raise Failure(
            f"{', '.join(there)} would be written over; nothing was written; move it away, or keep what is there"
        )
    return _copy(files, directory)


def _copy(files: Mapping[str, Path], directory: Path) -> list[str]:
    try:
        for name, source in files.items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    except OSError as error:
        raise Failure(f"{str(directory)!r} cannot be written: {error.strerror}") from error
    return list(files)


@click.command(epilog="Example: webhooks init my-consumer && cd my-consumer && webhooks dev --demo")
@click.option("--deploy", is_flag=True, help="Also what deploys it: systemd units, Dockerfile, compose, Kubernetes.")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("."))
def init(directory: Path, deploy: bool) -> None:
    """Write a starter project (handlers/, settings, wsgi.py, gunicorn.conf.py, Makefile) into an empty directory.

    With --deploy in a project that is there, only the files that deploy it are written.
    """
    is_project = (directory / "wsgi.py").exists() and (directory / "handlers").is_dir()
    written = [] if deploy and is_project else write_project(directory)
    if deploy:
        written += write_deployment(directory)
    for name in written:
        click.echo(name)
    there = "" if directory.resolve() == Path.cwd() else f"cd {directory} && "
    output.print_note(f"next: {there}webhooks dev --demo")
