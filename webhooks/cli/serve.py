"""`webhooks dev`, `run` and `worker`: processes, and what keeps them together.

`dev` and `run --with-worker` are a small parent of two children, gunicorn and a worker, each started by exec (never
forked from a process with threads). The parent passes signals on, starts a worker that ended again, and ends with
gunicorn's exit code. Should the parent be killed outright, both children end too: each has a guard, a shell
that waits on a pipe which only the parent holds open.

What surprises: `run` without --with-worker has no parent; it becomes gunicorn.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from webhooks.cli import Failure, demo, output
from webhooks.errors import StorageUnavailable
from webhooks.formats import one_line

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.store.listings import DeliverySummary

#: How long the server may take to answer /readyz, and a demo event to be handled.
START_LIMIT = timedelta(seconds=30)
DEMO_LIMIT = timedelta(seconds=30)
#: How long children get to stop; gunicorn's graceful time-out and the worker's grace are shorter.
STOP_LIMIT = timedelta(seconds=30)
#: A worker that ends sooner than this after its start is started again with a pause.
HASTY = timedelta(seconds=5)
#: The story's pauses on a terminal are multiplied with this: it is told in a quarter of a minute.
STORY_PACE = 0.7
#: Ports that `dev` tries when none was asked for.
PORTS = range(8000, 8100)


# -- child processes -------------------------------------------------------------------------------------------

#: Ends a process when the pipe on its own standard input closes. $1: the process.
_GUARD = 'trap "" INT TERM HUP; read _; kill -TERM "$1" 2>/dev/null; exit 0'


class Child:
    """One child process, and the guard that ends it when we are gone. lifeline: (read end, write end) of our pipe."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], lifeline: tuple[int, int]
    ) -> None:
        self.name = name
        self.command = command
        self.environment = dict(environment)
        self.lifeline = lifeline
        self.started = 0.0
        self.start()

    def start(self) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            process_group=0,  # a terminal's Ctrl-C reaches us alone; a second signal would mean "at once" to a child
        )
        self.guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(self.process.pid)],
            stdin=self.lifeline[0],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # else whoever kills our process group kills the guard as well
        )

    def poll(self) -> int | None:
        return self.process.poll()

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def reap_guard(self) -> None:
        self.guard.kill()
        self.guard.wait()

    def join(self, deadline: float) -> None:
        """Wait until it has ended; kill it at `deadline`."""
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reap_guard()


