"""What a handler holds instead of a connection: objects that are made for one attempt, and end with it.

`PooledConnection` is what SQLAlchemy takes for a connection from its pool, `DriverProxy` what it and the handler take for
the driver's connection. Both hand on what they are asked; `OuterTransaction` is asked first. Behind them is a connection
that serves one attempt after the other: what is kept of these objects cannot reach it any more.
"""

from __future__ import annotations

from typing import Any, NoReturn

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import PoolProxiedConnection

from webhooks.session.outer import ENDED, OuterTransaction, ended_below, not_yours


class DriverProxy:
    """The driver's connection, for one attempt. harmless: attributes that change nothing when they are read."""

    __slots__ = ("_driver", "_harmless", "_outer")

    def __init__(self, driver: Any, outer: OuterTransaction, harmless: frozenset[str]) -> None:
        set_own = object.__setattr__
        set_own(self, "_driver", driver)
        set_own(self, "_outer", outer)
        set_own(self, "_harmless", harmless)

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        return self._outer.cursor(*arguments, **options)

    def execute(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        return self.cursor().execute(statement, *arguments, **options)

    def executemany(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        return self.cursor().executemany(statement, *arguments, **options)

    def executescript(self, script: str) -> NoReturn:
        raise not_yours()  # it begins with a COMMIT

    def commit(self) -> None:
        self._outer.refuse_end()

    def rollback(self) -> None:
        self._outer.refuse_end()

    def __enter__(self) -> DriverProxy:
        return self

    def __exit__(self, *error: object) -> None:
        """Both drivers commit or roll back here; that is the delivery's to do."""

    def __getattr__(self, name: str) -> Any:
        if name not in self._harmless:
            self._outer.notice(name)
        return getattr(self._driver, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._outer.notice(name)
        setattr(self._driver, name, value)

    def __repr__(self) -> str:
        return f"<the connection of one delivery to {type(self._driver).__module__}>"


class PooledConnection(PoolProxiedConnection):
    """A connection as SQLAlchemy gets it from a pool. There is none: it ends with its attempt, and goes back nowhere."""

    _connection_record = None

    def __init__(self, proxy: DriverProxy, outer: OuterTransaction) -> None:
        self.outer = outer
        self._proxy = proxy
        self._info: dict[Any, Any] = {}
        self._is_valid = True

    @property
    def dbapi_connection(self) -> Any:  # type: ignore[override]  # it is never set
        return self._proxy

    @property
    def driver_connection(self) -> Any:  # type: ignore[override]
        return self._proxy

    @property
    def info(self) -> dict[Any, Any]:
        return self._info

    @property
    def record_info(self) -> dict[str, Any] | None:
        return None

    @property
    def is_valid(self) -> bool:
        return self._is_valid

    @property
    def is_detached(self) -> bool:
        return False

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        return self.outer.cursor(*arguments, **options)

    def commit(self) -> None:
        self._proxy.commit()

    def rollback(self) -> None:
        self._proxy.rollback()

    def detach(self) -> None:
        self.outer.notice("detach")

    def invalidate(self, e: BaseException | None = None, soft: bool = False) -> None:
        """Called by SQLAlchemy with the error when the database went away, by a handler without."""
        if e is None:
            self.close()
        self._is_valid = False

    def close(self) -> None:
        self.outer.notice("close")
        self._is_valid = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._proxy, name)


class AttemptConnection(Connection):
    """SQLAlchemy's connection for one attempt, with a transaction that has begun and that it cannot end."""

    def __init__(self, engine: Engine, pooled: PooledConnection) -> None:
        # joining the engine's events costs as much as all else here, and mostly nothing listens
        listens = engine._has_events or getattr(self, "_has_events", False)  # SQLAlchemy 2.0: none until then
        self.pooled = pooled
        super().__init__(engine, pooled, _has_events=None if listens else False)
        self.begin()
        self._as_made = (self._execution_options, self._has_events)

    def close(self) -> None:
        """Survive a handler that closes what it did not open."""

    def end_run(self) -> None:
        """Forget what one of several runs set on it."""
        options, has_events = self._as_made
        self._execution_options = options
        self.info.clear()
        if self._has_events != has_events:
            self.pooled.outer.need_own("an observer of its connection's events")

    def end(self) -> None:
        """Let go of the transaction, and it of this: they would wait for the garbage collector together."""
        transaction: Any = self._transaction
        if transaction is not None:
            transaction.is_active = False
            transaction.connection = self._transaction = ENDED

    def _revalidate_connection(self) -> NoReturn:
        """SQLAlchemy would take another connection from its engine here, outside the delivery's transaction."""
        raise ended_below()
