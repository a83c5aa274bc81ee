"""Imports point down the floors of the house, and the big libraries stay in their rooms.

Read by `ast`, so imports inside functions and under TYPE_CHECKING count. The floors are those of
docs/architecture.md; each exception stands here with its reason.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT

#: {module or package below `webhooks`: floor}; a package's floor is that of all its modules.
FLOORS = {
    # 0 facts
    "errors": 0,
    "model": 0,
    "jsonio": 0,
    "failpoints": 0,
    "forks": 0,
    "version": 0,
    # 1 rules
    "signing": 1,
    "sqlstates": 0,
    "text": 1,
    "retry": 1,
    "config": 1,
    "signals": 1,
    "patterns": 1,
    "predicates": 1,
    "selection": 1,
    "schema": 1,
    "arrays": 1,
    "scheduling": 1,
    "http1": 1,
    "connections": 1,
    # 2 plugs
    "logs": 2,
    "refusals": 2,
    "registry": 2,
    "discovery": 2,
    "database": 2,
    "ownership": 2,
    "session": 2,
    "migrate": 2,
    "sources": 2,
    # 3 memory
    "store": 3,
    "wake": 3,
    # 4 operations
    "ingest": 4,
    "dispatch": 4,
    "replay": 4,
    "requeue": 4,
    "rehearsal": 4,
    "subscriptions": 4,
    "maintenance": 4,
    "notes": 4,
    "admission": 4,
    # 5 processes
    "engines": 5,
    "isolation": 5,
    "worker": 5,
    "catchup": 5,
    "doctor": 5,
    "contrib": 5,
    # 6 surfaces
    "views": 6,
    "metrics": 6,
    "dashboard": 6,
    "cli": 6,
    "gunicorn_conf": 6,
    "gunicorn_gevent": 6,
    "gunicorn_refusals": 6,
    "gunicorn_reload": 6,
    "gunicorn_threads": 6,
    # 7 assembly
    "app": 7,
    # 8 outside
    "__init__": 8,
    "__main__": 8,
    "testing": 8,
    "sandbox": 8,
}

#: {(module, module of the same floor or above that it imports): why}. A ring is refused all the same.
ALLOWED = {
    ("model", "forks"): "ids are drawn by each process for itself",
    ("selection", "patterns"): "--type takes a pattern; both are pure",
    ("retry", "text"): "what a verdict says of an error",
    ("selection", "text"): "shows what it was given as one line, as attempts show errors",
    ("migrate", "retry"): "shows a database's words as one line, as attempts show errors",
    ("session", "database"): "a handler's session is a connection of ours",
    ("migrate", "ownership"): "what a history has made is compared with what the code wants",
    ("migrate", "database"): "upgrades run on a connection of ours, under its lock",
    ("maintenance", "dispatch"): "a rescued delivery is judged and announced as any other attempt",
    ("admission", "ingest"): "what leaves quarantine takes the second half of the way of any event",
    ("rehearsal", "replay"): "what is rehearsed is a replay's plan",
    ("gunicorn_gevent", "gunicorn_refusals"): "each of the worker classes has it mixed in",
    ("gunicorn_threads", "gunicorn_refusals"): "each of the worker classes has it mixed in",
    ("gunicorn_conf", "gunicorn_reload"): "gunicorn's master is told by its settings how to reload",
    ("worker", "isolation"): "a worker hands some attempts to child processes",
    ("cli", "app"): "`webhooks` is a console script: nobody hands it the application that `flask webhooks` has",
    ("cli", "sandbox"): "`webhooks sandbox` is a command, and `dev --demo` plays its story",
    ("__main__", "cli"): "`python -m webhooks` is the console script",
}

#: {library: {module that may import it: why}}
ROOMS = {
    "sqlalchemy": {
        "schema": "the tables",
        "database": "engines and connections",
        "session": "a handler's ORM session",
        "migrate": "what Alembic works on",
        "ownership": "tables that migrations make",
        "store": "the only SQL",
    },
    "blinker": {
        "registry": "handlers are receivers",
        "signals": "life-cycle signals",
    },
    "flask": {
        "views": "the routes",
        "metrics": "the route of /metrics",
        "dashboard": "its pages",
        "cli": "`flask webhooks` is the same group",
        "app": "assembles the application",
        "sandbox": "a local Close is a small Flask application",
        "testing": "the test client",
    },
    "werkzeug": {
        "views": "as Flask",
        "dashboard": "as Flask",
        "app": "ProxyFix",
        "sandbox": "as Flask",
        "testing": "as Flask",
    },
    "alembic": {
        "migrate": "runs the migrations",
        "ownership": "notes what the migrations would do",
        "cli": "the db commands",
    },
}

#: Libraries that take long to import, or are extras: only inside functions.
LATE = {
    "alembic": "takes 0.6 s",
    "psycopg": "is an extra",
    "httpx2": "is an extra",
    "stamina": "is an extra",
    "cryptography": "is an extra",
    "gevent": "patches what is imported after it, and only server processes want it",
}

#: {(module, library of LATE that it imports at the top): why}
AT_THE_TOP = {
    ("session", "psycopg"): "one module of it subclasses psycopg's cursors, and is imported where there is PostgreSQL",
    ("gunicorn_gevent", "gevent"): "gunicorn imports it, and only when it is to serve by gevent",
}

#: Directories below webhooks/ whose Python files are not modules of ours: `webhooks init` writes them.
TEMPLATES = {"starter"}


@dataclass(frozen=True)
class Import:
    """One import statement. module: dotted name as imported. name: what `from` takes from it, if it does."""

    line: int
    module: str
    name: str | None
    is_late: bool


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import in `source`, a module of `package`; relative ones are resolved."""

    def walk(node: ast.AST, is_late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            late = is_late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
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

    yield from walk(ast.parse(source), False)


def room_of(imported: Import, known: frozenset[str]) -> str | None:
    """Which of our rooms an import enters: `store` for `webhooks.store.events`; None for other people's."""
    head, _, rest = imported.module.partition(".")
    if head != "webhooks":
        return None
    if rest:
        return rest.partition(".")[0]
    # `from webhooks import model` enters model; `from webhooks import on` and `import webhooks` enter the front door
    return imported.name if imported.name in known else "__init__"


def complaints(room: str, where: str, source: str, package: str, known: frozenset[str]) -> Iterator[str]:
    """What is wrong with the imports of one module of `room`, a sentence each."""
    for imported in imports_of(source, package):
        place = f"{where}:{imported.line}"
        library = imported.module.partition(".")[0]
        if library in ROOMS and room not in ROOMS[library]:
            yield f"{place}: {room} imports {library}, which only {', '.join(sorted(ROOMS[library]))} may know"
        if library in LATE and not imported.is_late and (room, library) not in AT_THE_TOP:
            yield f"{place}: imports {library} at the top; it {LATE[library]}: import it in the function that needs it"
        target = room_of(imported, known)
        if target is None or target == room:
            continue
        if target not in FLOORS:
            yield f"{place}: imports webhooks.{target}, which has no floor; add it to FLOORS"
        elif FLOORS[target] >= FLOORS[room] and (room, target) not in ALLOWED:
            yield (
                f"{place}: {room} (floor {FLOORS[room]}) imports {target} (floor {FLOORS[target]}); imports point"
                " down: move what is shared to a lower floor, or add the pair to ALLOWED with its reason"
            )


def modules(root: Path) -> list[Path]:
    return sorted(
        path
        for path in (root / "webhooks").rglob("*.py")
        if not TEMPLATES & set(path.relative_to(root / "webhooks").parts)
    )


def room_of_path(path: Path) -> str:
    first = path.relative_to(ROOT / "webhooks").parts[0]
    return first.removesuffix(".py")


KNOWN = frozenset(FLOORS) | {room_of_path(path) for path in modules(ROOT)}


def package_of(path: Path) -> str:
    """What a relative import in the module starts from."""
    return ".".join(path.relative_to(ROOT).parent.parts)


@pytest.mark.parametrize("path", modules(ROOT), ids=lambda path: str(path.relative_to(ROOT / "webhooks")))
def test_a_module_imports_only_what_its_floor_may_know(path: Path) -> None:
    room = room_of_path(path)
    assert room in FLOORS, f"webhooks/{room} has no floor; add it to FLOORS in {Path(__file__).name}"
    where = str(path.relative_to(ROOT))
    found = list(complaints(room, where, path.read_text(), package_of(path), KNOWN))
    assert not found, "\n" + "\n".join(found)


def test_no_two_rooms_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules(ROOT):
        room = room_of_path(path)
        for imported in imports_of(path.read_text(), package_of(path)):
            target = room_of(imported, KNOWN)
            if target is not None and target != room:
                graph.setdefault(room, set()).add(target)

    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a ring of imports: {' ← '.join(error.args[1])}", pytrace=False)


@pytest.mark.parametrize("path", sorted((ROOT / "handlers").rglob("*.py")), ids=lambda path: path.name)
def test_a_handler_imports_only_what_a_deployer_may(path: Path) -> None:
    """The shipped handlers are examples: what they need must be public."""
    private = [
        f"{path.relative_to(ROOT)}:{imported.line} imports {imported.module}"
        for imported in imports_of(path.read_text(), package_of(path))
        if room_of(imported, KNOWN) not in (None, "__init__", "testing") and not imported.module.endswith(".views")
    ]
    assert not private, f"{private}; handlers take everything from `webhooks`, or a source's typed views"


# -- the test itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "source", "complaint"),
    [
        ("retry", "import webhooks.store", "retry (floor 1) imports store (floor 3)"),
        ("retry", "from webhooks.store.events import find", "retry (floor 1) imports store (floor 3)"),
        ("retry", "from webhooks import store", "retry (floor 1) imports store (floor 3)"),
        ("retry", "from webhooks import on", "retry (floor 1) imports __init__ (floor 8)"),
        ("retry", "from . import store", "retry (floor 1) imports store (floor 3)"),
        ("retry", "from .store import events", "retry (floor 1) imports store (floor 3)"),
        ("retry", "def f():\n    from webhooks.ingest import Ingest", "retry (floor 1) imports ingest (floor 4)"),
        ("patterns", "from webhooks.signals import emit", "patterns (floor 1) imports signals (floor 1)"),
        ("ingest", "from sqlalchemy import select", "ingest imports sqlalchemy, which only database, migrate"),
        ("ingest", "def f():\n    import sqlalchemy.orm", "ingest imports sqlalchemy"),
        ("worker", "import blinker", "worker imports blinker, which only registry, signals may know"),
        ("config", "from flask import current_app", "config imports flask"),
        ("migrate", "import alembic.command", "imports alembic at the top; it takes 0.6 s"),
        ("retry", "import webhooks.cellar", "imports webhooks.cellar, which has no floor; add it to FLOORS"),
    ],
)
def test_a_wrong_import_is_found(room: str, source: str, complaint: str) -> None:
    assert complaint in "\n".join(complaints(room, "x.py", source, "webhooks", KNOWN))


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("retry", "from webhooks.errors import Retry"),
        ("store", "import sqlalchemy\nfrom webhooks import model\nfrom webhooks.store.events import find"),
        ("migrate", "def f():\n    from alembic import command"),
        ("selection", "from webhooks.patterns import Pattern"),
        ("app", "import flask\nfrom webhooks.cli import group"),
    ],
)
def test_a_right_import_passes(room: str, source: str) -> None:
    assert list(complaints(room, "x.py", source, "webhooks", KNOWN)) == []
