"""What the peers need besides PostgreSQL: a Redis of our own, and the packages of the Node peers.

Either may be missing on a machine. Then its peers are left out, each with the reason, and the rest is measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
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
