"""`webhooks run`: serve with gunicorn.

What surprises: without --with-worker there is no parent process; this one becomes gunicorn.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from webhooks.cli.first_process import stand_in
from webhooks.cli.process_group import ProcessGroup, flask_environment, gunicorn_command, worker_command


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
    stand_in()
    group = ProcessGroup({**os.environ, "WEBHOOKS_EMBEDDED": "1"})
    with group.listening():
        group.start("gunicorn", command)
        group.start("worker", worker_command())
        code = group.wait()
    ctx.exit(code)


__all__ = ["run"]
