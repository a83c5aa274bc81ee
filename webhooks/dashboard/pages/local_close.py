"""The sandbox that runs beside `webhooks dev`: what it has, and what to have it do, so that repairs can be tried."""

from __future__ import annotations

from typing import Any

from flask import Response

from webhooks.dashboard.access import UserRole
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound
from webhooks.operations.local_sandbox import CHANGES, LocalSandbox, SandboxUnavailable, find

PAGES = Pages()

#: Where a sandbox of a project leaves word of itself.
NOTE = ".webhooks/close.json"
#: Objects of a kind that are shown.
SHOWN = 5


def _found(visit: Visit) -> LocalSandbox | None:
    console = visit.services.console
    assert console is not None  # else these endpoints are not registered
    return find(console.directory / NOTE)


@PAGES.get("/local-close", needs=UserRole.VIEWER, console=True)
def local_close(visit: Visit) -> Response:
    """Its objects and subscriptions."""
    close = _found(visit)
    state: dict[str, Any] | None = None
    problem = ""
    if close is not None:
        try:
            state = dict(close.state())
        except SandboxUnavailable as error:
            problem = str(error)
    objects = [] if state is None else [(kind, list(of.values())) for kind, of in state["objects"].items() if of]
    return visit.page(
        "local_close.html",
        close=close,
        state=state,
        problem=problem,
        objects=[(kind, len(every), every[-SHOWN:][::-1]) for kind, every in objects],
        changes=CHANGES,
    )


@PAGES.post("/local-close/<name>", needs=UserRole.OPERATOR, console=True)
def change_local_close(visit: Visit, name: str) -> Response:
    """Have it change something; its webhook comes as any other."""
    close = _found(visit)
    if close is None:
        raise NotFound("no sandbox runs in this directory; start one: webhooks sandbox")
    return visit.go("local_close", said=close.change(name))
