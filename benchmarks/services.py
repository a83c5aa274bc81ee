"""What the peers need besides PostgreSQL: a Redis of our own, packages of the Node peers, a newer Python for two of them.

Each may be missing on a machine. Then its peers are left out, each with the reason, and the rest is measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.databases import PREFIX, Unavailable
from benchmarks.processes import Process, free_port, running

PEERS = Path(__file__).resolve().parent / "peers"


@contextlib.contextmanager
def redis() -> Iterator[tuple[str, Process]]:
    """A Redis as a package manager sets it up, on a free port: its URL and its process. Raises `Unavailable`."""
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable("redis-server is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as directory:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
        with running(Process(command, log=Path(directory) / "redis.log")) as process:
            process.wait_for_port(port)
            yield f"redis://127.0.0.1:{port}/0", process


def newer_python() -> str:
    """An interpreter of at least 3.12 with the packages of peers/requirements-newer.txt; made at first use. Raises `Unavailable`."""
    wanted = PEERS / "requirements-newer.txt"
    name = f"{PREFIX}python_{os.getuid()}_{hashlib.sha256(wanted.read_bytes()).hexdigest()[:12]}"
    directory = Path(tempfile.gettempdir()) / name
    python, is_done = directory / "bin" / "python", directory / "is_done"
    if is_done.exists():
        return str(python)
    found = _interpreter()
    shutil.rmtree(directory, ignore_errors=True)
    for command in (
        [found, "-m", "venv", str(directory)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            shutil.rmtree(directory, ignore_errors=True)
            raise Unavailable(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-300:]}")
    is_done.touch()
    return str(python)


def _interpreter() -> str:
    """A Python of at least 3.12: ours, one on the PATH, or one of pyenv's. Raises `Unavailable`."""
    if sys.version_info >= (3, 12):
        return sys.executable
    of_pyenv = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.1[2-9]*/bin/python"))
    on_path = [found for minor in (14, 13, 12) if (found := shutil.which(f"python3.{minor}"))]
    for candidate in [*on_path, *map(str, reversed(of_pyenv))]:
        # pyenv's shims are on the PATH for versions that are not chosen, and then only say so
        if subprocess.run([candidate, "-c", "import venv"], capture_output=True).returncode == 0:
            return candidate
    raise Unavailable("it needs a Python of at least 3.12, and none is on the PATH or among pyenv's")


def node_modules() -> Path:
    """Where the packages of peers/package.json are installed; does so at first use. Raises `Unavailable`."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Unavailable("node and npm are not installed")
    wanted = (PEERS / "package.json").read_bytes()
    directory = Path(tempfile.gettempdir()) / f"{PREFIX}node_{os.getuid()}_{hashlib.sha256(wanted).hexdigest()[:12]}"
    modules = directory / "node_modules"
    if modules.exists():
        return modules
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "package.json").write_bytes(wanted)
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=directory,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        shutil.rmtree(directory, ignore_errors=True)
        raise Unavailable(f"npm install failed: {done.stderr.strip()[-300:]}")
    return modules
