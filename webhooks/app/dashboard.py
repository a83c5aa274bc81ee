"""Where the dashboard meets the other objects; nothing of `dashboard` is imported unless it is to be served.

Three ways: in a process of its own (`create_dashboard`, which `webhooks dashboard` runs), beside what accepts events
(`[dashboard] mount = true`, or `Webhooks(app, dashboard_user=…)`), and in `webhooks dev`, which leaves a note with the key
of its link. In all others nothing is registered.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.app import assembly
from webhooks.errors import ConfigurationError, RegistrationError

if TYPE_CHECKING:
    from flask import Flask

    from webhooks.app.webhooks import Webhooks
    from webhooks.dashboard import Console, Services
    from webhooks.settings import Settings
    from webhooks.store import Store

logger = logging.getLogger(__name__)

#: Requests of the dashboard that are answered at once beside what accepts events: a page must never slow an event.
AT_ONCE = 2
#: The environment variable by which `webhooks dev` names the note for its console.
CONSOLE = "WEBHOOKS_CONSOLE"


def mount(webhooks: Webhooks, app: Flask) -> None:
    """Give an application the dashboard, where it is asked for. Raises `ConfigurationError`."""
    console = read_console(webhooks)
    is_asked_for = console is not None or webhooks.settings.dashboard.mount or webhooks.dashboard_user is not None
    if is_asked_for:
        keys = keys_of(webhooks.settings, app.config)
        beside = replace(services_of(webhooks, console), most_at_once=AT_ONCE)
        register(app, beside, keys, ask=webhooks.dashboard_user, name=webhooks.name)


def register(
    app: Flask,
    services: Services,
    keys: Sequence[str],
    *,
    ask: Callable[[], Any] | None = None,
    name: str = "webhooks",
) -> None:
    """Register the blueprint.

    keys: what signs cookies, the newest last.
    ask: of the host application: who is there.
    name: of the instance.

    Raises `ConfigurationError`.
    """
    from webhooks.dashboard import make_access, make_blueprint

    console = services.console
    if console is not None:
        keys = [console.key]
    access = make_access(
        services.settings.dashboard,
        keys,
        services.clock,
        ask=ask,
        console=console,
        count=_failed_logins(services.store),
    )
    prefix = None if name == "webhooks" else f"/{name}/dashboard"
    app.register_blueprint(make_blueprint(services, access, name=f"{name}_dashboard"), **_prefixed(prefix))


def _failed_logins(store: Store) -> Callable[..., int]:
    """Counts failed logins on record, by any process."""
    from webhooks.operations import Verb

    def count(since: datetime, *, name: str | None = None, address: str | None = None) -> int:
        return store.actions.count(Verb.LOGIN_FAILED, since, subject=name, address=address)

    return count


def _prefixed(prefix: str | None) -> Mapping[str, Any]:
    return {} if prefix is None else {"url_prefix": prefix}


def keys_of(settings: Settings, config: Mapping[str, Any]) -> list[str]:
    """What signs cookies, the newest last: our setting, else the application's. config: of a Flask application."""
    newest = settings.secret_key or config.get("SECRET_KEY")
    older = [key for key in config.get("SECRET_KEY_FALLBACKS") or () if key]
    return [_text(key) for key in [*older, *([newest] if newest else [])]]


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.hex()


def services_of(webhooks: Webhooks, console: Console | None = None) -> Services:
    """What pages work on, in a process with handlers."""
    from webhooks.dashboard import Services

    return Services(
        settings=webhooks.settings,
        store=webhooks.store,
        registry=webhooks.registry,
        sources=webhooks.sources,
        clock=webhooks.clock,
        call=webhooks.call,
        command=webhooks.command,
        make_activity=webhooks.make_activity,
        ingest=webhooks.ingest,
        make_replayer=webhooks.make_replayer,
        make_rehearser=webhooks.make_rehearser,
        make_doctor=webhooks.make_doctor,
        console=console,
    )


def services_without_handlers(settings: Settings, problem: str) -> Services:
    """What pages work on where handlers do not load. problem: why, which every page says. Raises `ConfigurationError`."""
    from webhooks.dashboard import Services
    from webhooks.operations import ActivityLog, Replayer
    from webhooks.routing import Registry

    sources = assembly.make_sources(settings)
    database = assembly.open_database(settings, assembly.Role.DASHBOARD)
    store, registry = assembly.make_store(database, sources), Registry()
    return Services(
        settings=settings,
        store=store,
        registry=registry,
        sources=sources,
        clock=assembly.utc_now,
        call=assembly.caller(database),
        command=lambda text: f"webhooks {text}",
        make_activity=lambda: ActivityLog(store, registry, lambda: Replayer(store=store, registry=registry)),
        problems=[f"Handlers could not be loaded, so nothing can be planned or rehearsed here: {problem}"],
    )


def create_dashboard(overrides: Mapping[str, Any] | None = None) -> Flask:
    """The dashboard alone, as a Flask application, which `webhooks dashboard` serves.

    It starts although a handler does not import, and says so on every page. A mistake in the settings ends the process.
    """
    from flask import Flask

    from webhooks.app.flask import _end_unloaded, _trust_proxies
    from webhooks.app.webhooks import Webhooks
    from webhooks.settings import load_settings, set_up_logging

    app = Flask("webhooks.dashboard")
    try:
        webhooks = Webhooks(overrides=overrides)
        try:
            webhooks.assemble(role=assembly.Role.DASHBOARD)
            services = services_of(webhooks)
        except RegistrationError as error:
            logger.error("handlers could not be loaded; the dashboard shows what is stored without them: %s", error)
            services = services_without_handlers(load_settings(os.environ, overrides=overrides), str(error))
        settings = services.settings
        require_bind(settings)
        register(
            app,
            services,
            keys_of(settings, {"SECRET_KEY_FALLBACKS": os.environ.get("SECRET_KEY_FALLBACKS", "").split()}),
        )
    except (ConfigurationError, RegistrationError) as error:
        _end_unloaded(error)
    set_up_logging(settings.log_level, settings.log_format)
    _trust_proxies(app, settings.trusted_proxies)
    return app


def require_bind(settings: Settings) -> None:
    """Raise `ConfigurationError` where the dashboard would be reachable without TLS in front."""
    bind = os.environ.get(BIND, "127.0.0.1")
    if bind in ("127.0.0.1", "::1", "localhost") or settings.dashboard.public_url.startswith("https://"):
        return
    if os.environ.get(BEHIND_TLS):
        return
    raise ConfigurationError(
        f"the dashboard would listen on {bind} without TLS, so that passwords could be read on the way: set public_url = "
        '"https://…" in [dashboard] to what the proxy in front is called, say --behind-tls, or leave --host at 127.0.0.1'
    )


#: By which `webhooks dashboard` tells the application where its server listens, and that a proxy in front has TLS.
BIND, BEHIND_TLS = "WEBHOOKS_DASHBOARD_BIND", "WEBHOOKS_DASHBOARD_BEHIND_TLS"


def read_console(webhooks: Webhooks) -> Console | None:
    """The note that `webhooks dev` left for the server it started; None elsewhere."""
    path = os.environ.get(CONSOLE)
    if not path:
        return None
    from webhooks.dashboard import Console

    try:
        note = json.loads(Path(path).read_text("utf-8"))
        return Console(Path(note["directory"]), note["key"], note["url"], note["user"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"webhooks: no console, since its note cannot be read: {type(error).__name__}", file=sys.stderr)
        return None


__all__ = ["CONSOLE", "create_dashboard", "keys_of", "mount", "read_console", "register", "services_of"]
