"""Assembly: the only place where objects meet.

`Webhooks` is the consumer in one process, `create_app()` the Flask application that is only that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.app.webhooks import APPLICATION as APPLICATION
    from webhooks.app.webhooks import Webhooks as Webhooks
    from webhooks.app.webhooks import application as application
    from webhooks.app.webhooks import create_app as create_app
    from webhooks.app.webhooks import load as load
    from webhooks.app.webhooks import make_isolated as make_isolated
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "webhooks": ["APPLICATION", "Webhooks", "application", "create_app", "load", "make_isolated"],
        },
    )
