"""What an action would do, before it is done: frozen, counted, with what is left out and what takes it back.

The id of a preview is the moment at which it was made: times count back from it, and no delivery that is made later is
meant. So a link to it means the same to all, and a form that carries it is confirmed once (`AlreadyConfirmed`).
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from webhooks.errors import SelectionError
from webhooks.formats import span
from webhooks.model import instant_of
from webhooks.operations.actions.bulk import BulkChange, Left
from webhooks.operations.actions.verbs import FACTS, Verb
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.listings import DeliverySummary

#: Deliveries are counted up to here.
COUNTED = 10_000
#: Deliveries that are shown.
EXAMPLES = 3
#: More than so many want their number typed.
UNASKED = 1_000
#: Ids that can be named one by one.
MOST_NAMED = 250
#: How long a preview can be confirmed.
VALID = timedelta(hours=24)
#: How long it is counted at most.
PATIENCE = timedelta(seconds=2)

COMMANDS: Mapping[Verb, str] = {Verb.REQUEUE: "webhooks requeue", Verb.CANCEL: "webhooks deliveries cancel"}


@dataclass(frozen=True, slots=True)
class Preview:
    """What requeue or cancel would do.

    id: of this preview; what is made after that moment is not meant.
    selection, ids: what is meant, one of the two.
    count: how many would change; is_more: at least so many.
    handlers: {name: how many of those counted}.
    examples: some of them.
    left: {why: how many of those that match stay as they are}.
    eta: how long running them takes, at the speed of the latest; None: not known, or nothing runs.
    options: of the action.
    """

    id: int
    verb: Verb
    selection: Selection | None
    ids: tuple[int, ...]
    count: int
    is_more: bool
    handlers: Mapping[str, int]
    examples: Sequence[DeliverySummary]
    left: Mapping[Left, int]
    eta: timedelta | None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def at(self) -> datetime:
        """When it was made."""
        return instant_of(self.id)

    @property
    def wants_typed(self) -> str:
        """What has to be typed to confirm it: the number of many, the word of everything; "" for neither."""
        if self.selection is not None and self.selection.only(states=()).is_empty and self.count:
            return "everything"
        return f"{self.count:,}{'+' if self.is_more else ''}" if self.count > UNASKED else ""

    def is_typed(self, text: str) -> bool:
        """Whether what was typed confirms it; separators of a number do not matter."""
        wanted = self.wants_typed
        plain = str.maketrans("", "", ",.'_ +\u00a0\u202f")
        return not wanted or text.strip().casefold().translate(plain) == wanted.translate(plain)

    @property
    def wants_why(self) -> bool:
        """Whether a reason is asked for."""
        return FACTS[self.verb].wants_why

    @property
    def undo_says(self) -> str:
        """What takes it back."""
        return FACTS[self.verb].undo_says

    @property
    def command(self) -> str:
        """The same on the command line."""
        chosen = " ".join(map(str, self.ids)) if self.selection is None else _as_options(self.selection)
        more = " --yes" if self.count > UNASKED else ""
        rate = f" --rate {self.options['rate']:g}/s" if self.options.get("rate") else ""
        return f"{COMMANDS[self.verb]} {chosen}{rate}{more}"

    @property
    def costs(self) -> str:
        """What it costs, in words."""
        if self.verb is Verb.CANCEL:
            return "nothing runs"
        return "not known: too few have run lately" if self.eta is None else f"about {span(self.eta)} of running"


def _as_options(selection: Selection) -> str:
    mapping = selection.to_mapping()
    return " ".join(f"--{name} {shlex.quote(value)}" for name, value in mapping.items() if name != "event")


def make_preview(
    store: Store, change: BulkChange, target: Selection | Sequence[int], preview_id: int, options: Mapping[str, Any]
) -> Preview:
    """Count what a change would do, up to `COUNTED` and for `PATIENCE`.

    change: of which kind.
    target: a selection whose times are absolute, or ids.
    preview_id: the moment that is meant.
    options: of the action.

    Raises `SelectionError`.
    """
    selection = change.narrowed(target) if isinstance(target, Selection) else None
    ids = () if isinstance(target, Selection) else tuple(sorted(set(target)))
    if len(ids) > MOST_NAMED:
        raise SelectionError(f"{len(ids)} deliveries named; at most {MOST_NAMED}: give a selection instead")
    handlers: Counter[str] = Counter()
    left: Counter[Left] = Counter()
    examples: list[DeliverySummary] = []
    count, is_more = 0, False
    until = store.database.monotonic() + PATIENCE.total_seconds()
    walk = store.listings.walk_deliveries(
        selection or Selection(), step=2_000, oldest_first=True, below=preview_id, ids=ids or None
    )
    for step in walk:
        stays = change.left(step, options)
        left.update(stays.values())
        chosen = [one for one in step if one.id not in stays]
        handlers.update(one.handler for one in chosen)
        examples += chosen[: EXAMPLES - len(examples)]
        count += len(chosen)
        if count > COUNTED or store.database.monotonic() >= until:
            is_more = count > COUNTED or bool(step)
            count = min(count, COUNTED)
            break
    if selection is None and len(ids) > count + sum(left.values()):
        left[Left.MEANWHILE] += len(ids) - count - sum(left.values())
    rate = (options.get("rate"), store.replays.recent_rate() if change.verb is Verb.REQUEUE else None)
    rates = [each for each in rate if each]
    eta = timedelta(seconds=max(1, round(count / min(rates)))) if rates and count else None
    return Preview(preview_id, change.verb, selection, ids, count, is_more, handlers, examples, left, eta, options)


__all__ = ["COUNTED", "MOST_NAMED", "UNASKED", "VALID", "Preview", "make_preview"]
