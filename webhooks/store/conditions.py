"""A `Selection` as SQL: conditions with bound values, the same meaning on both databases.

`on_events` yields conditions on `webhooks_events`, `on_deliveries` those on `webhooks_deliveries`. `narrowed` goes before
them: it looks up the few ids that a key or a rare state names, so that the primary key serves the rest. What cannot be said in SQL (`Selection.is_exact_in_sql`) is left to `Selection.matches`: the
conditions here then let too much through, never too little.
A prefix of a type is a range, which an index can serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from sqlalchemy import ColumnElement, Select, and_, exists, func, literal_column, or_, select, text
from sqlalchemy.engine import Connection

from webhooks.database import tables as schema
from webhooks.model import UNDELIVERED, DeliveryState
from webhooks.selection import ANY_TEXT, MOST_DOUBLE_WILDCARDS, Selection, glob_parts
from webhooks.store.dialect import Dialect

Condition = ColumnElement[bool]

#: What a statement says, besides the state, to be given the index of the newest dead (see `database.tables`).
NEWEST_DEAD: Condition = text("webhooks_deliveries.id > 0")  # type: ignore[assignment]

#: A pending delivery that failed and waits for its next attempt; what is scheduled has an index of its own.
RETRYING: tuple[Condition, ...] = (
    text("webhooks_deliveries.scheduled_at is not null"),  # type: ignore[assignment]
    schema.deliveries.c.failures > 0,
)


def on_events(
    selection: Selection,
    *,
    dialect: Dialect,
    deliveries_before: int | None = None,
    counting: bool = False,
    of_few: bool = False,
) -> list[Condition]:
    """Conditions on `schema.events`.

    deliveries_before: only deliveries with smaller ids are looked at.
    counting: every match is wanted, rather than the first page of them.
    of_few: other conditions leave few events, so deliveries are looked for event by event.
    """
    events = schema.events.c
    received_at = dialect.without_index(events.received_at) if counting else events.received_at
    conditions: list[Condition] = []
    if selection.events:
        conditions.append(events.id.in_(selection.events))
    if selection.source is not None:
        conditions.append(events.source == selection.source)
    if selection.type is not None and (condition := of_type(selection.type, dialect=dialect)) is not None:
        conditions.append(condition)
    if selection.key is not None:
        conditions.append(events.dedup_key == selection.key)
    if selection.since is not None:
        conditions.append(received_at >= selection.since)
    if selection.until is not None:
        conditions.append(received_at < selection.until)
    if selection.asks_about_deliveries:
        conditions.append(_by_deliveries(selection, dialect, deliveries_before, counting, of_few))
    return conditions


def _by_deliveries(
    selection: Selection, dialect: Dialect, before: int | None, counting: bool, of_few: bool
) -> Condition:
    table = schema.deliveries.c
    of_event = [table.event_id == schema.events.c.id]
    if before is not None:
        of_event.append(table.id < before)
    wanted = on_deliveries(selection.only(states=()) if of_few else selection, dialect=dialect)
    if of_few and selection.states:
        # so that only the index of an event's deliveries serves: that of a rare state seems smaller than it is
        wanted.append((table.state + literal_column("0")).in_(selection.states))
    either: list[Condition] = []
    if wanted or not selection.unrouted:
        if counting and not selection.unrouted:
            # all of them are wanted, so begin with the deliveries
            ids = select(table.event_id).where(*wanted, *([] if before is None else [table.id < before]))
            return schema.events.c.id.in_(ids)
        some = _some(of_event + wanted)
        either.append(exists(dialect.one_by_one(some) if of_few else some))
    if selection.unrouted:
        either.append(~exists(_some(of_event)))
    return or_(*either)


def _some(conditions: list[Condition]) -> Select[tuple[int]]:
    # said explicitly, because the query around it may join deliveries as well
    return select(literal_column("1")).select_from(schema.deliveries).where(*conditions).correlate(schema.events)


def on_deliveries(selection: Selection, *, dialect: Dialect) -> list[Condition]:
    """Conditions on `schema.deliveries` alone: state, handler, action, error."""
    table = schema.deliveries.c
    conditions: list[Condition] = []
    if selection.states:
        # one state is written as itself, so that its partial index is found
        conditions.append(
            of_state(selection.states[0])
            if len(selection.states) == 1
            else or_(*(of_state(state) for state in selection.states))
        )
    if selection.handler is not None:
        conditions.append(table.handler == selection.handler)
    if selection.action is not None:
        conditions.append(table.action_id == selection.action)
    if selection.error is not None:
        conditions.append(like_glob(table.reason, selection.error, dialect=dialect))
    return conditions


def of_state(state: DeliveryState) -> Condition:
    """`state = n` with the number in the text: partial indexes are not found by a parameter."""
    return text(f"webhooks_deliveries.state = {int(state)}")  # type: ignore[return-value]


def never_delivered() -> Condition:
    """Events that were kept and not delivered; only those that a selection names are replayed."""
    return schema.events.c.receipt.in_([disposition.code for disposition in UNDELIVERED])


def like_glob(column: ColumnElement[str], glob: str, *, dialect: Dialect) -> Condition:
    """Match a glob, letter by letter as written (no case folding)."""
    return dialect.like(column, glob_parts(glob))


# -- type patterns -----------------------------------------------------------------------------------------


def of_type(pattern: str, *, dialect: Dialect) -> Condition | None:
    """A type pattern; None when everything matches. With both wildcards mixed it lets too much through."""
    column = schema.events.c.type
    segments = pattern.split(".")
    # "**" is nothing, or any segments: an alternative for each
    doubles = [number for number, segment in enumerate(segments) if segment == "**"]
    if len(doubles) == len(segments):
        return None
    if len(doubles) > MOST_DOUBLE_WILDCARDS:
        segments, doubles = [*segments[: doubles[0]], "**"], doubles[:1]
    alternatives: list[Condition] = []
    for choice in product((False, True), repeat=len(doubles)):
        is_kept = dict(zip(doubles, choice, strict=True))
        kept = [segment for number, segment in enumerate(segments) if is_kept.get(number, True)]
        if kept:
            alternatives.append(_of_segments(column, kept, dialect))
    return or_(*alternatives)


def _of_segments(column: ColumnElement[str], segments: Sequence[str], dialect: Dialect) -> Condition:
    """Here each `**` stands for at least one segment."""
    wilds = [number for number, segment in enumerate(segments) if segment in ("*", "**")]
    if not wilds:
        return column == ".".join(segments)
    conditions: list[Condition] = []
    fixed = segments[: wilds[0]]
    if fixed:
        # a range, which an index can serve; "/" follows "."
        prefix = ".".join(fixed)
        conditions += [column >= prefix + ".", column < prefix + "/"]
    if len(segments) > wilds[0] + 1:
        parts: list[str] = []
        for number, segment in enumerate(segments):
            parts += ["."] * (number > 0) + [ANY_TEXT if number in wilds else segment]
        conditions.append(dialect.like(column, parts))
    if "**" not in segments:
        dots = func.length(column) - func.length(func.replace(column, ".", ""))
        conditions.append(dots == len(segments) - 1)
    return and_(*conditions)


# -- keys --------------------------------------------------------------------------------------------------

_OF_KEY = """
    with recursive s(source) as (
        select min(source) from webhooks_dedup_log
        union all
        select (select min(l.source) from webhooks_dedup_log l where l.source > s.source)
          from s where s.source is not null)
    select l.event_id, l.previous_id, l.older
      from s join webhooks_dedup_log l on l.source = s.source and l.dedup_key = :key
     where s.source is not null
