"""How pages register: each endpoint with its address, its forms and the role that it needs.

`Pages` is what a module of `pages/` fills; `GROUPS` names those modules. An endpoint has no default role: one without
would be a mistake that a test finds, and is answered with 404.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webhooks.dashboard.access import UserRole

if TYPE_CHECKING:
    from flask import Response


#: Modules of `pages/`, each with its endpoints in `PAGES`.
GROUPS = (
    "login",
    "assets",
    "overview",
    "console",
    "local_close",
    "events",
    "event",
    "deliveries",
    "jump",
    "failures",
    "replays",
    "changes",
    "activity",
    "buttons",
    "handlers",
    "sources",
    "refused",
    "operate",
)

#: Below which everything is.
PREFIX = "/dashboard"

#: What an address ends with for each form of its answer.
SUFFIXES = {"html": "", "json": ".json", "jsonl": ".jsonl", "csv": ".csv"}

View = Callable[..., "Response"]


@dataclass(frozen=True, slots=True)
class PageRoute:
    """One address.

    name: for `url(…)`; of its function.
    path: below `/dashboard`, as Flask's rules are written.
    method: "GET" or "POST".
    needs: the least role; None: anyone, logged in or not.
    forms: what it answers, of `SUFFIXES`.
    console: only in `webhooks dev`; elsewhere it is not registered.
    """

    name: str
    path: str
    method: str
    needs: UserRole | None
    view: View
    forms: Sequence[str] = ("html",)
    console: bool = False


class Pages:
    """The endpoints of one module, in the order in which they were written."""

    def __init__(self) -> None:
        self.endpoints: list[PageRoute] = []

    def get(
        self,
        path: str,
        *,
        needs: UserRole | None,
        forms: Sequence[str] = ("html",),
        console: bool = False,
    ) -> Callable[[View], View]:
        """A page. path, needs, forms, console: see `PageRoute`."""
        return self._register(path, "GET", needs, forms, console)

    def post(self, path: str, *, needs: UserRole | None, console: bool = False) -> Callable[[View], View]:
        """An action. path, needs, console: see `PageRoute`."""
        return self._register(path, "POST", needs, ("html",), console)

    def _register(
        self, path: str, method: str, needs: UserRole | None, forms: Sequence[str], console: bool
    ) -> Callable[[View], View]:
        def decorate(view: View) -> View:
            self.endpoints.append(PageRoute(view.__name__, path, method, needs, view, tuple(forms), console))
            return view

        return decorate


def every_endpoint() -> Iterator[PageRoute]:
    """Those of all groups. Raises ValueError where two have one name."""
    seen: set[str] = set()
    for group in GROUPS:
        pages: Pages = importlib.import_module(f"webhooks.dashboard.pages.{group}").PAGES
        for endpoint in pages.endpoints:
            if endpoint.name in seen:
                raise ValueError(f"two endpoints are named {endpoint.name!r}; one is in {group}")
            seen.add(endpoint.name)
            yield endpoint


__all__ = ["GROUPS", "PREFIX", "SUFFIXES", "PageRoute", "Pages", "UserRole", "every_endpoint"]
