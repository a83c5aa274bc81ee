"""Rehearse a replay: which handlers would run for which of its events.

Not here: running them without trace (`delivery.rehearsal`, which the application hands in).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Generic, TypeVar

from webhooks.model import Event
from webhooks.operations.replay import Plan, Replayer
from webhooks.routing import Handler

#: What is told of one run.
Told = TypeVar("Told")


class ReplayRehearsal(Generic[Told]):
    """Rehearses the plans of a replayer.

    rehearse: runs each handler with its event, and tells what came of it.
    """

    def __init__(
        self, replayer: Replayer, rehearse: Callable[[Iterable[tuple[Event, Handler]]], Iterator[Told]]
    ) -> None:
        self.replayer = replayer
        self.rehearse = rehearse

    def not_rehearsable(self, plan: Plan) -> list[str]:
        """The handlers of the plan that are not run, because their author did not say that they may be."""
        rehearsable = {handler.name for handler in self.replayer.registry.handlers() if handler.rehearsable}
        return [handler.name for handler in plan.handlers if handler.deliveries and handler.name not in rehearsable]

    def run(self, plan: Plan) -> Iterator[Told]:
        """Rehearse the plan's deliveries, in its order; nothing lasts. Raises `StorageUnavailable`."""
        return self.rehearse(self.pairs(plan))

    def pairs(self, plan: Plan) -> Iterator[tuple[Event, Handler]]:
        """Each event of the plan with each rehearsable handler that would get it."""
        replayer = self.replayer
        selection = replayer.for_handler(plan.selection, plan.options)
        with closing(replayer.chunks(selection, plan.options, plan.upper_id, None, bodies=True)) as chunks:
            for chunk in chunks:
                for summary, handler in replayer.pairs(chunk, selection, plan.options, plan.upper_id):
                    if handler.rehearsable and summary.event is not None:
                        yield summary.event, handler


__all__ = ["ReplayRehearsal"]
