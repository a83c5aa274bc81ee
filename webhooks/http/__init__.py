"""HTTP: a post becomes a call of `intake`, and what comes of it an answer.

Promises: a 2xx only after the commit; a 401 tells nothing; bounded bodies, times and connections. Not here: signatures
(`sources`), what is stored (`intake`), the application (`app`).

A request meets `routes`, or `direct` where the application is ours alone; `answers` says what it gets, a 401 as well.
`health` tells whether this process can store events; `host` keeps another
application's hooks from our requests; `gunicorn` has what runs in that server alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.http.answers import PlainAnswer as PlainAnswer
    from webhooks.http.direct import DirectRoute as DirectRoute
    from webhooks.http.health import Readiness as Readiness
    from webhooks.http.health import make_health_blueprint as make_health_blueprint
    from webhooks.http.host import guard as guard
    from webhooks.http.routes import make_blueprint as make_blueprint
    from webhooks.http.routes import make_error_handler as make_error_handler
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "answers": ["PlainAnswer"],
            "direct": ["DirectRoute"],
            "health": ["Readiness", "make_health_blueprint"],
            "host": ["guard"],
            "routes": ["make_blueprint", "make_error_handler"],
        },
    )
