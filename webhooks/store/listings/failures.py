"""Failures, grouped by what is alike in their errors."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, func, literal_column, select

from webhooks.database import tables as schema
from webhooks.model import DeliveryState
from webhooks.selection import Selection
from webhooks.store import conditions
from webhooks.store.listings.deliveries import DeliveryPages, of_events
from webhooks.store.listings.records import FailureGroup, FailureGroups

#: What differs between two failures that are the same: counts of attempts, ids, numbers, addresses.
_ATTEMPT = re.compile(r" \(attempt \d+ of \d+\)$")
_VARYING = re.compile(
    r"0x[0-9a-fA-F]+|\b[a-z]+_[0-9A-Za-z]{16,}\b|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\d+"
)


#: What `lately` says: the last day, in so many steps.
DAY, STEPS = timedelta(days=1), 12


def alike(reason: str) -> str:
    """A reason with what varies between equal failures masked as `#`."""
    return _VARYING.sub("#", _ATTEMPT.sub("", reason))


class Failures(DeliveryPages):
    """The part of `Listings` that counts errors."""

    def failures(
        self,
        selection: Selection,
        *,
        limit: int = 50,
        look_at: int | None = None,
        until: datetime | None = None,
        with_retrying: bool = False,
    ) -> FailureGroups:
        """Dead deliveries (or those in the states selected), grouped by handler and error, most frequent first.

        limit: groups.
        look_at: only the newest so many deliveries are counted; None: all of them.
        until: each group says when its deliveries ended in the day before that (`lately`); None: not asked for.
        with_retrying: where no state is selected, also those that failed and wait to run again.
        """
        steps = [] if until is None else [until - DAY + DAY / STEPS * step for step in range(STEPS)]
        wanted = selection if selection.states else selection.only(states=(DeliveryState.DEAD,))
        found = self._reasons(wanted, look_at, steps)
        if with_retrying and not selection.states:
            retrying = selection.only(states=(DeliveryState.PENDING,))
            found = itertools.chain(found, self._reasons(retrying, look_at, steps, is_retrying=True))
        groups: dict[tuple[str, int, str], list[Any]] = {}
        looked_at = 0
        for handler, state, reason, step, count, first, last, example in found:
            looked_at += count
            key = (handler, state, alike(reason or ""))
            group = groups.setdefault(key, [0, first, last, example, [0] * len(steps)])
            if step:
                group[4][step - 1] += count
            group[0] += count
            group[1] = min(group[1], first)
            group[2], group[3] = max(group[2], last), max(group[3], example)
        ordered = sorted(groups.items(), key=lambda item: (-item[1][0], item[0]))
        return FailureGroups(
            [
                FailureGroup(handler, DeliveryState(state), error, count, first, last, example, lately)
                for (handler, state, error), (count, first, last, example, lately) in ordered[:limit]
            ],
            looked_at,
            is_complete=look_at is None or looked_at < look_at,
        )

    def _reasons(
        self,
        selection: Selection,
        look_at: int | None,
        steps: Sequence[datetime],
        *,
        is_retrying: bool = False,
    ) -> Iterator[tuple[Any, ...]]:
        """Rows (handler, state, reason, step, how many, first, last, example). step: the last of `steps` that came before, from 1; 0: none."""
        table, events = schema.deliveries.c, schema.events
        if not selection.is_exact_in_sql:
            walked = itertools.chain.from_iterable(self.walk_deliveries(selection))
            failed = (one for one in walked if one.failures or not is_retrying)
            for one in itertools.islice(failed, look_at):
                at = one.finished_at or one.created_at
                yield one.handler, int(one.state), one.reason, bisect.bisect_right(steps, at), 1, at, at, one.id
            return
        by_event = of_events(selection)
        moment = func.coalesce(table.finished_at, table.created_at, type_=schema.Instant())
        with self.database.read() as connection:
            by_event = conditions.narrowed(by_event, connection, dialect=self.dialect)
            source: Any = schema.deliveries
            if not by_event.is_empty:
                source = schema.deliveries.join(events, events.c.id == table.event_id)
            wanted = [
                *conditions.on_deliveries(selection, dialect=self.dialect),
                *conditions.on_events(by_event, dialect=self.dialect),
            ]
            if selection.states == (DeliveryState.DEAD,) and selection.handler is None:
                wanted.append(conditions.NEWEST_DEAD)
            if is_retrying:
                wanted += conditions.RETRYING
            each = select(table.id, table.handler, table.state, table.reason, moment.label("at"))
            each = each.select_from(source).where(*wanted)
            if look_at is not None:
                each = each.order_by(table.id.desc()).limit(look_at)
            found = each.subquery().c
            # the newest first: most ended lately, and are compared once
            begun = [(found["at"] >= step, number) for number, step in reversed(list(enumerate(steps, 1)))]
            step = (case(*begun, else_=0) if begun else literal_column("0")).label("step")
            query = select(
                found.handler,
                found.state,
                found.reason,
                step,
                func.count(),
                func.min(found["at"], type_=schema.Instant()),
                func.max(found["at"], type_=schema.Instant()),
                func.max(found.id),
            ).group_by(found.handler, found.state, found.reason, literal_column("step"))
            rows = connection.execute(query).fetchall()
        for row in rows:
            yield tuple(row)


__all__ = ["Failures", "alike"]
