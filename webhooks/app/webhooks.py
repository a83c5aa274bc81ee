"""Assembly: the only place where objects meet.

`Webhooks(app)` (or `init_app`) puts the consumer into somebody's Flask application; `create_app()` makes the service.
Both read the settings, load handlers and sources, and connect store, ingest and surfaces. Nothing is opened before it
is needed, so an application can be made while the database is away; it then answers 503.

Two instances in one process work: give each a name, a registry and settings of its own.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pkgutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.database import Database, History, describe, find_plugins, histories_of
from webhooks.database.connect import connect
from webhooks.delivery import Dispatcher, IsolatedPool, Maintenance, Retention, Worker, WorkerSettings, handler_rows
from webhooks.errors import ConfigurationError, StorageUnavailable
from webhooks.forks import PerProcess
from webhooks.formats import one_line, printable
from webhooks.intake import BackgroundWriter, GroupCommit, Ingest, KeyUseRecorder, Refusals, RejectionSampler
from webhooks.operations import CatchUp, CatchUpDuty, Subscriptions, subscriptions_of_this_endpoint
from webhooks.routing import Registry, RetryPolicy, default_registry, find_modules, load_modules
from webhooks.session import Sessions
from webhooks.settings import Settings, load_settings, require_dedup_covers, require_sources
from webhooks.sources import KeyFile, Source, SourceWithLog, make_source, with_log
from webhooks.store import Store
from webhooks.version import VERSION

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from flask import Flask

    from webhooks.delivery import Rehearsal
    from webhooks.http import DirectRoute, Readiness
    from webhooks.operations import Doctor, Replayer, ReplayRehearsal

logger = logging.getLogger(__name__)

#: The exit code by which gunicorn's master knows that an application does not load; on others it tries for ever.
NOT_LOADED = 4

#: The environment variable by which `flask webhooks …` tells its children what `--app` named; "" is Flask's own guess.
APPLICATION = "WEBHOOKS_APPLICATION"

#: The group of `flask webhooks …`; named rather than imported, as each of its commands is, since it is they that import us.
COMMANDS = "webhooks.cli:group"


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
        self._typed = "webhooks"
        self._lock = PerProcess(threading.RLock)
        self.readiness: Readiness | None = None
        #: what answers posts before Flask routes them, where that was installed
        self.direct_route: DirectRoute | None = None
        #: the application that `create_app` made, as its server calls it; another one there has something around it
        self.wsgi_entry: WSGIApplication | None = None
        if app is not None:
            self.init_app(app)

    # -- made once -----------------------------------------------------------------------------------------

    def assemble(self, *, role: str = "web", app_config: Mapping[str, Any] | None = None) -> Webhooks:
        """Read settings, load handlers and sources, make the objects; once. role: "web", "worker" or "cli".

        Raises `ConfigurationError` with every mistake in the settings, and `RegistrationError` for handlers.
        """
        with self._lock.get():
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
            #: the same, with those of the modules that have none yet
            self.histories: Sequence[History] = histories_of(modules)
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
                patience=_patience(role),
                application=f"webhooks {role}",
            )
            self.store = Store(self.database, {name: source.read for name, source in self.sources.items()})
            self._call = call = _caller(self.database)
            self._last_problem = ("", 0.0)
            self.background = BackgroundWriter(call)
            self.rejections = RejectionSampler(
                self.store,
                self.sources,
                self.background,
                sample=self.settings.sample_rejected,
                capture=self.settings.capture_rejected,
            )
            self.refusals = Refusals(
                self.sources.keys(), clock=self.clock, sampler=self.rejections, sample=self.settings.sample_rejected
            )
            self.background.each_turn = self.refusals.turn
            self.ingest = Ingest(
                sources=self.sources,
                registry=self.registry,
                store=self.store,
                clock=self.clock,
                commit=GroupCommit(
                    functools.partial(call, self.store.intake.record_gathered),
                    judge=functools.partial(call, self.store.intake.judge),
                    capacity=self.settings.waiting_room,
                ),
                refusals=self.refusals,
                rejections=self.rejections,
                key_uses=KeyUseRecorder(self.store, self.background),
                in_flight=self.settings.in_flight_per_source,
                run=call,
            )
            self._dispatcher = PerProcess(self._make_dispatcher)
            self._assembled = True
            return self

    def become(self, role: str) -> None:
        """Use the database as `role` does, in a process that found the application made for another."""
        self.database.change_role(_patience(role), f"webhooks {role}")

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
        return self._dispatcher.get()

    def _make_dispatcher(self) -> Dispatcher:
        settings = self.settings
        return Dispatcher(
            registry=self.registry,
            store=self.store,
            sessions=Sessions(self.database, settings.sqlite_write_limit),
            clock=self.clock,
            default_retry=RetryPolicy(settings.max_attempts, settings.retry_base, settings.retry_cap),
            default_timeout=settings.timeout,
            own={name: source.settings.own for name, source in self.sources.items()},
        )

    def make_worker(self, *, slots: int | None = None) -> Worker:
        """A worker for this process; `run` it in the main thread. slots: in place of the setting `concurrency`."""
        settings = self.settings
        self.name_unmigrated()
        slots = slots or settings.concurrency
        self.database.serve_worker(slots)
        unregistered = self.store.handlers.register(handler_rows(self.registry))
        logs = [log for log in map(with_log, self.sources.values()) if log is not None and log.can_connect]
        worker = Worker(
            store=self.store,
            registry=self.registry,
            dispatcher=self.dispatcher,
            settings=WorkerSettings(
                slots=slots,
                lease=settings.lease,
                heartbeat=settings.heartbeat,
                grace=settings.grace,
                poll_interval=settings.poll_interval,
                abandoned_threads=settings.abandoned_threads or None,
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
        worker.register_later(unregistered)
        return worker

    def serve_single_attempts(self) -> None:
        """Be what a process needs that runs one attempt at a time."""
        self.database.serve_worker(1, pool_size=1)

    def make_catch_up(
        self, source: SourceWithLog, log: Any, holder: str, progress: Callable[[datetime], None] = lambda at: None
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
            pick=lambda every: subscriptions_of_this_endpoint(
                every,
                self.labels_of(source.name),
                self.sources[source.name].settings.public_url,
                f"{self.settings.url_prefix}/{source.name}",
            ),
            progress=progress,
        )

    def make_replayer(self) -> Replayer:
        """Plans, makes and cancels replays over this consumer's handlers."""
        from webhooks.operations import Replayer

        names = {name: source.group_name for name, source in self.sources.items()}
        return Replayer(store=self.store, registry=self.registry, group_names=names)

    def make_rehearser(self, patience: timedelta | None = None) -> ReplayRehearsal[Rehearsal]:
        """Rehearses the plans of a replayer. patience: see `delivery.rehearsal.PATIENCE`."""
        from webhooks.delivery import Rehearser
        from webhooks.operations import ReplayRehearsal

        rehearser = Rehearser(self.dispatcher, **({} if patience is None else {"patience": patience}))
        return ReplayRehearsal(self.make_replayer(), rehearser.run)

    def make_doctor(self, holder: str) -> Doctor:
        """Examines this installation, and repairs it. holder: who runs the catch-ups that it starts."""
        from webhooks.operations import Doctor

        def subscriptions(source: SourceWithLog, client: Any) -> Subscriptions:
            return Subscriptions(
                source.name,
                client,
                KeyFile(source.name, source.settings.secret_file),
                store=self.store,
                labels=self.labels_of(source.name),
                public_url=source.settings.public_url,
                check_key=source.check_key,
                words=source.words,
            )

        def catch_up(source: SourceWithLog) -> object:
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
            histories=self.histories,
            subscriptions=subscriptions,
            catch_up=catch_up,
        )

    def labels_of(self, name: str) -> list[str]:
        """The labels of the keys that a source holds now."""
        return list(self.sources[name].labels())

    # -- Flask ---------------------------------------------------------------------------------------------

    def init_app(self, app: Flask) -> None:
        """Put the routes into `app`, under the setting URL_PREFIX; reads `app.config["WEBHOOKS_…"]`."""
        from webhooks.http import Readiness, make_blueprint, make_health_blueprint

        self.assemble(role="web", app_config=app.config)
        self._typed = "flask webhooks"
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
        self.readiness = Readiness(self.check, self.clock)
        health = make_health_blueprint(self.readiness, name=f"{self.name}_health")
        prefix = None if self.name == "webhooks" else f"/{self.name}"
        app.register_blueprint(health, url_prefix=prefix)
        self._attach_commands(app)
        if not _is_asked_by_command():
            self.name_unmigrated()

    @property
    def paths(self) -> dict[str, str]:
        """{path of a request: name of the source that it is for}."""
        return {f"{self.settings.url_prefix}/{name}{slash}": name for name in self.sources for slash in ("", "/")}

    def install_direct_route(self, app: Flask) -> None:
        """Answer posts to configured sources before Flask routes them; for an application that is ours alone."""
        from webhooks.http import DirectRoute

        self.direct_route = DirectRoute(app.wsgi_app, self.ingest, paths=self.paths, max_body=self.settings.max_body)
        app.wsgi_app = self.direct_route  # type: ignore[method-assign]

    def _attach_commands(self, app: Flask) -> None:
        if self.name == "webhooks":
            app.cli.add_command(pkgutil.resolve_name(COMMANDS), "webhooks")

    def check(self) -> tuple[Sequence[str], datetime | None]:
        """What keeps this process from taking events in, fit for strangers, and the last heartbeat of any worker.

        What the database said names hosts, ports and roles: that goes to the log, when it changes and once a minute.
        """
        try:
            problem, beat = self._call(self._look_at_database)
        except StorageUnavailable as error:
            problem, beat, reason = "database unavailable", None, error.reason
        except Exception as error:  # a right that is missing, say; whoever asked learns no more than that
            problem, beat, reason = "database unavailable", None, describe(error)
        else:
            reason = problem
        now = time.monotonic()
        last, at = self._last_problem
        if reason and (reason != last or now - at >= 60):
            logger.error("not ready, /readyz answers 503: %s", one_line(reason))
            self._last_problem = (reason, now)
        elif not reason:
            self._last_problem = ("", now)
        return ((problem,) if problem else ()), beat

    def _look_at_database(self) -> tuple[str, datetime | None]:
        from webhooks.database.migrations import run as migrate

        if not migrate.is_current(self.database):
            return f"the database schema is not at head; run `{self.command('db upgrade')}`", None
        with self.database.write() as connection:  # each time: the trial below is only now and then
            connection.exec_driver_sql("update webhooks_leases set name = name where name = ''")
        self.ingest.require_writable()
        return "", self.store.processes.last_worker_beat()

    def command(self, text: str) -> str:
        """How the operator types one of our commands: in another's application, so that it reads that one's config."""
        return f"{self._typed} {text}"

    # -- life ----------------------------------------------------------------------------------------------

    def prepare_database(self) -> None:
        """Apply the schema to the default SQLite file; elsewhere only say what to run."""
        from webhooks.database.migrations import run as migrate

        if self.settings.has_default_database:
            migrate.upgrade(self.database, plugins=self.plugins)
            self.require_durable()
            self.leave_nothing_open()
            return
        try:
            current = migrate.is_current(self.database)
            plugins_are_current = migrate.is_current(self.database, self.plugins)
            if current:
                self.require_durable()
        except StorageUnavailable as error:
            logger.error("the database is away, answering 503 until it is back: %s", error.reason)
            return
        if not current:
            logger.error(
                "the database schema is not at head: run `%s`; answering 503 until then", self.command("db upgrade")
            )
        elif not plugins_are_current:
            # events are taken in all the same; it is the handlers that fail, and are tried again
            logger.error("the tables of a plugin are not at head: run `%s`", self.command("db upgrade"))
        self.leave_nothing_open()

    def name_unmigrated(self) -> None:
        """Say which tables of plugins no migration makes: handlers that use them fail.

        The database is asked only where there may be such a table, and need not be there.
        """
        from webhooks.database.migrations import run as migrate

        with contextlib.suppress(StorageUnavailable):
            for each in migrate.unmigrated(self.database, self.histories):
                logger.error(
                    "%s, so its handlers fail: run `%s`, then `%s`",
                    each.text,
                    self.command(each.command.removeprefix("webhooks ")),
                    self.command("db upgrade"),
                )
        self.leave_nothing_open()

    def require_durable(self) -> None:
        """Warn of what may lose events that were answered 2xx. Raises `ConfigurationError` for what loses them for sure."""
        doubts = self.store.durability.doubts()
        if losses := [doubt.text for doubt in doubts if doubt.is_loss]:
            raise ConfigurationError(losses)
        for doubt in doubts:
            logger.warning("%s%s", doubt.text, f": {doubt.command}" if doubt.command else "")

    def announce(self, kind: str) -> None:
        """Tell the database which handlers this process knows; `doctor` compares."""
        with contextlib.suppress(StorageUnavailable, Exception):
            self.store.handlers.register(handler_rows(self.registry))
        self.leave_nothing_open()

    def leave_nothing_open(self) -> None:
        """Close what was opened while the application was loaded: its server may fork this process, untold by Python."""
        self.database.leave_nothing_open()

    def close(self) -> None:
        """Close every connection."""
        if self._assembled:
            self.refusals.lines.flush(at_once=True)
            self.background.close()
            dispatcher = self._dispatcher.made
            if dispatcher is not None:
                dispatcher.sessions.dispose()
            self.database.dispose()


