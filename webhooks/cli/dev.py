"""`webhooks dev`: a server, a worker and a database for development, in one command."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from webhooks.cli import Failure, demo, describe, output, show
from webhooks.cli.first_process import stand_in
from webhooks.cli.process_group import ProcessGroup, flask_environment, gunicorn_command, worker_command
from webhooks.cli.reloading import Reloader
from webhooks.cli.worker import READY_FD
from webhooks.errors import ConfigurationError, StorageUnavailable, WebhooksError
from webhooks.formats import counted, error_summary, screen_line, wants_colour
from webhooks.operations.trigger import suggestion
from webhooks.settings import FILE, is_project, project_near

if TYPE_CHECKING:
    from webhooks.app import Webhooks
    from webhooks.database import Database
    from webhooks.settings import Settings

#: How long the server may take to answer /readyz.
START_LIMIT = timedelta(seconds=30)
#: What `dev` binds, whatever the setting `host` says: code that is being written is for this machine.
LOOPBACK = "127.0.0.1"
#: Ports that `dev` tries when none was asked for.
PORTS = range(8000, 8100)


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


def wait_until_ready(url: str, group: ProcessGroup) -> None:
    """Wait until the server says that it is ready. Raises `Failure`."""
    import http.client
    import urllib.parse

    address = urllib.parse.urlsplit(url)
    deadline = time.monotonic() + START_LIMIT.total_seconds()
    last = "nothing"
    while time.monotonic() < deadline:
        if group.is_asked_to_stop:
            raise Failure("interrupted while starting", 130)
        if (code := group.children["gunicorn"].poll()) is not None:
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

    instance: the consumer, its tables at head.
    environment: of the children.
    host, port: what the server will bind.
    secret: the demo secret's file, where the demo source is used.
    demo_handlers: modules of the demo's that take what no handler of the directory takes.
    """

    directory: Path
    instance: Webhooks
    environment: Mapping[str, str]
    host: str
    port: int
    secret: Path | None
    demo_handlers: Sequence[str] = ()

    @property
    def url(self) -> str:
        """Where this machine finds the server."""
        return f"http://{LOOPBACK if self.host in ('', '0.0.0.0') else self.host}:{self.port}"


def prepare(directory: Path, environ: Mapping[str, str], *, show_demo: bool, host: str = LOOPBACK) -> Development:
    """Settings, schema, port and the environment of the children. Raises errors of ours."""
    from webhooks.app import load
    from webhooks.cli.context import instance_of_flask

    of_flask = instance_of_flask()
    if of_flask is not None and show_demo and demo.SOURCE not in of_flask.settings.sources:
        raise Failure(
            f"the demo needs a source named {demo.SOURCE!r}, which this application does not have; "
            "run `webhooks dev --demo` in an empty directory"
        )
    settings, environment, secret = read(directory, environ, show_demo=show_demo)
    instance = of_flask or load(overrides=demo.overrides(secret) if secret is not None else None)
    demo_handlers = _needed(instance, has_story=secret is not None) if show_demo else []
    _add_handlers(environment, instance.settings, demo_handlers)
    named = any(name.upper() in ("PORT", "WEBHOOKS_PORT") for name in environ)
    asked = settings.port if named or (of_flask is not None and settings.port != PORTS[0]) else None
    port = free_port(host, asked)
    apply_schema(instance.database, instance.settings)
    return Development(directory, instance, environment, host, port, secret, demo_handlers)


def read(
    directory: Path, environ: Mapping[str, str], *, show_demo: bool
) -> tuple[Settings, dict[str, str], Path | None]:
    """The settings as they stand now, the environment of the children, and the demo secret's file where it is used.

    Raises `ConfigurationError`.
    """
    from webhooks.cli.context import instance_of_flask
    from webhooks.settings import load_settings

    of_flask = instance_of_flask()
    settings = of_flask.settings if of_flask is not None else load_settings(environ)
    environment = _child_environment(environ, show_demo=show_demo)
    if settings.sources and not (show_demo and demo.SOURCE not in settings.sources):
        return settings, environment, None
    secret = demo.make_secret(directory)
    environment.update(demo.environment(secret))
    return settings, environment, secret


def read_again(plan: Development, environ: Mapping[str, str], *, show_demo: bool) -> dict[str, str]:
    """Check the settings that were saved, and bring tables to head; the environment of the next children.

    Raises errors of ours.
    """
    from webhooks.app import Role, make_sources, open_store
    from webhooks.settings import load_settings

    settings, environment, secret = read(plan.directory, environ, show_demo=show_demo)
    _add_handlers(environment, settings, plan.demo_handlers)
    if not flask_environment():
        settings = load_settings(environ, overrides=demo.overrides(secret) if secret is not None else None)
        make_sources(settings)
    store = open_store(settings, Role.CLI)
    try:
        apply_schema(store.database, settings)
    finally:
        store.database.dispose()
    return environment


