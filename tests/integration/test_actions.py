"""Actions: on record before the change, frozen when confirmed, once however often pressed, and taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.integration.rig import Rig, rig
from tests.support import wait_until
from webhooks.database import tables as schema
from webhooks.delivery import handler_rows
from webhooks.delivery.pruning import ACTIONS_KEPT, Retention, RetentionRounds, prune_steps
from webhooks.errors import NotFound, SelectionError
from webhooks.model import AttemptOutcome, DeliveryState, id_at, new_id
from webhooks.operations import ActivityLog, Actor, Canceller, Journal, Options, Replayer, Requeuer, Verb, Via
from webhooks.operations import handlers as handlers_of
from webhooks.operations import quarantine as quarantine_of
from webhooks.operations.actions import ActionsDuty, CannotUndo, Left, action_json, preview_json, sentence
from webhooks.operations.actions import bulk as bulk_of
from webhooks.operations.actions import undo as undo_of
from webhooks.operations.alarms import mute
from webhooks.routing import Verdict
from webhooks.selection import Selection
from webhooks.store import Action, ActionState, AlreadyConfirmed, Overtaken
from webhooks.store.deliveries import Finished
from webhooks.store.handlers import BreakerState

pytestmark = pytest.mark.one_database

ADA = Actor("ada", Via.DASHBOARD, "10.0.0.7")
PENDING, RUNNING, SUCCEEDED, DEAD, CANCELLED = DeliveryState
GONE = Verdict(DEAD, AttemptOutcome.FAILED, reason="ValueError: no", error="no")
LATER = Verdict(PENDING, AttemptOutcome.FAILED, wait=timedelta(hours=6), reason="ValueError: no", error="no")
LONG = timedelta(seconds=30)
THE_DEAD = Selection(states=(DEAD,))


@pytest.fixture
def made(database_url: str) -> Iterator[Rig]:
    with rig(database_url) as made:
        made.on("h")(lambda: None)
        made.store.handlers.register(handler_rows(made.registry))
        yield made


@pytest.fixture
def activity(made: Rig) -> ActivityLog:
    return ActivityLog(made.store, made.registry, lambda: Replayer(store=made.store, registry=made.registry))


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_of, "STEP", 3)


def die(made: Rig, n: int = 1, verdict: Verdict = GONE) -> list[int]:
    """n deliveries that failed for good."""
    ids = made.put(n)
    for _ in ids:
        assert made.store.deliveries.finish([Finished(made.claim().delivery, verdict)])
    return ids


def only(made: Rig) -> Action:
    (action,) = made.store.actions.page()
    return action


def action_ids(made: Rig) -> set[int | None]:
    with made.database.read() as connection:
        return set(connection.execute(select(schema.deliveries.c.action_id)).scalars())


# -- on record -------------------------------------------------------------------------------------------------


def test_a_requeue_is_on_record_with_who_what_and_how_many(made: Rig) -> None:
    ids = die(made, 5)
    done = Requeuer(store=made.store, registry=made.registry).requeue(THE_DEAD, actor=ADA, rate=20)
    action = only(made)
    assert done.action_id == action.id
    assert (action.by, action.via, action.address, action.verb) == ("ada", "dashboard", "10.0.0.7", "requeue")
    assert (action.state, action.changed, action.skipped, action.cursor) == (ActionState.DONE, 5, 0, ids[-1])
    assert (action.selection, action.options["rate"]) == ({"state": "dead"}, 20)
    assert action_ids(made) == {action.id}
    found = made.store.listings.deliveries(Selection(action=action.id))
    assert {one.id for one in found} == set(ids)
    events = made.store.listings.events(Selection(action=action.id))
    assert len(events) == 5


def test_what_is_left_is_counted_by_its_reason(made: Rig) -> None:
    ids = die(made, 2)
    waiting = made.put(1)
    requeuer = Requeuer(store=made.store, registry=made.registry)
    requeuer.these([d for d in map(made.store.listings.delivery, [*ids, *waiting]) if d is not None], actor=ADA)
    assert (only(made).changed, only(made).skipped, only(made).result) == (2, 1, {"skipped": {"due": 1}})
    assert sentence(only(made)) == "requeued: 2 (1 due already)"


def test_the_dead_and_the_waiting_of_one_step_are_counted_together(made: Rig) -> None:
    die(made, 1)
    die(made, 1, LATER)
    die(made, 1)
    Requeuer(store=made.store, registry=made.registry).requeue(Selection(states=(PENDING, DEAD)), actor=ADA)
    assert (only(made).changed, only(made).skipped) == (3, 0)


def test_what_changes_nothing_else_is_on_record_too(made: Rig) -> None:
    journal = Journal(made.store)
    journal.note(Verb.EXPORT, ADA, "events", options={"rows": 3})

    def fail() -> None:
        with journal.doing(Verb.CATCH_UP, ADA, "close"):
            assert only_running(made) == "catch_up"
            raise RuntimeError("the sender is gone")

    with pytest.raises(RuntimeError):
        fail()
    failed, noted = made.store.actions.page()
    assert (noted.state, noted.options) == (ActionState.DONE, {"rows": 3})
    assert (failed.state, failed.error) == (ActionState.FAILED, "RuntimeError: the sender is gone")
    assert failed.finished_at is not None


def only_running(made: Rig) -> str:
    (action,) = made.store.actions.unfinished()
    assert action.state is ActionState.RUNNING
    return action.verb


def test_pages_of_it_are_narrowed_and_continued(made: Rig) -> None:
    journal, actions = Journal(made.store), made.store.actions
    noted = [journal.note(Verb.LOGIN, Actor(name), name).id for name in ("ada", "bob", "ada")]
    journal.note(Verb.LOGIN_FAILED, Actor("ada", address="10.0.0.7"), "ada")
    since = made.database.now() - timedelta(minutes=15)
    assert [one.id for one in actions.page(verbs=["login"])] == noted[::-1]
    assert [one.id for one in actions.page(1, verbs=["login"], before=noted[2])] == [noted[1]]
    assert [one.id for one in actions.page(by="bob", since=since)] == [noted[1]]
    assert actions.count("login", since, subject="ada") == 2
    assert actions.count("login_failed", since, address="10.0.0.7") == 1
    assert actions.count("login_failed", made.database.now() + timedelta(minutes=1)) == 0
    found = actions.latest("login", "bob")
    assert (found.id if found else None, actions.newest_id() > noted[2]) == (noted[1], True)


def test_actions_are_kept_for_four_hundred_days(made: Rig) -> None:
    old = id_at(made.database.now() - ACTIONS_KEPT - timedelta(days=1))
    young = Journal(made.store).note(Verb.LOGIN, ADA)
    for number, state in enumerate((ActionState.DONE, ActionState.WAITING)):
        row = Action(old + number, made.database.now(), "ada", "cli", "pause", state)
        made.store.actions.add(row)
    for _ in RetentionRounds(made.store, Retention()).steps():
        pass
    assert [one.id for one in made.store.actions.page()] == [young.id, old + 1], "what is not over stays"
    assert list(prune_steps(made.store, payloads_before=made.database.now()))[-1].looked_at == 0


# -- preview and confirm ---------------------------------------------------------------------------------------


def test_a_preview_counts_what_would_change_and_what_is_left(made: Rig, activity: ActivityLog) -> None:
    ids = die(made, 4)
    made.put(1)
    preview = activity.preview(Verb.REQUEUE, Selection(states=(DEAD, PENDING), handler="h"), activity.new_preview())
    assert (preview.count, preview.is_more, dict(preview.handlers)) == (4, False, {"h": 4})
    assert dict(preview.left) == {Left.DUE: 1}
    assert [one.id for one in preview.examples] == ids[:3]
    assert preview.command == "webhooks requeue --state dead,pending --handler h"
    assert (preview.wants_typed, preview.wants_why) == ("", False)
    assert preview_json(preview)["deliveries"] == 4
    assert made.store.actions.page() == [], "looking is not on record"


def test_a_preview_is_confirmed_once_whoever_presses(made: Rig, activity: ActivityLog) -> None:
    die(made, 4)
    preview = activity.preview(Verb.REQUEUE, Selection(handler="h"), activity.new_preview())
    done = activity.confirm(preview, actor=ADA)
    assert (done.state, done.changed, done.matched) == (ActionState.DONE, 4, 4)
    with pytest.raises(AlreadyConfirmed, match="this was confirmed already, by ada") as caught:
        activity.confirm(preview, actor=Actor("bob"))
    assert caught.value.action.id == done.id
    assert len(made.store.actions.page()) == 1


def test_two_people_confirm_at_the_same_moment_and_it_happens_once(made: Rig, activity: ActivityLog) -> None:
    ids = die(made, 6)
    preview = activity.preview(Verb.REQUEUE, Selection(handler="h"), activity.new_preview())
    together = threading.Barrier(4)
    told: list[object] = []

    def press(name: str) -> None:
        together.wait()
        try:
            told.append(activity.confirm(preview, actor=Actor(name)))
        except AlreadyConfirmed as error:
            told.append(error)

    people = [threading.Thread(target=press, args=(name,)) for name in ("ada", "bob", "eve", "kim")]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert sorted(type(each).__name__ for each in told) == ["Action", *["AlreadyConfirmed"] * 3]
    assert only(made).changed == 6
    assert [made.row(id).attempts for id in ids] == [1] * 6


def test_what_is_made_or_dies_after_the_preview_is_not_meant(made: Rig, activity: ActivityLog) -> None:
    die(made, 2)
    first = new_id()
    preview = activity.preview(Verb.REQUEUE, THE_DEAD, first)
    new = die(made, 1)
    with made.database.write() as connection:
        later = made.database.now() + timedelta(minutes=5)
        table = schema.deliveries
        oldest = min(made.ids())
        connection.execute(table.update().where(table.c.id == oldest).values(finished_at=later))
    done = activity.confirm(preview, actor=ADA, typed="everything")
    assert (done.changed, done.result) == (1, {"skipped": {"afterwards": 1}})
    assert made.row(new[0]).state == DEAD


def test_many_want_their_number_typed_and_everything_the_word(made: Rig, activity: ActivityLog) -> None:
    die(made, 1)
    everything = activity.preview(Verb.REQUEUE, Selection(), activity.new_preview())
    with pytest.raises(SelectionError, match="type everything to confirm it"):
        activity.confirm(everything, actor=ADA)
    with pytest.raises(SelectionError, match="say why"):
        activity.confirm(activity.preview(Verb.CANCEL, Selection(handler="h"), new_id()), actor=ADA)
    assert only_verbs(made) == []
    with pytest.raises(SelectionError, match="more than a day old"):
        activity.preview(Verb.REQUEUE, Selection(), id_at(made.database.now() - timedelta(days=2)))


def only_verbs(made: Rig) -> list[str]:
    return [action.verb for action in made.store.actions.page()]


# -- a worker's duty -------------------------------------------------------------------------------------------


def waiting(made: Rig, actor: Actor = ADA, target: Any = THE_DEAD) -> Action:
    return Requeuer(store=made.store, registry=made.registry).begin(target, actor=actor)


def worker(made: Rig, activity: ActivityLog, **given: Any) -> tuple[ActionsDuty, Callable[[str], None]]:
    at = [0.0]
    duty = ActionsDuty(activity.changes, made.store, monotonic=lambda: at[0], **given)

    def tick(holder: str) -> None:
        at[0] += 10
        duty.tick(holder)
        wait_until(lambda: not duty.is_running, LONG, "the duty is over")

    return duty, tick


def test_many_are_left_to_a_worker_which_does_them_in_steps(
    made: Rig, activity: ActivityLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.operations.actions.activity.AT_ONCE", 4)
    die(made, 7)
    preview = activity.preview(Verb.REQUEUE, Selection(handler="h"), activity.new_preview())
    action = activity.confirm(preview, actor=ADA)
    assert (action.state, action.changed) == (ActionState.WAITING, 0)
    _, tick = worker(made, activity)
    tick("w")
    done = activity.get(action.id)
    assert (done.state, done.changed, done.skipped) == (ActionState.DONE, 7, 0)
    tick("w")
    assert len(made.store.actions.page()) == 1


def test_a_worker_that_ends_stops_after_a_step_and_another_continues(made: Rig, activity: ActivityLog) -> None:
    die(made, 7)
    action = waiting(made)
    first, tick = worker(made, activity)
    requeue = made.store.deliveries.requeue

    def once(*arguments: Any, **given: Any) -> set[int]:
        first.stop()
        return requeue(*arguments, **given)

    made.store.deliveries.requeue = once  # type: ignore[method-assign]
    tick("a")
    half = activity.get(action.id)
    assert (half.state, half.changed, half.holder) == (ActionState.RUNNING, 3, None)
    _, tick = worker(made, activity)
    tick("b")
    assert (activity.get(action.id).state, activity.get(action.id).changed) == (ActionState.DONE, 7)


def test_one_process_at_a_time_has_an_action_and_its_lease_runs_out(made: Rig, activity: ActivityLog) -> None:
    die(made, 1)
    action = waiting(made)
    actions = made.store.actions
    assert actions.take(action.id, "a", LONG) is not None
    assert actions.take(action.id, "b", LONG) is None
    assert actions.take(action.id, "a", timedelta(0)) is not None
    taken = actions.take(action.id, "b", LONG)
    assert taken is not None
    step = bulk_of.this_process()
    with pytest.raises(Overtaken):
        list(Requeuer(store=made.store, registry=made.registry).steps(taken, step))
    assert made.states() == [DEAD], "what another process has in hand is taken back whole"


def test_stop_ends_it_after_the_step_in_hand(made: Rig, activity: ActivityLog) -> None:
    die(made, 7)
    action = made.store.actions.take(waiting(made).id, "w", LONG)
    assert action is not None
    steps = activity.changes()[Verb.REQUEUE].steps(action, "w")
    next(steps)
    stopped = activity.stop(action.id, actor=ADA)
    with pytest.raises(Overtaken):
        next(steps)
    assert (stopped.state, stopped.changed, stopped.error) == (ActionState.STOPPED, 3, "stopped by ada")
    with pytest.raises(SelectionError, match="is stopped; there is nothing to stop"):
        activity.stop(action.id, actor=ADA)
    assert made.states().count(DEAD) == 4


def test_an_interrupted_command_is_stopped_and_not_continued(made: Rig) -> None:
    die(made, 7)

    def interrupt(changed: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Requeuer(store=made.store, registry=made.registry).requeue(THE_DEAD, actor=ADA, progress=interrupt)
    assert (only(made).state, only(made).changed) == (ActionState.STOPPED, 3)


def test_what_a_worker_does_in_one_go_says_how_it_went(made: Rig, activity: ActivityLog) -> None:
    def fix(action: Action) -> tuple[int, dict[str, Any]]:
        if action.options.get("fails"):
            raise RuntimeError("no sender")
        return 2, {"done": ["sub_1 is resumed"]}

    journal = Journal(made.store)
    fine = journal.add(Verb.FIX, ADA, state=ActionState.WAITING)
    bad = journal.add(Verb.FIX, ADA, state=ActionState.WAITING, options={"fails": True})
    here = journal.add(Verb.FIX, ADA, state=ActionState.RUNNING)
    _, tick = worker(made, activity, runners={Verb.FIX: fix})
    tick("w")
    assert (activity.get(fine.id).changed, activity.get(fine.id).state) == (2, ActionState.DONE)
    assert activity.get(bad.id).error == "RuntimeError: no sender"
    assert activity.get(here.id).state is ActionState.RUNNING, "the process that began it does it"


def test_what_never_said_how_it_went_is_closed_after_a_day(made: Rig, activity: ActivityLog) -> None:
    old = Action(
        id_at(made.database.now() - timedelta(days=2)), made.database.now(), "ada", "cli", "pause", ActionState.RUNNING
    )
    made.store.actions.add(old)
    _, tick = worker(made, activity)
    tick("w")
    assert activity.get(old.id).error == "its process ended before it said how it went"


# -- undo ------------------------------------------------------------------------------------------------------


def test_undo_of_a_requeue_cancels_what_has_not_run_since(made: Rig, activity: ActivityLog) -> None:
    ids = die(made, 3)
    action = made.store.actions.get(
        Requeuer(store=made.store, registry=made.registry).requeue(THE_DEAD, actor=ADA).action_id
    )
    assert action is not None
    failed = made.claim().delivery
    assert made.store.deliveries.finish([Finished(failed, LATER)])
    undone = activity.undo(action.id, actor=Actor("bob"))
    assert (undone.verb, undone.undoes, undone.changed, undone.result) == (
        "cancel",
        action.id,
        2,
        {"skipped": {"ran": 1}},
    )
    assert [made.row(id).state for id in ids if id != failed.id] == [CANCELLED, CANCELLED]
    assert made.row(failed.id).state == PENDING
    with pytest.raises(CannotUndo, match="it was taken back by bob"):
        activity.undo(action.id, actor=ADA)
    again = activity.undo(undone.id, actor=ADA)
    assert (again.verb, again.changed) == ("requeue", 2)


def test_undo_of_a_cancel_requeues_what_it_cancelled(made: Rig, activity: ActivityLog) -> None:
    mine = made.put(2)
    Canceller(made.store).cancel(Selection(), actor=ADA, why="a mistake")
    cancelled = only(made)
    others = made.put(1)
    Canceller(made.store).cancel(Selection(), actor=Actor("bob"))
    undone = activity.undo(cancelled.id, actor=ADA)
    assert (undone.changed, undone.options["upper_id"] > str(cancelled.id)) == (2, True)
    assert [made.row(id).state for id in (*mine, *others)] == [PENDING, PENDING, CANCELLED]


def test_undo_of_much_is_left_to_a_worker_where_a_page_asks(
    made: Rig, activity: ActivityLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo_of, "AT_ONCE", 2)
    made.put(4)
    Canceller(made.store).cancel(Selection(), actor=ADA)
    undone = activity.undo(only(made).id, actor=ADA, here=False, preview_id=new_id())
    assert undone.state is ActionState.WAITING
    _, tick = worker(made, activity)
    tick("w")
    assert made.states() == [PENDING] * 4


def test_pause_resume_and_trying_one_are_on_record_and_taken_back(made: Rig, activity: ActivityLog) -> None:
    handlers_of.pause(made.store, made.registry, "h", actor=ADA, why="it burns")
    assert (only(made).subject, only(made).why) == ("h", "it burns")
    undone = activity.undo(only(made).id, actor=ADA)
    assert (undone.verb, made.store.handlers.states()["h"].paused) == ("resume", False)
    assert activity.undo(undone.id, actor=ADA).verb == "pause"
    handlers_of.resume(made.store, made.registry, "h", actor=ADA)
    with pytest.raises(CannotUndo, match="was taken back by ada"):
        activity.undo(undone.undoes or 0, actor=ADA)
    assert not handlers_of.try_one(made.store, made.registry, "h", actor=ADA).changed
    made.store.handlers.open_breaker("h", 10, timedelta(hours=1))
    done = handlers_of.try_one(made.store, made.registry, "h", actor=ADA)
    assert done.changed
    assert made.store.handlers.states()["h"].breaker is BreakerState.HALF_OPEN
    with pytest.raises(CannotUndo, match="nothing takes back what try one did"):
        activity.undo(done.action_id, actor=ADA)


def test_what_was_changed_again_since_is_not_taken_back(made: Rig, activity: ActivityLog) -> None:
    paused = handlers_of.pause(made.store, made.registry, "h", actor=ADA).action_id
    handlers_of.resume(made.store, made.registry, "h", actor=Actor("bob"))
    with pytest.raises(CannotUndo, match="was changed again since"):
        activity.undo(paused, actor=ADA)


def test_undo_of_a_replay_cancels_it(made: Rig, activity: ActivityLog) -> None:
    made.put(2)
    replayer = Replayer(store=made.store, registry=made.registry)
    replay = replayer.run(replayer.start(replayer.plan(Selection(), Options()), actor=ADA, why="late"))
    action = only(made)
    assert (action.subject, action.matched, action.changed, action.why) == (str(replay.id), 2, 2, "late")
    undone = activity.undo(action.id, actor=ADA)
    assert (undone.verb, undone.changed) == ("replay_cancel", 2)
    assert sorted(made.states()) == [PENDING, PENDING, CANCELLED, CANCELLED]


def test_undo_of_a_drop_holds_the_request_again(made: Rig, activity: ActivityLog) -> None:
    now: Any = made.database.now()
    id = made.store.quarantine.put("close", b"{", reason="no JSON", kind="unreadable", received_at=now, headers="{}")
    quarantine_of.discard(made.store, [id], actor=ADA, why="rubbish")
    assert (only(made).verb, only(made).options, only(made).why) == ("quarantine_drop", {"ids": [str(id)]}, "rubbish")
    assert activity.undo(only(made).id, actor=ADA).changed == 1
    kept = made.store.quarantine.get(id)
    assert kept is not None
    assert (kept.state, kept.decided_by) == ("held", None)


def test_a_mute_ends_and_comes_back_for_as_long_as_it_was(made: Rig, activity: ActivityLog) -> None:
    until = mute(made.store, "dead", "h", lasting=timedelta(hours=2), actor=ADA)
    muted = only(made)
    assert (muted.subject, muted.options["before"]) == ("dead h", None)
    ended = activity.undo(muted.id, actor=ADA)
    assert (ended.verb, made.store.alarms.rows()) == ("unmute", {})
    activity.undo(ended.id, actor=ADA)
    back = made.store.alarms.rows()["dead", "h"].muted_until
    assert back is not None
    assert until is not None
    assert abs(back - until) < timedelta(seconds=5)


def test_an_action_that_there_is_not_is_not_found(activity: ActivityLog) -> None:
    for ask in (activity.get, lambda id: activity.undo(id, actor=ADA)):
        with pytest.raises(NotFound, match="no action 7"):
            ask(7)


def test_the_document_of_an_action_says_what_takes_it_back(made: Rig, activity: ActivityLog) -> None:
    handlers_of.pause(made.store, made.registry, "h", actor=ADA)
    document = action_json(only(made), activity.undo_of(only(made)))
    assert (document["verb"], document["via"], document["state"]) == ("pause", "dashboard", "done")
    assert document["undo"] == {
        "verb": "resume",
        "says": "runs the handler again",
        "is_possible": True,
        "why_not": None,
    }
