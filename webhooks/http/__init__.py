"""HTTP: a post becomes a call of `intake`, and what comes of it an answer.

Promises: a 2xx only after the commit; a 401 tells nothing; bounded bodies, times and connections. Not here: signatures
(`sources`), what is stored (`intake`), the application (`app`).

`routes` are Flask's, health and readiness included; `gunicorn` has what runs in that server alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.http.routes import Readiness as Readiness
    from webhooks.http.routes import ShortCut as ShortCut
    from webhooks.http.routes import make_blueprint as make_blueprint
    from webhooks.http.routes import make_error_handler as make_error_handler
    from webhooks.http.routes import make_health_blueprint as make_health_blueprint
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "routes": ["Readiness", "ShortCut", "make_blueprint", "make_error_handler", "make_health_blueprint"],
        },
    )
