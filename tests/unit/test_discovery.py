"""Handler modules are found and imported; one that is not importable stops the start by file and line."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from webhooks.errors import ConfigurationError, HandlerImportError, InvalidHandler, InvalidPattern, RegistrationError
from webhooks.routing import Registry, find_modules, load_modules
from webhooks.routing import registry as registry_module


@pytest.fixture(autouse=True)
def _imports_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports is forgotten after it, and so is what it put on sys.path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = dict(sys.modules)
    for name in [name for name in before if name.partition(".")[0] == "handlers"]:
        del sys.modules[name]
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """What handler modules register with."""
    registry = Registry()
    monkeypatch.setattr(registry_module, "default_registry", registry)
    return registry


def write(path: str, text: str = "") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file.resolve()


HANDLER = "from webhooks import on\n@on('lead.created')\ndef handle(event): ...\n"


def test_files_and_packages_of_the_directory_are_loaded_in_order(registry: Registry) -> None:
    write("handlers/b.py", HANDLER)
    write(
        "handlers/a/__init__.py", "from handlers._shared import wanted\n" + HANDLER.replace("'lead.created'", "wanted")
    )
    write("handlers/_shared.py", "wanted = 'lead.deleted'")
    write("handlers/_off.py", "1/0")
    write("handlers/.hidden.py", "1/0")
    write("handlers/notes.txt", "1/0")
    write("handlers/migrations/env.sql", "1/0")

    found = find_modules("handlers")
    load_modules(found)

    assert found == ["handlers.a", "handlers.b"]
    assert [handler.name for handler in registry.handlers()] == ["handlers.a.handle", "handlers.b.handle"]
    assert [handler.name for handler in registry.route("close", "lead.deleted")] == ["handlers.a.handle"]


def test_modules_named_in_the_settings_follow_each_once(registry: Registry) -> None:
    write("handlers/a.py", HANDLER)
    write("my_app/hooks.py", HANDLER)

    found = find_modules("handlers", ["my_app.hooks", "handlers.a", "my_app.hooks"])
    load_modules(found)

    assert found == ["handlers.a", "my_app.hooks"]
    assert len(registry.handlers()) == 2


def test_entry_points_of_installed_packages_are_loaded(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    write("installed/plugin.py", HANDLER)
    point = importlib.metadata.EntryPoint("x", "installed.plugin:handle", "webhooks.handlers")
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [point] if group == "webhooks.handlers" else []
    )

    load_modules(find_modules("handlers"))

    assert [handler.name for handler in registry.handlers()] == ["installed.plugin.handle"]


def test_loading_twice_registers_once(registry: Registry) -> None:
    write("handlers/a.py", HANDLER)

    for _ in range(2):
        load_modules(find_modules("handlers"))

    assert len(registry.handlers()) == 1


def test_without_the_default_directory_there_is_nothing_to_load() -> None:
    assert find_modules("handlers") == []


def test_a_directory_may_lie_below_or_elsewhere(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "hooks_elsewhere"
    write(str(elsewhere / "a.py"), HANDLER)
    write("my_app/hooks/b.py", HANDLER)

    assert find_modules("my_app/hooks") == ["my_app.hooks.b"]
    load_modules([*find_modules(str(elsewhere)), *find_modules("my_app/hooks")])

    assert [handler.name for handler in registry.handlers()] == ["hooks_elsewhere.a.handle", "my_app.hooks.b.handle"]


def test_a_directory_that_was_named_and_is_missing_stops_the_start() -> None:
    with pytest.raises(ConfigurationError, match="handlers_dir is 'hooks', and there is no such directory"):
        find_modules("hooks")


def test_a_file_that_cannot_be_imported_by_its_name_says_to_rename_it() -> None:
    write("handlers/my-handler.py")

    with pytest.raises(HandlerImportError, match=r"my-handler\.py cannot be imported under that name; rename it"):
        find_modules("handlers")


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("x = 1\n\ny = (\n", 3, "SyntaxError: '(' was never closed"),
        ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("\nimport nowhere_to_be_found\n", 2, "ModuleNotFoundError: No module named 'nowhere_to_be_found'; install"),
        ("from handlers import _helper\n", 2, "RuntimeError: from below"),
        ("raise SystemExit(3)\n", 1, "SystemExit: 3"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError: Expecting property name"),
        ("from webhooks import onn\n", 1, "ImportError: cannot import name 'onn'"),
    ],
    ids=["syntax", "error", "missing", "helper", "exit", "library", "name"],
)
def test_a_module_that_does_not_import_is_told_by_file_and_line(text: str, line: int, complaint: str) -> None:
    file = write("handlers/broken.py", text)
    helper = write("handlers/_helper.py", "def fail():\n    raise RuntimeError('from below')\nfail()\n")

    with pytest.raises(HandlerImportError) as caught:
        load_modules(find_modules("handlers"))

    assert str(caught.value).startswith(f"{helper if 'below' in complaint else file}, line {line}: {complaint}")


@pytest.mark.parametrize(
    ("text", "kind", "complaint"),
    [
        ("@on('lead.')\ndef handle(event): ...\n", InvalidPattern, "pattern 'lead.' has an empty segment"),
        ("@on('lead.x')\ndef handle(lead): ...\n", InvalidHandler, "asks for 'lead', which does not exist"),
    ],
    ids=["pattern", "argument"],
)
def test_a_handler_that_cannot_be_registered_is_told_by_file_and_line(
    registry: Registry, text: str, kind: type[RegistrationError], complaint: str
) -> None:
    file = write("handlers/broken.py", "from webhooks import on\n\n" + text)

    with pytest.raises(kind) as caught:
        load_modules(find_modules("handlers"))

    assert str(caught.value).startswith(f"{file}, line 3: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "@on('x')\ndef mine(sesion): ...\n",
            "handler 'handlers.broken.mine' asks for 'sesion', which does not exist (did ",
        ),
        ("@on('x')\ndef mine(event): yield\n", "mine has a yield in it"),
        ("on('x')(lambda event: 1)\n", "<lambda> has no name that could be its id"),
        (
            "event_signal('x').connect(lambda event: 1)\n",
            "the receiver <lambda> is a lambda, and a handler's name is its id",
        ),
    ],
    ids=["argument", "generator", "lambda", "receiver"],
)
def test_what_is_wrong_with_a_handler_names_its_place_once(registry: Registry, text: str, said: str) -> None:
    file = write("handlers/broken.py", "from webhooks import event_signal, on\n" + text)

    with pytest.raises(InvalidHandler) as caught:
        load_modules(find_modules("handlers"))

    assert str(caught.value).startswith(f"{file}, line 2: {said}")
    assert str(caught.value).count("broken.py") == 1


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.hooks"])
def test_a_module_that_is_not_there_says_where_it_was_looked_for(name: str) -> None:
    with pytest.raises(HandlerImportError) as caught:
        load_modules([name])

    assert str(caught.value).startswith(
        f"there is no module '{name}' to load handlers from; correct the setting HANDLERS"
    )
    assert str(Path.cwd()) in str(caught.value)


def test_an_interrupt_while_importing_is_one() -> None:
    write("handlers/slow.py", "raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        load_modules(find_modules("handlers"))
