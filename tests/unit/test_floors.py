"""Imports point down the road, one line a package; big libraries stay in their rooms; doors import nothing early.

Read by `ast`, so imports inside functions and under TYPE_CHECKING count. The road is that of docs/architecture.md.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT, each

#: A package or module below `webhooks` imports only from lines above its own. Those on one line do not know each other.
ROAD = (
    ("errors", "failpoints", "forks", "lazy", "version"),
    ("model",),
    ("formats",),
    ("signals", "settings", "tracing"),
    ("routing", "sources", "database"),
    ("session", "selection"),
    ("store",),
    ("intake",),
    ("delivery", "operations"),
    ("http", "dashboard"),
    ("app", "gunicorn_conf"),
    ("sandbox", "contrib"),
    ("testing",),
    ("cli",),
    ("__init__", "__main__"),
)
FLOORS = {package: floor for floor, packages in enumerate(ROAD) for package in packages}

#: {library: {package that may import it: why}}
ROOMS = {
    "sqlalchemy": {
        "database": "engines, connections and tables",
        "session": "a handler's ORM session",
        "store": "the only SQL",
        "testing": "a session to look at what handlers wrote",
    },
    "blinker": {
        "routing": "handlers are receivers",
        "signals": "life-cycle signals",
    },
    "flask": {
        "http": "the routes",
        "dashboard": "its blueprint",
        "app": "assembles the application",
        "sandbox": "a local Close is a small Flask application",
        "testing": "Flask's test client",
    },
    "werkzeug": {
        "http": "as Flask",
        "dashboard": "as Flask; hashes of passwords",
        "app": "ProxyFix",
        "sandbox": "as Flask",
    },
    "itsdangerous": {
        "dashboard": "signs cookies and forms",
    },
    "jinja2": {
        "dashboard": "its templates",
    },
    "markupsafe": {
        "dashboard": "what is escaped already",
    },
    "alembic": {
        "database": "runs the migrations",
    },
    "opentelemetry": {
        "tracing": "opens the spans",
    },
    "gunicorn": {
        "http": "worker classes and settings",
    },
    "prometheus_client": {
        "http": "metrics",
    },
    "celery": {
        "contrib": "attaches to its applications",
    },
}

#: Libraries that take long to import, or are extras: only inside functions.
LATE = {
    "alembic": "takes 0.6 s",
    "psycopg": "is an extra",
    "httpx2": "is an extra",
    "stamina": "is an extra",
    "cryptography": "is an extra",
    "prometheus_client": "is an extra, and must not be imported where metrics are off",
    "opentelemetry": "is an extra, and off costs nothing",
    "sentry_sdk": "is an extra",
    "celery": "is an extra",
    "gevent": "patches what is imported after it, and only server processes want it",
}

#: {(file, library of LATE that it imports at the top): why}
AT_THE_TOP = {
    ("session/postgresql.py", "psycopg"): "is imported where there is PostgreSQL",
    ("session/postgresql_connection.py", "psycopg"): "as session/postgresql.py",
    ("session/postgresql_cursors.py", "psycopg"): "as session/postgresql.py; subclasses its cursors",
    ("session/postgresql_held.py", "psycopg"): "as session/postgresql.py",
    ("http/gunicorn/gevent_worker.py", "gevent"): "gunicorn imports it, and only when it is to serve by gevent",
}

#: Directories below webhooks/ whose Python files are not modules of ours: `webhooks init` writes them.
TEMPLATES = {"starter", "starter_deploy"}


@dataclass(frozen=True)
class Import:
    """One import statement. module: dotted name as imported. name: what `from` takes from it, if it does."""

    line: int
    module: str
    name: str | None
    is_late: bool


#: What has statements below it: an import stands nowhere else.
_HOLDERS = (ast.stmt, ast.excepthandler, ast.match_case)


@functools.cache
def imports_of(source: str, package: str) -> tuple[Import, ...]:
    """Every import in `source`, a module of `package`; relative ones are resolved."""

    def walk(node: ast.AST, is_late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, _HOLDERS):
                continue
            late = is_late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                late = True
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(child.lineno, alias.name, None, is_late)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    above = package.split(".")[: len(package.split(".")) - child.level + 1]
                    base = ".".join([*above, base]) if base else ".".join(above)
                for alias in child.names:
                    yield Import(child.lineno, base, alias.name, is_late)
            yield from walk(child, late)

    return tuple(walk(ast.parse(source), False))


def package_of(where: str) -> str:
    """The package of a module, by its path below webhooks/."""
    return ".".join(["webhooks", *where.split("/")[:-1]])


def room_of(imported: Import) -> str | None:
    """Which of our packages an import enters: `store` for `webhooks.store.events`; None for other people's."""
    head, _, rest = imported.module.partition(".")
    if head != "webhooks":
        return None
    if rest:
        return rest.partition(".")[0]
    # `from webhooks import model` enters model; `from webhooks import on` and `import webhooks` enter the front door
    return imported.name if imported.name in FLOORS else "__init__"


