"""Assembly: the only place where objects meet.

`Webhooks(app)` (or `init_app`) puts the consumer into somebody's Flask application; `create_app()` makes the service.
Both read the settings, load handlers and sources, and connect store, ingest and surfaces. Nothing is opened before it
is needed, so an application can be made while the database is away; it then answers 503.

Two instances in one process work: give each a name, a registry and settings of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.catchup import CatchUp, CatchUpDuty, HasLog
from webhooks.config import Settings, load_settings, require_dedup_covers, require_sources
from webhooks.database import Database, connect
from webhooks.discovery import find_modules, load_modules
from webhooks.dispatch import Dispatcher
from webhooks.errors import ConfigurationError, StorageUnavailable
from webhooks.ingest import Engine, GroupCommit, Ingest
from webhooks.isolation import IsolatedPool
from webhooks.maintenance import Maintenance, Retention
from webhooks.migrate import History, find_plugins
from webhooks.notes import Notes
from webhooks.registry import Registry, default_registry
from webhooks.retry import RetryPolicy
from webhooks.session import Sessions
from webhooks.sources import Source, make_source
from webhooks.sources.close.signature import decode_key
from webhooks.sources.keyfile import KeyFile
from webhooks.store import Store
from webhooks.subscriptions import Subscriptions, ours
from webhooks.version import VERSION
from webhooks.worker import Worker, WorkerSettings, handler_rows

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from flask import Flask

    from webhooks.doctor import Doctor
    from webhooks.rehearsal import Rehearser
    from webhooks.replay import Replayer
    from webhooks.views import ShortCut

logger = logging.getLogger(__name__)

#: The exit code by which gunicorn's master knows that an application does not load; on others it tries for ever.
NOT_LOADED = 4


def utc_now() -> datetime:
    return datetime.now(UTC)


class Webhooks:
    """The consumer: settings, sources, handlers, store and the operations over them.

    app: a Flask application to put the routes into, now or later by `init_app`. registry: of its own, for a second
    instance in one process. name: tells instances apart in `app.extensions`. overrides: settings by name, above
    `webhooks.toml` and the environment.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        registry: Registry | None = None,
        name: str = "webhooks",
        overrides: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.name = name
        self.registry = registry if registry is not None else default_registry
        self.clock = clock
        self._environ = environ
        self._overrides = dict(overrides or {})
        self._assembled = False
        self._lock = threading.Lock()
        #: the way past Flask's routing, where it was taken
        self.short_cut: ShortCut | None = None
        #: the application that `create_app` made, as its server calls it; another one there has something around it
        self.entrance: WSGIApplication | None = None
        if app is not None:
            self.init_app(app)

    # -- made once -----------------------------------------------------------------------------------------

    def assemble(self, *, role: str = "web", app_config: Mapping[str, Any] | None = None) -> Webhooks:
        """Read settings, load handlers and sources, make the objects; once. role: "web", "worker" or "cli".

        Raises `ConfigurationError` with every mistake in the settings, and `RegistrationError` for handlers.
        """
        with self._lock:
            if self._assembled:
                return self
            environ = os.environ if self._environ is None else self._environ
            ours = {name: value for name, value in (app_config or {}).items() if name.upper().startswith("WEBHOOKS")}
            overrides = {**ours, **self._overrides}
            self.settings: Settings = load_settings(environ, overrides=overrides)
            require_sources(self.settings)
            self.sources: dict[str, Source] = _make_sources(self.settings)
            tolerances = {name: source.tolerance for name, source in self.sources.items()}
            require_dedup_covers(self.settings, {name: t for name, t in tolerances.items() if t is not None})
            modules = find_modules(self.settings.handlers_dir, self.settings.handlers)
            load_modules(modules)
            #: plugins of the loaded modules that have tables, and so a migration history, of their own
            self.plugins: Sequence[History] = find_plugins(modules)
            self.registry.freeze()
            for warning in self.registry.check_known(self.sources, strict=self.settings.strict_types):
                logger.warning("%s", warning)
            if role != "cli" and not self.registry.handlers():
                logger.warning(
                    "no handler is registered: there is none in %s; events are stored, and nothing runs",
                    Path(self.settings.handlers_dir).resolve(),
                )
            self._require_own()
            self.database: Database = connect(
                self.settings.database_url,
                clock=self.clock,
                patience=timedelta(seconds=2) if role == "web" else None,
                application=f"webhooks {role}",
            )
            self.store = Store(self.database, {name: source.read for name, source in self.sources.items()})
            self.engine: Engine | None = None
            call = _caller(self.database)
            self.notes = Notes(
                self.store,
                self.sources,
                sample=self.settings.sample_rejected,
                capture=self.settings.capture_rejected,
                run=call,
            )
            self.ingest = Ingest(
                sources=self.sources,
                registry=self.registry,
                store=self.store,
                clock=self.clock,
                commit=GroupCommit(self.store.intake.record_gathered, capacity=self.settings.waiting_room, run=call),
                in_flight=self.settings.in_flight_per_source,
                engine=self.engine,
                notes=self.notes,
            )
            self._dispatcher: Dispatcher | None = None
            self._assembled = True
            return self

    def _require_own(self) -> None:
        problems = [
            f"handler {handler.name!r} has ignore_own=True, but no source says which ids are ours; set "
            f'own = ["api_…"] in [sources.{handler.source or next(iter(self.sources))}]'
            for handler in self.registry.handlers()
            if handler.ignore_own
            and not any(source.settings.own for name, source in self.sources.items() if handler.source in (None, name))
        ]
        if problems:
            raise ConfigurationError(problems)

    @property
    def dispatcher(self) -> Dispatcher:
        """What runs deliveries; made when first asked for, since web processes never run any."""
        if self._dispatcher is None:
            settings = self.settings
            self._dispatcher = Dispatcher(
                registry=self.registry,
                store=self.store,
                sessions=Sessions(self.database, settings.sqlite_write_limit),
                clock=self.clock,
                default_retry=RetryPolicy(settings.max_attempts, settings.retry_base, settings.retry_cap),
                default_timeout=settings.timeout,
                own={name: source.settings.own for name, source in self.sources.items()},
            )
        return self._dispatcher

    def make_worker(self, *, slots: int | None = None) -> Worker:
        """A worker for this process; `run` it in the main thread."""
        settings = self.settings
        self.store.handlers.register(handler_rows(self.registry))
        logs = [source for source in self.sources.values() if isinstance(source, HasLog) and source.can_connect]
        return Worker(
            store=self.store,
            registry=self.registry,
            dispatcher=self.dispatcher,
            settings=WorkerSettings(
                slots=slots or settings.concurrency,
                lease=settings.lease,
                heartbeat=settings.heartbeat,
                grace=settings.grace,
                poll_interval=settings.poll_interval,
                abandoned_threads=settings.abandoned_threads,
            ),
            version=VERSION,
            isolated=IsolatedPool(command=isolated_command(), dispatcher=self.dispatcher, store=self.store),
            maintenance=Maintenance(
                self.store,
                self.dispatcher,
                Retention(payloads=settings.payload_retention, dedup=settings.dedup_retention),
                duties=[CatchUpDuty(logs, self.make_catch_up, self.store, self.clock)] if logs else [],
                lease=settings.lease,
            ),
        )

    def make_catch_up(
        self, source: HasLog, log: Any, holder: str, progress: Callable[[datetime], None] = lambda at: None
    ) -> CatchUp:
        """One run over the event log of a source. log: an open client of its sender. holder: who runs it."""
        return CatchUp(
            source,
            log,
            ingest=self.ingest,
            store=self.store,
            registry=self.registry,
            clock=self.clock,
            holder=holder,
            ours=lambda every: ours(
                every,
                self.labels_of(source.name),
                self.sources[source.name].settings.public_url,
                f"{self.settings.url_prefix}/{source.name}",
            ),
            progress=progress,
        )

    def make_replayer(self) -> Replayer:
        """Plans, makes and cancels replays over this consumer's handlers."""
        from webhooks.replay import Replayer

        return Replayer(store=self.store, registry=self.registry)

    def make_rehearser(self) -> Rehearser:
        """Rehearses the plans of a replayer."""
        from webhooks.rehearsal import Rehearser

        return Rehearser(replayer=self.make_replayer(), runner=self.dispatcher)

    def make_doctor(self, holder: str) -> Doctor:
        """Examines this installation, and repairs it. holder: who runs the catch-ups that it starts."""
        from webhooks.doctor import Doctor

        def subscriptions(source: Any, client: Any) -> Subscriptions:
            return Subscriptions(
                source.name,
                client,
                KeyFile(source.name, source.settings.secret_file),
                store=self.store,
                labels=self.labels_of(source.name),
                public_url=source.settings.public_url,
                check_key=decode_key,
            )

        def catch_up(source: Any) -> object:
            with source.connect() as client:
                return self.make_catch_up(source, client, holder).run()

        return Doctor(
            sources=self.sources,
            store=self.store,
            registry=self.registry,
            clock=self.clock,
            retention=self.settings.payload_retention,
            url_prefix=self.settings.url_prefix,
            labels=self.labels_of,
            plugins=self.plugins,
            subscriptions=subscriptions,
            catch_up=catch_up,
        )

    def labels_of(self, name: str) -> list[str]:
        """The labels of the keys that a source holds now."""
        keys = getattr(self.sources[name], "keys", None)
        return [key.label for key in keys.current()] if keys is not None else []

    # -- Flask ---------------------------------------------------------------------------------------------

    def init_app(self, app: Flask) -> None:
        """Put the routes into `app`, under the setting URL_PREFIX; reads `app.config["WEBHOOKS_…"]`."""
        from webhooks.views import Readiness, make_blueprint, make_health_blueprint, refuse_redirects

        self.assemble(role="web", app_config=app.config)
        if app.extensions.get(self.name) is not None:
            raise ConfigurationError(
                f"this application has an instance named {self.name!r} already; give the second one a name= of its own"
            )
        app.extensions[self.name] = self
        app.register_blueprint(
            make_blueprint(
                self.ingest,
                name=self.name,
                url_prefix=self.settings.url_prefix,
                max_body=self.settings.max_body,
            )
        )
        if app.url_map.merge_slashes:
            app.before_request(refuse_redirects(self.settings.url_prefix))
        health = make_health_blueprint(Readiness(self.check, self.clock), name=f"{self.name}_health")
        prefix = None if self.name == "webhooks" else f"/{self.name}"
        app.register_blueprint(health, url_prefix=prefix)
        self._attach_commands(app)

    def take_short_cut(self, app: Flask) -> None:
        """Answer posts to configured sources before Flask routes them; for an application that is ours alone."""
        from webhooks.views import ShortCut

        self.short_cut = ShortCut(
            app.wsgi_app, self.ingest, url_prefix=self.settings.url_prefix, max_body=self.settings.max_body
        )
        app.wsgi_app = self.short_cut  # type: ignore[method-assign]

    def _attach_commands(self, app: Flask) -> None:
        from webhooks.cli import group

        if self.name == "webhooks":
            app.cli.add_command(group, "webhooks")

    def check(self) -> tuple[Sequence[str], datetime | None]:
        """What keeps this process from taking events in, and the last heartbeat of any worker."""
        from webhooks import migrate

        try:
            if not migrate.is_current(self.database):
                return (f"the database schema is not at head; run `{command('db upgrade')}`",), None
            with self.database.write() as connection:
                connection.exec_driver_sql("update webhooks_leases set name = name where name = ''")
            return (), self.store.processes.last_worker_beat()
        except StorageUnavailable as error:
            return (f"the database is not writable: {error.reason}",), None

    # -- life ----------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """Forget connections and waiting requests of the parent; call first thing in a forked child."""
        self.database.after_fork()
        self.ingest.after_fork()
        self.notes.after_fork()

    def prepare_database(self) -> None:
        """Apply the schema to the default SQLite file; elsewhere only say what to run."""
        from webhooks import migrate

        if self.settings.has_default_database:
            migrate.upgrade(self.database, plugins=self.plugins)
            return
        try:
            current = migrate.is_current(self.database)
            plugins_are_current = migrate.is_current(self.database, self.plugins)
        except StorageUnavailable as error:
            logger.error("the database is away, answering 503 until it is back: %s", error.reason)
            return
        if not current:
            logger.error(
                "the database schema is not at head: run `%s`; answering 503 until then", command("db upgrade")
            )
        elif not plugins_are_current:
            # events are taken in all the same; it is the handlers that fail, and are tried again
            logger.error("the tables of a plugin are not at head: run `%s`", command("db upgrade"))

    def announce(self, kind: str) -> None:
        """Tell the database which handlers this process knows; `doctor` compares."""
        with contextlib.suppress(StorageUnavailable, Exception):
            self.store.handlers.register(handler_rows(self.registry))

    def close(self) -> None:
        """Close every connection."""
        if self._assembled:
            self.notes.close()
            if self._dispatcher is not None:
                self._dispatcher.sessions.dispose()
            self.database.dispose()