class Family:
    """The children of `dev` and `run --with-worker`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.lifeline = os.pipe()
        os.set_inheritable(self.lifeline[0], False)
        os.set_inheritable(self.lifeline[1], False)
        self.children: dict[str, Child] = {}
        self._asked_to_stop = 0
        self._pause_until = 0.0

    def start(self, name: str, command: Sequence[str]) -> Child:
        self.children[name] = Child(name, command, self.environment, self.lifeline)
        return self.children[name]

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals on behalf of the children, for the time of the body, and end them with it."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._asked_to_stop += 1
            if self._asked_to_stop > 1:
                for child in self.children.values():
                    child.send(signal.SIGKILL if self._asked_to_stop > 2 else signal.SIGTERM)

        def reload(number: int, frame: FrameType | None) -> None:
            for child in self.children.values():
                # gunicorn reloads; a worker is started again and so loads the handlers anew
                child.send(signal.SIGHUP if child.name == "gunicorn" else signal.SIGTERM)

        def refuse(number: int, frame: FrameType | None) -> None:
            output.print_note(
                "SIGUSR2 is for `webhooks run` without --with-worker; SIGHUP loads settings and handlers anew"
            )

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            signal.signal(signal.SIGINT, stop)
            signal.signal(signal.SIGTERM, stop)
            signal.signal(signal.SIGHUP, reload)
            signal.signal(signal.SIGUSR2, refuse)
            yield
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def is_asked_to_stop(self) -> bool:
        return self._asked_to_stop > 0

    def tend(self) -> int | None:
        """Start a worker that ended again; the exit code to end with once gunicorn has ended or we are to stop."""
        gunicorn, worker = self.children.get("gunicorn"), self.children.get("worker")
        if self.is_asked_to_stop:
            return 0
        if gunicorn is not None and (code := gunicorn.poll()) is not None:
            return code if code >= 0 else 128 - code
        if worker is not None and (code := worker.poll()) is not None and time.monotonic() >= self._pause_until:
            worker.reap_guard()
            if code != 0:
                output.print_note(f"the worker ended with {code}; starting it again")
            hasty = time.monotonic() - worker.started < HASTY.total_seconds()
            self._pause_until = time.monotonic() + (HASTY.total_seconds() if hasty else 0)
            worker.start()
        return None

    def wait(self) -> int:
        """Tend the children until one of the reasons to end; that exit code."""
        while (code := self.tend()) is None:
            time.sleep(0.1)
        return code

    def stop(self) -> None:
        deadline = time.monotonic() + STOP_LIMIT.total_seconds()
        for child in self.children.values():
            child.send(signal.SIGTERM)
        for child in self.children.values():
            child.join(deadline)
        self.children.clear()
        for descriptor in self.lifeline:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def python(*arguments: str) -> list[str]:
    """A command that runs this interpreter."""
    return [sys.executable, *arguments]


def flask_environment() -> dict[str, str]:
    """What tells a child process which application `flask --app …` named; {} under `webhooks …`.

    Raises `Failure` where the command line is one of an application's own.
    """
    from webhooks.app import APPLICATION

    context = click.get_current_context(silent=True)
    info: Any = context.find_root().obj if context is not None else None
    if not hasattr(info, "app_import_path"):
        return {}
    if getattr(info, "create_app", None) is not None:
        raise Failure(
            "this command line makes its application by a function of its own, which another process cannot call; "
            "use flask --app MODULE webhooks …"
        )
    return {APPLICATION: info.app_import_path or ""}


def gunicorn_command(directory: Path, *options: str) -> list[str]:
    """How gunicorn is started here: with the directory's settings and application where it has them.

    Under `flask webhooks …` with the application that was named.
    """
    settings = "gunicorn.conf.py" if (directory / "gunicorn.conf.py").exists() else "python:webhooks.gunicorn_conf"
    if flask_environment():
        application = "webhooks.app:application()"
    else:
        application = "wsgi:app" if (directory / "wsgi.py").exists() else "webhooks.app:create_app()"
    return python("-m", "gunicorn", "-c", settings, *options, application)


def worker_command(*options: str) -> list[str]:
    named = flask_environment()
    if not named:
        return python("-m", "webhooks", "worker", *options)
    app = next(iter(named.values()))
    return python("-m", "flask", *(["--app", app] if app else []), "webhooks", "worker", *options)


# -- dev -------------------------------------------------------------------------------------------------------


def free_port(host: str, asked: int | None) -> int:
    """The port asked for, or the first free one of `PORTS`. Raises `Failure` when it is taken."""
    for port in [asked] if asked is not None else PORTS:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                return port
    if asked is not None:
        raise Failure(f"port {asked} is taken; stop what listens there, or set PORT to another one")
    raise Failure(f"ports {PORTS[0]} to {PORTS[-1]} are all taken; set PORT to a free one")


def wait_until_ready(url: str, family: Family) -> None:
    """Wait until the server says that it is ready. Raises `Failure`."""
    import http.client
    import urllib.parse

    address = urllib.parse.urlsplit(url)
    deadline = time.monotonic() + START_LIMIT.total_seconds()
    last = "nothing"
    while time.monotonic() < deadline:
        if family.is_asked_to_stop:
            raise Failure("interrupted while starting", 130)
        if (code := family.children["gunicorn"].poll()) is not None:
            raise Failure(f"the server ended with exit code {code} before it was ready; its reason is above")
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            last = f"{response.status} {response.read(500).decode('utf-8', 'replace')}"
            if response.status == 200:
                return
        except (OSError, http.client.HTTPException) as error:
            last = type(error).__name__
        finally:
            connection.close()
        time.sleep(0.05)
    raise Failure(f"the server was not ready after {output.span(START_LIMIT)}; it answered: {last}")


@dataclass(frozen=True, slots=True)
class Development:
    """What `dev` will run, in `directory`.

    secret: the demo secret's file, where the demo source is used. has_demo_handlers: no handler of the directory takes
    the demo's event.
    """

    directory: Path
    instance: Webhooks
    environment: Mapping[str, str]
    url: str
    port: int
    secret: Path | None
    has_demo_handlers: bool = False


def prepare(directory: Path, environ: Mapping[str, str], *, show_demo: bool) -> Development:
    """Settings, schema, port and the environment of the children. Raises errors of ours."""
    from webhooks.app import webhooks as app
    from webhooks.cli.context import instance_of_flask
    from webhooks.settings import load_settings

    of_flask = instance_of_flask()
    settings = of_flask.settings if of_flask is not None else load_settings(environ)
    if of_flask is not None and show_demo and demo.SOURCE not in settings.sources:
        raise Failure(
            f"the demo needs a source named {demo.SOURCE!r}, which this application does not have; "
            "run `webhooks dev --demo` in an empty directory"
        )
    environment = {**environ, **flask_environment(), "WEBHOOKS_EMBEDDED": "1"}
    if not any(name.upper() == "WEBHOOKS_SAMPLE_REJECTED" for name in environ):
        environment["WEBHOOKS_SAMPLE_REJECTED"] = "0"  # whoever tries things out asks about each refusal
    secret: Path | None = None
    if not settings.sources or (show_demo and demo.SOURCE not in settings.sources):
        secret = demo.make_secret(directory)
        environment.update(demo.environment(secret))
    instance = of_flask or app.load(role="cli", overrides=demo.overrides(secret) if secret is not None else None)
    has_demo_handlers = show_demo and not instance.registry.route(demo.SOURCE, demo.EVENT_TYPE)
    if has_demo_handlers:
        environment["WEBHOOKS_HANDLERS"] = ",".join([*instance.settings.handlers, demo.HANDLERS])
    if show_demo:
        # one screen: only what goes wrong is worth a line beside it
        environment.setdefault("WEBHOOKS_LOG_LEVEL", environ.get("LOG_LEVEL", "warning"))
    named = any(name.upper() in ("PORT", "WEBHOOKS_PORT") for name in environ)
    asked = settings.port if named or (of_flask is not None and settings.port != PORTS[0]) else None
    port = free_port(settings.host, asked)
    try:
        apply_schema(instance)
    except StorageUnavailable as error:
        if instance.settings.has_default_database:
            raise
        raise Failure(
            "the database that DATABASE_URL, or database_url in webhooks.toml, names cannot be reached; start it, or leave "
            f"that out to have one in this directory: {error.reason}"
        ) from error
    return Development(
        directory, instance, environment, f"http://{settings.host}:{port}", port, secret, has_demo_handlers
    )


def apply_schema(instance: Webhooks) -> None:
    """Bring the core's and the handlers' tables to head, and say what changed."""
    from webhooks.cli.db import upgrade_all

    for line in upgrade_all(instance):
        output.print_note(line)


@click.command(epilog="Example: webhooks dev --demo")
@click.option(
    "--demo", "show_demo", is_flag=True, help="Show a signed event, then a local Close's story, being handled."
)
@click.option("--once", is_flag=True, help="With --demo: end after the handled event, with 1 if it takes over 30 s.")
@click.option("--no-worker", is_flag=True, help="Without the worker; run one beside it: webhooks worker.")
@click.pass_context
def dev(ctx: click.Context, show_demo: bool, once: bool, no_worker: bool) -> None:
    """Run a server on 127.0.0.1, a worker and a database for development, until Ctrl-C.

    The schema is applied. Where no source is configured, a demo source with a secret made at random is used. The port
    is PORT, else 8000 or the next free one.
    """
    if once and not show_demo:
        raise Failure("--once goes with --demo", 2)
    if no_worker and show_demo:
        raise Failure("--demo shows an event being handled, which needs the worker", 2)
    plan = prepare(Path.cwd(), os.environ, show_demo=show_demo)
    family = Family(plan.environment)
    try:
        with family.listening():
            host = plan.instance.settings.host
            if not no_worker:
                family.start("worker", worker_command())
            # one process: this is about seeing things work; HUP or a restart loads changed handlers
            options = ["--bind", f"{host}:{plan.port}", "--workers", "1"]
            if show_demo:
                options += ["--log-level", "warning"]
            family.start("gunicorn", gunicorn_command(plan.directory, *options))
            demo.leave_note(plan.directory, plan.url, has_demo_handlers=plan.has_demo_handlers)
            wait_until_ready(plan.url, family)
            if show_demo:
                code = run_demo(plan, family, click.echo, once=once)
            else:
                _announce(plan, click.echo)
                _say_how_to_stop()
                code = family.wait()
    finally:
        demo.remove_note(plan.directory)
        demo.remove_close_note(plan.directory)
        plan.instance.close()
    ctx.exit(code)


def _announce(plan: Development, tell: Callable[[str], None]) -> None:
    settings = plan.instance.settings
    tell(f"serving at {plan.url}")
    for name in plan.instance.sources:
        tell(f"  POST {settings.url_prefix}/{name}" + (" (demo secret)" if plan.secret and name == demo.SOURCE else ""))
    handlers = [handler.name for handler in plan.instance.registry.handlers()]
    tell(f"handlers: {', '.join(handlers) or 'none yet; write one into handlers/ (webhooks init shows how)'}")
    tell("try: webhooks trigger " + demo.EVENT_TYPE)


def _say_how_to_stop() -> None:
    if sys.stderr.isatty():
        output.print_note("Ctrl-C stops.")


# -- the demo ----------------------------------------------------------------------------------------------------


def run_demo(plan: Development, family: Family, tell: Callable[[str], None], *, once: bool) -> int:
    """Show one event being handled, then, unless `once`, the local Close's story; the exit code."""
    handled = show(plan, tell)
    # handlers that work for somebody must not act on people who do not exist
    has_story = handled is not None and plan.secret is not None and not once
    if handled is not None and not has_story:
        _name_next(tell, handled, plan)
    if once:
        return 0 if handled is not None else 1
    _say_how_to_stop()
    return tell_story(plan, family, tell) if has_story else family.wait()


