"""`webhooks dev`: a server, a worker and a database for development, in one command."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from webhooks.cli import Failure, demo, output, show
from webhooks.cli.first_process import stand_in
from webhooks.cli.process_group import ProcessGroup, flask_environment, gunicorn_command, worker_command
from webhooks.errors import StorageUnavailable

if TYPE_CHECKING:
    from webhooks.app import Webhooks

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
    has_demo_handlers: no handler of the directory takes the demo's event.
    """

    directory: Path
    instance: Webhooks
    environment: Mapping[str, str]
    host: str
    port: int
    secret: Path | None
    has_demo_handlers: bool = False

    @property
    def url(self) -> str:
        """Where this machine finds the server."""
        return f"http://{LOOPBACK if self.host in ('', '0.0.0.0') else self.host}:{self.port}"


def prepare(directory: Path, environ: Mapping[str, str], *, show_demo: bool, host: str = LOOPBACK) -> Development:
    """Settings, schema, port and the environment of the children. Raises errors of ours."""
    from webhooks.app import load
    from webhooks.cli.context import instance_of_flask
    from webhooks.settings import load_settings

    of_flask = instance_of_flask()
    settings = of_flask.settings if of_flask is not None else load_settings(environ)
    if of_flask is not None and show_demo and demo.SOURCE not in settings.sources:
        raise Failure(
            f"the demo needs a source named {demo.SOURCE!r}, which this application does not have; "
            "run `webhooks dev --demo` in an empty directory"
        )
    environment = _child_environment(environ, show_demo=show_demo)
    secret: Path | None = None
    if not settings.sources or (show_demo and demo.SOURCE not in settings.sources):
        secret = demo.make_secret(directory)
        environment.update(demo.environment(secret))
    instance = of_flask or load(overrides=demo.overrides(secret) if secret is not None else None)
    has_demo_handlers = show_demo and not instance.registry.route(demo.SOURCE, demo.EVENT_TYPE)
    if has_demo_handlers:
        environment["WEBHOOKS_HANDLERS"] = ",".join([*instance.settings.handlers, demo.HANDLERS])
    named = any(name.upper() in ("PORT", "WEBHOOKS_PORT") for name in environ)
    asked = settings.port if named or (of_flask is not None and settings.port != PORTS[0]) else None
    port = free_port(host, asked)
    apply_schema(instance)
    return Development(directory, instance, environment, host, port, secret, has_demo_handlers)


def _child_environment(environ: Mapping[str, str], *, show_demo: bool) -> dict[str, str]:
    environment = {**environ, **flask_environment(), "WEBHOOKS_EMBEDDED": "1"}
    if not any(name.upper() == "WEBHOOKS_SAMPLE_REJECTED" for name in environ):
        environment["WEBHOOKS_SAMPLE_REJECTED"] = "0"  # a developer asks about each refusal
    if show_demo:
        # one screen: only what goes wrong is worth a line beside it
        environment.setdefault("WEBHOOKS_LOG_LEVEL", environ.get("LOG_LEVEL", "warning"))
    return environment


def apply_schema(instance: Webhooks) -> None:
    """Bring the core's and the handlers' tables to head, and say what changed. Raises `Failure`, and errors of ours."""
    from webhooks.cli.context import actor
    from webhooks.cli.db import describe
    from webhooks.operations.histories import upgrade_all

    try:
        changes = upgrade_all(instance.database, instance.settings, actor=actor())
    except StorageUnavailable as error:
        if instance.settings.has_default_database:
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

    It prints the link of a console in the browser. The schema is applied. Where no source is configured, a demo source with a secret made at random is used. The port
    is PORT, else 8000 or the next free one.
    """
    if once and not show_demo:
        raise Failure("--once goes with --demo", 2)
    if no_worker and show_demo:
        raise Failure("--demo shows an event being handled, which needs the worker", 2)
    stand_in()
    from webhooks.app.dashboard import CONSOLE
    from webhooks.cli.context import operator_name

    plan = prepare(Path.cwd(), os.environ, show_demo=show_demo, host=host)
    note = demo.leave_console_note(plan.directory, plan.url, operator_name())
    group = ProcessGroup(plan.environment if note is None else {**plan.environment, CONSOLE: str(note)})
    try:
        with group.listening():
            if not no_worker:
                group.start("worker", worker_command())
            group.start("gunicorn", gunicorn_command(plan.directory, *_gunicorn_options(plan, show_demo)))
            demo.leave_note(plan.directory, plan.url, has_demo_handlers=plan.has_demo_handlers)
            wait_until_ready(plan.url, group)
            if opens and (link := demo.console_link(plan.directory)) is not None:
                webbrowser.open(link)
            code = show.run_demo(plan, group, click.echo, once=once) if show_demo else _serve(plan, group)
    finally:
        demo.remove_note(plan.directory)
        demo.remove_close_note(plan.directory)
        demo.remove_console_note(plan.directory)
        plan.instance.close()
    ctx.exit(code)


def _gunicorn_options(plan: Development, show_demo: bool) -> list[str]:
    # one process: this is about seeing things work; HUP or a restart loads changed handlers
    options = ["--bind", f"{plan.host}:{plan.port}", "--workers", "1"]
    return [*options, "--log-level", "warning"] if show_demo else options


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
    tell("try: webhooks trigger " + demo.EVENT_TYPE)
    if (link := demo.console_link(plan.directory)) is not None:
        tell(f"console: {link}")


__all__ = ["Development", "dev"]
