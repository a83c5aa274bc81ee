"""What an answered 2xx rests on: whether what is committed is on a disk, and whether that disk outlives the process.

`Durability.doubts` asks the server for its settings, or looks where SQLite's files are and what the connection really does;
`of_server` and `of_files` are pure and judge what was found. A doubt says what could be lost and how to mend it. Few are sure
losses, and only those stop a start.

Not here: whether writing works at all (`Intake.try_write`).

`postgresql` judges a server's settings, `sqlite` where the files are; `durability.Durability` looks at what is in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.durability.durability import Durability as Durability
    from webhooks.store.durability.postgresql import ServerFacts as ServerFacts
    from webhooks.store.durability.postgresql import of_server as of_server
    from webhooks.store.durability.records import Doubt as Doubt
    from webhooks.store.durability.sqlite import FileFacts as FileFacts
    from webhooks.store.durability.sqlite import look_at_files as look_at_files
    from webhooks.store.durability.sqlite import mount_of as mount_of
    from webhooks.store.durability.sqlite import of_files as of_files
    from webhooks.store.durability.sqlite import read_mounts as read_mounts
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "durability": ["Durability"],
            "postgresql": ["ServerFacts", "of_server"],
            "records": ["Doubt"],
            "sqlite": ["FileFacts", "look_at_files", "mount_of", "of_files", "read_mounts"],
        },
    )
