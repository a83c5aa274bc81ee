"""docs/plugins.md tells of every plugin, handler, table and question, and its examples are as they run."""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

import pytest

from handlers import forward
from tests.support import ROOT
from webhooks.routing import Registry, default_registry

TEXT = (ROOT / "docs" / "plugins.md").read_text("utf-8")
SHIPPED = sorted(path.stem for path in (ROOT / "handlers").glob("[!_]*.py"))
every_plugin = pytest.mark.parametrize("name", SHIPPED)


def section(name: str) -> str:
    return TEXT.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def plugin(name: str) -> ModuleType:
    return importlib.import_module(f"handlers.{name}")


@every_plugin
def test_every_plugin_has_a_row_and_a_section(name: str) -> None:
    assert f"| [`{name}`](#{name}) |" in TEXT
    assert section(name)


@every_plugin
def test_every_table_and_handler_is_named(name: str) -> None:
    module = plugin(name)
    tables = list(module.metadata.tables) if hasattr(module, "metadata") else []
    handlers = [each.name for each in default_registry.handlers() if each.function.__module__ == module.__name__]

    assert [each for each in (*tables, *handlers) if f"`{each}`" not in section(name)] == []
    assert tables or name == "forward"


@every_plugin
def test_every_question_is_described_with_its_arguments(name: str) -> None:
    module = plugin(name)
    questions = [
        f"{each.__name__}({', '.join(inspect.signature(each).parameters)})"
        for _, each in inspect.getmembers(module, inspect.isfunction)
        if each.__module__ == module.__name__
        and next(iter(inspect.signature(each).parameters), "") == "session"
        and not each.__name__.startswith("_")
        and each.__name__ != "mirrors"
    ]

    assert [question for question in questions if f"`{question}`" not in section(name)] == []


def test_every_key_of_a_target_is_described() -> None:
    assert [key for key in forward._KEYS if f"| `{key}` |" not in section("forward")] == []
    assert "`FORWARD_TARGETS_FILE`" in section("forward")


def test_the_example_of_the_setting_is_one() -> None:
    (text,) = re.findall(r"FORWARD_TARGETS='(.*)'", section("forward"))
    secret = "whsec_" + "c3dvcmRmaXNo" * 3

    (target,) = forward.read_targets({"FORWARD_TARGETS": text.replace("whsec_…", secret)})

    assert target.name == "warehouse"


def test_the_example_of_a_plugin_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    example = section("A plugin of your own, with tables").partition("```python\n")[2].partition("```")[0]
    registry = Registry()
    monkeypatch.setattr("webhooks.on", registry.on)

    exec(inspect.cleandoc(example), {"__name__": "handlers.garden"})

    assert [handler.name for handler in registry.handlers()] == ["garden.plant"]


@every_plugin
def test_every_module_says_what_it_is_the_example_for(name: str) -> None:
    assert "for your own handlers:" in str(plugin(name).__doc__)
