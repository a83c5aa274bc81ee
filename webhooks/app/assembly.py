"""The one root: every object of this package is made and connected here, for the role that a process has.

A process asks for as much as it needs. `open_store` gives a database and nothing beside it (migrations, before a source
has its key), `open_read_only` also the sources (what only looks), and `Webhooks` the whole: handlers, ingest, and on
demand the dispatcher, a worker and the operations, each made by a function of this module.

Nothing is opened before it is needed, and what is heavy is imported where it is made: looking at stored events imports
no handler, no Flask and no worker.
"""

from __future__ import annotations

import enum
import functools
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from webhooks.app import metrics
from webhooks.errors import ConfigurationError
from webhooks.settings import Settings, SourceSettings, require_sources

if TYPE_CHECKING:
    from webhooks.app.webhooks import Webhooks
    from webhooks.database import Database
    from webhooks.delivery import Dispatcher
    from webhooks.intake import BackgroundWriter, Ingest, Refusals, RejectionSampler
    from webhooks.operations import Actor, CatchUp, Doctor, Subscriptions
    from webhooks.sources import SenderWords, Source, SourceWithLog
    from webhooks.store import Store
    from webhooks.store.tallies import TallyCounter
    from webhooks.tracing import Tracing


class Role(enum.StrEnum):
    """What a process is there for."""

    WEB = "web"  #: accepts events; waits for its database no longer than a sender does
    WORKER = "worker"  #: runs deliveries
    CHILD = "child"  #: runs single attempts for a worker
    CLI = "cli"  #: runs one command over everything
    DASHBOARD = "dashboard"  #: shows in a browser what is stored, and acts as a command would
    READ_ONLY = "read-only"  #: looks at what is stored, without handlers

    @property
    def patience(self) -> timedelta | None:
        """How long a database that does not answer is waited for; None: as long as the database's own limits say."""
        return timedelta(seconds=2) if self in (Role.WEB, Role.DASHBOARD) else None

    @property
    def statement_limit(self) -> timedelta | None:
        """How long one statement may take, where that is less: a page shows what it has, and never holds the database for long."""
        return timedelta(seconds=1) if self is Role.DASHBOARD else None

    @property
    def application(self) -> str:
        """By which name the database lists the connections of such a process."""
        return {Role.CHILD: "webhooks worker", Role.READ_ONLY: "webhooks cli"}.get(self, f"webhooks {self.value}")

    @property
    def serves(self) -> bool:
        """Whether it is one of the processes that make up the service, where missing handlers are worth a warning."""
        return self in (Role.WEB, Role.WORKER, Role.CHILD)


def utc_now() -> datetime:
    """The time of this machine, aware UTC."""
    return datetime.now(UTC)


# -- a database, and what is stored in it --------------------------------------------------------------------


@dataclass(frozen=True)
class ReadOnlyContext:
    """What is needed to look at what is stored.

    sources: {name: source}.
    clock: aware UTC now.
    handlers: names of those registered, where they are loaded.
    """

    settings: Settings
    sources: Mapping[str, Source]
    database: Database
    store: Store
    clock: Callable[[], datetime]
    handlers: Sequence[str] = ()


def open_database(settings: Settings, role: Role, clock: Callable[[], datetime] = utc_now) -> Database:
    """The database of the settings as `role` uses it; no connection is opened yet. Raises `ConfigurationError`."""
    from webhooks.database.connect import connect

    return connect(
        settings.database_url,
        schema=settings.database_schema,
        clock=clock,
        patience=role.patience,
        application=role.application,
        statement_limit=role.statement_limit,
        pooler=settings.database_pooler,
        listen_url=settings.listen_url,
    )


def make_sources(settings: Settings) -> dict[str, Source]:
    """{name: source} of the settings. Raises `ConfigurationError` with the mistakes of all of them."""
    from webhooks.sources import make_source

    require_sources(settings)
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


def make_store(database: Database, sources: Mapping[str, Source]) -> Store:
    """All that is kept in one database, with bodies read as their sources read them."""
    from webhooks.store import Store

    return Store(database, {name: source.read for name, source in sources.items()})


def open_store(settings: Settings, role: Role) -> Store:
    """A store without sources, for what works before one is configured; dispose of its `database` afterwards."""
    return make_store(open_database(settings, role), {})


