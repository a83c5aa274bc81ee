"""Change many deliveries as one action: in steps, each of which moves the action's cursor in its transaction.

`BulkChange` is what requeue and cancel have in common. `begin` puts the action on record, frozen: absolute times, and no
delivery that is made later. `steps` carries it out from where it stands, in whichever process; `run` does both here, for a
command or a small change of a page. A process that dies leaves the action to a worker (`ActionsDuty`).
"""

from __future__ import annotations

import enum
import os
import socket
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from webhooks.formats import counted
from webhooks.model import DeliveryState, instant_of, new_id
from webhooks.operations.actions.journal import Journal, said
from webhooks.operations.actions.verbs import Verb, facts_of
from webhooks.operations.actor import Actor
from webhooks.operations.by_hand import count_up_to
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.store import Action, ActionStep, Store
    from webhooks.store.listings import DeliverySummary

#: Deliveries that one step looks at.
STEP = 500
#: For so long a process holds an action without a word.
LEASE = timedelta(seconds=30)
#: What names single deliveries in the selection of an action.
DELIVERY = "delivery"
#: A delivery that ended so long after the preview ended after it, whatever two machines' clocks say.
MARGIN = timedelta(seconds=2)


class Left(enum.StrEnum):
    """Why a delivery is left as it is."""

    MEANWHILE = "meanwhile"  #: its state changed between the look and the change
    DUE = "due"  #: it waits for no time that is still to come
    AFTERWARDS = "afterwards"  #: it ended after the preview
    RAN = "ran"  #: it ran since the action that is taken back
    ORDERING_FAILED = "ordering_failed"  #: the author's ordered_by failed again
    NO_LANE = "no_lane"  #: dead, and holds no ordered lane


#: {why: in words, after a number}
LEFT_SAYS: Mapping[str, str] = {
    Left.MEANWHILE: "ran or changed meanwhile",
    Left.DUE: "due already",
    Left.AFTERWARDS: "ended after the preview",
    Left.RAN: "ran since",
    Left.ORDERING_FAILED: "whose ordered_by failed again",
    Left.NO_LANE: "dead without holding a lane",
}


@dataclass(frozen=True, slots=True)
class Part:
    """Some deliveries of a step, and what changes them: called with their ids and the step, answers with those changed."""

    deliveries: Sequence[DeliverySummary]
    change: Callable[[Sequence[int], ActionStep], set[int]]


@dataclass(frozen=True, slots=True)
class StepDone:
    """What one step did. ids: that changed. left: {id: why} of those known to stay. action: as it is now."""

    ids: frozenset[int]
    left: Mapping[int, Left]
    action: Action


@dataclass(slots=True)
class BulkDone:
    """What came of an action that was carried out here. ids: that changed. left: {id: why it stays as it is}."""

    action: Action
    ids: set[int] = field(default_factory=set)
    left: dict[int, Left] = field(default_factory=dict)


