"""The one database as a process uses it: connections, tables, and how a commit is heard of elsewhere.

Promises: whatever means "not now" leaves as `StorageUnavailable`; writers of SQLite queue instead of failing; a fork
is noticed. Not here: statements (`store`), a handler's session (`session`).

`connect` chooses what makes a `Database` (`base`): `sqlite` or `postgresql`, with `postgresql_arrays` for its batches
and `postgresql_url` for its address.
`errors` says what a driver's error means, `tables` what the database holds; `wakeup` tells a worker of a commit, `trial` tries
whether such a message arrives,
`migrations` bring the tables to where the code wants them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.database.base import LOCK_PATIENCE as LOCK_PATIENCE
    from webhooks.database.base import SHORT_SECONDS as SHORT_SECONDS
    from webhooks.database.base import Database as Database
    from webhooks.database.base import Pooler as Pooler
    from webhooks.database.errors import describe as describe
    from webhooks.database.errors import hide_values as hide_values
    from webhooks.database.errors import is_lock_wait as is_lock_wait
    from webhooks.database.errors import is_missing_schema as is_missing_schema
    from webhooks.database.errors import means_not_now as means_not_now
    from webhooks.database.errors import translate_errors as translate_errors
    from webhooks.database.errors import unavailable as unavailable
    from webhooks.database.migrations.compare import Unmigrated as Unmigrated
    from webhooks.database.migrations.histories import History as History
    from webhooks.database.migrations.histories import find_plugins as find_plugins
    from webhooks.database.migrations.histories import histories_of as histories_of
    from webhooks.database.migrations.run import ADVISORY_LOCK as ADVISORY_LOCK
    from webhooks.database.migrations.run import MigrationChange as MigrationChange
    from webhooks.database.postgresql import HANDLERS as HANDLERS
    from webhooks.database.postgresql import is_closed as is_closed
    from webhooks.database.postgresql import shut_down_socket as shut_down_socket
    from webhooks.database.sqlite import SQLITE_ARGUMENTS as SQLITE_ARGUMENTS
    from webhooks.database.sqlite import SQLITE_BUSY as SQLITE_BUSY
    from webhooks.database.sqlite import LockFile as LockFile
    from webhooks.database.sqlite import SQLiteDatabase as SQLiteDatabase
    from webhooks.database.sqlite import set_up_sqlite as set_up_sqlite
    from webhooks.database.tables import from_microseconds as from_microseconds
    from webhooks.database.tables import to_microseconds as to_microseconds
    from webhooks.database.trial import try_wakeup as try_wakeup
    from webhooks.database.wakeup import SQLITE_LOOK_SECONDS as SQLITE_LOOK_SECONDS
    from webhooks.database.wakeup import PostgresListener as PostgresListener
    from webhooks.database.wakeup import SQLiteWatch as SQLiteWatch
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": ["Database", "LOCK_PATIENCE", "Pooler", "SHORT_SECONDS"],
            "errors": [
                "describe",
                "hide_values",
                "is_lock_wait",
                "is_missing_schema",
                "means_not_now",
                "translate_errors",
                "unavailable",
            ],
            "migrations.compare": ["Unmigrated"],
            "migrations.histories": ["History", "find_plugins", "histories_of"],
            "migrations.run": ["ADVISORY_LOCK", "MigrationChange"],
            "postgresql": ["HANDLERS", "is_closed", "shut_down_socket"],
            "sqlite": ["LockFile", "SQLITE_ARGUMENTS", "SQLITE_BUSY", "SQLiteDatabase", "set_up_sqlite"],
            "tables": ["from_microseconds", "to_microseconds"],
            "trial": ["try_wakeup"],
            "wakeup": ["PostgresListener", "SQLITE_LOOK_SECONDS", "SQLiteWatch"],
        },
    )
