"""What `webhooks dev` sees of a save, and what it does about it, without a process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from webhooks.cli.reloading import Reloader, ServerWatch, Watch, snapshot, syntax_problems
from webhooks.errors import ConfigurationError


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_code_and_settings_are_watched_and_nothing_that_is_installed_hidden_or_a_test(tmp_path: Path) -> None:
    for name in ("handlers/a.py", "shop/models.py", "webhooks.toml", "wsgi.py"):
        write(tmp_path / name)
    for name in (
        ".venv/x.py", "venv/pyvenv.cfg", "venv/lib/y.py", "handlers/__pycache__/a.py", "tests/test_a.py", "test_b.py",
        "conftest.py", "node_modules/z.py", "webhooks.db", "notes.txt",
    ):  # fmt: skip
        write(tmp_path / name)
    assert {str(path.relative_to(tmp_path)) for path in snapshot(tmp_path)} == {
        "handlers/a.py", "shop/models.py", "webhooks.toml", "wsgi.py",
    }  # fmt: skip


def test_a_change_is_told_once_it_has_come_to_rest() -> None:
    a, b = Path("a"), Path("b")
    looks: list[dict[Path, tuple[int, int, int]]] = [{a: (1, 1, 1)}]
    watch = Watch(lambda: looks[-1])
    assert watch.changed() == []
    looks.append({a: (2, 1, 1)})
    assert watch.changed() == []  # perhaps half of it is written
    looks.append({a: (3, 1, 1), b: (1, 1, 1)})
    assert watch.changed() == []
    assert watch.changed() == [a, b]
    assert watch.changed() == []
    looks.append({b: (1, 1, 1)})
    watch.changed()
    assert watch.changed() == [a]  # removed


def test_a_syntax_error_is_shown_with_its_line_and_a_mark(tmp_path: Path) -> None:
    bad = write(tmp_path / "handlers" / "a.py", "def f():\n    return 1 +\n")
    nul = write(tmp_path / "b.py", "x = '\0'")
    good = write(tmp_path / "c.py", "x = 1\n")
    problems = syntax_problems([bad, nul, good, tmp_path / "missing.py", tmp_path / "webhooks.toml"], tmp_path)
    assert problems[0] == "handlers/a.py, line 2: SyntaxError: invalid syntax"
    assert problems[1:3] == ["  return 1 +", "            ^"]


class Group:
    """Stands for the processes; a worker that is started runs until the test ends it."""

    def __init__(self) -> None:
        self.environment: Mapping[str, str] = {}
        self.children: dict[str, Any] = {}
        self.restarted: list[str] = []
        self.replaced: list[Any] = []
        self.started: list[Worker] = []

    def beside(self, name: str, command: Sequence[str], environment: Mapping[str, str], ready: tuple[str, int]) -> Any:
        self.started.append(Worker(os.dup(ready[1])))
        return self.started[-1]

    def replace(self, process: Any) -> None:
        self.replaced.append(process)

    def restart(self, name: str) -> None:
        self.restarted.append(name)


class Worker:
    """A worker that is loading; the other end of what `dev` listens to."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.process = self
        self.ended = False

    def says(self, text: str = "") -> None:
        os.write(self.descriptor, text.encode())
        os.close(self.descriptor)

    def wait(self) -> None: ...

    def reap_guard(self) -> None: ...

    def send(self, number: int) -> None:
        self.ended = True

    def join(self, deadline: float) -> None:
        os.close(self.descriptor)