def complaints(where: str, source: str) -> Iterator[str]:
    """What is wrong with the imports of one module, a sentence each. where: its path below webhooks/."""
    room = where.partition("/")[0].removesuffix(".py")
    for imported in imports_of(source, package_of(where)):
        place = f"webhooks/{where}:{imported.line}"
        library = imported.module.partition(".")[0]
        if library in ROOMS and room not in ROOMS[library]:
            yield f"{place}: {room} imports {library}, which only {', '.join(sorted(ROOMS[library]))} may know"
        if library in LATE and not imported.is_late and (where, library) not in AT_THE_TOP:
            yield f"{place}: imports {library} at the top; it {LATE[library]}: import it in the function that needs it"
        target = room_of(imported)
        if target is None or target == room:
            continue
        if target not in FLOORS:
            yield f"{place}: imports webhooks.{target}, which has no place on the ROAD; give it one"
        elif FLOORS[target] >= FLOORS[room]:
            yield (
                f"{place}: {room} imports {target}, which is not before it on the road; move what is shared to a package"
                " before both, or hand it over where objects meet (`app`)"
            )


def modules(root: Path = ROOT) -> list[Path]:
    return sorted(
        path
        for path in (root / "webhooks").rglob("*.py")
        if not TEMPLATES & set(path.relative_to(root / "webhooks").parts)
    )


def below(path: Path) -> str:
    return path.relative_to(ROOT / "webhooks").as_posix()


def room_of_path(path: Path) -> str:
    return below(path).partition("/")[0].removesuffix(".py")


def test_every_module_imports_only_what_is_before_it_on_the_road() -> None:
    found = [line for path in modules() for line in complaints(below(path), path.read_text("utf-8"))]
    assert not found, "\n" + "\n".join(found)


def test_what_stands_here_is_used() -> None:
    """A place, a room or an exception that nothing needs any more would hide the next mistake."""
    packages = {room_of_path(path) for path in modules()}
    assert packages == set(FLOORS), "give each package its place on the ROAD, and no other"
    rooms, tops = set(), set()
    for path in modules():
        where = below(path)
        for imported in imports_of(path.read_text("utf-8"), package_of(where)):
            library = imported.module.partition(".")[0]
            rooms.add((library, where.partition("/")[0].removesuffix(".py")))
            if not imported.is_late:
                tops.add((where, library))
    named = {(library, room) for library, allowed in ROOMS.items() for room in allowed}
    assert sorted(named - rooms) == [], "nothing needs these lines of ROOMS; take them out"
    assert sorted(AT_THE_TOP.keys() - tops) == [], "nothing needs these lines of AT_THE_TOP; take them out"