def show(plan: Development, tell: Callable[[str], None]) -> int | None:
    """Send the demo event and tell what becomes of it; its id, or None when it was not handled in time."""
    from webhooks.cli import trigger

    source = plan.instance.sources[demo.SOURCE]
    body, headers, _ = trigger.choose(demo.EVENT_TYPE, source)
    body = trigger.freshen(body, source.settings.scheme, plan.instance.clock())
    url = f"{plan.url}{plan.instance.settings.url_prefix}/{demo.SOURCE}"
    signed_with = f"the demo secret ({plan.secret.name})" if plan.secret is not None else "your source's first secret"
    tell(f"serving    {plan.url}")
    began = time.monotonic()
    answer = trigger.send(source, body, headers, url, plan.instance.clock())
    took = timedelta(seconds=time.monotonic() - began)
    tell(f"received   {demo.EVENT_TYPE}, {len(body):,} bytes")
    tell(f"signed     with {signed_with}")
    event_id = answer.body.get("event_id") if isinstance(answer.body, dict) else None
    if answer.status != 200 or event_id is None:
        tell(f"refused    {answer.status} {one_line(answer.text, 300)}")
        return None
    tell(f"{answer.body['status']:<10} as event {event_id}; answered {answer.status} in {output.span(took)}")
    ended = _await_end(plan.instance, int(event_id), tell)
    good = [delivery for delivery in ended if delivery.state.label == "succeeded"]
    for delivery in ended:
        at = output.span(delivery.finished_at - delivery.created_at) if delivery.finished_at else ""
        if delivery in good:
            tell(f"handled    by {delivery.handler} {at} after it was stored")
        else:
            reason = delivery.reason or f"attempt {delivery.attempts} has not ended"
            tell(f"{delivery.state.label:<10} for {delivery.handler}: {one_line(reason, 300)}")
    if not good:
        tell(f"not handled within {output.span(DEMO_LIMIT)}; see: {our_name()} events show {event_id}")
        return None
    return int(event_id)


