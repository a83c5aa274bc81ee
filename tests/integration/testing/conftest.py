"""Handlers for the kit's own tests, and a kit over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from webhooks import Discard, Retry
from webhooks.routing import Registry, RetryPolicy
from webhooks.testing import Kit, make_kit


@pytest.fixture
def registry() -> Registry:
    """One handler for each way in which a run may end."""
    made = Registry()

    @made.on("lead.created", name="welcome")
    def welcome(event: Any) -> None: ...

    @made.on("lead.updated", name="limited")
    def limited(event: Any, delivery: Any) -> None:
        if delivery.number == 1:
            raise Retry(after=timedelta(seconds=60))

    @made.on("contact.created", name="broken", retry=RetryPolicy(max_attempts=2))
    def broken(event: Any) -> None:
        raise LookupError("no such person")

    @made.on("contact.updated", name="declines")
    def declines(event: Any) -> None:
        raise Discard("nothing to do")

    @made.on("opportunity.updated", name="won", where=lambda event: event.data["status_type"] == "won")
    def won(event: Any, session: Any) -> None: ...

    @made.reply("lead.deleted", name="answer")
    def answer(event: Any) -> Any:
        return {"deleted": event.type}

    return made


@pytest.fixture
def make(tmp_path: Path, registry: Registry) -> Iterator[Callable[..., Kit]]:
    """Make kits over these handlers; all are closed."""
    kits: list[Kit] = []

    def make(**options: Any) -> Kit:
        directory = tmp_path / str(len(kits))
        directory.mkdir(exist_ok=True)
        kits.append(make_kit(**{"directory": directory, "registry": registry, **options}))
        return kits[-1]

    yield make
    for kit in kits:
        kit.close()


@pytest.fixture
def kit(make: Callable[..., Kit]) -> Kit:
    """A kit over these handlers."""
    return make()
