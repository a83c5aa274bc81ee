"""docs/sandbox.md says what there is."""

from __future__ import annotations

from dataclasses import fields

from tests.support import ROOT, each
from webhooks.sandbox import Rules, api
from webhooks.sandbox.accounts import ADMIN_KEY, MEMBER_KEY, OAUTH_TOKEN
from webhooks.sandbox.api import Request
from webhooks.sandbox.objects import RESOURCES
from webhooks.sandbox.world import World

TEXT = (ROOT / "docs" / "sandbox.md").read_text("utf-8")


@each("name", [each.name for each in fields(Rules)])
def test_every_rule_is_described(name: str) -> None:
    assert f"`{name}`" in TEXT


@each("path", [each.path for each in RESOURCES])
def test_every_kind_of_object_is_named(path: str) -> None:
    assert f"`/{path}/`" in TEXT or f"`{path.removeprefix('activity/')}`" in TEXT


def test_the_keys_are_there() -> None:
    for key in (ADMIN_KEY, MEMBER_KEY, OAUTH_TOKEN):
        assert f"`{key}`" in TEXT


def test_every_handle_is_there() -> None:
    answer = api.control(World(), Request("GET", "nothing"), lambda url, headers, body: 200)
    names = answer.body["error"].rpartition("there are ")[2].split(", ")
    assert len(names) == 7
    for name in names:
        assert f"/sandbox/{name}`" in TEXT