def test_the_road_in_the_docs_is_this_one() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = page[page.index("## The road") : page.index("## Packages within packages")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = [tuple(sorted(name.strip("`/") for name in row.split())) for row in rows]
    assert told == [tuple(sorted(packages)) for packages in ROAD]


def test_the_docs_name_every_package_and_files_that_exist() -> None:
    house = ROOT / "webhooks"
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = {name.rstrip("/") for name in re.findall(r"`([a-z_/]+)`", page)}
    packages = {path.parent.relative_to(house).as_posix() for path in house.rglob("__init__.py")}
    assert (
        sorted(
            name
            for name in packages - named
            if name not in (".", "starter", "starter_deploy", "starter_deploy/deploy", "store/retention/partitions")
        )
        == []
    )
    files = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page)
    assert [file for file in files if not any((root / file).exists() for root in (house, ROOT))] == []


@pytest.mark.parametrize("path", sorted((ROOT / "handlers").rglob("*.py")), ids=lambda path: path.name)
def test_a_handler_imports_only_what_a_deployer_may(path: Path) -> None:
    """The shipped handlers are examples: what they need must be public."""
    private = [
        f"{path.relative_to(ROOT)}:{imported.line} imports {imported.module}"
        for imported in imports_of(path.read_text("utf-8"), ".".join(path.relative_to(ROOT).parent.parts))
        if room_of(imported) not in (None, "__init__") and not imported.module.endswith(".views")
    ]
    assert not private, f"{private}; handlers take everything from `webhooks`, or a source's typed views"


# -- pages and their doors ------------------------------------------------------------------------------------


def pages() -> list[Path]:
    return [path for path in modules() if path.name == "__init__.py" and path.parent != ROOT / "webhooks"]