def open_read_only(settings: Settings, clock: Callable[[], datetime] = utc_now) -> ReadOnlyContext:
    """Settings, sources and store without handlers; dispose of its `database` afterwards. Raises `ConfigurationError`."""
    sources = make_sources(settings)
    database = open_database(settings, Role.READ_ONLY, clock)
    return ReadOnlyContext(settings, sources, database, make_store(database, sources), clock)


# -- the way in ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IntakeParts:
    """What accepts events, and what leaves a trace of requests that are not accepted, beside the answers."""

    ingest: Ingest
    refusals: Refusals
    rejections: RejectionSampler
    background: BackgroundWriter
    tally: TallyCounter | None


def make_intake(webhooks: Webhooks, call: Callable[..., Any]) -> IntakeParts:
    """The way in. call: how what writes is called (see `caller`)."""
    from webhooks.intake import (
        BackgroundWriter,
        GroupCommit,
        Ingest,
        KeyUseRecorder,
        Refusals,
        RejectionSampler,
        ReplyRunner,
    )

    settings, store, sources = webhooks.settings, webhooks.store, webhooks.sources
    sample = settings.sample_rejected
    background = BackgroundWriter(call)
    rejections = RejectionSampler(store, sources, background, sample=sample, capture=settings.capture_rejected)
    refusals = Refusals(sources.keys(), clock=webhooks.clock, sampler=rejections, sample=sample)
    refusals.meter = webhooks.meter
    refusals.tally = tally = make_tally(webhooks, call, background)
    background.each_turn = _both(refusals.turn, tally.turn) if tally is not None else refusals.turn
    if settings.log_events:
        from webhooks.intake import log_events

        log_events()
    tracing = make_tracing(settings)
    record = functools.partial(call, store.intake.record_gathered)
    options: dict[str, Any] = {
        "judge": functools.partial(call, store.intake.judge),
        "capacity": settings.waiting_room,
    }
    if tracing is not None:
        record = tracing.around_commit(record)
        options["shared"] = tracing.shared_commit
    meter = webhooks.meter
    commit = GroupCommit(record, **options) if meter is None else metrics.metered_commit(meter, record, **options)
    ingest = Ingest(
        sources=sources,
        registry=webhooks.registry,
        store=store,
        clock=webhooks.clock,
        commit=commit,
        refusals=refusals,
        rejections=rejections,
        key_uses=KeyUseRecorder(store, background),
        in_flight=settings.in_flight_per_source,
        run=call,
        tracing=tracing,
        replies=ReplyRunner(lambda: webhooks.around_handlers),
    )
    return IntakeParts(ingest, refusals, rejections, background, tally)


def make_tally(webhooks: Webhooks, call: Callable[..., Any], background: BackgroundWriter) -> TallyCounter | None:
    """What counts for charts in this process, and is written by its background thread; None where nothing is counted."""
    if not webhooks.settings.tallies:
        return None
    from webhooks.operations import FigureKeeper
    from webhooks.store.tallies import TallyCounter

    store, keeper = webhooks.store, FigureKeeper(webhooks.store)

    def write(turns: Any) -> None:
        store.tallies.add(turns)
        keeper.stand_in(f"{socket.gethostname()}:{os.getpid()}")

    return TallyCounter(functools.partial(call, write), wake=background.wake, clock=webhooks.clock)


def _both(first: Callable[[], bool], second: Callable[[], bool]) -> Callable[[], bool]:
    """Call both at each turn; whether anything waits for either."""
    return lambda: first() | second()


def make_tracing(settings: Settings) -> Tracing | None:
    """What opens spans; None where none are asked for. Raises `ConfigurationError` without the API."""
    if not settings.tracing:
        return None
    from webhooks.tracing import Tracing
    from webhooks.version import install

    try:
        return Tracing(settings.tracing_accept, settings.url_prefix)
    except ImportError:
        raise ConfigurationError([f"tracing = true needs the OpenTelemetry API: {install('tracing')}"]) from None


def caller(database: Database) -> Callable[..., Any]:
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


# -- the way out ---------------------------------------------------------------------------------------------


