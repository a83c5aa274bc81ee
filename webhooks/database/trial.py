"""Whether a notification that is sent through the database arrives: tried, since a pooler in between may pass none on."""

from __future__ import annotations

from webhooks.database.base import Database
from webhooks.database.postgresql import open_apart

#: A notification that has not arrived for so long does not arrive.
WAKEUP_SECONDS = 2
#: Not the channel of `wakeup`, so that no worker looks for what is not there.
_CHANNEL = "webhooks_trial"


def try_wakeup(database: Database) -> str | None:
    """Why a notification does not arrive, in a few words; None where one did, or where none is sent (SQLite)."""
    if database.path is not None:
        return None
    import psycopg

    if database.listen_url is None:
        return "through a pooler of transactions"
    try:
        with open_apart(database, "webhooks doctor") as listener:
            listener.execute(f"listen {_CHANNEL}")
            with database.write() as connection:
                connection.exec_driver_sql(f"notify {_CHANNEL}")
            for _ in listener.notifies(timeout=WAKEUP_SECONDS, stop_after=1):
                return None
            return f"nothing came in {WAKEUP_SECONDS} s"
    except psycopg.Error as error:
        return type(error).__name__


__all__ = ["WAKEUP_SECONDS", "try_wakeup"]
