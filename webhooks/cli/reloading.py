"""Reloads of `webhooks dev`: what is saved runs, and what does not load changes nothing.

`Watch` sees by a look five times a second which files below the directory have changed, and waits until they no
longer do. `Reloader` then takes the steps, each of which may say no, so that the code of before goes on:

    each changed file compiles -> the settings can be used, the tables are at head -> a worker loads the handlers
      -> it takes the place of the one before, and gunicorn loads them too

Looking costs a `stat` of each file: 2 ms for 200 of them. It needs no library, and sees what an editor on
another system saves into a mounted directory, of which the kernel tells nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from webhooks.cli.process_group import ManagedProcess, ProcessGroup

#: How often files are looked at.
LOOK_SECONDS = 0.2
#: A server that does not say that it has loaded is waited for so long before the reload is told nonetheless.
SERVER_SECONDS = 10.0
#: As many files are looked at, at most.
MOST_FILES = 5_000
#: Directories that hold no code of the author's.
_OTHERS = frozenset(("__pycache__", "node_modules", "site-packages", "tests", "build", "dist"))
#: Files besides Python's.
_SETTINGS = ("webhooks.toml",)

#: {file: what changes when it is saved}
Snapshot = Mapping[Path, tuple[int, int, int]]


def snapshot(directory: Path) -> Snapshot:
    """Code and settings below a directory, without what is installed there, hidden, or a test."""
    found: dict[Path, tuple[int, int, int]] = {}
    for path in _files(directory):
        with contextlib.suppress(OSError):
            stat = path.stat()
            found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if len(found) >= MOST_FILES:
            break
    return found


def _files(directory: Path) -> Iterator[Path]:
    waiting = [directory]
    while waiting:
        try:
            entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
        except OSError:
            continue
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            continue  # a virtual environment
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name in _OTHERS:
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif (name.endswith(".py") and not name.startswith(("test_", "conftest"))) or name in _SETTINGS:
                yield Path(entry.path)


class Watch:
    """Which files changed since the last time that it was said. look: what is there now."""

    def __init__(self, look: Callable[[], Snapshot]) -> None:
        self._look = look
        self._seen = self._last = look()

    def changed(self) -> list[Path]:
        """Those that were saved, made or removed; none while they still change."""
        now = self._look()
        is_quiet, self._last = now == self._last, now
        if not is_quiet or now == self._seen:
            return []
        before, self._seen = self._seen, now
        return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def syntax_problems(paths: Iterable[Path], directory: Path) -> list[str]:
    """What keeps Python files from being compiled: file, line, and the line with a mark; others are left to the import."""
    problems = []
    for path in paths:
        if path.suffix != ".py":
            continue
        try:
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        except SyntaxError as error:
            problems.append(f"{shown(path, directory)}, line {error.lineno}: {type(error).__name__}: {error.msg}")
            if error.text:
                line = error.text.rstrip("\n")
                cut = len(line) - len(line.lstrip())
                problems += [f"  {line.strip()}", f"  {' ' * max(0, (error.offset or 1) - 1 - cut)}^"]
        except (OSError, ValueError):
            continue
    return problems


def shown(path: Path, directory: Path) -> str:
    """A file as its author calls it."""
    return str(path.relative_to(directory) if path.is_relative_to(directory) else path)


class Reloader:
    """Reloads the processes of a group when files change; `turn` is called again and again.

    directory: of the project.
    prepare: reads the settings anew and brings the tables to head; the environment of the children. Raises what
        `problems_of` can say.
    problems_of: lines for what `prepare` raised.
    tell: shows a word, a text, and lines below them.
    keep: keeps the files that were saved and what is wrong with them for the console; nothing is wrong once they loaded.
    worker: how a worker is started; None where none runs here.
    ready: the variable by which it is told on what to say that it is ready.
    """

    def __init__(
        self,
        group: ProcessGroup,
        directory: Path,
        *,
        prepare: Callable[[], Mapping[str, str]],
        problems_of: Callable[[Exception], Sequence[str]],
        tell: Callable[[str, str, Sequence[str]], None],
        worker: Sequence[str] | None,
        ready: str,
        monotonic: Callable[[], float] = time.monotonic,
        keep: Callable[[Sequence[str], Sequence[str]], None] = lambda files, problems: None,
    ) -> None:
        self._group = group
        self._directory = directory
        self._prepare = prepare
        self._problems_of = problems_of
        self._tell = tell
        self._worker = worker
        self._ready = ready
        self._monotonic = monotonic
        self._keep = keep
        self._watch = Watch(lambda: snapshot(directory))
        self._next_look = 0.0
        self._candidate: _Candidate | None = None
        self._server = ServerWatch()
        #: What is to be told once the server has loaded it too: (until when that is waited for, what to tell)
        self._arriving: tuple[float, Callable[[], None]] | None = None
        #: what is saved and does not run yet: of a save that did not load too
        self._pending: set[Path] = set()

    def turn(self) -> None:
        """Look, or see how far a reload has come."""
        if self._monotonic() >= self._next_look:
            self._next_look = self._monotonic() + LOOK_SECONDS
            if changed := self._watch.changed():
                self._pending.update(changed)
                self.stop()  # what was being loaded is not what stands there now
                self._begin(self._monotonic())
        if self._candidate is not None:
            self._follow(self._candidate)
        has_new_server = self._server.look()
        if self._arriving is not None and (has_new_server or self._monotonic() > self._arriving[0]):
            self._arriving[1]()
            self._arriving = None

    @property
    def server_ready(self) -> tuple[str, int]:
        """What gunicorn is started with: see `ManagedProcess`."""
        return self._ready, self._server.descriptor

    def close(self) -> None:
        """End what was not reached."""
        self.stop()
        self._server.close()

    def stop(self) -> None:
        """End a worker that has not begun."""
        if self._candidate is not None:
            self._candidate.drop()
            self._candidate = None

    def _begin(self, since: float) -> None:
        if problems := syntax_problems(sorted(path for path in self._pending if path.exists()), self._directory):
            self._refuse(problems)
            return
        try:
            environment = self._prepare()
        except Exception as error:
            self._refuse(self._problems_of(error))
            return
        if self._worker is None:
            self._take_over(environment, since, {})
            return
        self._candidate = _Candidate(self._group, self._worker, self._ready, environment, since)

    def _follow(self, candidate: _Candidate) -> None:
        report = candidate.report()
        if report is None:
            return
        self._candidate = None
        if not report or "problems" in report:
            self._refuse(["what is wrong stands above"], report.get("problems"))
            return
        self._group.replace(candidate.process)
        self._take_over(candidate.environment, candidate.since, report)

    def _take_over(self, environment: Mapping[str, str], since: float, report: Mapping[str, Any]) -> None:
        is_new, self._group.environment = environment != self._group.environment, environment
        gunicorn = self._group.children.get("gunicorn")
        self._server.expect()
        if gunicorn is not None and is_new:
            self._group.restart("gunicorn")
        elif gunicorn is not None:
            gunicorn.send(signal.SIGHUP)
        names, below = self._names(), _lines(report)
        self._pending.clear()
        self._keep((), ())
        for doubt in report.get("doubts", ()):
            self._tell("warning", doubt, ())

        def arrived() -> None:
            self._tell("reloaded", f"{names} ({self._monotonic() - since:.1f} s)", below)

        self._arriving = (self._monotonic() + SERVER_SECONDS, arrived)

    def _refuse(self, problems: Sequence[str], said_above: Sequence[str] | None = None) -> None:
        """Change nothing. problems: to be told. said_above: where the worker has told them."""
        kept = (
            problems if said_above is None else [problem.replace(f"{self._directory}/", "") for problem in said_above]
        )
        self._keep([shown(path, self._directory) for path in sorted(self._pending)], kept)
        below = [*problems, "the code and the settings of before go on; the next save is tried"]
        self._tell("not loaded", self._names(), below)

    def _names(self) -> str:
        names = [shown(path, self._directory) for path in sorted(self._pending)]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _lines(report: Mapping[str, Any]) -> list[str]:
    """What a worker said when it was ready, for people."""
    lines = []
    if "handlers" in report:
        lines.append(f"handlers: {', '.join(report['handlers']) or 'none'}")
    if report.get("try"):
        lines.append(f"try: {report['try']}")
    return lines


class ServerWatch:
    """Sees when a new worker of gunicorn has taken over: it has told its pid, and the one before is gone."""

    def __init__(self) -> None:
        self._reads, self.descriptor = os.pipe()
        self._told = b""
        self._before: set[int] = set()
        self._expects = False

    def expect(self) -> None:
        """From now on, those that have told their pid are to go."""
        self.look()
        self._before, self._told, self._expects = _pids(self._told), b"", True

    def look(self) -> bool:
        """Whether what was expected is there; said once."""
        while select.select([self._reads], [], [], 0)[0]:
            self._told += os.read(self._reads, 4096)
        if self._expects and _pids(self._told) and not any(map(_is_alive, self._before)):
            self._expects = False
            return True
        return False

    def close(self) -> None:
        """Listen no more."""
        os.close(self._reads)
        os.close(self.descriptor)


def _pids(told: bytes) -> set[int]:
    return {int(line) for line in told.split() if line.isdigit()}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


class _Candidate:
    """A worker that has been started and may take the place of the one before.

    environment: of it, and of a gunicorn that goes with it.
    since: when its reload began.
    """

    def __init__(
        self,
        group: ProcessGroup,
        command: Sequence[str],
        ready: str,
        environment: Mapping[str, str],
        since: float,
    ) -> None:
        self.environment = environment
        self.since = since
        self._reads, writes = os.pipe()
        self._said = b""
        try:
            self.process: ManagedProcess = group.beside("worker", command, environment, (ready, writes))
        finally:
            os.close(writes)

    def report(self) -> Mapping[str, Any] | None:
        """What it said when it was ready; {} where it ended before; None while it is loading."""
        while select.select([self._reads], [], [], 0)[0]:
            chunk = os.read(self._reads, 65536)
            if not chunk:
                return self._read()
            self._said += chunk
        return None

    def _read(self) -> Mapping[str, Any]:
        os.close(self._reads)
        try:
            report: Mapping[str, Any] = json.loads(self._said)
        except ValueError:
            report = {}
        if not report or "problems" in report:
            self.process.process.wait()
            self.process.reap_guard()
        return report

    def drop(self) -> None:
        """End it."""
        os.close(self._reads)
        self.process.send(signal.SIGKILL)
        self.process.join(time.monotonic() + 5)


__all__ = ["Reloader", "ServerWatch", "Watch", "shown", "snapshot", "syntax_problems"]
