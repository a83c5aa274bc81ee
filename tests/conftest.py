"""Fixtures for every test, and the last lines of a run, which say what ran on which database.

`tests/README.md` lists the fixtures. Nothing here needs a service of this machine: PostgreSQL comes from a
wheel (`tests/postgresql.py`), SQLite is a file in the test's own directory.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import functools
import gc
import importlib
import importlib.metadata
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import hypothesis.configuration
import pytest

from tests import postgresql
from tests.forkserver import ForkServer
from tests.support import (
    LEFT_OUT,
    PAYLOADS,
    PROFILE,
    ROOT,
    Clock,
    examples,
    measure_slowness,
    on_one_database,
    patience,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from webhooks.database import Database

# examples that failed are remembered in the checkout, though every test runs in a directory of its own; and two
# busy cores say nothing about how long an example may take
hypothesis.configuration.set_hypothesis_home_dir(ROOT / ".hypothesis")
# every run looks for new examples but that of CI, which judges one commit: there the same commit gets the same ones
hypothesis.settings.register_profile(PROFILE, deadline=None, max_examples=examples(100), derandomize=PROFILE == "full")
hypothesis.settings.load_profile(PROFILE)

_directory = pytest.StashKey[Path]()
_guard = pytest.StashKey[subprocess.Popen[bytes]]()

#: Which of xdist's workers this process is.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "master")

#: Variables that change what the code under test does.
_LEAKING = ("DATABASE_URL", "SECRET_KEY", "PORT", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "LOG_LEVEL", "LOG_FORMAT")
_LEAKING_PREFIXES = ("WEBHOOKS_", "FORWARD_", "FLASK_", "PROMETHEUS_", "SENTRY_", "OTEL_")
#: … and those that change what it prints.
_LEAKING_LOOKS = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE")


# -- one directory and one PostgreSQL server a run -----------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until all is collected: what it makes stays
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[_directory] = Path(worker["webhooks_directory"])
        return
    with contextlib.suppress(OSError):
        _compile()
    measure_slowness()
    directory = Path(tempfile.mkdtemp(prefix="webhooks-tests-", dir=postgresql.memory()))
    directory.chmod(0o755)  # as root, the server runs as a user of its own
    config.stash[_directory] = directory
    config.stash[_guard] = postgresql.start_guard(directory)


def _compile() -> None:
    """Compile the house once, also where PYTHONDONTWRITEBYTECODE is set: each process of a test would do it again."""
    sys.dont_write_bytecode = False  # xdist's workers are started with what it says
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for package in ("webhooks", "handlers"):
        compileall.compile_dir(ROOT / package, quiet=2, workers=0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`: more workers than cores, since many a test waits for a process, a lease or a poll."""
    return 3 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Called by xdist in the controller, for each worker."""
    node.workerinput["webhooks_directory"] = str(node.config.stash[_directory])  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    # once: pytest and then Python would look through and free all that there is, for seconds
    gc.collect()
    gc.freeze()
    guard = config.stash.get(_guard, None)
    if guard is not None:
        try:
            postgresql.drop_template(config.stash[_directory])
        finally:
            guard.communicate()  # closes its standard input, and waits until all is cleared up


def migrate(url: str) -> None:
    """Apply the core's migrations to the database of `url`."""
    from webhooks.database.connect import connect
    from webhooks.database.migrations.run import upgrade

    database = connect(url)
    try:
        upgrade(database)
    finally:
        database.dispose()


@pytest.fixture(scope="session")
def postgresql_server(request: pytest.FixtureRequest) -> postgresql.Server:
    """The run's PostgreSQL server, with a migrated template."""
    if os.environ.get(postgresql.SKIP) == "1":
        pytest.skip(f"{postgresql.SKIP}=1")
    try:
        return postgresql.find_server(request.config.stash[_directory], migrate)
    except postgresql.NoPostgreSQL as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def _worker_database(postgresql_server: postgresql.Server) -> Iterator[postgresql.WorkerDatabase]:
    with postgresql_server.database(_WORKER, postgresql_server.template) as url:
        database = postgresql.WorkerDatabase(postgresql_server, url)
        yield database
        database.close()


