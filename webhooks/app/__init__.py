"""Assembly: the only place where objects meet.

`assembly` makes and connects every object, as much as the role of a process needs, and `running` those that run deliveries. `Webhooks` is the consumer in one
process and keeps what was made, `startup` is what it looks at in its database, `flask` puts it into an application:
`create_app()` gives the one that is only that. `dashboard`, `metrics` and `alarms` connect what the settings ask for.

Promises: nothing is opened before it is needed. Not here: what the objects do, and SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.app.assembly import ReadOnlyContext as ReadOnlyContext
    from webhooks.app.assembly import Role as Role
    from webhooks.app.assembly import make_sources as make_sources
    from webhooks.app.assembly import make_subscriptions as make_subscriptions
    from webhooks.app.assembly import open_read_only as open_read_only
    from webhooks.app.assembly import open_store as open_store
    from webhooks.app.dashboard import create_dashboard as create_dashboard
    from webhooks.app.flask import NOT_LOADED as NOT_LOADED
    from webhooks.app.flask import application as application
    from webhooks.app.flask import create_app as create_app
    from webhooks.app.running import make_maintenance as make_maintenance
    from webhooks.app.running import make_runner as make_runner
    from webhooks.app.webhooks import APPLICATION as APPLICATION
    from webhooks.app.webhooks import Webhooks as Webhooks
    from webhooks.app.webhooks import load as load
    from webhooks.app.webhooks import make_isolated as make_isolated
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "assembly": [
                "ReadOnlyContext",
                "Role",
                "make_sources",
                "make_subscriptions",
                "open_read_only",
                "open_store",
            ],
            "dashboard": ["create_dashboard"],
            "flask": ["NOT_LOADED", "application", "create_app"],
            "running": ["make_maintenance", "make_runner"],
            "webhooks": ["APPLICATION", "Webhooks", "load", "make_isolated"],
        },
    )
