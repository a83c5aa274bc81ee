"""`Webhooks`: the consumer in one process, as its users hold it.

`Webhooks(app)` (or `init_app`) puts the consumer into a Flask application; `load` gives it without Flask. It reads the
settings, loads handlers and sources, and keeps what `assembly` made of them. Nothing is opened before it is needed, so
an application can be made while the database is unavailable; it then answers 503.

Two instances in one process work: give each a name, a registry and settings of its own.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webhooks.app import alarms, assembly, metrics, running, startup
from webhooks.app.assembly import ReadOnlyContext, Role, utc_now
from webhooks.database import History, find_plugins, histories_of
from webhooks.errors import ConfigurationError
from webhooks.forks import PerProcess
from webhooks.formats import choose_queues
from webhooks.routing import Registry, default_registry, find_modules, load_modules
from webhooks.settings import Settings, load_settings, require_dedup_covers

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from flask import Flask

    from webhooks.app.screen import Screen
    from webhooks.dashboard import DashboardUser
    from webhooks.database import Database
    from webhooks.delivery import Dispatcher, Rehearsal, Worker
    from webhooks.http import DirectRoute, Readiness
    from webhooks.http.metrics import Meter, MetricsPort
    from webhooks.operations import ActivityLog, CatchUp, Doctor, Replayer, ReplayRehearsal
    from webhooks.operations.alarms import StandIn
    from webhooks.sources import Source, SourceWithLog
    from webhooks.store import Store

logger = logging.getLogger(__name__)

#: The environment variable by which `flask webhooks …` tells its children what `--app` named; "" is Flask's own guess.
APPLICATION = "WEBHOOKS_APPLICATION"


def _is_told(settings: Settings, role: Role) -> bool:
    """Whether `webhooks dev`, which started this process, says what is wrong with the handlers."""
    return role.serves and settings.log_format == "dev" and "WEBHOOKS_CONSOLE" in os.environ


class Webhooks:
    """The consumer: settings, sources, handlers, store and the operations over them.

    app: a Flask application to put the routes into, now or later by `init_app`.
    registry: of its own, for a second instance in one process.
    name: tells instances apart in `app.extensions`.
    overrides: settings by name, above `webhooks.toml` and the environment.
    environ: in place of the process's environment; settings: read already, in place of all three.
    clock: aware UTC now.
    dashboard_user: who is there, by your own login: puts the dashboard into `app`, for whomever it gives a `DashboardUser`.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        registry: Registry | None = None,
        name: str = "webhooks",
        overrides: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        clock: Callable[[], datetime] = utc_now,
        dashboard_user: Callable[[], DashboardUser | None] | None = None,
    ) -> None:
        self.name = name
        self.dashboard_user = dashboard_user
        self.registry = registry if registry is not None else default_registry
        self.clock = clock
        self._environ = environ
        self._overrides = dict(overrides or {})
        self._given = settings
        self._assembled = False
        self._lock = PerProcess(threading.RLock)
        #: what stands before our commands where they are typed: "webhooks" or "flask webhooks"
        self.prefix_of_commands = "webhooks"
        #: opened around each run of a handler: the context of the application that this one is part of
        self.around_handlers: Callable[[], AbstractContextManager[Any]] | None = None
        self.readiness: Readiness | None = None
        #: counts what this process does, where metrics are on
        self.meter: Meter | None = None
        #: where a worker answers scrapes, and what it asks for its figures
        self.metrics_port: MetricsPort | None = None
        self.metrics_database: Database | None = None
        #: what tells alarms in this web process while no worker does
        self._stand_in: StandIn | None = None
        #: what answers posts before Flask routes them, where that was installed
        self.direct_route: DirectRoute | None = None
        #: the application that `create_app` made, as its server calls it; another one there has something around it
        self.wsgi_entry: WSGIApplication | None = None
        if app is not None:
            self.init_app(app)

    # -- made once -----------------------------------------------------------------------------------------

    def assemble(self, *, role: str = Role.WEB, app_config: Mapping[str, Any] | None = None) -> Webhooks:
        """Read settings, load handlers and sources, make the objects; once.

        role: what this process is there for: "web", "worker", "child" or "cli".
        app_config: of a Flask application; what begins with WEBHOOKS in it is above the environment.

        Raises `ConfigurationError` with every mistake in the settings, and `RegistrationError` for handlers.
        """
        with self._lock.get():
            if not self._assembled:
                self._read(app_config or {})
                counts = metrics.prepare(self.settings, role)
                self._load_handlers(Role(role))
                if counts:
                    self.meter = metrics.make_meter(self.settings, role, self.sources, self.registry)
                self._connect(Role(role))
                self._assembled = True
            return self

    def _read(self, app_config: Mapping[str, Any]) -> None:
        environ = os.environ if self._environ is None else self._environ
        configured = {name: value for name, value in app_config.items() if name.upper().startswith("WEBHOOKS")}
        self.settings: Settings = self._given or load_settings(environ, overrides={**configured, **self._overrides})
        self.sources: dict[str, Source] = assembly.make_sources(self.settings)
        alarms.require_names(self.settings)
        tolerances = {name: source.tolerance for name, source in self.sources.items()}
        require_dedup_covers(self.settings, {name: t for name, t in tolerances.items() if t is not None})

    def _load_handlers(self, role: Role) -> None:
        modules = find_modules(self.settings.handlers_dir, self.settings.handlers)
        load_modules(modules)
        #: plugins of the loaded modules that have tables, and so a migration history, of their own
        self.plugins: Sequence[History] = find_plugins(modules)
        #: the same, with those of the modules that have none yet
        self.histories: Sequence[History] = histories_of(modules)
        self.registry.freeze()
        known = self.registry.check_known(self.sources, strict=self.settings.strict_types)
        #: what is probably a slip in the handlers
        self.doubts = [*self.registry.assign_queues(self.settings.queues), *known]
        for doubt in self.doubts if not _is_told(self.settings, role) else ():
            logger.warning("%s", doubt)
        if role.serves and not _is_told(self.settings, role) and not self.registry.handlers():
            logger.warning(
                "no handler is registered: there is none in %s; events are stored, and nothing runs",
                Path(self.settings.handlers_dir).resolve(),
            )
        startup.require_own(self)

    def _connect(self, role: Role) -> None:
        self.database: Database = assembly.open_database(self.settings, role, self.clock)
        self.store: Store = assembly.make_store(self.database, self.sources)
        self.database.former_names = {h.name: h.formerly for h in self.registry.handlers() if h.formerly}
        #: how what writes is called in this process
        self.call = assembly.caller(self.database)
        intake = assembly.make_intake(self, self.call)
        self.ingest, self.refusals = intake.ingest, intake.refusals
        self.rejections, self.background = intake.rejections, intake.background
        #: counts what this process does, for charts
        self.tally = intake.tally
        self._dispatcher = PerProcess(lambda: assembly.make_dispatcher(self))
        self._probe = startup.Probe(self)
        #: what tells on the screen of `webhooks dev`; None elsewhere
        self.screen: Screen | None = startup.connect_screen(self) if role.serves else None

    def become(self, role: str) -> None:
        """Use the database as `role` does, in a process that found the application made for another."""
        as_role = Role(role)
        self.database.change_role(as_role.patience, as_role.application, as_role.statement_limit)

    # -- what it is asked for ------------------------------------------------------------------------------

    @property
    def dispatcher(self) -> Dispatcher:
        """What runs deliveries; made when first asked for, since web processes never run any."""
        return self._dispatcher.get()

    def read_only(self) -> ReadOnlyContext:
        """The part of it that looks at what is stored."""
        names = [handler.name for handler in self.registry.handlers()]
        return ReadOnlyContext(self.settings, self.sources, self.database, self.store, self.clock, names)

    def choose_queues(self, wanted: Sequence[str] = (), without: Sequence[str] = ()) -> frozenset[str] | None:
        """The queues that a worker of this process runs; None: all.

        wanted: in place of the setting `worker_queues`.
        without: all but these.

        Raises `ConfigurationError` for queues that no handler is in.
        """
        known = {handler.queue for handler in self.registry.handlers()}
        if not wanted and not without:
            wanted = self.settings.worker_queues
        try:
            return choose_queues(known, wanted, without)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None

    def make_worker(
        self,
        *,
        slots: int | None = None,
        queues: Sequence[str] = (),
        without: Sequence[str] = (),
        isolates: bool = True,
    ) -> Worker:
        """A worker for this process; `run` it in the main thread.

        slots: in place of the setting `concurrency`.
        queues, without: see `choose_queues`.
        isolates: whether `isolation="process"` has processes of its own; else it runs in place.

        Raises `ConfigurationError`.
        """
        chosen = self.choose_queues(queues, without)
        self.name_unmigrated()
        worker = running.make_worker(self, slots=slots, queues=chosen, isolates=isolates)
        if self.settings.metrics_port is not None:
            metrics.serve(self, worker)
        return worker

    def serve_single_attempts(self) -> None:
        """Be what a process needs that runs one attempt at a time."""
        self.database.serve_worker(1, pool_size=1)
        self.tally = None  # the worker that it works for counts
        if self.meter is not None:
            self.meter.count_starts_only()

    def make_catch_up(
        self, source: SourceWithLog, log: Any, holder: str, progress: Callable[[datetime], None] = lambda at: None
    ) -> CatchUp:
        """One run over the event log of a source.

        log: an open client of its sender.
        holder: the process that runs it.
        progress: called with the instant up to which the log is read.
        """
        return assembly.make_catch_up(self, source, log, holder, progress)

    def make_replayer(self) -> Replayer:
        """Plans, makes and cancels replays over this consumer's handlers."""
        from webhooks.operations import Replayer

        names = {name: source.group_name for name, source in self.sources.items()}
        return Replayer(store=self.store, registry=self.registry, group_names=names)

    def make_rehearser(
        self, patience: timedelta | None = None, *, is_watched: bool = False
    ) -> ReplayRehearsal[Rehearsal]:
        """Rehearses the plans of a replayer. patience, is_watched: see `delivery.rehearsal`."""
        from webhooks.delivery import Rehearser
        from webhooks.operations import ReplayRehearsal

        more = {} if patience is None else {"patience": patience}
        rehearser = Rehearser(self.dispatcher, is_watched=is_watched, **more)
        return ReplayRehearsal(self.make_replayer(), rehearser.run)

    def make_activity(self) -> ActivityLog:
        """What people did, and what they are about to do: previews, undo."""
        from webhooks.app.actions import resume_subscription
        from webhooks.operations import ActivityLog

        return ActivityLog(self.store, self.registry, self.make_replayer, functools.partial(resume_subscription, self))

    def make_doctor(self, holder: str) -> Doctor:
        """Examines this installation, and repairs it. holder: the process that runs the catch-ups it starts."""
        return assembly.make_doctor(self, holder)

    # -- Flask ---------------------------------------------------------------------------------------------

    def init_app(self, app: Flask) -> None:
        """Put the routes into `app`, under the setting URL_PREFIX; reads `app.config["WEBHOOKS_…"]`.

        Raises `ConfigurationError` and `RegistrationError`.
        """
        from webhooks.app.flask import attach

        attach(self, app)

    @property
    def paths(self) -> dict[str, str]:
        """{path of a request: name of the source that it is for}, of those to which their senders post."""
        posted = [name for name, source in self.sources.items() if "POST" in source.methods]
        return {f"{self.settings.url_prefix}/{name}{slash}": name for name in posted for slash in ("", "/")}

    def install_direct_route(self, app: Flask) -> None:
        """Answer posts to configured sources before Flask routes them; for an application that is ours alone."""
        from webhooks.http import DirectRoute

        self.direct_route = DirectRoute(app.wsgi_app, self.ingest, paths=self.paths, max_body=self.settings.max_body)
        app.wsgi_app = self.direct_route  # type: ignore[method-assign]

    def check(self) -> tuple[Sequence[str], datetime | None]:
        """(what keeps this process from accepting events, fit for strangers; the last heartbeat of any worker)."""
        return self._probe()

    def command(self, text: str) -> str:
        """How the operator types one of our commands: in another's application, so that it reads that one's config."""
        return f"{self.prefix_of_commands} {text}"

    # -- life ----------------------------------------------------------------------------------------------

    def prepare_database(self) -> None:
        """Apply the schema to the default SQLite file; elsewhere only say what to run. Raises `ConfigurationError`."""
        startup.prepare_database(self)

    def name_unmigrated(self) -> None:
        """Say which tables of plugins no migration makes: handlers that use them fail."""
        startup.name_unmigrated(self)

    def register_handlers(self) -> None:
        """Tell the database, if it can be reached, which handlers this process knows; `doctor` compares."""
        from webhooks.store.handlers import HandlerRow

        # an older schema, say, or a right that is missing: the first post, or /readyz, says so
        with contextlib.suppress(Exception):
            self.store.handlers.register([HandlerRow.of(handler) for handler in self.registry.handlers()])
        self.leave_nothing_open()

    def leave_nothing_open(self) -> None:
        """End the connections that were opened while the application was loaded: its server may fork this process, untold by Python."""
        self.database.leave_nothing_open()

    def stand_in_for_workers(self) -> None:
        """Tell alarms in this web process while no worker does; once it serves, since a fork would lose the thread."""
        stand_in = alarms.stand_in(self.settings, self.store, self.registry, self.call)
        if stand_in is not None:
            self._stand_in = stand_in
            stand_in.start()

    def close(self) -> None:
        """End every connection."""
        if self._stand_in is not None:
            self._stand_in.close()
        if self._assembled:
            self.refusals.lines.flush(at_once=True)
            self.background.close()
            if self.tally is not None:
                self.tally.flush()
            if self.metrics_port is not None:
                self.metrics_port.close()
            if self.metrics_database is not None:
                self.metrics_database.dispose()
            dispatcher = self._dispatcher.made
            if dispatcher is not None:
                dispatcher.sessions.dispose()
            self.database.dispose()


def load(*, role: str = Role.CLI, overrides: Mapping[str, Any] | None = None) -> Webhooks:
    """The consumer of the working directory, without Flask. Raises `ConfigurationError` and `RegistrationError`."""
    return Webhooks(overrides=overrides).assemble(role=role)


def make_isolated() -> tuple[Dispatcher, Store]:
    """What a process for single attempts needs; called in that process."""
    if APPLICATION in os.environ:
        from webhooks.app.flask import application

        webhooks: Webhooks = application().extensions["webhooks"]
        webhooks.become(Role.CHILD)
    else:
        webhooks = load(role=Role.CHILD)
    webhooks.serve_single_attempts()
    return webhooks.dispatcher, webhooks.store


__all__ = ["APPLICATION", "Webhooks", "load", "make_isolated"]
