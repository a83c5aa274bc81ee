"""`webhooks completion`: the script that makes a shell complete our commands."""

from __future__ import annotations

import os
from pathlib import Path

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(epilog='Example: eval "$(webhooks completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the completion script of a shell (default: the one of $SHELL), to be evaluated in its start file."""
    from click.shell_completion import get_completion_class

    from webhooks.cli import Failure, group

    name = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(name)
    if kind is None:
        raise Failure(f"no completion for the shell {name!r}; name one of {', '.join(SHELLS)}", 2)
    click.echo(kind(group, {}, "webhooks", "_WEBHOOKS_COMPLETE").source())
