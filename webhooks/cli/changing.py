"""What commands that change many deliveries have in common: nothing by mistake, and how many in the end.

A selection that is empty must be meant (--all), and more than `UNASKED` need --yes; --dry-run counts up to there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from webhooks.cli import Failure, output
from webhooks.selection import Selection

#: More than so many are changed only with --yes.
UNASKED = 1_000

dry_run_option = click.option("--dry-run", is_flag=True, help="Only say how many.")
yes_option = click.option("--yes", is_flag=True, help=f"Also more than {UNASKED:,}.")


def require_one_way(conditions: Mapping[str, Any], all_: bool) -> None:
    """Refuse a selection beside ids. Raises `Failure`."""
    if conditions or all_:
        raise Failure("give ids or a selection, not both", 2)


def require_something(selection: Selection, all_: bool, command: str) -> None:
    """Refuse to change everything unless that was typed. Raises `Failure`."""
    if selection.is_empty and not all_:
        raise Failure(
            f"nothing is selected; say which (see webhooks {command} --help), or type --all for everything", 2
        )
    if all_ and not selection.is_empty:
        raise Failure("--all means everything; leave it out beside a selection", 2)


def count_asked(count: Callable[[int], int]) -> int:
    """How many would be changed, counted only so far that it is known whether --yes is needed."""
    return count(UNASKED + 1)


def require_yes(number: int, yes: bool, what: str) -> None:
    """Refuse to change many unless that was typed. what: the verb. Raises `Failure`."""
    if number > UNASKED and not yes:
        raise Failure(
            f"this would {what} more than {UNASKED:,} deliveries; nothing was changed; add --yes if you mean it", 2
        )


def print_count(number: int, verb: str, *, as_json: bool, done: bool = True) -> None:
    """How many were changed, or would be. verb: such as "cancelled". done: False for a dry run."""
    if as_json:
        output.emit_json({"deliveries": number, "done": done})
    elif not done and number > UNASKED:
        output.print_note(f"more than {output.counted(UNASKED, 'delivery')} would be {verb}")
    else:
        output.print_note(f"{output.counted(number, 'delivery')} {'' if done else 'would be '}{verb}")


__all__ = [
    "UNASKED",
    "count_asked",
    "dry_run_option",
    "print_count",
    "require_one_way",
    "require_something",
    "require_yes",
    "yes_option",
]
