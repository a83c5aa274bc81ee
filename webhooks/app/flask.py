"""The consumer in Flask: its routes in an application that is there, or an application that is only that.

`attach` is what `Webhooks.init_app` does. `create_app` makes the service, which also answers posts to its sources
before Flask routes them. A mistake in the settings or in a handler ends the process that makes the service, and
gunicorn with it.
"""

from __future__ import annotations

import logging
import os
import pkgutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from webhooks.app import dashboard, metrics
from webhooks.app.assembly import Role
from webhooks.app.webhooks import APPLICATION, Webhooks
from webhooks.errors import ConfigurationError
from webhooks.formats import printable

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

#: The exit code by which gunicorn's master knows that an application does not load; on others it tries for ever.
NOT_LOADED = 4

#: The group of `flask webhooks …`; named rather than imported, as each of its commands is, since it is they that import us.
COMMANDS = "webhooks.cli:group"


def attach(webhooks: Webhooks, app: Flask) -> None:
    """Put the routes of an instance into `app`, and its commands. Raises `ConfigurationError`, `RegistrationError`."""
    from webhooks.http import Readiness, guard, make_blueprint, make_health_blueprint

    webhooks.assemble(role=Role.WEB, app_config=app.config)
    webhooks.prefix_of_commands = "flask webhooks"
    _require_no_sync(webhooks)
    if app.extensions.get(webhooks.name) is not None:
        raise ConfigurationError(
            f"this application has an instance named {webhooks.name!r} already; give the second one a name= of its own"
        )
    app.extensions[webhooks.name] = webhooks
    url_prefix, max_body = webhooks.settings.url_prefix, webhooks.settings.max_body
    blueprint = make_blueprint(webhooks.ingest, name=webhooks.name, url_prefix=url_prefix, max_body=max_body)
    app.register_blueprint(blueprint)
    guard(app, blueprint, url_prefix=url_prefix, max_body=max_body)
    webhooks.around_handlers = app.app_context
    webhooks.readiness = Readiness(webhooks.check, webhooks.clock)
    health = make_health_blueprint(webhooks.readiness, name=f"{webhooks.name}_health")
    prefix = None if webhooks.name == "webhooks" else f"/{webhooks.name}"
    app.register_blueprint(health, url_prefix=prefix)
    if webhooks.meter is not None:
        metrics.add_routes(webhooks, app, prefix)
    dashboard.mount(webhooks, app)
    if webhooks.name == "webhooks":
        app.cli.add_command(pkgutil.resolve_name(COMMANDS), "webhooks")
    if not is_asked_by_command():
        webhooks.name_unmigrated()


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """The service as a Flask application: settings from webhooks.toml and the environment of the working directory.

    A mistake in the settings or in a handler ends the process with its text, without a traceback, and gunicorn with it.
    """
    from flask import Flask
    from werkzeug.exceptions import HTTPException

    from webhooks.errors import RegistrationError
    from webhooks.http import make_error_handler
    from webhooks.settings import set_up_logging

    app = Flask("webhooks")
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    webhooks = Webhooks(overrides=overrides)
    try:
        webhooks.init_app(app)
    except (ConfigurationError, RegistrationError) as error:
        _end_unloaded(error)
    app.register_error_handler(HTTPException, make_error_handler(webhooks.ingest))
    webhooks.prefix_of_commands = "webhooks"
    webhooks.around_handlers = None
    webhooks.install_direct_route(app)
    if webhooks.settings.log_level:
        set_up_logging(webhooks.settings.log_level, webhooks.settings.log_format)
    _trust_proxies(app, webhooks.settings.trusted_proxies)
    webhooks.wsgi_entry = app.wsgi_app
    if not is_asked_by_command():
        try:
            webhooks.prepare_database()
        except ConfigurationError as error:
            _end_unloaded(error)
        webhooks.register_handlers()
    _say_how_it_is_served(webhooks)
    return app


def _end_unloaded(error: Exception) -> None:
    print(f"webhooks cannot start:\n{printable(str(error))}", file=sys.stderr, flush=True)
    sys.exit(NOT_LOADED)


def _trust_proxies(app: Flask, count: int) -> None:
    """Believe what so many proxies before us say of the client's address and scheme."""
    if count:
        from werkzeug.middleware.proxy_fix import ProxyFix

        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=0)  # type: ignore[method-assign]


def _require_no_sync(webhooks: Webhooks) -> None:
    """Raise `ConfigurationError` for replies under gunicorn's own worker class sync; our class of it says so itself."""
    own = "webhooks.http.gunicorn.thread_worker"  # it imports gunicorn's to begin with
    if "gunicorn.workers.sync" in sys.modules and own not in sys.modules:
        from webhooks.routing import why_not_sync

        if (why_not := why_not_sync(webhooks.registry.replies.all())) is not None:
            raise ConfigurationError(why_not)


def _say_how_it_is_served(webhooks: Webhooks) -> None:
    """Under gunicorn, log what a deployer may not expect: no worker here, or a worker class that is not ours."""
    if not os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn"):  # under `flask webhooks …`, say
        return
    if not os.environ.get("WEBHOOKS_EMBEDDED"):
        logger.info("no worker runs in this process; start one with `webhooks worker`")
    if not sys.modules.keys() & {"webhooks.http.gunicorn.gevent_worker", "webhooks.http.gunicorn.thread_worker"}:
        logger.warning(
            "gunicorn serves with a worker class of its own, which slow senders can stop: run `%s`, or "
            "`gunicorn -c python:webhooks.gunicorn_conf wsgi:app`",
            webhooks.command("run"),
        )


def application() -> Flask:
    """The application that `flask --app …` named to the parent of this process."""
    from flask.cli import ScriptInfo

    return ScriptInfo(app_import_path=os.environ[APPLICATION] or None).load_app()


def is_asked_by_command() -> bool:
    """Whether a `flask` command that does not serve has this application made, perhaps only to look."""
    click: Any = sys.modules.get("click")
    context = click.get_current_context(silent=True) if click is not None else None
    return context is not None and hasattr(context.find_root().obj, "app_import_path") and context.info_name != "run"


__all__ = ["APPLICATION", "NOT_LOADED", "application", "attach", "create_app", "is_asked_by_command"]