def given(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What a package gives by name, {name: module}: as type checkers see it, and as it is when it runs."""
    package = ".".join(path.parent.relative_to(ROOT).parts)
    checked: dict[str, str] = {}
    run: dict[str, str] = {}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                if isinstance(statement, ast.ImportFrom):
                    checked |= {alias.name: statement.module or "" for alias in statement.names}
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazily":
            for module, names in ast.literal_eval(node.args[1]).items():
                run |= dict.fromkeys(names, f"{package}.{module}")
    return checked, run


def test_a_door_gives_what_type_checkers_see() -> None:
    doors = [path for path in pages() if "lazily" in path.read_text("utf-8")]
    assert doors
    for path in doors:
        checked, run = given(path)
        assert checked == run, f"{below(path)}: the two lists differ"
        package = importlib.import_module(".".join(path.parent.relative_to(ROOT).parts))
        for name, module in run.items():
            assert getattr(package, name) is getattr(importlib.import_module(module), name)
        assert sorted(run) == dir(package)


def test_a_door_tells_what_it_does_not_have() -> None:
    package = importlib.import_module("webhooks.routing")
    with pytest.raises(AttributeError, match=r"module 'webhooks\.routing' has no attribute 'nothing'"):
        _ = package.nothing


def test_every_package_has_a_page() -> None:
    silent = [below(path) for path in pages() if not (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")]
    assert not silent, f"{silent}; say what each promises, what it does not, and in which order data meets its modules"


def loaded_by(code: str) -> set[str]:
    """The modules in a new process after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\nLOADED', *sys.modules)"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_gunicorns_master_loads_nothing_of_ours_but_its_settings() -> None:
    """Under gevent it is the worker that patches; what the master has loaded before would stay as it is."""
    loaded = loaded_by("import webhooks.gunicorn_conf")
    ours = {name for name in loaded if name.startswith("webhooks")}
    assert ours <= {
        "webhooks", "webhooks.version", "webhooks.lazy", "webhooks.gunicorn_conf", "webhooks.http",
        "webhooks.http.gunicorn", "webhooks.http.gunicorn.settings", "webhooks.http.gunicorn.reload",
    }  # fmt: skip
    assert not loaded & {"flask", "sqlalchemy", "msgspec", "click", "gevent", "blinker"}


def test_importing_all_packages_loads_no_big_library() -> None:
    names = [
        name for names in ROAD for name in names if name not in ("store", "session", "sandbox", "__main__", "__init__")
    ]
    names = [name for name in names if name not in ("signals", "gunicorn_conf")]
    loaded = loaded_by("\n".join(f"import webhooks.{name}" for name in names))
    assert not loaded & {"flask", "sqlalchemy", "msgspec", "rich", "alembic", "gevent"}


def test_help_loads_no_big_library() -> None:
    loaded = loaded_by(
        "import sys\nsys.argv = ['webhooks', '--help']\n"
        "from webhooks.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    )
    assert not loaded & {"flask", "sqlalchemy", "msgspec", "rich", "alembic", "gevent"}
    ours = {
        "app",
        "cli.context",
        "delivery",
        "intake",
        "operations",
        "routing",
        "selection",
        "settings.settings",
        "store",
    }
    assert not loaded & {f"webhooks.{name}" for name in ours}


def test_events_list_loads_no_web_server_and_no_handlers(sqlite_url: str) -> None:
    loaded = loaded_by(
        f"import os, sys\nos.environ['WEBHOOKS_DATABASE_URL'] = {sqlite_url!r}\n"
        f"os.environ['WEBHOOKS_SOURCES__close__SECRET'] = {'6b8f0c1e5a2d4973' * 4!r}\n"
        "sys.argv = ['webhooks', 'events', 'list', '--json']\n"
        "from webhooks.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end"
    )
    assert "webhooks.store.listings" in loaded
    assert not loaded & {
        "flask", "werkzeug", "gunicorn", "alembic", "gevent", "rich", "handlers",
        "webhooks.app.webhooks", "webhooks.app.flask", "webhooks.delivery.worker", "webhooks.intake.ingest",
        "webhooks.operations.replay", "webhooks.operations.doctor",
    }  # fmt: skip


# -- the test itself ------------------------------------------------------------------------------------------


@each(
    ("where", "source", "complaint"),
    [
        ("routing/retry.py", "import webhooks.store", "routing imports store, which is not before it"),
        ("routing/retry.py", "from webhooks.store.events import find", "routing imports store"),
        ("routing/retry.py", "from webhooks import store", "routing imports store"),
        ("routing/retry.py", "from webhooks import on", "routing imports __init__"),
        ("routing/retry.py", "from ..store import events", "routing imports store"),
        ("routing/retry.py", "def f():\n    from webhooks.intake import Ingest", "routing imports intake"),
        ("delivery/worker.py", "from webhooks.operations import Replayer", "delivery imports operations"),
        ("app/webhooks.py", "from webhooks.cli import group", "app imports cli"),
        (
            "intake/ingest.py",
            "from sqlalchemy import select",
            "intake imports sqlalchemy, which only database, session",
        ),
        ("intake/ingest.py", "def f():\n    import sqlalchemy.orm", "intake imports sqlalchemy"),
        ("delivery/worker.py", "import blinker", "delivery imports blinker, which only routing, signals may know"),
        ("settings/settings.py", "from flask import current_app", "settings imports flask"),
        ("database/migrations/run.py", "import alembic.command", "imports alembic at the top; it takes 0.6 s"),
        ("routing/retry.py", "import webhooks.cellar", "imports webhooks.cellar, which has no place on the ROAD"),
    ],
)
def test_a_wrong_import_is_found(where: str, source: str, complaint: str) -> None:
    assert complaint in "\n".join(complaints(where, source))


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("routing/retry.py", "from webhooks.errors import Retry"),
        ("store/events.py", "import sqlalchemy\nfrom webhooks import model\nfrom webhooks.store.events import find"),
        ("database/migrations/run.py", "def f():\n    from alembic import command"),
        ("selection/selection.py", "from webhooks.routing import Pattern"),
        ("cli/dev.py", "import click\nfrom webhooks.app import create_app"),
    ],
)
def test_a_right_import_passes(where: str, source: str) -> None:
    assert list(complaints(where, source)) == []
