"""`webhooks dashboard`: the pages in a process of their own, and hashes for its settings.

gunicorn serves it, as it serves everything here: one process with threads, since a page is a few reads of the database,
and none of them may take time from what accepts events.
"""

from __future__ import annotations

import os
import sys

import click

from webhooks.cli import Failure, output

#: Requests that are answered at once; browsers keep few connections.
THREADS = 8


@click.group(invoke_without_command=True, epilog="Example: webhooks dashboard --port 8001")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another one needs public_url, or --behind-tls.")
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="Where it listens.")
@click.option("--behind-tls", is_flag=True, help="A proxy in front has TLS, and nothing else reaches --host.")
@click.pass_context
def dashboard(ctx: click.Context, host: str, port: int, behind_tls: bool) -> None:
    """Serve the dashboard until Ctrl-C, for the users of [dashboard] in webhooks.toml (docs/dashboard.md)."""
    if ctx.invoked_subcommand is not None:
        return
    from webhooks.app.dashboard import BEHIND_TLS, BIND
    from webhooks.cli.process_group import flask_environment, python

    if flask_environment():
        raise Failure("this application mounts the dashboard itself: Webhooks(app, dashboard_user=…)", 2)
    os.environ[BIND] = host
    if behind_tls:
        os.environ[BEHIND_TLS] = "1"
    os.environ["WEBHOOKS_WORKER_CLASS"] = "gthread"
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = ["--bind", address, "--workers", "1", "--threads", str(THREADS)]
    settings = ["-c", "python:webhooks.gunicorn_conf"]
    command = python("-m", "gunicorn", *settings, *options, "webhooks.app:create_dashboard()")
    output.print_note(f"the dashboard will be at http://{address}/dashboard/")
    os.execv(command[0], command)


@dashboard.command("hash", epilog="Example: webhooks dashboard hash > ada.hash")
@click.option("--token", "is_token", is_flag=True, help="Make a token for scripts, and print its hash.")
def make_hash(is_token: bool) -> None:
    """Ask for a password, and print what [dashboard.users.<name>] keeps of it.

    In a pipe the password is the first line of standard input.
    """
    from webhooks.dashboard.access import hash_password, hash_token

    if is_token:
        import secrets

        token = secrets.token_urlsafe(32)
        output.print_note(f"the token, shown this once: {token}")
        click.echo(hash_token(token))
        return
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < 10:
        raise Failure("a password has at least 10 characters", 2)
    click.echo(hash_password(password))


__all__ = ["dashboard"]