@pytest.fixture(scope="session")
def _sqlite_template(request: pytest.FixtureRequest) -> Path:
    """Of the run: migrated by the first worker that needs it."""
    directory = request.config.stash[_directory]
    path = directory / "template.db"
    with (directory / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            draft = directory / "draft.db"
            migrate(f"sqlite:///{draft}")
            draft.rename(path)
    return path


@pytest.fixture(scope="session")
def fork_server(request: pytest.FixtureRequest) -> Iterator[ForkServer]:
    """Starts Python programs by a fork of a process that has imported everything."""
    server = ForkServer(request.config.stash[_directory])
    yield server
    server.close()


# -- databases ---------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path, _sqlite_template: Path) -> Iterator[str]:
    """The URL of a migrated SQLite file of this test alone. Fails the test if it leaves the file open."""
    _note(request, f"SQLite {sqlite3.sqlite_version}")
    path = tmp_path / "webhooks.db"
    shutil.copyfile(_sqlite_template, path)
    yield f"sqlite:///{path}"
    _fail_if_open(path)


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated, empty PostgreSQL database. Fails the test if it leaves a connection open."""
    _note(request, "PostgreSQL")
    database: postgresql.WorkerDatabase = request.getfixturevalue("_worker_database")
    _note(request, database.server.label)
    database.empty()
    yield database.url
    if left := database.wait_for_connections_to_close():
        pytest.fail("the test left connections open; dispose its engine:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated, empty database: the test runs once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """As `database_url`, without any table: for tests of migrations. Slower."""
    if request.param == "sqlite":
        _note(request, f"SQLite {sqlite3.sqlite_version}")
        path = tmp_path / "webhooks.db"
        yield f"sqlite:///{path}"
        _fail_if_open(path)
        return
    _note(request, "PostgreSQL")
    server: postgresql.Server = request.getfixturevalue("postgresql_server")
    _note(request, server.label)
    with server.database(f"{_WORKER}_empty") as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A `Database` connected to `database_url`, disposed afterwards."""
    from webhooks.database.connect import connect

    database = connect(database_url)
    yield database
    database.dispose()


def _fail_if_open(path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():  # macOS; CI runs on Linux
        return
    targets = [os.readlink(entry) for entry in descriptors.iterdir() if entry.is_symlink() and os.path.lexists(entry)]
    if left := sorted({target for target in targets if target.startswith(str(path))}):
        pytest.fail(f"the test left {', '.join(left)} open; dispose its engine", pytrace=False)


# -- nothing of the developer's comes in, nothing of the test stays -----------------------------------------


@pytest.fixture(scope="session")
def _empty_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that ask for no directory: to make one for each costs more than most of them."""
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(autouse=True)
def _own_environment(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _empty_directory: Path
) -> Iterator[None]:
    """Run in an empty directory, without settings of whoever runs the tests (only WEBHOOKS_TEST_* stay)."""
    for name in list(os.environ):
        if name.startswith("WEBHOOKS_TEST_"):
            continue
        if name.startswith(_LEAKING_PREFIXES) or name in _LEAKING or name in _LEAKING_LOOKS:
            monkeypatch.delenv(name)
    asks = "tmp_path" in request.fixturenames
    monkeypatch.chdir(request.getfixturevalue("tmp_path") if asks else _empty_directory)
    path = list(sys.path)
    yield
    # a directory whose handlers were loaded would lend its own to the next test; and the empty one is used again
    lefts = list(_empty_directory.iterdir())
    for left in lefts:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    if lefts or sys.path != path:  # not always: whatever is imported next would list each directory anew
        sys.path[:] = path
        importlib.invalidate_caches()


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have each HTTP client read one certificate, not 140, which takes 25 ms: no test speaks TLS with the world."""
    paths = ssl.get_default_verify_paths()
    if not os.path.isfile(paths.openssl_cafile):
        yield
        return
    end = "-----END CERTIFICATE-----\n"
    one = tmp_path_factory.mktemp("authority") / "one.pem"
    one.write_text(Path(paths.openssl_cafile).read_text().partition(end)[0] + end)
    paths = paths._replace(cafile=str(one), openssl_cafile=str(one), capath="", openssl_capath="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "get_default_verify_paths", lambda: paths)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_look_at_packages() -> Iterator[None]:
    """Read what installed packages declare once for each `sys.path`: an application made anew reads a hundred files."""
    read: Any = importlib.metadata.entry_points

    @functools.lru_cache
    def look(path: tuple[str, ...], **which: str) -> Any:
        return read(**which)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.metadata, "entry_points", lambda **which: look(tuple(sys.path), **which))
        yield


class _Compiled:
    """What the engines of one kind of database compiled, as one of them looks for it: SQLAlchemy's key begins with its dialect."""

    def __init__(self) -> None:
        from sqlalchemy.util import LRUCache

        self._cache: Any = LRUCache(2000)

    def get(self, key: tuple[Any, ...]) -> Any:
        return self._cache.get(key[1:])

    def __setitem__(self, key: tuple[Any, ...], compiled: Any) -> None:
        self._cache[key[1:]] = compiled


@pytest.fixture(scope="session", autouse=True)
def _statements_are_compiled_once() -> Iterator[None]:
    """Not once for each engine, of which a test makes two or three. In the profile `full` they are, as in production."""
    from webhooks.database.postgresql import PostgreSQLDatabase
    from webhooks.database.sqlite import SQLiteDatabase

    def sharing(make_engine: Callable[[Any], Engine]) -> Callable[[Any], Engine]:
        compiled = _Compiled()

        def make(database: Database) -> Engine:
            engine = make_engine(database)
            engine.update_execution_options(compiled_cache=compiled)
            return engine

        return make

    with pytest.MonkeyPatch.context() as patch:
        for kind in () if PROFILE == "full" else (PostgreSQLDatabase, SQLiteDatabase):
            patch.setattr(kind, "_make_engine", sharing(kind._make_engine))
        yield


@pytest.fixture(autouse=True)
def _no_threads_left(_own_environment: None) -> Iterator[None]:
    """Fail a test that leaves a thread behind which would keep its process alive."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in left:
        thread.join(timeout=patience(1))
    if names := [thread.name for thread in left if thread.is_alive()]:
        pytest.fail(f"the test left threads running: {', '.join(names)}", pytrace=False)


@pytest.fixture(autouse=True)
def _no_application_context_left() -> Iterator[None]:
    """Fail a test that leaves a Flask context pushed: the next one would run inside it."""

    def is_pushed() -> bool:
        flask = sys.modules.get("flask")
        return flask is not None and flask.has_app_context()

    was_pushed = is_pushed()  # by a test before, which was told
    yield
    if is_pushed() and not was_pushed:
        pytest.fail("the test left a Flask application context pushed", pytrace=False)


@pytest.fixture(autouse=True)
def _registration_stays_open() -> Iterator[None]:
    """Undo what a start in this process does to the registry that all tests share: a plugin may be imported later."""
    yield
    registry: Any = sys.modules.get("webhooks.routing.registry")
    if registry is not None:
        registry.default_registry._frozen = False


# -- small things ------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    """A clock that shows 2026-03-10T14:05:12Z until it is moved."""
    return Clock()


@pytest.fixture(scope="session")
def payload() -> Callable[[str], bytes]:
    """Read a sample payload of Close by its file name: `payload("lead_merged")` → the body's bytes."""

    def read(name: str) -> bytes:
        return (PAYLOADS / f"{name.removesuffix('.json')}.json").read_bytes()

    return read


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Have each worker import another part of the tests first, so that in a fresh clone each file is compiled once."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    asked = [Path(argument.partition("::")[0]).resolve() for argument in session.config.args]
    files = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if any(map(path.is_relative_to, asked)))
    for path in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # collecting it says what is wrong
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if PROFILE != "full":
        items[:] = on_one_database(items)
    if workers := getattr(config, "workerinput", {}).get("workercount"):
        items[:] = _long_ones_early(items, workers)
    for marker, (asked, command) in LEFT_OUT.items():
        variable, _, value = asked.partition("=")
        if os.environ.get(variable) != value:
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=f"{marker}; `{command}` runs it"))


