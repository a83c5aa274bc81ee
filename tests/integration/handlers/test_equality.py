"""Every plugin ends as Close itself: random histories of a local Close, in any order, with duplicates and revisions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from handlers import emails, leads, outcomes, whatsapp
from tests.integration.handlers.histories import Bench, differences, handlers_of, record, shuffled, take_in
from tests.support import PROFILE, Clock, pairs
from webhooks.model import Event
from webhooks.sandbox import Rules, World
from webhooks.sandbox.histories import by_seed

pytestmark = pytest.mark.one_database

MODULES = (emails, leads, outcomes, whatsapp)
PLUGINS = ("emails", "leads", "outcomes", "whatsapp")

Arrange = Callable[[Sequence[Event], int], Iterable[Event]]

#: How the events of a history come. Handlers must bear the last, though ingest never lets it happen.
ARRIVALS: dict[str, Arrange] = {
    "in order": lambda events, seed: take_in(events),
    "backwards": lambda events, seed: take_in(reversed(events)),
    "in disorder": lambda events, seed: take_in(shuffled(events, seed)),
    "every copy, twice at times": shuffled,
}


def wrong(bench: Bench, world: World) -> list[str]:
    return [line for module in MODULES for line in differences(bench.ask(module.mirrors), world.state())]


def missing(bench: Bench) -> list[str]:
    """Kinds of objects that are not there in the end: a history without them proves nothing about them."""
    return [kind for module in MODULES for kind, objects in bench.ask(module.mirrors).items() if not objects]


#: Histories that have every kind of object in the end, merges, cascades and revisions.
SEEDS = (13, 24, 33)
#: (seed, arrival): each with each in the profile `full`, else each at least once.
PLAYED = list(itertools.product(SEEDS, ARRIVALS) if PROFILE == "full" else zip(itertools.cycle(SEEDS), ARRIVALS))


def play(seed: int) -> tuple[World, list[Event]]:
    """A history in which much is done by the same hand at once, so that it becomes one event in several revisions."""
    rules = Rules(unlisted=True, created_absorbs=seed % 2 == 1, consolidation=timedelta(hours=1))
    world = World(Clock(), seed=seed, rules=rules)
    free = by_seed(seed)

    def choose(n: int) -> int:
        # of three actors the first, of eight pauses a short one; nine times in ten
        hasty = {3: 0, 8: 1}.get(n)
        return hasty if hasty is not None and free(10) else free(n)

    return world, record(world, choose, 100)


@pytest.mark.parametrize(("played", "database_url"), pairs(*PLAYED), indirect=["database_url"])
def test_the_tables_equal_close_whatever_the_order(bench: Bench, played: tuple[int, str]) -> None:
    seed, arrival = played
    world, events = play(seed)

    for event in ARRIVALS[arrival](events, seed):
        bench.dispatch(handlers_of(*MODULES), event)

    assert wrong(bench, world) == []
    assert missing(bench) == []


@pytest.mark.parametrize(
    ("arrival", "database_url"), pairs("in order", "every copy, twice at times"), indirect=["database_url"]
)
def test_the_tables_equal_close_when_deliveries_share_transactions(bench: Bench, arrival: str) -> None:
    """What the plugins declare with effects="session" is true."""
    world, events = play(SEEDS[0])
    arrived = list(ARRIVALS[arrival](events, SEEDS[0]))

    together = bench.dispatch_together(handlers_of(*MODULES), arrived, most=20)

    assert wrong(bench, world) == []
    assert missing(bench) == []
    assert together > len(arrived) / 2, "or it proves little"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_histories_have_what_makes_it_hard(seed: int) -> None:
    """Revisions, merges, cascades: seeds that lost them would prove less, unseen."""
    _, events = play(seed)

    types = {event.type for event in events}
    assert {"lead.merged", "lead.deleted", "contact.deleted", "activity.whatsapp_message.deleted"} <= types
    assert len(events) > len({event.dedup_key for event in events}) + 10


class _FreshBench:
    """Empties the tables of the plugins between the examples of hypothesis, which share one test's database."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def __enter__(self) -> Bench:
        with self.bench.database.write() as connection:
            for module in MODULES:
                for table in module.metadata.sorted_tables:
                    connection.execute(table.delete())
        return self.bench

    def __exit__(self, *error: object) -> None: ...


@hypothesis.settings(
    max_examples=15,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(data=st.data())
def test_no_history_that_hypothesis_can_find_ends_otherwise(bench: Bench, data: st.DataObject) -> None:
    world = World(Clock(), rules=Rules(unlisted=True, created_absorbs=data.draw(st.booleans())))
    steps = data.draw(st.integers(1, 30))
    events = record(world, lambda n: data.draw(st.integers(0, n - 1)), steps)
    order = data.draw(st.permutations(range(len(events))))
    together = data.draw(st.integers(1, 20))  # 1: each in a transaction of its own

    with _FreshBench(bench) as fresh:
        arrived = list(take_in(events[place] for place in order))
        fresh.dispatch_together(handlers_of(*MODULES), arrived, most=together)

        assert wrong(fresh, world) == []


def test_an_event_that_never_came_is_seen_as_a_difference(bench: Bench) -> None:
    """The test of the test: what is compared is really compared."""
    world, events = play(SEEDS[0])

    for event in take_in(event for event in events if not event.type.endswith(".deleted")):
        bench.dispatch(handlers_of(*MODULES), event)

    assert wrong(bench, world)


def test_the_leads_that_contacts_and_opportunities_made_are_linked_to_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: set[tuple[str, str, str]] = set()
    create = World.create

    def watching(world: World, kind: str, body: Mapping[str, Any], *rest: Any, **named: Any) -> Any:
        found = create(world, kind, body, *rest, **named)
        if kind in ("contact", "opportunity") and body.get("lead_id") is None:
            made.add((found["lead_id"], kind, found["id"]))
        return found

    monkeypatch.setattr(World, "create", watching)
    world, events = play(SEEDS[1])
    for event in take_in(shuffled(events, 1)):
        bench.dispatch(handlers_of(leads), event)

    assert {(row["lead_id"], row["kind"], row["member_id"]) for row in bench.ask(leads.origins)} == made
    assert made
    nameless = {lead["id"] for lead in world.state()["lead"].values() if lead["name"] is None}
    assert {row["lead_id"] for row in bench.ask(leads.untitled)} == nameless


def test_results_are_counted_as_close_would_count_them(bench: Bench) -> None:
    world, events = play(SEEDS[2])
    for event in take_in(shuffled(events, 2)):
        bench.dispatch(handlers_of(outcomes), event)

    counted: Counter[tuple[str, str, str]] = Counter()
    for kind, column in outcomes.KINDS.items():
        for activity in world.state()[kind].values():
            if activity["outcome_id"] is not None:
                counted[activity["user_id"], activity["outcome_id"], column] += 1
    ours = {
        (row["user_id"], row["outcome_id"], column): row[column]
        for row in bench.ask(outcomes.results)
        for column in ("calls", "meetings")
        if row[column]
    }
    assert ours == dict(counted)
    assert counted
