"""What operations answer, in words: lines that a command prints and a page shows.

Pure functions of what the operations gave. They say numbers, times and names, never bodies; who shows them escapes what
senders and handlers wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from webhooks.formats import counted, printable, span

if TYPE_CHECKING:
    from webhooks.operations import Plan, SubscriptionChange


def states(counts: Mapping[str, int]) -> str:
    """{state: how many} as `2 succeeded, 1 dead`; empty for none."""
    return ", ".join(f"{number} {state}" for state, number in sorted(counts.items()) if number)


def plan_lines(plan: Plan) -> list[str]:
    """What a replay would do, a sentence each."""
    lines = [
        f"{counted(plan.events, 'event')} selected ({plan.selection}), {counted(plan.deliveries, 'delivery')} to make"
    ]
    if plan.eta is not None:
        eta = timedelta(seconds=max(1, round(plan.eta.total_seconds())))
        pace = "at that rate" if plan.options.rate else "at the speed of the latest ones"
        lines.append(f"about {span(eta)} to run, {pace}")
    return [*lines, *_handler_lines(plan), *_lines_of_left_out(plan)]


def _handler_lines(plan: Plan) -> Iterator[str]:
    """How what each handler gets differs from what it got when the events came."""
    for handler in plan.handlers:
        if handler.added and not plan.options.original:
            yield f"{handler.name}: {counted(handler.added, 'event')} that it did not get then"
        if handler.left_out:
            yield (
                f"{handler.name}: got {counted(handler.left_out, 'event')} then and would get none now; "
                "--original gives them to it again"
            )
    if plan.compared < plan.events:
        yield f"(today's routing was compared with that of then for {counted(plan.compared, 'event')})"


def _lines_of_left_out(plan: Plan) -> Iterator[str]:
    """What of the selection is not replayed, and why."""
    for name, number in sorted(plan.gone.items()):
        yield f"{name}: is not registered any more; its {counted(number, 'delivery')} of then are left out"
    if plan.without_delivery:
        yield f"{counted(plan.without_delivery, 'event')} that no handler gets"
    if plan.never_delivered:
        yield (
            f"{counted(plan.never_delivered, 'copy')} (stale, conflicting or stripped) left out; "
            "name one by its id to replay it"
        )
    if plan.pruned:
        yield pruned_line(plan.pruned)


def pruned_line(number: int) -> str:
    """How many events of a replay's time cannot be replayed any more."""
    were = "was" if number == 1 else "were"
    return f"at least {counted(number, 'event')} of that time {were} pruned, and cannot be replayed"


def change_lines(change: SubscriptionChange) -> list[str]:
    """A change as a difference: a heading, and a line for each type."""
    if change.subscription is None:
        return [f"new subscription to {printable(change.url or '')}", *(f"  + {type}" for type in change.add)]
    lines = [f"{change.subscription.id}{'' if change.is_needed else ': as it should be'}"]
    if change.url is not None:
        lines.append(f"  url {printable(change.subscription.url)} -> {printable(change.url)}")
    if change.needs_key:
        lines.append("  + its key, into the secret_file")
    lines += [f"  + {type}" for type in change.add]
    lines += [f"  - {printable(type)}" for type in change.remove]
    return lines


__all__ = ["change_lines", "plan_lines", "pruned_line", "states"]