def _needed(instance: Webhooks, *, has_story: bool) -> list[str]:
    """Those of the demo's handlers that take what none of the directory takes; without a story only its one event comes."""
    types = demo.HANDLERS if has_story else (demo.EVENT_TYPE,)
    return [demo.HANDLERS[type] for type in types if not instance.registry.route(demo.SOURCE, type)]


def _add_handlers(environment: dict[str, str], settings: Settings, modules: Sequence[str]) -> None:
    if modules:
        environment["WEBHOOKS_HANDLERS"] = ",".join([*settings.handlers, *modules])


def _child_environment(environ: Mapping[str, str], *, show_demo: bool) -> dict[str, str]:
    environment = {**environ, **flask_environment(), "WEBHOOKS_EMBEDDED": "1"}
    if not any(name.upper() == "WEBHOOKS_SAMPLE_REJECTED" for name in environ):
        environment["WEBHOOKS_SAMPLE_REJECTED"] = "0"  # a developer asks about each refusal
    if not any(name.upper() in ("WEBHOOKS_LOG_FORMAT", "LOG_FORMAT") for name in environ):
        environment["WEBHOOKS_LOG_FORMAT"] = "dev"
    if show_demo:
        # one screen: only what goes wrong is worth a line beside it
        environment.setdefault("WEBHOOKS_LOG_LEVEL", environ.get("LOG_LEVEL", "warning"))
    return environment


def apply_schema(database: Database, settings: Settings) -> None:
    """Bring the core's and the handlers' tables to head, and say what changed. Raises `Failure`, and errors of ours."""
    from webhooks.cli.context import actor
    from webhooks.cli.db import describe
    from webhooks.operations.histories import upgrade_all

    try:
        changes = upgrade_all(database, settings, actor=actor())
    except StorageUnavailable as error:
        if settings.has_default_database:
            raise
        raise Failure(
            "the database that DATABASE_URL, or database_url in webhooks.toml, names cannot be reached; start it, or leave "
            f"that out to have one in this directory: {error.reason}"
        ) from error
    for change in changes:
        output.print_note(describe(change))


@click.command(epilog="Example: webhooks dev --demo")
@click.option(
    "--demo", "show_demo", is_flag=True, help="Show a signed event, then a local Close's story, being handled."
)
@click.option("--once", is_flag=True, help="With --demo: end after the handled event, with 1 if it takes over 30 s.")
@click.option("--open", "opens", is_flag=True, help="Open the console in a browser, once the server is ready.")
@click.option("--no-worker", is_flag=True, help="Without the worker; run one beside it: webhooks worker.")
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to bind; others let other machines in.")
@click.pass_context
def dev(ctx: click.Context, show_demo: bool, once: bool, opens: bool, no_worker: bool, host: str) -> None:
    """Run a server on 127.0.0.1, a worker and a database for development, until Ctrl-C.

    What you save runs at once; what does not load changes nothing, and is said. Each request and each run has a line. It prints the link of a
    console in the browser. The schema is applied. Where no source is configured, a demo source with a secret made at random is used. The port
    is PORT, else 8000 or the next free one.
    """
    if once and not show_demo:
        raise Failure("--once goes with --demo", 2)
    if no_worker and show_demo:
        raise Failure("--demo shows an event being handled, which needs the worker", 2)
    stand_in()
    from webhooks.app.dashboard import CONSOLE
    from webhooks.cli.context import operator_name
    from webhooks.operations import not_loaded

    plan = prepare(Path.cwd(), os.environ, show_demo=show_demo, host=host)
    say_where(plan.directory, click.echo)
    note = demo.leave_console_note(plan.directory, plan.url, operator_name())
    group = ProcessGroup(plan.environment if note is None else {**plan.environment, CONSOLE: str(note)})
    reloader = make_reloader(plan, group, show_demo=show_demo, has_worker=not no_worker)
    try:
        with group.listening():
            if not no_worker:
                group.start("worker", worker_command())
            command = gunicorn_command(plan.directory, *_gunicorn_options(plan))
            group.start("gunicorn", command, reloader.server_ready)
            demo.leave_note(plan.directory, plan.url, handlers=plan.demo_handlers)
            wait_until_ready(plan.url, group)
            group.each_turn = reloader.turn
            if opens and (link := demo.console_link(plan.directory)) is not None:
                webbrowser.open(link)
            code = show.run_demo(plan, group, click.echo, once=once) if show_demo else _serve(plan, group)
            reloader.stop()
        say_what_is_left(plan, click.echo)
    finally:
        reloader.close()
        demo.remove_note(plan.directory)
        demo.remove_close_note(plan.directory)
        demo.remove_console_note(plan.directory)
        not_loaded.remove(plan.directory)
        plan.instance.close()
    ctx.exit(code)