class BulkChange(ABC):
    """What requeue and cancel have in common."""

    verb: ClassVar[Verb]

    def __init__(self, store: Store) -> None:
        self.store = store
        self.journal = Journal(store)

    # -- what a kind of change says ------------------------------------------------------------------------

    @abstractmethod
    def narrowed(self, selection: Selection) -> Selection:
        """The selection narrowed to what can be changed. Raises `SelectionError` where it names what cannot."""

    @abstractmethod
    def left(self, deliveries: Sequence[DeliverySummary], options: Mapping[str, Any]) -> dict[int, Left]:
        """{id: why} of those that are left as they are. options: of the action."""

    @abstractmethod
    def parts(self, deliveries: Sequence[DeliverySummary], action: Action) -> list[Part]:
        """What to do with those that are changed."""

    # -- before --------------------------------------------------------------------------------------------

    def count(self, selection: Selection, limit: int) -> int:
        """How many deliveries `run` would change, counted up to about `limit`."""
        walk = self.store.listings.walk_deliveries(self.narrowed(selection), oldest_first=True)
        return count_up_to(limit, ([one for one in step if one.id not in self.left(step, {})] for step in walk))

    # -- on record -----------------------------------------------------------------------------------------

    def begin(
        self,
        target: Selection | Sequence[int],
        *,
        actor: Actor,
        why: str | None = None,
        options: Mapping[str, Any] | None = None,
        preview_id: int | None = None,
        matched: int | None = None,
        undoes: int | None = None,
        holder: str | None = None,
        seen: Collection[DeliveryState] = (),
    ) -> Action:
        """Put it on record, frozen: nothing that is made later is changed.

        target: a selection, or ids of deliveries.
        actor, why: who asks, and the reason given.
        options: of this kind of change.
        preview_id: of a preview that was confirmed; once.
        matched: how many that one counted.
        undoes: the action that this one takes back.
        holder: the process that carries it out now; None leaves it to a worker.
        seen: the states in which those that ids name were seen; in another they are left. None: in any.

        Raises `SelectionError`, and `AlreadyConfirmed`.
        """
        from webhooks.store import ActionState

        if isinstance(target, Selection):
            selection: dict[str, Any] = self.narrowed(target).to_mapping()
        else:
            selection = {DELIVERY: [str(id) for id in sorted(set(target))]}
            if seen:
                selection["state"] = ",".join(state.label for state in sorted(set(seen)))
        return self.journal.add(
            self.verb,
            actor,
            selection.get("handler", "") if isinstance(target, Selection) else "",
            state=ActionState.WAITING if holder is None else ActionState.RUNNING,
            lease=LEASE,
            holder=holder,
            selection=selection,
            options={"upper_id": str(preview_id or new_id()), **(options or {})},
            why=why or None,
            preview_id=preview_id,
            matched=matched,
            undoes=undoes,
        )

    # -- carried out ---------------------------------------------------------------------------------------

    def run(
        self,
        target: Selection | Sequence[int],
        *,
        actor: Actor,
        progress: Callable[[int], None] = lambda changed: None,
        **given: Any,
    ) -> BulkDone:
        """Begin and carry it out here, the oldest first.

        target, actor: see `begin`, and so what is given.
        progress: called with the number so far. Each step is a transaction of its own, so it can be interrupted: then it
            is stopped, not continued by a worker.
        """
        holder = this_process()
        action = self.begin(target, actor=actor, holder=holder, **given)
        return self.carry_out(action, actor, holder, progress)

    def carry_out(
        self, action: Action, actor: Actor, holder: str, progress: Callable[[int], None] = lambda changed: None
    ) -> BulkDone:
        """Carry out here what `begin` put on record for `holder`. progress: see `run`."""
        from webhooks.errors import StorageUnavailable
        from webhooks.store import ActionState, Overtaken

        done = BulkDone(action)
        try:
            for step in self.steps(action, holder):
                done.ids |= step.ids
                done.left.update(step.left)
                done.action = step.action
                progress(len(done.ids))
        except (StorageUnavailable, Overtaken):
            raise  # it goes on: a worker continues it, or another process has it
        except BaseException as error:
            state = ActionState.FAILED if isinstance(error, Exception) else ActionState.STOPPED
            self.store.actions.finish(action.id, state, error=said(error))
            raise
        actor.tell(self.verb.value, f"{facts_of(self.verb).done} {counted(len(done.ids), 'delivery')}")
        done.action = self.store.actions.get(action.id) or done.action
        return done

    def steps(self, action: Action, holder: str, lease: timedelta = LEASE) -> Iterator[StepDone]:
        """Carry out an action that is running and held by `holder`, from its cursor on, and end it.

        action: as it was read last.
        holder, lease: who has it, and for how long after each step.

        Raises `Overtaken` when it was stopped, or another process has it; nothing more is changed then.
        """
        from webhooks.store import Overtaken

        current, held_at = action, time.monotonic()
        for found in self._walk(current):
            if not found:
                if time.monotonic() - held_at > lease.total_seconds() / 3:
                    held_at = time.monotonic()
                    if self.store.actions.take(current.id, holder, lease) is None:
                        raise Overtaken(f"action {current.id} was stopped")
                continue
            step = self._step(found, current, holder, lease)
            current, held_at = step.action, time.monotonic()
            yield step
        self.store.actions.finish(current.id)

    def _walk(self, action: Action) -> Iterator[list[DeliverySummary]]:
        chosen = dict(action.selection or {})
        ids = [int(id) for id in chosen.pop(DELIVERY, ())]
        if ids:
            chosen = {}  # what is in another state by now is counted
        for start in range(0, max(1, len(ids)), STEP):
            yield from self.store.listings.walk_deliveries(
                Selection.parse(chosen, action.at),
                step=STEP,
                oldest_first=True,
                after=action.cursor,
                below=int(action.options["upper_id"]),
                ids=ids[start : start + STEP] or None,
            )

    def _step(self, found: Sequence[DeliverySummary], action: Action, holder: str, lease: timedelta) -> StepDone:
        """Change what can be changed of some deliveries, in a transaction for each part, the cursor with the last."""
        from webhooks.store import ActionStep

        ours = [delivery for delivery in found if delivery.action_id != action.id]  # changed, and the cursor not moved
        left = {**self.left(ours, action.options), **_changed(ours, action), **_ended_afterwards(ours, action)}
        parts = [p for p in self.parts([one for one in ours if one.id not in left], action) if p.deliveries]
        done: set[int] = set()
        for part in parts[:-1]:
            step = ActionStep(action, looked_at=len(part.deliveries), holder=holder, lease=lease)
            done |= part.change([one.id for one in part.deliveries], step)
            action = step.after
        rest = parts[-1] if parts else None
        last = ActionStep(
            action,
            looked_at=len(left) + (len(rest.deliveries) if rest else 0),
            cursor=found[-1].id,
            left=Counter(str(why) for why in left.values()),
            holder=holder,
            lease=lease,
        )
        if rest is None:
            self.store.actions.advance(last)
        else:
            done |= rest.change([one.id for one in rest.deliveries], last)
        return StepDone(frozenset(done), left, last.after)


def _changed(deliveries: Sequence[DeliverySummary], action: Action) -> dict[int, Left]:
    """Those that ids name and that are in another state than they were seen in."""
    chosen = action.selection or {}
    if DELIVERY not in chosen or "state" not in chosen:
        return {}
    seen = chosen["state"].split(",")
    return {one.id: Left.MEANWHILE for one in deliveries if one.state.label not in seen}


def _ended_afterwards(deliveries: Sequence[DeliverySummary], action: Action) -> dict[int, Left]:
    """Those that ended after the preview that was confirmed: what was said is what is done."""
    if action.preview_id is None:
        return {}
    then = instant_of(action.preview_id) + MARGIN
    return {one.id: Left.AFTERWARDS for one in deliveries if one.finished_at is not None and one.finished_at > then}


def this_process() -> str:
    """A name by which a process holds an action; of one use."""
    return f"{socket.gethostname()}:{os.getpid()}:{new_id():x}"


__all__ = ["LEASE", "LEFT_SAYS", "STEP", "BulkChange", "BulkDone", "Left", "Part", "StepDone", "this_process"]