def pytest_collection_finish() -> None:
    gc.freeze()  # each collection of the tests' own garbage would look through ten thousand tests
    gc.set_threshold(10_000)  # most of what a test makes is freed without being looked for
    gc.enable()


def _long_ones_early(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """The same tests, so that no worker of xdist has a long one last: each begins with a part of the list as long as others.

    In every part a fifth is tests without processes, and comes last. A file marked `together` is in one part.
    """
    quick = [item for item in items if "acceptance" not in item.path.parts]
    last = quick[: len(items) // 5]
    kept = set(last)
    parts: list[list[pytest.Item]] = [[] for _ in range(workers)]
    alone: list[pytest.Item] = []
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("together"):
            files.setdefault(item.path, []).append(item)
        elif item not in kept:
            alone.append(item)
    for number, together in enumerate(files.values()):
        parts[number % workers] += together
    for item in (*alone, *(item for item in last if not item.get_closest_marker("together"))):
        min(parts, key=len).append(item)
    return [item for part in sorted(parts, key=len) for item in part]


# -- the last lines ----------------------------------------------------------------------------------------


def _note(request: pytest.FixtureRequest, database: str) -> None:
    """Put on the test's report which database it ran on; xdist carries it to the controller."""
    properties = request.node.user_properties
    properties[:] = [pair for pair in properties if pair[0] != "database"]
    properties.append(("database", database))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    yield  # everybody else's lines, then ours
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            name = dict(getattr(report, "user_properties", ())).get("database", "no database")
            counts.setdefault(str(name), Counter())[outcome] += 1
    if not counts:
        return
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for marker, (_, command) in LEFT_OUT.items():
        if number := sum(reasons[reason] for reason in reasons if f"{marker}; `{command}`" in reason):
            terminalreporter.write_line(f"left out: {number} {marker}; they run in: {command}")
    terminalreporter.write_sep("=", "databases")
    for name in sorted(counts, key=lambda name: (name == "no database", name)):
        line = ", ".join(f"{number} {outcome}" for outcome, number in counts[name].items())
        terminalreporter.write_line(f"{name}: {line}")
    if os.environ.get(postgresql.SKIP) == "1":
        terminalreporter.write_line(f"NOT TESTED on PostgreSQL, because {postgresql.SKIP}=1", yellow=True, bold=True)
    elif not any(name.startswith("PostgreSQL ") and counts[name]["passed"] for name in counts):
        terminalreporter.write_line("nothing passed on PostgreSQL in this run", yellow=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Let xdist carry what was logged: tests log half characters, which UTF-8 does not have."""
    report = yield
    report.sections = [  # type: ignore[attr-defined]
        (name, text.encode("utf-8", "backslashreplace").decode("utf-8"))
        for name, text in report.sections  # type: ignore[attr-defined]
    ]
    return report
