"""The one database as a process uses it: connections, tables, and how a commit is heard of elsewhere.

Promises: whatever means "not now" leaves as `StorageUnavailable`; writers of SQLite queue instead of failing; a fork
is noticed. Not here: statements (`store`), a handler's session (`session`).

`connect` makes the `Database`, `tables` says what it holds, `postgresql` packs batches for that server, `wakeup` tells
a worker of a commit, `migrations` bring the tables to where the code wants them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.database.connect import LOCK_PATIENCE as LOCK_PATIENCE
    from webhooks.database.connect import SHORT_SECONDS as SHORT_SECONDS
    from webhooks.database.connect import SQLITE_ARGUMENTS as SQLITE_ARGUMENTS
    from webhooks.database.connect import SQLITE_BUSY as SQLITE_BUSY
    from webhooks.database.connect import Database as Database
    from webhooks.database.connect import LockFile as LockFile
    from webhooks.database.connect import cut as cut
    from webhooks.database.connect import describe as describe
    from webhooks.database.connect import hide_values as hide_values
    from webhooks.database.connect import is_closed as is_closed
    from webhooks.database.connect import is_lock_wait as is_lock_wait
    from webhooks.database.connect import means_not_now as means_not_now
    from webhooks.database.connect import set_up_sqlite as set_up_sqlite
    from webhooks.database.connect import translate_errors as translate_errors
    from webhooks.database.connect import unavailable as unavailable
    from webhooks.database.migrations.run import ADVISORY_LOCK as ADVISORY_LOCK
    from webhooks.database.migrations.run import Change as Change
    from webhooks.database.migrations.run import History as History
    from webhooks.database.migrations.run import Unmigrated as Unmigrated
    from webhooks.database.migrations.run import find_plugins as find_plugins
    from webhooks.database.migrations.run import histories_of as histories_of
    from webhooks.database.tables import from_microseconds as from_microseconds
    from webhooks.database.tables import to_microseconds as to_microseconds
    from webhooks.database.wakeup import SQLITE_LOOK_SECONDS as SQLITE_LOOK_SECONDS
    from webhooks.database.wakeup import PostgresListener as PostgresListener
    from webhooks.database.wakeup import SQLiteWatch as SQLiteWatch
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "connect": [
                "Database",
                "LockFile",
                "LOCK_PATIENCE",
                "SHORT_SECONDS",
                "SQLITE_ARGUMENTS",
                "SQLITE_BUSY",
                "cut",
                "describe",
                "hide_values",
                "is_closed",
                "is_lock_wait",
                "means_not_now",
                "set_up_sqlite",
                "translate_errors",
                "unavailable",
            ],
            "migrations.run": ["ADVISORY_LOCK", "Change", "History", "Unmigrated", "find_plugins", "histories_of"],
            "tables": ["from_microseconds", "to_microseconds"],
            "wakeup": ["PostgresListener", "SQLITE_LOOK_SECONDS", "SQLiteWatch"],
        },
    )