def tell_story(plan: Development, family: Family, tell: Callable[[str], None]) -> int:
    """Run a local Close, show its story and whatever happens at it afterwards; the exit code of a reason to end."""
    from webhooks.cli import follow, trigger
    from webhooks.cli.sandbox import key_of
    from webhooks.sandbox import serve
    from webhooks.sandbox.accounts import ADMIN_KEY

    url = f"{plan.url}{plan.instance.settings.url_prefix}/{demo.SOURCE}"
    key = key_of(plan.instance.sources[demo.SOURCE])
    assert key is not None  # the demo's
    world, subscription = follow.make_world(url, key)
    demo.label_key(demo.secret_path(plan.directory), subscription, key)
    posts = follow.Posts(trigger.post)
    follower = follow.Follower(posts, plan.instance.store.listings.of_event, tell, family.tend)
    with serve(world, post=posts) as close:
        demo.leave_close_note(plan.directory, close.url, ADMIN_KEY, url)
        tell("")
        tell(f"close      a Close of your own at {close.url} tells a story;")
        tell("           its webhooks are signed, and take the same way as that event:")
        # somebody watches a terminal; nobody watches a log
        code = follow.play(close, follower, pace=STORY_PACE if output.is_terminal() else 0)
        if code is None:
            _name_next(tell, follower.tally.last_event, plan)
            tell("")
            tell("or ask the local Close, while it runs:")
            tell(f"  {our_name()} subscriptions list")
            tell(f"  {our_name()} catch-up {demo.SOURCE} --since 1h")
            tell("")
            tell("or change something at it, and see here what comes of it:")
            tell(f"  curl -u {ADMIN_KEY}: {close.url}contact/ \\")
            tell("""       -d '{"name": "Ada Lovelace"}'""")
            code = follower.follow(lambda: False)
    return 0 if code is None else code


