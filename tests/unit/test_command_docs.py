"""docs/operations.md names every command, every condition of a selection, and every member of the JSON."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click
import pytest

from tests.support import ROOT
from webhooks.cli import COMMANDS, group, records
from webhooks.selection import CONDITIONS, ROOTS

TEXT = (ROOT / "docs" / "operations.md").read_text("utf-8")


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(command, click.Group):
        if command.invoke_without_command or path == ("replay",):
            yield " ".join(path)
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))
    else:
        yield " ".join(path)


@pytest.mark.parametrize("name", list(commands(group)))
def test_every_command_is_documented(name: str) -> None:
    assert f"`webhooks {name}`" in TEXT


def test_no_command_is_documented_that_does_not_exist() -> None:
    named = set(re.findall(r"`webhooks ([a-z][a-z-]*(?: [a-z-]+)?)`", TEXT))
    assert named <= set(commands(group))


@pytest.mark.parametrize("name", sorted(set(CONDITIONS) - {"event"}))
def test_every_condition_is_documented(name: str) -> None:
    assert f"`--{name} " in TEXT


@pytest.mark.parametrize("name", sorted(ROOTS))
def test_every_root_of_an_expression_is_documented(name: str) -> None:
    assert f"`{name}`" in TEXT


@pytest.mark.parametrize("name", sorted(set(re.findall(r'^ +"(\w+)":', inspect.getsource(records), re.MULTILINE))))
def test_every_member_of_the_json_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", TEXT), f"{name!r} is in no list under JSON"


def test_short_helps_are_sentences() -> None:
    assert all(text.endswith(".") and len(text) < 75 for _, text in COMMANDS.values())