def command(text: str) -> str:
    """How the operator would type one of our commands."""
    return f"webhooks {text}"


def isolated_command() -> list[str]:
    """Starts a process that runs single attempts with the handlers and settings of this directory."""
    return [sys.executable, "-m", "webhooks.isolation", "webhooks.app:make_isolated"]


def make_isolated() -> tuple[Dispatcher, Store]:
    """What a process for single attempts needs; called in that process."""
    webhooks = load(role="worker")
    return webhooks.dispatcher, webhooks.store


def load(*, role: str = "cli", overrides: Mapping[str, Any] | None = None) -> Webhooks:
    """The consumer of the working directory, without Flask."""
    return Webhooks(overrides=overrides).assemble(role=role)


def _make_sources(settings: Settings) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    problems: list[str] = []
    for name, section in settings.sources.items():
        try:
            sources[name] = make_source(section)
        except ConfigurationError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigurationError(problems)
    return sources


def _caller(database: Database) -> Callable[..., Any]:
    """How what writes is called: in a native thread when gevent has patched this process and SQLite would block its hub."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is None or not database.is_sqlite or not monkey.is_module_patched("threading"):
        return lambda function, *arguments: function(*arguments)

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        import gevent

        return gevent.get_hub().threadpool.apply(function, arguments)

    return call


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """The service as a Flask application: settings from webhooks.toml and the environment of the working directory.

    A mistake in the settings or in a handler ends the process with its text, without a traceback, and gunicorn with it.
    """
    from flask import Flask
    from werkzeug.exceptions import HTTPException

    from webhooks.errors import RegistrationError
    from webhooks.logs import set_up_logging
    from webhooks.views import http_error

    app = Flask("webhooks")
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.register_error_handler(HTTPException, http_error)
    webhooks = Webhooks(overrides=overrides)
    try:
        webhooks.init_app(app)
    except (ConfigurationError, RegistrationError) as error:
        print(f"webhooks cannot start:\n{error}", file=sys.stderr, flush=True)
        sys.exit(NOT_LOADED)
    webhooks.take_short_cut(app)
    settings = webhooks.settings
    if settings.log_level:
        set_up_logging(settings.log_level, settings.log_format)
    if settings.trusted_proxies:
        from werkzeug.middleware.proxy_fix import ProxyFix

        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=0)  # type: ignore[method-assign]
    webhooks.entrance = app.wsgi_app
    webhooks.prepare_database()
    webhooks.announce("web")
    served = os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")  # not under `flask webhooks …`
    if served and not os.environ.get("WEBHOOKS_EMBEDDED"):
        logger.info("no worker runs in this process; start one with `webhooks worker`")
    return app
