"""Settings of gunicorn for this service, with their reasons; they travel in the wheel.

`gunicorn.conf.py` in a project imports them, `webhooks run` names them as `python:webhooks.gunicorn_conf`. The command
line and `GUNICORN_CMD_ARGS` win over them, and `WEB_CONCURRENCY` keeps the meaning that gunicorn gives it; so does
`PORT`, where the settings `host` and `port` say nothing.

What surprises: this module runs in gunicorn's master, before any worker is forked. So it opens nothing, starts no
thread, and does not make the application.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import resource
import sys
import tomllib
from pathlib import Path
from typing import Any

from webhooks.http.gunicorn.reload import keep_answering

# Two, so that one that is being restarted leaves another to answer. Under gevent: one a core.
workers = int(os.environ.get("WEB_CONCURRENCY") or 2)

# Of gthread. A request waits for a commit most of its time, and those that wait together share one commit.
threads = 16

# The default of gunicorn is "sync", where one slow sender holds a whole worker; here a waiting one costs a greenlet.
worker_class = "gevent"

#: {what the setting WORKER_CLASS says: what gunicorn is told}; gunicorn's own, with deadlines of ours
WORKER_CLASSES = {
    "gevent": "webhooks.http.gunicorn.gevent_worker.GeventWorker",
    "gthread": "webhooks.http.gunicorn.thread_worker.ThreadWorker",
    "sync": "webhooks.http.gunicorn.thread_worker.SyncWorker",
}

# Of one process, slow ones included; where more come, the one longest without a complete request gives way.
worker_connections = 2000

# A worker that has not been heard of for so long is killed. Above the longest wait of the sync class for its client.
timeout = 40

# After SIGTERM: posts that are being answered are answered. Below the 30 s that most supervisors wait before kill -9.
graceful_timeout = 25

# Senders reuse connections in bursts; a proxy in front wants more (its own idle time-out and a little).
keepalive = 5

# No restarts after so many requests: memory does not grow with them, and metrics of a dead worker stay on disk.
max_requests = 0

# The heartbeat file must not wait for a disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

# On by default since 25.1; nothing of ours uses it, and it fails where the home directory is read-only.
control_socket_disable = True

# gunicorn's defaults, fixed because the promises need them: `close_sig_hash` never passes for `close-sig-hash`, and
# a proxy may not pass a path or a mount point in a header.
header_map = "drop"
forwarder_headers = ""

# Errors to standard error, where the supervisor collects them; requests are logged by the application, with their ids.
errorlog = "-"
accesslog = None

# For those who turn it on: gunicorn's own lines without the query, in which a sender's token may stand, and without what the caller
# says of itself beside its name.
access_log_format = '%(h)s - %(u)s %(t)s "%(m)s %(U)s %(H)s" %(s)s %(b)s "%(a)s"'


def on_starting(server: Any) -> None:
    """Let the first worker that cannot load the application end the master, with its exit code.

    gunicorn asks the same of the second one while it is ending, and then ends with a traceback instead
    (https://github.com/benoitc/gunicorn/issues/2186, seen in 27.0.1).
    """
    halt = server.halt

    def halt_once(reason: str | None = None, exit_status: int = 0) -> None:
        server.APP_LOAD_ERROR = server.WORKER_BOOT_ERROR = -1  # no exit code: what the others end with says nothing new
        halt(reason, exit_status)

    server.halt = halt_once
    keep_answering(server)
    on_reload(server)
    if binds_everywhere and server.cfg.settings["bind"].get() == bind:
        server.log.info("PORT is set and WEBHOOKS_HOST is not, so every interface is bound, as platforms expect")
    limit = raise_file_limit()
    server.log.info("Files that a process may open: %s; connections: %s", limit, server.cfg.worker_connections)
    if server.cfg.settings["worker_class"].get() != WORKER_CLASSES["gevent"]:
        server.log.warning(
            "Worker class %s: slow senders hold its threads until their deadline; put a proxy that buffers requests in "
            "front, or leave WORKER_CLASS at gevent (docs/security.md)",
            server.cfg.worker_class_str,
        )


def raise_file_limit() -> str:
    """Let this process, and those forked from it, open as many files as its hard limit allows; what that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return "unlimited" if soft == resource.RLIM_INFINITY else str(soft)


def on_reload(server: Any) -> None:
    """Have a place for the numbers of the workers that are started next, if they count."""
    if has_metrics and getattr(server, "webhooks_metrics", None) is None:
        from webhooks.http.metrics import master

        master.begin(server)


def child_exit(server: Any, worker: Any) -> None:
    """Add up what an ended worker counted."""
    if getattr(server, "webhooks_metrics", None) is not None:
        from webhooks.http.metrics import master

        master.fold(server)


def on_exit(server: Any) -> None:
    """Leave nothing behind."""
    if getattr(server, "webhooks_metrics", None) is not None:
        from webhooks.http.metrics import master

        master.end(server)


def post_worker_init(worker: Any) -> None:
    """Have the application tell alarms while no worker does; here, since a process has its threads after the fork alone."""
    ours = getattr(worker.app.callable, "extensions", {}).get("webhooks")
    if ours is not None:
        ours.stand_in_for_workers()
    say_loaded(worker.pid)


def say_loaded(pid: int) -> None:
    """Tell `webhooks dev`, where that started us, that a worker has the application."""
    descriptor = os.environ.get("WEBHOOKS_READY_FD", "")
    if descriptor:
        with contextlib.suppress(OSError, ValueError):
            os.write(int(descriptor), b"%d\n" % pid)


def worker_exit(server: Any, worker: Any) -> None:
    """Write down what waits for it, leave no thread for which the process would wait, and let the process end at once.

    A process that ends collects its garbage a last time. That would write to every object that it shares with the
    master since the fork, and so copy all of their memory: seconds on a busy machine, in which no other worker can
    have its place.
    """
    ours = getattr(worker.app.callable, "extensions", {}).get("webhooks")
    if ours is not None:
        ours.close()
    gc.freeze()  # the last collection passes over what is there now


def is_true(value: str) -> bool:
    """Whether a setting says so, by the words that the application takes for it."""
    return value.strip().lower() in ("true", "1")


def _read_setting(wanted: str, default: str) -> str:
    """What a setting says: the environment, else webhooks.toml. wanted: its name, in capitals."""
    for name, value in os.environ.items():
        if name.upper() == f"WEBHOOKS_{wanted}":
            return value
    settings = Path("webhooks.toml")
    if settings.exists():
        try:
            parsed = tomllib.loads(settings.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            return default  # the application says what is wrong with it, in the worker
        for name, value in parsed.items():
            if name.upper() == wanted:
                return str(value)
    return default


def where_to_bind(host: str, port: str, platform_port: str) -> str:
    """The address to bind, as gunicorn reads it.

    host, port: the settings; "" where nothing says them.
    platform_port: the variable PORT of a platform that routes to this process, or "". Alone, as gunicorn reads it, it binds
    every interface.
    """
    if not host:
        host = "0.0.0.0" if platform_port and not port else "127.0.0.1"
    return f"{f'[{host}]' if ':' in host else host}:{port or platform_port or 8000}"


_host, _port = _read_setting("HOST", ""), _read_setting("PORT", "")
if "://" in _port:
    _port = ""  # what Kubernetes says of a Service named `webhooks`
_platform_port = os.environ.get("PORT", "")
# which clients can reach the service
bind = [where_to_bind(_host, _port, _platform_port)]
binds_everywhere = bool(_platform_port and not _host and not _port)

#: Whether the master is to make a place for the numbers of its workers.
has_metrics = is_true(_read_setting("METRICS", "false"))

worker_class = _read_setting("WORKER_CLASS", worker_class)
if worker_class == "gevent" and importlib.util.find_spec("gevent") is None:
    sys.exit("WORKER_CLASS is 'gevent', and gevent is not installed; pip install gevent, or set WORKER_CLASS=gthread")
if worker_class not in WORKER_CLASSES:
    sys.exit(f"WORKER_CLASS is {worker_class!r}; it can be 'gevent' (default), 'gthread' or 'sync'")
if worker_class == "sync":
    threads = 1  # with more, gunicorn takes gthread instead
worker_class = WORKER_CLASSES[worker_class]
