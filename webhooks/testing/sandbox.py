"""A sandbox beside a kit: its API answers over HTTP on loopback, and it posts to the kit when told.

What the kit's source asks (`catch-up`, `subscriptions`) is answered by it. Not here: what it imitates (`webhooks.sandbox`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.testing.records import Posted

if TYPE_CHECKING:
    from webhooks.operations import Report
    from webhooks.testing.clock import KitClock
    from webhooks.testing.kit import Kit

#: The source that it is the sender of.
SOURCE = "close"
#: Where it is told to post; nothing listens there.
URL = "https://hooks.example.com/webhooks/close"
#: Its time is moved by so much at most until all is posted: Close gives a post up after three days.
LONGEST = timedelta(days=4)


class Sandbox:
    """One sandbox, subscribed for every type.

    world: its objects: `world.create("lead", {"name": "Quayside"})` makes one as its API would.
    url: of its API.
    """

    def __init__(self, clock: KitClock, directory: Path) -> None:
        from webhooks.sandbox import World, serve
        from webhooks.sandbox.server import subscribe_all, write_secret

        self.world = World(clock.base)
        clock.follow(self.world)
        self._clock = clock
        self._server = serve(self.world, pumps=False).start()
        self._kit: Kit | None = None
        self._secret_file = directory / "close-keys.json"
        write_secret(self._secret_file, subscribe_all(self.world, URL))

    @property
    def url(self) -> str:
        """Where its API begins: http://127.0.0.1:1234/api/v1/"""
        return self._server.url

    def settings(self) -> Mapping[str, Any]:
        """Of the source, in the kit that it stands beside."""
        from webhooks.sandbox.accounts import ADMIN_KEY

        return {"secret_file": str(self._secret_file), "api_key": ADMIN_KEY, "api_url": self.url, "public_url": URL}

    def stand_beside(self, kit: Kit) -> None:
        """Post to this kit."""
        self._kit = kit

    def deliver(self) -> list[Posted]:
        """Post what waits, and what waits for a later time, to which the clock moves; what each post got.

        Close holds an update back for some seconds, and tries again what was not accepted.
        """
        got: list[Posted] = []

        def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
            assert self._kit is not None
            got.append(self._kit.poster.send(SOURCE, headers, body))
            return got[-1].http_status

        end = self.world.now() + LONGEST
        while True:
            self.world.deliver(post)
            due = self.world.next_due()
            if due is None or due > end:
                return got
            self._clock.move(max(timedelta(0), due - self.world.now()))
            self.world.move_to(max(due, self.world.now()))

    def catch_up(self, since: timedelta | None = None) -> Report:
        """Read its event log as `webhooks catch-up` does. since: so long ago; None: from where the last run ended."""
        from webhooks.app.actions import require_log

        assert self._kit is not None
        webhooks = self._kit.webhooks
        log = require_log(webhooks, SOURCE)
        with log.connect() as client:
            run = webhooks.make_catch_up(log, client, "webhooks.testing")
            return run.run(None if since is None else self._clock() - since)

    def stop(self) -> None:
        """End its server."""
        self._server.stop()


__all__ = ["SOURCE", "Sandbox"]
