"""Fixtures of this floor: a whole consumer on a real database, without a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from tests.support import patience
from webhooks.app import Webhooks
from webhooks.app.assembly import Role
from webhooks.intake import GroupCommit
from webhooks.intake.group_commit import DEADLINE
from webhooks.routing import Registry

#: A signature key made for these tests.
KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"


class Consumer:
    """A Flask application with one instance of ours in it, and what a test wants to do with it."""

    def __init__(self, app: Flask, webhooks: Webhooks) -> None:
        self.app = app
        self.webhooks = webhooks
        self.client: Any = app.test_client()

    def post(self, body: bytes, source: str = "close", path: str | None = None, **headers: str) -> Any:
        """Post `body` signed as its sender would; headers given replace the right ones."""
        signed = dict(self.webhooks.sources[source].sign(body, self.webhooks.clock()))
        signed.update({name.replace("_", "-"): value for name, value in headers.items()})
        return self.client.post(path or f"/webhooks/{source}", data=body, headers=signed)


@pytest.fixture
def takes_direct_route() -> bool:
    """Whether posts are answered before Flask routes them, as in the service; test_views.py runs with both."""
    return False


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an instance in this process wait longer for its database and its commits where the machine is busy.

    That a post is answered within two and a half seconds, if only by 503, is for tests with processes of their own.
    """
    wait = Role.patience.fget  # type: ignore[attr-defined]

    def longer(role: Role) -> timedelta | None:
        seconds: timedelta | None = wait(role)
        return None if seconds is None else timedelta(seconds=patience(seconds.total_seconds()))

    monkeypatch.setattr(Role, "patience", property(longer))
    monkeypatch.setitem(
        GroupCommit.__init__.__kwdefaults__ or {}, "deadline", timedelta(seconds=patience(DEADLINE.total_seconds()))
    )


@pytest.fixture
def make_consumer(database_url: str, takes_direct_route: bool, unhurried: None) -> Iterator[Callable[..., Consumer]]:
    """Make a consumer: `make_consumer(registry=…, max_body=…)`; settings by name. Closed afterwards."""
    made: list[Webhooks] = []

    def make(
        registry: Registry | None = None,
        *,
        app: Flask | None = None,
        name: str = "webhooks",
        clock: Any = None,
        **settings: Any,
    ) -> Consumer:
        overrides = {"database_url": database_url, "sources": {"close": {"secret": KEY}}, **settings}
        flask = app or Flask(__name__)
        more = {} if clock is None else {"clock": clock}
        webhooks = Webhooks(registry=registry or Registry(), name=name, overrides=overrides, environ={}, **more)
        made.append(webhooks)
        webhooks.init_app(flask)
        if takes_direct_route:
            webhooks.install_direct_route(flask)
        return Consumer(flask, webhooks)

    yield make
    for webhooks in made:
        webhooks.close()


@pytest.fixture
def consumer(make_consumer: Callable[..., Consumer]) -> Consumer:
    """A consumer without handlers, for source `close`."""
    return make_consumer()
