"""Fixtures of this floor: a whole consumer on a real database, without a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from webhooks.app import Webhooks
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
def make_consumer(database_url: str, takes_direct_route: bool) -> Iterator[Callable[..., Consumer]]:
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