class Server:
    """gunicorn, which hears a signal."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def send(self, number: int) -> None:
        self.signals.append(number)


class Bench:
    """A reloader over a directory, and what it told."""

    def __init__(self, directory: Path, prepare: Callable[[], Mapping[str, str]] = dict) -> None:
        self.directory = directory
        self.told: list[tuple[str, str, Sequence[str]]] = []
        self.kept: list[tuple[list[str], list[str]]] = []
        self.group = Group()
        self.server = self.group.children["gunicorn"] = Server()
        self.now = 0.0
        self.prepare = prepare
        self.reloader = Reloader(
            self.group,  # type: ignore[arg-type]
            directory,
            prepare=lambda: self.prepare(),
            problems_of=lambda error: list(error.problems) if isinstance(error, ConfigurationError) else [str(error)],
            tell=lambda word, text, below: self.told.append((word, text, list(below))),
            worker=["worker"],
            ready="READY",
            monotonic=lambda: self.now,
            keep=lambda files, problems: self.kept.append((list(files), list(problems))),
        )

    def save(self, name: str, text: str = "x = 1\n") -> None:
        write(self.directory / name, text)
        for _ in range(2):
            self.turn()

    def turn(self) -> None:
        self.now += 1
        self.reloader.turn()

    def server_says(self, pid: int) -> None:
        os.write(self.reloader.server_ready[1], b"%d\n" % pid)


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = Bench(tmp_path)
    yield made
    made.reloader.close()


NOBODY = 2**22 + 1  # above what Linux gives to a process


def test_what_is_saved_is_told_once_worker_and_server_have_it(bench: Bench) -> None:
    bench.server_says(NOBODY)
    bench.save("a.py")
    (worker,) = bench.group.started
    assert bench.told == []
    assert bench.group.replaced == []
    worker.says('{"handlers": ["a.b"], "doubts": ["a slip"], "try": "webhooks trigger x"}')
    bench.turn()
    assert bench.group.replaced == [worker]
    assert len(bench.server.signals) == 1
    assert bench.told == [("warning", "a slip", [])]
    bench.server_says(NOBODY + 1)
    bench.turn()
    assert bench.told[1][0] == "reloaded"
    assert bench.told[1][1].startswith("a.py (")
    assert bench.told[1][2] == ["handlers: a.b", "try: webhooks trigger x"]
    for _ in range(20):
        bench.turn()
    assert len(bench.told) == 2


def test_a_worker_that_does_not_get_ready_leaves_everything_as_it_is(bench: Bench) -> None:
    bench.save("a.py")
    bench.group.started[0].says()
    bench.turn()
    assert bench.group.replaced == []
    assert bench.server.signals == []
    assert bench.told[0][:2] == ("not loaded", "a.py")


def test_a_syntax_error_starts_no_worker_until_it_is_gone(bench: Bench) -> None:
    bench.save("a.py", "x =\n")
    bench.save("b.py")
    assert bench.group.started == []
    assert [(word, text) for word, text, _ in bench.told] == [("not loaded", "a.py"), ("not loaded", "a.py, b.py")]
    bench.save("a.py", "x = 12345\n")
    assert len(bench.group.started) == 1


def test_what_does_not_load_is_kept_for_the_console_until_it_does(bench: Bench) -> None:
    bench.save("handlers/a.py", "x =\n")
    assert bench.kept[-1][0] == ["handlers/a.py"]
    assert bench.kept[-1][1][0] == "handlers/a.py, line 1: SyntaxError: invalid syntax"
    bench.save("handlers/a.py", "import nothing_of_that_name\n")
    place = f"{bench.directory}/handlers/a.py, line 1"
    bench.group.started[-1].says(f'{{"problems": ["{place}: ModuleNotFoundError: no"]}}')
    bench.turn()
    assert bench.kept[-1] == (["handlers/a.py"], ["handlers/a.py, line 1: ModuleNotFoundError: no"])
    assert bench.told[-1][2][0] == "what is wrong stands above"
    assert bench.group.replaced == []
    bench.save("handlers/a.py", "x = 12345\n")
    bench.group.started[-1].says('{"handlers": []}')
    bench.turn()
    assert bench.kept[-1] == ([], [])


def test_a_later_save_takes_the_place_of_one_that_is_loading(bench: Bench) -> None:
    bench.save("a.py")
    bench.save("a.py", "x = 12345\n")
    first, second = bench.group.started
    assert first.ended
    second.says("{}")
    bench.turn()
    assert bench.told[0][0] == "not loaded"  # a report without anything is none


def test_settings_that_cannot_be_used_are_said_and_new_ones_start_the_server_anew(bench: Bench) -> None:
    def refuse() -> Mapping[str, str]:
        raise ConfigurationError(["no secret"])

    bench.prepare = refuse
    bench.save("webhooks.toml", "a = 1")
    assert bench.told[0][2][0] == "no secret"
    bench.prepare = lambda: {"SECRET": "new"}
    bench.save("webhooks.toml", "a = 22")
    bench.group.started[0].says('{"handlers": []}')
    bench.turn()
    assert bench.group.restarted == ["gunicorn"]
    assert bench.group.environment == {"SECRET": "new"}


def test_a_server_has_taken_over_when_the_one_before_is_gone() -> None:
    watch = ServerWatch()
    os.write(watch.descriptor, b"%d\n" % os.getpid())
    assert not watch.look()  # nothing is expected
    watch.expect()
    os.write(watch.descriptor, b"%d\n" % (NOBODY + 1))
    assert not watch.look()  # the one before, this process, is still there
    watch.expect()
    os.write(watch.descriptor, b"%d\n" % (NOBODY + 2))
    assert watch.look()
    assert not watch.look()
    watch.close()
