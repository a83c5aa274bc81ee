"""A consumer and a local Close that share a clock: the API over HTTP on loopback, webhooks straight into the consumer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from tests.support import Clock
from webhooks.app import Webhooks
from webhooks.errors import Rejected
from webhooks.model import Headers, InboundRequest
from webhooks.operations import CatchUp, Report
from webhooks.routing import Registry
from webhooks.sandbox import World, serve
from webhooks.sandbox.accounts import ADMIN_KEY
from webhooks.sandbox.server import LocalClose, subscribe_all, write_secret
from webhooks.sandbox.subscriptions import LocalSubscription
from webhooks.sources.close.client import CloseClient

#: What the local Close is told to post to; `Pair.post` takes it from there.
URL = "https://consumer.example/webhooks/close"


def nothing_posted(url: str, headers: Mapping[str, str], body: bytes) -> int:
    raise ConnectionRefusedError("the server is down")


class WorldClock:
    """The time of a world: that of the clock under it, and what the world's own changes and waits added."""

    def __init__(self, world: World, base: Clock) -> None:
        self._world = world
        self._base = base

    def __call__(self) -> datetime:
        return self._world.now()

    def move(self, by: timedelta) -> None:
        self._base.move(by)


class Pair:
    """`world` is Close's side, `webhooks` ours. Nothing is delivered unless `deliver` is called."""

    def __init__(
        self,
        database_url: str,
        directory: Path,
        clock: Clock,
        registry: Registry | None = None,
        events: Sequence[str] | None = None,
        key: str = ADMIN_KEY,
        **options: Any,
    ) -> None:
        self.world = World(clock, seed=7)
        self.clock = WorldClock(self.world, clock)
        self.close: LocalClose = serve(self.world, post=nothing_posted, pumps=False)
        self.close.start()
        self.secret_file = directory / "keys.json"
        self.subscription: LocalSubscription = subscribe_all(self.world, URL, events)
        write_secret(self.secret_file, self.subscription)
        section = {
            "secret_file": str(self.secret_file),
            "api_key": key,
            "api_url": self.close.url,
            "public_url": URL,
            **options,
        }
        self.webhooks = Webhooks(
            registry=registry or Registry(),
            overrides={"database_url": database_url, "sources": {"close": section}},
            environ={},
            clock=self.clock,
        ).assemble(role="cli")
        self.source: Any = self.webhooks.sources["close"]

    def stop(self) -> None:
        self.webhooks.close()
        self.close.stop()

    # -- webhooks ------------------------------------------------------------------------------------------

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """What Close posts, answered as our route would."""
        try:
            request = InboundRequest(Headers(dict(headers)), body, id="r")
            self.webhooks.ingest.accept(self.webhooks.sources["close"], request)
            return 200
        except Rejected as error:
            return error.status

    def deliver(self) -> int:
        """Post everything that waits, moving the time on as needed; how many were taken."""
        return sum(attempt.is_taken for attempt in self.world.drain(self.post))

    # -- catch-up ------------------------------------------------------------------------------------------

    def catch_up(self, since: timedelta | None = None, until: timedelta | None = None, **options: Any) -> Report:
        """Run it from `since` ago to `until` ago."""
        dry_run = options.pop("dry_run", False)
        with CloseClient(self.source.api, attempts=2, sleep=lambda seconds: None) as client:
            run = self.make(client, **options)
            now = self.clock()
            return run.run(
                None if since is None else now - since, None if until is None else now - until, dry_run=dry_run
            )

    def make(self, client: Any, holder: str = "test", **options: Any) -> CatchUp:
        made = self.webhooks.make_catch_up(self.source, client, holder)
        for name, value in options.items():
            setattr(made, name, value)
        return made

    @property
    def mark(self) -> Any:
        return self.webhooks.store.marks.get("close")

    def stored(self) -> dict[str, Any]:
        """{Close's id: the newest entry that we hold, as JSON}."""
        query = text("select e.body from webhooks_dedup_log d join webhooks_events e on e.id = d.event_id")
        with self.webhooks.database.read() as connection:
            events = [json.loads(bytes(body))["event"] for (body,) in connection.execute(query)]
        return {event["id"]: event for event in events}

    def log(self) -> dict[str, Any]:
        """The same as Close's log has it."""
        return {entry.id: json.loads(json.dumps(entry.as_json())) for entry in self.world.log}

    def deliveries(self) -> int:
        with self.webhooks.database.read() as connection:
            return int(connection.execute(text("select count(*) from webhooks_deliveries")).scalar_one())
