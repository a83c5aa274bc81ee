"""A key is rotated step by step by one command, and no request is refused on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.integration.conftest import Consumer
from webhooks.cli import group
from webhooks.operations.keys import REST
from webhooks.sources import Secret, SourceSettings, make_source

pytestmark = pytest.mark.one_database

OLD, NEW = "made-up-old-key-4f9d0c7be2", "made-up-new-key-8a1d5c2f07"
BODY = b'{"type":"x","id":"%d"}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"old": OLD}))
    return path


@pytest.fixture
def shop(file: Path, make_consumer: Callable[..., Consumer]) -> Consumer:
    section = {"scheme": "custom", "signature": "@x-sig", "secret_file": str(file)}
    made = make_consumer(sources={"shop": section})
    made.webhooks.ingest._key_uses = None  # a test says itself what was used
    return made


@pytest.fixture
def run(
    shop: Consumer, file: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """A command in the directory of that source."""
    (tmp_path / "webhooks.toml").write_text(
        f'[sources.shop]\nscheme = "custom"\nsignature = "@x-sig"\nsecret_file = "{file}"\n'
    )
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    return lambda *words, typed="": CliRunner().invoke(group, ["sources", *words], input=typed)


def send(shop: Consumer, key: str, number: int) -> int:
    sender = make_source(SourceSettings("shop", "custom", [Secret(key)], options={"signature": "@x-sig"}))
    body = BODY % number
    return int(
        shop.client.post(
            "/webhooks/shop", data=body, headers=dict(sender.sign(body, shop.webhooks.clock()))
        ).status_code
    )


def uses(shop: Consumer, **ago: timedelta) -> None:
    """Note when keys were used last, as the background would."""
    for label, by in ago.items():
        shop.webhooks.store.key_uses.note("shop", label, shop.webhooks.clock() - by)


def test_a_rotation_goes_from_one_key_to_the_next_without_a_refusal(
    shop: Consumer, file: Path, run: Callable[..., Result]
) -> None:
    uses(shop, old=REST + timedelta(hours=1))
    added = run("rotate", "shop", "--label", "new", typed=f"{NEW}\n")
    assert added.exit_code == 1, added.output
    assert NEW not in added.output
    assert "Set it at the sender now, then: webhooks sources rotate shop" in added.stderr
    assert json.loads(file.read_text()) == {"old": OLD, "new": NEW}
    assert [send(shop, OLD, 1), send(shop, NEW, 2)] == [200, 200]
    waiting = run("rotate", "shop")
    assert waiting.exit_code == 1
    assert "no request was verified by 'new' yet" in waiting.stderr
    uses(shop, new=timedelta(0))
    listed = json.loads(run("--json").stdout)["sources"][0]["keys"]
    assert [(each["label"], each["is_held"], each["may_go"]) for each in listed] == [
        ("old", True, True),
        ("new", True, False),
    ]
    assert all(each["held_since"] for each in listed)
    assert "old (last used" in run().stdout
    assert "may go)" in run().stdout
    over = run("rotate", "shop", typed="y\n")
    assert over.exit_code == 0, over.output
    assert "the rotation is over" in over.stderr
    assert json.loads(file.read_text()) == {"new": NEW}
    assert send(shop, NEW, 3) == 200
    assert shop.webhooks.store.key_uses.of("shop").keys() == {"new"}


def test_while_the_sender_may_repeat_the_old_key_stays_unless_it_is_named(
    shop: Consumer, file: Path, run: Callable[..., Result]
) -> None:
    file.write_text(json.dumps({"old": OLD, "new": NEW}))
    uses(shop, old=timedelta(hours=1), new=timedelta(0))
    resting = run("rotate", "shop")
    assert resting.exit_code == 1
    assert "--remove old" in resting.stderr
    assert run("rotate", "shop", "--remove", "old", "--yes").exit_code == 0
    assert json.loads(file.read_text()) == {"new": NEW}
    refused = run("rotate", "shop", "--remove", "new", "--yes")
    assert refused.exit_code != 0
    assert "the only key" in refused.stderr
    assert "no key of the file of 'shop' is labelled 'nwe'" in run("rotate", "shop", "--remove", "nwe", "--yes").stderr


def test_a_key_can_be_made_here_and_is_shown_once(file: Path, run: Callable[..., Result]) -> None:
    made = run("rotate", "shop", "--make", "--label", "new")
    assert json.loads(file.read_text())["new"] == made.stdout.strip()
    assert len(made.stdout.strip()) == 64


@pytest.mark.parametrize(
    ("typed", "label", "text"),
    [
        ("abc12", "new", "16 are the least"),
        (OLD, "new", "holds this very key already"),
        (NEW, "old", "holds a key labelled 'old' already"),
        ("changemechangemechangeme", "new", "secret 'new'"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_and_nothing_is_written(
    file: Path, run: Callable[..., Result], typed: str, label: str, text: str
) -> None:
    refused = run("rotate", "shop", "--label", label, typed=f"{typed}\n")
    assert refused.exit_code != 0
    assert text in refused.stderr
    assert typed not in refused.stderr
    assert json.loads(file.read_text()) == {"old": OLD}


def test_sources_whose_keys_are_not_ours_to_change_say_where_it_is_done(make_consumer: Callable[..., Consumer]) -> None:
    from webhooks.errors import ConfigurationError
    from webhooks.operations.keys import require_rotatable

    sections: dict[str, Any] = {
        "close": {"secret": "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"},
        "paypal": {"webhook_id": "4JH86294D6297924G", "accept_unsigned_body": True},
        "shopify": {"secret": OLD},
    }
    sources = make_consumer(sources=sections).webhooks.sources
    for name, text in (
        ("close", "webhooks subscriptions rotate"),
        ("paypal", "its sender publishes them"),
        ("shopify", "has no secret_file"),
    ):
        with pytest.raises(ConfigurationError, match=text):
            require_rotatable(sources[name])
