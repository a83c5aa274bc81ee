"""The command line: `webhooks …`, which is the same group as `flask webhooks …`.

A command's module is imported when that command runs, so `webhooks --help` costs nothing. To add a command, write a
line into `COMMANDS`. Errors of ours come out as one line on standard error, with the exit code of their kind:
0 done, 1 failed (or some failed), 2 usage, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from webhooks.errors import SelectionError, WebhooksError
from webhooks.version import VERSION

#: {name: (module:attribute, short help)}; the order is that of the help page.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "dev": ("webhooks.cli.dev:dev", "Server, worker and database for development; --demo shows it at work."),
    "run": ("webhooks.cli.run:run", "Serve webhooks with gunicorn."),
    "worker": ("webhooks.cli.worker:worker", "Run deliveries."),
    "dashboard": ("webhooks.cli.dashboard:dashboard", "Serve the pages for operators; hash a password for them."),
    "feed": ("webhooks.cli.feed:feed", "Offer deliveries to Celery, which runs them."),
    "init": ("webhooks.cli.init:init", "Write a starter project into an empty directory."),
    "trigger": ("webhooks.cli.trigger:trigger", "Post a signed sample event, as its sender would."),
    "events": ("webhooks.cli.events:events", "List, show, follow and export stored events."),
    "deliveries": ("webhooks.cli.deliveries:deliveries", "List, show and cancel deliveries."),
    "handlers": ("webhooks.cli.handlers:handlers", "Show handlers; pause, resume and rename them."),
    "sources": ("webhooks.cli.sources:sources", "Show the configured sources; try one with vectors."),
    "explain": ("webhooks.cli.explain:explain", "Say why a request was refused, or what became of an event."),
    "quarantine": ("webhooks.cli.quarantine:quarantine", "Signed requests that could not be read."),
    "replay": ("webhooks.cli.replay:replay", "Make new deliveries for stored events."),
    "requeue": ("webhooks.cli.requeue:requeue", "Put dead deliveries back to pending."),
    "prune": ("webhooks.cli.prune:prune", "Delete old events now."),
    "catch-up": ("webhooks.cli.catch_up:catch_up", "Accept what the sender's event log has and we have not."),
    "subscriptions": (
        "webhooks.cli.subscriptions:subscriptions",
        "The sender's subscriptions to us: make, compare, rotate.",
    ),
    "doctor": ("webhooks.cli.doctor:doctor", "Say what is wrong, and which command repairs it."),
    "alarms": ("webhooks.cli.alarms:alarms", "What is wrong now and who was told; mute it, try a target."),
    "activity": ("webhooks.cli.activity:activity", "What people did: list, show, take back."),
    "stats": ("webhooks.cli.stats:stats", "Rates, latencies and backlog per source and handler."),
    "db": ("webhooks.cli.db:db", "Apply and inspect database migrations."),
    "sandbox": ("webhooks.cli.sandbox:sandbox", "A local Close, to develop and test without an account."),
    "completion": ("webhooks.cli.completion:completion", "Print the completion script for a shell."),
}

#: How SIGINT ends a process, by the shell's custom.
INTERRUPTED = 130


class Failure(click.ClickException):
    """A failure in one line, on standard error. exit_code: 1, or 2 for what was typed wrongly."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        """Print it, with what acts on a terminal escaped."""
        from webhooks.formats import printable

        click.echo(f"webhooks: {printable(self.message)}", file=file or sys.stderr)


_TYPED = re.compile(r"(^|`|run: |-> )webhooks (?=[a-z])")


def typed(text: str) -> str:
    """`text` with our commands as they are typed here: under `flask webhooks …` they read the application's settings."""
    context = click.get_current_context(silent=True)
    flask: Any = sys.modules.get("flask.cli")
    is_flask = flask is not None and context is not None and isinstance(context.find_root().obj, flask.ScriptInfo)
    return _TYPED.sub(r"\1flask webhooks ", text) if is_flask else text


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run. lazy: as `COMMANDS`."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help page."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported now; None when there is none."""
        if name not in self.lazy:
            return super().get_command(ctx, name)
        module, _, attribute = self.lazy[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their short helps, importing none."""
        rows = [(name, text) for name, (_, text) in self.lazy.items()]
        if not rows:
            return super().format_commands(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was typed. Raises `Failure` with what may have been meant."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            from webhooks.formats import did_you_mean

            known = self.list_commands(ctx)
            near = did_you_mean(name, known) or f"; commands: {', '.join(known)}"
            raise Failure(f"no command {name[:40]!r}{near}", 2)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; errors of ours end as a line."""
        with reporting():
            return super().invoke(ctx)


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Turn errors of ours into a line and an exit code; what is not ours passes, with its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("", err=True)
        raise SystemExit(INTERRUPTED) from None
    except click.ClickException as error:
        from webhooks.formats import printable

        error.message = printable(error.message)  # type: ignore[misc]  # click quotes what was typed
        raise
    except WebhooksError as error:
        raise Failure(typed(describe(error)), 2 if isinstance(error, SelectionError) else 1) from error
    except Exception as error:
        if lacks_schema(error):
            raise Failure(typed(NO_SCHEMA)) from error
        if (refused := _of_database(error)) is not None:
            raise Failure(refused) from error
        raise


NO_SCHEMA = "the database has no tables of ours, or older ones than this version wants; run: webhooks db upgrade"


def lacks_schema(error: BaseException) -> bool:
    """Whether a table or column is missing; asked only once the database was in use."""
    module = sys.modules.get("webhooks.database.errors")
    return module is not None and bool(module.is_missing_schema(error))


def _of_database(error: BaseException) -> str | None:
    """A database's error as its line, without values; None for another kind."""
    from webhooks.formats import sqlstates

    return f"the database refused it: {sqlstates.describe(error)}" if sqlstates.is_of_database(error) else None


def describe(error: WebhooksError) -> str:
    """An error as its line; a selection's with what was written, and a mark under the character."""
    from webhooks.errors import ConfigurationError, DatabaseRefused, StorageUnavailable
    from webhooks.formats import printable

    if isinstance(error, SelectionError) and error.position is not None and error.text.isprintable():
        start = max(0, error.position - 60)
        shown = error.text[start : start + 100]
        return f"{printable(str(error))}\n  {shown}\n  {' ' * (error.position - start)}^"
    if isinstance(error, StorageUnavailable):
        if lacks_schema(error):
            return NO_SCHEMA
        if isinstance(error, DatabaseRefused):
            return f"the database refused it: {printable(str(error))}"
        return f"the database cannot be reached: {printable(str(error))}"
    if isinstance(error, ConfigurationError) and len(error.problems) > 1:
        return "the settings cannot be used:\n" + "\n".join(f"  {printable(problem)}" for problem in error.problems)
    return printable(str(error))


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: webhooks dev --demo",
)
@click.version_option(VERSION, prog_name="webhooks")
def group() -> None:
    """Consume webhooks: take events in, run handlers, replay what happened."""


def main(arguments: list[str] | None = None) -> None:
    """The console script. A console script does not have the working directory on sys.path; handlers live there."""
    from webhooks.settings import guard_tracebacks

    guard_tracebacks()
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    gc.disable()  # a sixth of the time that imports take; `context` puts it on again, for what comes after them
    group.main(args=arguments, prog_name="webhooks")


__all__ = ["COMMANDS", "Failure", "LazyGroup", "describe", "group", "main", "typed"]
