"""Style, script, icons: the files that every page asks for, kept by browsers for ever."""

from __future__ import annotations

from flask import Response

from webhooks.dashboard import assets as files
from webhooks.dashboard.endpoints import Pages
from webhooks.dashboard.visit import Visit
from webhooks.errors import NotFound

PAGES = Pages()


@PAGES.get("/static/<digest>/<path:name>", needs=None)
def asset(visit: Visit, digest: str, name: str) -> Response:
    """One file; with another digest than today's it is not kept."""
    found = files.every_asset().get(name)
    if found is None:
        raise NotFound(f"there is no file {name!r}")
    response = Response(found.body, 200, content_type=found.media_type)
    response.headers["Cache-Control"] = (
        "public, max-age=31536000, immutable" if digest == files.digest() else "no-store"
    )
    return response