def _gunicorn_options(plan: Development) -> list[str]:
    # one process: this is about seeing things work; HUP or a restart loads changed handlers
    return ["--bind", f"{plan.host}:{plan.port}", "--workers", "1", "--log-level", "warning"]


def make_reloader(plan: Development, group: ProcessGroup, *, show_demo: bool, has_worker: bool) -> Reloader:
    """What loads anew what is saved."""
    from webhooks.app.dashboard import CONSOLE
    from webhooks.operations import not_loaded

    environ = dict(os.environ)
    console = {name: group.environment[name] for name in (CONSOLE,) if name in group.environment}

    def prepare_again() -> Mapping[str, str]:
        return {**read_again(plan, environ, show_demo=show_demo), **console}

    def tell(word: str, text: str, below: Sequence[str]) -> None:
        line = screen_line(word, text, below, at=datetime.now(), colours=wants_colour(sys.stdout))
        click.echo(line, nl=False, color=True)

    def keep(files: Sequence[str], problems: Sequence[str]) -> None:
        if problems:
            not_loaded.leave(plan.directory, not_loaded.NotLoaded(files, problems, datetime.now(UTC)))
        else:
            not_loaded.remove(plan.directory)

    return Reloader(
        group,
        plan.directory,
        prepare=prepare_again,
        problems_of=_problems_of,
        tell=tell,
        worker=worker_command() if has_worker else None,
        ready=READY_FD,
        keep=keep,
    )


def _problems_of(error: Exception) -> list[str]:
    """Lines for what is wrong with what was saved."""
    if isinstance(error, ConfigurationError):
        return list(error.problems)
    if isinstance(error, WebhooksError):
        return describe(error).splitlines()
    return [error.message if isinstance(error, click.ClickException) else error_summary(error)]


def say_where(directory: Path, tell: Callable[[str], None]) -> None:
    """Say so where there is no project, but one above or below."""
    if is_project(directory) or flask_environment() or (near := project_near(directory)) is None:
        return
    which = "above" if near in directory.parents else "below"
    tell(f"no project here: {directory} has neither {FILE} nor handlers/*.py, so nothing of yours is loaded")
    tell(f"there is one {which}: cd {near}, and start again there")


def say_what_is_left(plan: Development, tell: Callable[[str], None]) -> None:
    """Say what waits and what is dead, and how to go on; nothing where the database does not answer."""
    try:
        backlogs = plan.instance.store.health.backlogs().values()
    except Exception:  # it is only a farewell
        return
    waiting = sum(each.pending + each.running for each in backlogs)
    dead = sum(each.dead for each in backlogs)
    name = show.command_name()
    parts = [counted(waiting, "delivery") + (" waits" if waiting == 1 else " wait")] if waiting else []
    parts += (
        [f"{counted(dead, 'delivery')} failed for good ({name} deliveries list --state dead --group)"] if dead else []
    )
    where = plan.instance.database.path
    tell("")
    tell(
        f"stopped    {' and '.join(parts) or 'nothing is left undone'}; all events are kept"
        + (f" in {where.name}" if where else "")
    )
    tell(f"           to go on: {name} dev" + (f"; to look: {name} events list" if not dead else ""))


def _serve(plan: Development, group: ProcessGroup) -> int:
    """Say what is served, and wait until there is a reason to end; that exit code."""
    _announce(plan, click.echo)
    show.say_how_to_stop()
    return group.wait()


def _announce(plan: Development, tell: Callable[[str], None]) -> None:
    settings = plan.instance.settings
    tell(f"serving at {plan.url}")
    for name in plan.instance.sources:
        tell(f"  POST {settings.url_prefix}/{name}" + (" (demo secret)" if plan.secret and name == demo.SOURCE else ""))
    handlers = [handler.name for handler in plan.instance.registry.handlers()]
    tell(f"handlers: {', '.join(handlers) or 'none yet; write one into handlers/ (webhooks init shows how)'}")
    tell(f"try: {suggestion(plan.instance.registry, plan.instance.sources) or _other_try(plan.instance)}")
    if (link := demo.console_link(plan.directory)) is not None:
        tell(f"console: {link}")


def _other_try(instance: Webhooks) -> str:
    """What to post where no sample is for a handler: a sample nonetheless, or a file."""
    if not instance.registry.handlers() and demo.SOURCE in instance.sources:
        return f"webhooks trigger {demo.EVENT_TYPE}"
    return f"webhooks trigger FILE --source {next(iter(instance.sources))} (no handler here takes any of the samples)"


__all__ = ["Development", "dev"]
