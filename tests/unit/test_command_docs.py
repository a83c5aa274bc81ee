"""docs/operations.md names every command, every condition of a selection, and every member of the JSON."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from tests.support import ROOT, each
from webhooks.cli import COMMANDS, group, replay
from webhooks.formats import ROOTS
from webhooks.operations import records
from webhooks.selection import CONDITIONS

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


@each("name", list(commands(group)))
def test_every_command_is_documented(name: str) -> None:
    assert f"`webhooks {name}`" in TEXT


def test_no_command_is_documented_that_does_not_exist() -> None:
    named = set(re.findall(r"`webhooks ([a-z][a-z-]*(?: [a-z-]+)?)`", TEXT))
    assert named <= set(commands(group))


@each("name", sorted(set(CONDITIONS) - {"event"}))
def test_every_condition_is_documented(name: str) -> None:
    assert f"`--{name} " in TEXT


@each("name", sorted(ROOTS))
def test_every_root_of_an_expression_is_documented(name: str) -> None:
    assert f"`{name}`" in TEXT


# -- JSON ------------------------------------------------------------------------------------------------------

#: What makes the documents, besides the commands that print short ones themselves.
MEMBERS = set(re.findall(r'^ +"(\w+)":', inspect.getsource(records), re.MULTILINE))
#: Processes and texts; `events export` prints nothing but JSON.
WITHOUT_JSON = {
    "dev",
    "run",
    "worker",
    "feed",
    "dashboard",
    "dashboard hash",
    "sandbox",
    "init",
    "completion",
    "db revision",
    "sources confirm",
    "sources listen",
    "sources rotate",
    "events export",
}
DOCUMENTS = TEXT.split("## JSON")[1]


@each("name", sorted(MEMBERS))
def test_every_member_of_the_json_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", DOCUMENTS), f"{name!r} is in no list under JSON"


def test_every_command_but_a_few_has_json_and_its_document_is_described() -> None:
    with_json = {name for name in commands(group) if "--json" in options(name)}
    assert with_json == set(commands(group)) - WITHOUT_JSON
    rows = "".join(line.split("|")[1] for line in DOCUMENTS.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([a-z -]+)`", rows)) == with_json | {"events export"}


def options(name: str) -> set[str]:
    command: click.Command = group
    for part in name.split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), part) or command
    if name == "replay":
        command = replay.start
    return {text for parameter in command.params for text in parameter.opts}


def test_short_helps_are_sentences() -> None:
    assert all(text.endswith(".") and len(text) < 75 for _, text in COMMANDS.values())