def _patience(role: str) -> timedelta | None:
    return timedelta(seconds=2) if role == "web" else None


def isolated_command() -> list[str]:
    """Starts a process that runs single attempts with the handlers and settings of this directory."""
    return [sys.executable, "-m", "webhooks.delivery.isolation", "webhooks.app:make_isolated"]


def make_isolated() -> tuple[Dispatcher, Store]:
    """What a process for single attempts needs; called in that process."""
    if APPLICATION in os.environ:
        webhooks: Webhooks = application().extensions["webhooks"]
        webhooks.become("worker")
    else:
        webhooks = load(role="worker")
    webhooks.serve_single_attempts()
    return webhooks.dispatcher, webhooks.store


def application() -> Flask:
    """The application that `flask --app …` named to the parent of this process."""
    from flask.cli import ScriptInfo

    return ScriptInfo(app_import_path=os.environ[APPLICATION] or None).load_app()


def _is_asked_by_command() -> bool:
    """Whether a `flask` command that does not serve has this application made, perhaps only to look."""
    click: Any = sys.modules.get("click")
    context = click.get_current_context(silent=True) if click is not None else None
    return context is not None and hasattr(context.find_root().obj, "app_import_path") and context.info_name != "run"


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
    """How what writes is called: in a native thread when gevent has patched this process and SQLite would block its hub.

    Asked at each call: gunicorn's --preload makes the application before gevent patches its workers.
    """
    if not database.blocks_threads:
        return lambda function, *arguments: function(*arguments)

    def attempt(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Exception | None]:
        try:
            return function(*arguments), None
        except Exception as error:  # raised in a thread of gevent's, it would be printed with its traceback as well
            return None, error

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        monkey: Any = sys.modules.get("gevent.monkey")
        if monkey is None or not monkey.is_module_patched("threading"):
            return function(*arguments)
        import gevent

        result, error = gevent.get_hub().threadpool.apply(attempt, (function, arguments))
        if error is not None:
            raise error
        return result

    return call


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
        print(f"webhooks cannot start:\n{printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(NOT_LOADED)
    app.register_error_handler(HTTPException, make_error_handler(webhooks.ingest))
    webhooks._typed = "webhooks"
    webhooks.install_direct_route(app)
    settings = webhooks.settings
    if settings.log_level:
        set_up_logging(settings.log_level, settings.log_format)
    if settings.trusted_proxies:
        from werkzeug.middleware.proxy_fix import ProxyFix

        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=0)  # type: ignore[method-assign]
    webhooks.wsgi_entry = app.wsgi_app
    if not _is_asked_by_command():
        try:
            webhooks.prepare_database()
        except ConfigurationError as error:
            print(f"webhooks cannot start:\n{printable(str(error))}", file=sys.stderr, flush=True)
            sys.exit(NOT_LOADED)
        webhooks.announce("web")
    served = os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")  # not under `flask webhooks …`
    if served and not os.environ.get("WEBHOOKS_EMBEDDED"):
        logger.info("no worker runs in this process; start one with `webhooks worker`")
    if served and not sys.modules.keys() & {
        "webhooks.http.gunicorn.gevent_worker",
        "webhooks.http.gunicorn.thread_worker",
    }:
        logger.warning(
            "gunicorn serves with a worker class of its own, which slow senders can stop: run `%s`, or "
            "`gunicorn -c python:webhooks.gunicorn_conf wsgi:app`",
            webhooks.command("run"),
        )
    return app
