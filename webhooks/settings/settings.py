"""The settings, each with its default, how it is read, and its line in the documentation.

`Settings` is made by `load`, which checks; `SETTINGS` holds the same for documentation. A section `[sources.<name>]` is
`sources.SourceSettings`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from webhooks.formats import show_duration
from webhooks.settings.alarms import AlarmTarget, read_waits
from webhooks.settings.dashboard import DashboardSettings, read_dashboard
from webhooks.settings.sources import SourceSettings
from webhooks.settings.values import (
    Reader,
    count,
    duration,
    hide_password,
    one_of,
    read_bool,
    read_broker_url,
    read_database_url,
    read_modules,
    read_prefix,
    read_public_url,
    read_queue_names,
    read_queue_table,
    read_schema,
    read_text,
    read_token,
    size,
)

PREFIX = "WEBHOOKS_"
FILE = "webhooks.toml"
DEFAULT_DATABASE = "sqlite:///webhooks.db"


def _about(text: str, read: Reader | None, *, secret: bool = False) -> Mapping[str, Any]:
    """What is known of a setting: its line in the documentation, how it is read, whether its value is never shown."""
    return {"text": text, "read": read, "secret": secret}


@dataclass(frozen=True, repr=False)
class Settings:
    """Every setting with its default; `SETTINGS` holds the same for documentation.

    Made directly only in tests: `load_settings` checks.
    """

    # where things are
    database_url: str = field(
        default=DEFAULT_DATABASE,
        metadata=_about(
            "where everything is kept: sqlite:///… or postgresql://…; falls back to DATABASE_URL",
            read_database_url,
            secret=True,
        ),
    )
    database_schema: str | None = field(
        default=None,
        metadata=_about("PostgreSQL: the schema of our tables and the plugins'; made if needed", read_schema),
    )
    database_pooler: str = field(
        default="none",
        metadata=_about(
            "what stands before PostgreSQL, such as PgBouncer, by when it gives a connection to another client",
            one_of("none", "session", "transaction"),
        ),
    )
    listen_url: str | None = field(
        default=None,
        metadata=_about(
            "PostgreSQL itself, where a pooler of transactions stands before it, so that workers hear of commits",
            read_database_url,
            secret=True,
        ),
    )
    sources: Mapping[str, SourceSettings] = field(
        default_factory=dict, metadata=_about("the senders, a section each: [sources.close]", None)
    )
    handlers: tuple[str, ...] = field(
        default=(), metadata=_about("modules with handlers, besides those in handlers_dir", read_modules)
    )
    handlers_dir: str = field(
        default="handlers", metadata=_about("directory whose modules are loaded as handlers", read_text)
    )

    # accepting events
    url_prefix: str = field(
        default="/webhooks", metadata=_about("path below which every source has its route", read_prefix)
    )
    max_body: int = field(
        default=2**20, metadata=_about("largest body that is taken; a larger one gets 413", size(1, 2**30))
    )
    incomplete_bodies: int = field(
        default=64 * 2**20,
        metadata=_about(
            "bytes that one process keeps of requests that are still incomplete; the slowest give way (gevent)",
            size(2**20, 2**40),
        ),
    )
    waiting_room: int = field(
        default=512,
        metadata=_about("requests of one process that may wait for a commit; more get 503", count(1, 100_000)),
    )
    in_flight_per_source: int = field(
        default=256,
        metadata=_about("requests of one source that a process answers at once; more get 503", count(1, 100_000)),
    )
    strict_types: bool = field(
        default=False,
        metadata=_about("whether a pattern that matches no known type stops the start instead of warning", read_bool),
    )
    capture_rejected: bool = field(
        default=False,
        metadata=_about("whether samples of rejected requests keep their bytes, at most 64 kB each", read_bool),
    )
    sample_rejected: timedelta = field(
        default=timedelta(seconds=1),
        metadata=_about(
            "of the requests of a source that are refused for one reason one in this time is kept, for `webhooks explain`; "
            "0 keeps each, as `webhooks dev` does; the latest 500 stay",
            duration("0s", "1d"),
        ),
    )

    # running handlers
    timeout: timedelta = field(
        default=timedelta(seconds=30), metadata=_about("how long one attempt may run", duration("1ms", "7d"))
    )
    max_attempts: int = field(
        default=20, metadata=_about("runs of a delivery, the first included, before it is dead", count(1, 10_000))
    )
    retry_base: timedelta = field(
        default=timedelta(seconds=10),
        metadata=_about("bound of the first wait before a retry; doubles each time", duration("0s", "30d")),
    )
    retry_cap: timedelta = field(
        default=timedelta(hours=6), metadata=_about("longest bound of such a wait", duration("0s", "30d"))
    )
    sqlite_write_limit: timedelta = field(
        default=timedelta(seconds=1),
        metadata=_about(
            "how long a handler may hold SQLite's write lock, from its first write to its end",
            duration("1ms", "2s"),  # ingest waits for the lock at most so long
        ),
    )

    # the worker
    concurrency: int = field(default=8, metadata=_about("handlers that one worker runs at once", count(1, 1000)))
    lease: timedelta = field(
        default=timedelta(seconds=30),
        metadata=_about(
            "how long a claimed delivery stays with a worker that is not heard of", duration("100ms", "1h")
        ),
    )
    heartbeat: timedelta = field(
        default=timedelta(seconds=10), metadata=_about("how often a worker extends its leases", duration("10ms", "1h"))
    )
    grace: timedelta = field(
        default=timedelta(seconds=25),
        metadata=_about("how long a stopping worker waits for its handlers", duration("0s", "1h")),
    )
    poll_interval: timedelta = field(
        default=timedelta(seconds=1),
        metadata=_about("how often an idle worker looks by itself, should a wake-up get lost", duration("10ms", "10m")),
    )
    queues: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_about(
            "into which queue handlers go, whatever their code says: a table of patterns of names and queues, the first match "
            'wins, such as [queues] with "video.*" = "video"',
            read_queue_table,
        ),
    )
    worker_queues: tuple[str, ...] = field(
        default=(), metadata=_about("queues whose handlers a worker runs; none: all of them", read_queue_names)
    )
    abandoned_threads: int = field(
        default=0,
        metadata=_about(
            "threads that ran past their time-out before a worker replaces itself; 0: four for each of `concurrency`",
            count(0, 10_000),
        ),
    )

    # Celery as an engine
    celery_app: str = field(
        default="", metadata=_about("Celery application that runs deliveries, module:attribute; none: ours", read_text)
    )
    celery_broker_url: str = field(
        default="", metadata=_about("broker of ours: amqp://… or redis://…", read_broker_url, secret=True)
    )
    engine_window: int = field(
        default=200,
        metadata=_about("deliveries offered to a queue of Celery and not claimed, at most", count(1, 10_000)),
    )
    engine_again: timedelta = field(
        default=timedelta(seconds=60),
        metadata=_about(
            "what is not claimed is offered again after this, then after twice that", duration("1s", "10m")
        ),
    )

    # keeping
    payload_retention: timedelta = field(
        default=timedelta(days=30),
        metadata=_about("how long events and their deliveries are kept", duration("1m", "3660d")),
    )
    dedup_retention: timedelta = field(
        default=timedelta(days=35),
        metadata=_about("how long a dedup key is kept after it was last seen", duration("1m", "3660d")),
    )

    # the process
    host: str = field(
        default="127.0.0.1",
        metadata=_about(
            "address that `webhooks run` binds; with PORT alone, as platforms set it, every one", read_text
        ),
    )
    port: int = field(
        default=8000, metadata=_about("port of `webhooks run` and `webhooks dev`; falls back to PORT", count(0, 65535))
    )
    worker_class: str = field(
        default="gevent", metadata=_about("gunicorn's worker class", one_of("gevent", "gthread", "sync"))
    )
    trusted_proxies: int = field(
        default=0,
        metadata=_about("proxies in front whose X-Forwarded-For is believed, for the log only", count(0, 100)),
    )
    log_level: str = field(
        default="info",
        metadata=_about(
            "least severe line that is logged; falls back to LOG_LEVEL", one_of("debug", "info", "warning", "error")
        ),
    )
    log_format: str = field(
        default="console",
        metadata=_about(
            "console: a line for people; json: an object; dev: short lines for a screen, as `webhooks dev` sets it; falls "
            "back to LOG_FORMAT",
            one_of("console", "json", "dev"),
        ),
    )

    log_events: bool = field(
        default=False,
        metadata=_about("whether each event that comes in has a line of its own, at level info", read_bool),
    )

    # being observed
    metrics: bool = field(
        default=False,
        metadata=_about(
            "whether the web port answers /metrics and /metrics/database to a scraper that sends metrics_token",
            read_bool,
        ),
    )
    metrics_token: str | None = field(
        default=None,
        metadata=_about(
            "what a scraper sends as Authorization: Bearer …; at least 16 letters, digits and signs",
            read_token,
            secret=True,
        ),
    )
    metrics_port: int | None = field(
        default=None,
        metadata=_about(
            "port on which a worker answers /metrics, /metrics/database and /healthz; 0 takes a free one",
            count(0, 65535),
        ),
    )
    metrics_host: str = field(
        default="127.0.0.1",
        metadata=_about("address that metrics_port binds; another machine's reach needs metrics_token", read_text),
    )
    metrics_handlers: int = field(
        default=200,
        metadata=_about("handlers that have series of their own; the others share the label other", count(1, 10_000)),
    )

    tracing: bool = field(
        default=False,
        metadata=_about("whether spans are opened, by the API of OpenTelemetry (extra `tracing`)", read_bool),
    )
    tracing_accept: str = field(
        default="link",
        metadata=_about(
            "what becomes of the trace in which a sender says that it is, once its signature is right",
            one_of("link", "parent", "ignore"),
        ),
    )

    tallies: bool = field(
        default=True,
        metadata=_about(
            "whether figures are kept for the charts of the dashboard, and what doctor finds; some 2 µs an event",
            read_bool,
        ),
    )

    # being told
    alarms: Mapping[str, AlarmTarget] = field(
        default_factory=dict, metadata=_about("who is told of alarms, a section each: [alarms.ops]", None)
    )
    alarm_interval: timedelta = field(
        default=timedelta(seconds=30),
        metadata=_about("how often one process looks whether an alarm is to be told", duration("1s", "10m")),
    )
    alarm_after: Mapping[str, timedelta] = field(
        default_factory=dict,
        metadata=_about(
            "for how long an alarm must stand before it is told, where that is not its own: a table of names and durations",
            read_waits,
        ),
    )
    max_wait: timedelta = field(
        default=timedelta(minutes=5),
        metadata=_about(
            "how long a fresh delivery may wait before the alarm backlog-old is raised; @on(max_wait=) for one handler",
            duration("1s", "30d"),
        ),
    )
    dashboard_url: str = field(
        default="",
        metadata=_about(
            "page that every alarm links to, such as a dashboard of yours; default: ours, below public_url of [dashboard]",
            read_public_url,
        ),
    )
    heartbeat_url: str = field(
        default="",
        metadata=_about(
            "address of a dead man's switch, called each minute while a worker can write and no critical alarm stands",
            read_public_url,
            secret=True,
        ),
    )

    # looking and acting, in a browser
    dashboard: DashboardSettings = field(
        default=DashboardSettings(),
        metadata=_about(
            "where the dashboard is served and who may do what there: a section [dashboard], or JSON of one",
            read_dashboard,
            secret=True,
        ),
    )
    secret_key: str | None = field(
        default=None,
        metadata=_about(
            "signs who is logged in at the dashboard; falls back to SECRET_KEY, and in a Flask application to its own",
            read_text,
            secret=True,
        ),
    )

    #: no database was named: the schema is applied at start
    has_default_database: bool = field(default=True, metadata={"internal": True})

    @property
    def shown_database_url(self) -> str:
        """The database URL without its password."""
        return hide_password(self.database_url)

    def __repr__(self) -> str:
        return f"<Settings database={self.shown_database_url} sources={sorted(self.sources)}>"


#: {setting: environment variable of other tools that means the same}; our own name wins over it.
FALLBACKS = {
    "database_url": "DATABASE_URL",
    "port": "PORT",
    "log_level": "LOG_LEVEL",
    "log_format": "LOG_FORMAT",
    "secret_key": "SECRET_KEY",
}

#: Settings that are sections, one for each name: `[sources.close]`, `[alarms.ops]`.
SECTIONS = ("sources", "alarms")

FIELDS = {f.name: f for f in dataclasses.fields(Settings) if not f.metadata.get("internal")}


@dataclass(frozen=True, slots=True)
class SettingDoc:
    """One setting for documentation. default: as it would be written in `webhooks.toml`; "" for `sources`."""

    name: str
    variable: str
    default: str
    text: str


def _written(value: Any) -> str:
    if value is None or value == "" or isinstance(value, (Mapping, DashboardSettings)):
        return ""
    if isinstance(value, timedelta):
        return f'"{show_duration(value)}"'
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else f'"{value}"' if isinstance(value, str) else str(value)


#: Every setting, in the order of `Settings`.
SETTINGS = tuple(
    SettingDoc(
        name,
        f"{PREFIX}{name.upper()}__<name>__<KEY>" if name in SECTIONS else PREFIX + name.upper(),
        "" if f.default is dataclasses.MISSING else _written(f.default),
        f.metadata["text"],
    )
    for name, f in FIELDS.items()
)
