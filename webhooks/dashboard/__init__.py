"""The dashboard: what is stored and what runs, seen and repaired in a browser, below `/dashboard/`.

Promises: every page and every action works without JavaScript; what senders and handlers wrote is shown, never run; no
page has a query or a rule of its own (`store` reads, `operations` decides, as for the command line); each endpoint says
which role it needs. Not here: SQL, what an action does, which process serves it (`app`).

A request meets `blueprint` (headers, errors), then `access` (who is there, and may she do that), then an endpoint of
`pages`, which gets a `visit` and answers with a template by `rendering`. `services` is what pages work on, `endpoints`
how they register, `frame` what stands around every page, `show` how values look, `search` the one line that selects.

**To add a page**: a module in `pages/` with `PAGES = Pages()` and functions such as

    @PAGES.get("/sources/<path:name>", needs=UserRole.VIEWER, forms=("html", "json"))
    def source(visit: Visit, name: str) -> Response:
        found = sources.view(visit.store, …)                     # an operation; never a query
        if visit.form == "json":                                # /sources/close.json
            return visit.json(records.source_json(found))
        return visit.page("source.html", source=found)          # templates/source.html extends "base.html"

    @PAGES.post("/sources/<path:name>/catch-up", needs=UserRole.OPERATOR)
    def catch_up(visit: Visit, name: str) -> Response:
        …(actor=visit.actor)
        return visit.go("source", name=name, said="It is asked for; a worker does it within seconds.")

then its name in `GROUPS` of `endpoints`, a line in `NAVIGATION` of `frame`, and a test with the fixture `site` of
`tests/integration/dashboard/conftest.py`: `site.get("/sources/close", UserRole.VIEWER)`, `site.post(…)`. Raise `NotFound` or
`SelectionError`, and the frame shows a page that says it. Endpoints are named by their functions, once in all groups.

In templates: `{% from "pieces.html" import … %}` for icons, tags, times, cards, forms with their token, tables that become
stacked rows on phones; `url("event", id=…)` for addresses; everything printed is escaped, with controls made visible. A
piece that is to be renewed while one looks: `<section {{ live("an-id") }}>`, which is polled with its page's address. No `style=`, no inline script, no user
text in `href`, `src`, `id`, `class` or `hx-…` but by `url` (a test greps).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.dashboard.access import Access as Access
    from webhooks.dashboard.access import DashboardUser as DashboardUser
    from webhooks.dashboard.access import UserRole as UserRole
    from webhooks.dashboard.access import make_access as make_access
    from webhooks.dashboard.blueprint import make_blueprint as make_blueprint
    from webhooks.dashboard.services import Console as Console
    from webhooks.dashboard.services import Services as Services
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "access": ["Access", "UserRole", "DashboardUser", "make_access"],
            "blueprint": ["make_blueprint"],
            "services": ["Console", "Services"],
        },
    )
