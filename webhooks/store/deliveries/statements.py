"""What each database does its own way with deliveries, and what the parts of `Deliveries` share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from webhooks.database import Database
from webhooks.model import Delivery, DeliveryCause
from webhooks.session import PreparedStatement
from webhooks.store.deliveries.postgresql import PostgresqlDeliveries
from webhooks.store.deliveries.records import Finished, FinishRow, Wanted, delivery_from
from webhooks.store.deliveries.sqlite import SqliteDeliveries
from webhooks.store.dialect import Dialect, dialect_of
from webhooks.store.events import EventReader
from webhooks.store.lanes import Lanes, Place

Item = TypeVar("Item")
Row = Sequence[Any]


class DeliveryStatements(Protocol):
    """The statements of one database. cursor: the driver's, inside `transaction` unless said otherwise."""

    @property
    def lanes(self) -> Lanes:
        """The statements on lanes of the same database."""

    def transaction(self, *, laned: bool, patience: timedelta | None = None) -> AbstractContextManager[Any]:
        """A driver's cursor in one transaction.

        laned: it has several statements, because lanes are locked and settled.
        patience: how long a lock on a row is waited for; None: as long as the database waits.
        """

    def piecewise(
        self,
        items: Sequence[Item],
        delivery_of: Callable[[Item], Delivery],
        act: Callable[[Any, Sequence[Item]], set[int]],
    ) -> tuple[set[int], set[int]]:
        """Do something to all items that no other transaction has locked.

        act: called with a cursor and some of the items; answers with the ids that it changed.

        The ids that were changed, and those that are locked.
        """

    def look(self, cursor: Any, handlers: Collection[str], limit: int) -> Iterable[tuple[str, int, int, float]]:
        """(handler, class, how many are due, seconds until the first is) of queues that have anything ready."""

    def claim(self, cursor: Any, wanted: Sequence[Wanted], lease: timedelta, worker: str) -> list[Row]:
        """Make due and ready deliveries running; rows of `D, E`, in the order in which they are to run."""

    def extend(self, held: Sequence[tuple[int, int]], lease: timedelta) -> list[tuple[int, bool]]:
        """(id, whether its lease was moved) of those of `held`, (id, token), that are still ours, in one transaction."""

    def fence(self, delivery: Delivery, because: str | None, cause: DeliveryCause | None) -> bool:
        """Move the token on, in one transaction; whether the delivery was ours. Raises `Locked`."""

    def finish(self, cursor: Any, rows: Sequence[FinishRow], *, expired_only: bool = False) -> set[int]:
        """Record how attempts ended; the ids of those that were still ours. expired_only: and whose lease is over."""

    def done_mark(self, batch: Sequence[Finished]) -> PreparedStatement | None:
        """`finish` for successes without lanes, as a statement that fails unless it changes all; None: there is none."""

    def places(self, cursor: Any, ids: Sequence[int]) -> list[Place]:
        """Where those of `ids` that have a lane stand in it."""

    def release(self, cursor: Any, delivery: Delivery) -> bool:
        """Make a running delivery pending again, its attempt not counted; whether it was ours."""

    def expired(self, limit: int) -> tuple[list[Row], list[int]]:
        """Rows of `D` whose lease is over, and ids of such that are locked."""

    def wake(self, cursor: Any) -> None:
        """Have the workers look once this transaction commits."""

    def microseconds(self, instant: Any) -> Any:
        """A column with an instant as microseconds since 1970, for SQLAlchemy."""


class DeliveryPart:
    """What the parts of `Deliveries` share. Each part's methods are transactions unless they say otherwise."""

    def __init__(self, database: Database, events: EventReader) -> None:
        self.database = database
        self.events = events
        self.dialect: Dialect = dialect_of(database)
        self.statements: DeliveryStatements = self.dialect.pick(PostgresqlDeliveries, SqliteDeliveries)

    def delivery(self, row: Row) -> Delivery:
        """A delivery from a row of `DELIVERY_COLUMNS`."""
        return delivery_from(row, self.dialect.instant)


__all__ = ["DeliveryPart", "DeliveryStatements", "Row"]