def make_dispatcher(webhooks: Webhooks) -> Dispatcher:
    """What runs single deliveries."""
    from webhooks.delivery import Dispatcher
    from webhooks.routing import RetryPolicy
    from webhooks.session import Sessions

    settings = webhooks.settings
    dispatcher = Dispatcher(
        registry=webhooks.registry,
        store=webhooks.store,
        sessions=Sessions(webhooks.database, settings.sqlite_write_limit),
        clock=webhooks.clock,
        default_retry=RetryPolicy(settings.max_attempts, settings.retry_base, settings.retry_cap),
        default_timeout=settings.timeout,
        own={name: source.settings.own for name, source in webhooks.sources.items()},
        tracing=make_tracing(settings),
        around=webhooks.around_handlers,
    )
    dispatcher.announcements.tally = webhooks.tally
    if webhooks.screen is not None:
        dispatcher.announcements.slow = webhooks.screen.slow
    return dispatcher


def isolated_command() -> list[str]:
    """Starts a process that runs single attempts with the handlers and settings of this directory."""
    return [sys.executable, "-m", "webhooks.delivery.isolation", "webhooks.app:make_isolated"]


# -- operations ----------------------------------------------------------------------------------------------


def make_catch_up(
    webhooks: Webhooks,
    source: SourceWithLog,
    log: Any,
    holder: str,
    progress: Callable[[datetime], None] = lambda at: None,
) -> CatchUp:
    """One run over the event log of a source.

    log: an open client of its sender.
    holder: the process that runs it.
    progress: called with the instant up to which the log is read.
    """
    from webhooks.operations import CatchUp, subscriptions_of_this_endpoint

    return CatchUp(
        source,
        log,
        ingest=webhooks.ingest,
        store=webhooks.store,
        registry=webhooks.registry,
        clock=webhooks.clock,
        holder=holder,
        pick=lambda every: subscriptions_of_this_endpoint(
            every,
            list(webhooks.sources[source.name].labels()),
            webhooks.sources[source.name].settings.public_url,
            f"{webhooks.settings.url_prefix}/{source.name}",
        ),
        progress=progress,
    )


def make_subscriptions(
    section: SourceSettings,
    client: Any,
    store: Store,
    labels: Sequence[str],
    *,
    check_key: Callable[[str], object],
    words: SenderWords,
) -> Subscriptions:
    """What keeps the subscriptions of one source.

    section: its settings; the source itself need not have a key yet.
    client: an open client of its sender.
    labels: of the keys that it holds.
    check_key: raises for what is no key of its sender.
    words: of its sender, for messages.
    """
    from webhooks.operations import Subscriptions
    from webhooks.sources import KeyFile

    return Subscriptions(
        section.name,
        client,
        KeyFile(section.name, section.secret_file),
        store=store,
        labels=labels,
        public_url=section.public_url,
        check_key=check_key,
        words=words,
    )


def source_subscriptions(webhooks: Webhooks, source: SourceWithLog, client: Any) -> Subscriptions:
    """The subscriptions of one source, for an application that has the source. client: open, of its sender."""
    return make_subscriptions(
        source.settings,
        client,
        webhooks.store,
        list(webhooks.sources[source.name].labels()),
        check_key=source.check_key,
        words=source.words,
    )


def make_doctor(webhooks: Webhooks, holder: str) -> Doctor:
    """Examines an installation, and repairs it. holder: the process that runs the catch-ups it starts."""
    from webhooks.operations import Doctor, caught_up

    def catch_up(source: SourceWithLog, actor: Actor) -> object:
        with source.connect() as client:
            run = webhooks.make_catch_up(source, client, holder)
            return caught_up(webhooks.store, source.name, run.run, actor=actor)

    return Doctor(
        sources=webhooks.sources,
        store=webhooks.store,
        registry=webhooks.registry,
        clock=webhooks.clock,
        retention=webhooks.settings.payload_retention,
        url_prefix=webhooks.settings.url_prefix,
        labels=lambda name: list(webhooks.sources[name].labels()),
        plugins=webhooks.plugins,
        histories=webhooks.histories,
        subscriptions=functools.partial(source_subscriptions, webhooks),
        catch_up=catch_up,
        alarm_targets=list(webhooks.settings.alarms),
        has_heartbeat=bool(webhooks.settings.heartbeat_url),
    )


__all__ = [
    "IntakeParts",
    "ReadOnlyContext",
    "Role",
    "caller",
    "isolated_command",
    "make_catch_up",
    "make_dispatcher",
    "make_doctor",
    "make_intake",
    "make_sources",
    "make_store",
    "make_subscriptions",
    "make_tracing",
    "open_database",
    "open_read_only",
    "open_store",
    "utc_now",
]