def _name_next(tell: Callable[[str], None], event_id: int | None, plan: Development) -> None:
    """The next commands to try. event_id: one to look at."""
    name = our_name()
    tell("")
    tell("next, in another terminal:")
    if event_id is not None:
        tell(f"  {name} events show {event_id}")
    tell(f"  {name} trigger activity.whatsapp_message.updated")
    tell(f"  {name} replay --type 'activity.whatsapp_message.**' --dry-run")
    if plan.secret is None:
        tell(f"  {name} sandbox    (a local Close; --demo plays its story here only with the demo source)")


def our_name() -> str:
    """How to type this program here: as it is found on the PATH, else by where it is."""
    if shutil.which("webhooks"):
        return "webhooks"
    script = Path(sys.executable).with_name("webhooks")
    if not script.exists():
        return f"{sys.executable} -m webhooks"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)


def _await_end(instance: Webhooks, event_id: int, tell: Callable[[str], None]) -> Sequence[DeliverySummary]:
    """The deliveries of an event, once all have ended or time is up; a failed attempt is told when it is seen."""
    deadline = time.monotonic() + DEMO_LIMIT.total_seconds()
    told: dict[int, int] = {}
    while True:
        found = instance.store.listings.of_event(event_id)
        for delivery in found:
            if delivery.state.label == "pending" and delivery.failures > told.get(delivery.id, 0):
                told[delivery.id] = delivery.failures
                again = output.span(max(delivery.due_at - instance.clock(), timedelta(0)))
                tell(f"failed     for {delivery.handler}, again in {again}: {one_line(delivery.reason or '', 300)}")
        if found and all(delivery.state >= 2 for delivery in found):
            return found
        if time.monotonic() >= deadline:
            return found
        time.sleep(0.01)


# -- run, worker -------------------------------------------------------------------------------------------------


@click.command(
    epilog="Example: webhooks run --with-worker -- --workers 4",
    context_settings={"ignore_unknown_options": True},
)
@click.option("--with-worker", is_flag=True, help="Also run a worker, and start it again should it end.")
@click.argument("gunicorn_options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, with_worker: bool, gunicorn_options: tuple[str, ...]) -> None:
    """Serve webhooks with gunicorn, by gunicorn.conf.py or the packaged settings; options after -- go to it."""
    command = gunicorn_command(Path.cwd(), *gunicorn_options)
    os.environ.update(flask_environment())
    if not with_worker:
        os.execv(command[0], command)
    family = Family({**os.environ, "WEBHOOKS_EMBEDDED": "1"})
    with family.listening():
        family.start("gunicorn", command)
        family.start("worker", worker_command())
        code = family.wait()
    ctx.exit(code)


@click.command(epilog="Example: webhooks worker --concurrency 16")
@click.option("-c", "--concurrency", type=click.IntRange(1, 1000), help="Handlers run at once; default: the setting.")
def worker(concurrency: int | None) -> None:
    """Run deliveries until SIGTERM or Ctrl-C; a second one stops at once."""
    from webhooks.cli.context import webhooks
    from webhooks.delivery import REPLACE
    from webhooks.settings import set_up_logging

    os.environ.update(flask_environment())  # for the processes of single attempts
    instance = webhooks(role="worker")
    instance.become("worker")
    set_up_logging(instance.settings.log_level, instance.settings.log_format)
    made: Any = None

    def stop(number: int, frame: FrameType | None) -> None:
        if made is None:
            raise SystemExit(0)  # it still waits for its database
        made.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    made = _make_worker(instance, concurrency)
    if made.run() == REPLACE:
        # threads that never end are left behind with the old program
        os.environ.update(made.to_be_replaced())
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _make_worker(instance: Webhooks, concurrency: int | None) -> Any:
    """The worker, once the database can be reached: one that starts before its database, or its tables, waits for them."""
    from webhooks.cli import NO_SCHEMA
    from webhooks.database.migrations import run as migrate

    if instance.settings.has_default_database:
        instance.prepare_database()
    pause = 0.5
    while True:
        try:
            if migrate.is_current(instance.database):
                return instance.make_worker(slots=concurrency)
            reason = NO_SCHEMA
        except StorageUnavailable as error:
            reason = f"the database cannot be reached: {error.reason}"
        output.print_note(f"the worker cannot start yet, trying again in {pause:g} s: {reason}")
        time.sleep(pause)
        pause = min(pause * 2, 10.0)


__all__ = ["dev", "run", "worker"]