"""


def chosen_ids(connection: Connection, key: str) -> list[int]:
    """The ids of all events under a sender's key, whatever the source: every copy that was kept, the newest last."""
    import json  # integers of ours alone

    ids: set[int] = set()
    newest: list[int] = []
    for event_id, previous_id, older in connection.execute(text(_OF_KEY), {"key": key}):
        newest.append(event_id)
        if previous_id is not None:
            ids.add(previous_id)
        if older:
            ids.update((json.loads(older) if isinstance(older, str) else older).values())
    return [*sorted(ids - set(newest)), *newest]


#: States that few deliveries are in, each with the partial indexes that hold them all.
_RARE = {
    DeliveryState.DEAD: ("state = 3",),
    DeliveryState.RUNNING: ("state = 1",),
    DeliveryState.PENDING: (
        "state = 0 and ready{true}",
        "lane is not null and (state < 2 or blocks{true}) and state = 0",
    ),
}
#: More events than this are not named one by one.
MOST_NAMED = 2_000


def narrowed(selection: Selection, connection: Connection, *, dialect: Dialect) -> Selection:
    """The selection with the ids that its key names, or its states if they are few; it means the same."""
    if selection.events:
        return selection
    ids: list[int] | None = None
    if selection.key is not None:
        ids = chosen_ids(connection, selection.key)
    elif selection.states and not selection.unrouted and all(state in _RARE for state in selection.states):
        ids = _few(selection, connection, dialect)
    # no event has id 0: what names nothing selects nothing
    return selection if ids is None else selection.only(events=tuple(ids) or (0,))


def walks(selection: Selection) -> bool:
    """Whether events have to be judged one after the other, because no index leads to those that are selected."""
    return selection.asks_about_deliveries or selection.source is not None or not selection.is_exact_in_sql


def _few(selection: Selection, connection: Connection, dialect: Dialect) -> list[int] | None:
    """The events whose deliveries match, or None when they are many."""
    table = schema.deliveries.c
    wanted = on_deliveries(selection.only(states=()), dialect=dialect)
    ids: set[int] = set()
    for state in selection.states:
        for condition in _RARE[state]:
            query = (
                select(table.event_id)
                .where(text(condition.format(true=dialect.is_true)), *wanted)
                .limit(MOST_NAMED + 1)
            )
            ids.update(connection.execute(query).scalars())
            if len(ids) > MOST_NAMED:
                return None
    return sorted(ids)


__all__ = [
    "chosen_ids",
    "like_glob",
    "narrowed",
    "never_delivered",
    "of_state",
    "of_type",
    "on_deliveries",
    "on_events",
    "walks",
]
