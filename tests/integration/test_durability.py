"""What a 2xx rests on is looked at: settings of the server, and where SQLite's files are."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.conftest import Consumer
from webhooks.database import Database, set_up_sqlite
from webhooks.database.connect import connect
from webhooks.database.migrations import run as migrate
from webhooks.errors import ConfigurationError
from webhooks.store.durability import (
    Doubt,
    Durability,
    FileFacts,
    ServerFacts,
    look_at_files,
    mount_of,
    of_files,
    of_server,
    read_mounts,
)

# -- judging -----------------------------------------------------------------------------------------------


def codes(doubts: list[Doubt]) -> list[str]:
    return [doubt.code for doubt in doubts]


def test_an_ordinary_server_and_an_ordinary_disk_raise_no_doubt() -> None:
    assert of_server(ServerFacts()) == of_files(FileFacts("/var/lib/webhooks.db", "ext4")) == []
    for setting in ("local", "remote_write", "on", "remote_apply"):
        assert of_server(ServerFacts(synchronous_commit=setting)) == []


@pytest.mark.parametrize(
    ("facts", "code", "command"),
    [
        (ServerFacts(fsync=False), "fsync-off", "alter system reset fsync"),
        (ServerFacts(full_page_writes=False), "full-page-writes-off", "alter system reset full_page_writes"),
        (ServerFacts(unlogged=["webhooks_events"]), "unlogged-tables", "alter table webhooks_events set logged"),
        (
            ServerFacts(synchronous_commit="off", source="user", role='a"b'),
            "synchronous-commit-off",
            'alter role "a""b" reset synchronous_commit',
        ),
        (
            ServerFacts(synchronous_commit="off", source="database", database="hooks"),
            "synchronous-commit-off",
            'alter database "hooks" reset synchronous_commit',
        ),
        (
            ServerFacts(synchronous_commit="off", source="database user", role="app", database="hooks"),
            "synchronous-commit-off",
            'alter role "app" in database "hooks" reset synchronous_commit',
        ),
        (
            ServerFacts(synchronous_commit="off", source="configuration file"),
            "synchronous-commit-off",
            "alter system set synchronous_commit = on",
        ),
        (ServerFacts(synchronous_commit="off", source="client"), "synchronous-commit-off", None),
    ],
)
def test_a_server_that_does_not_sync_is_named_with_the_statement_that_mends_it(
    facts: ServerFacts, code: str, command: str | None
) -> None:
    (doubt,) = of_server(facts)
    assert doubt.code == code
    assert (doubt.command or "") == "" if command is None else command in (doubt.command or "")
    assert not doubt.is_loss


@pytest.mark.parametrize(
    ("facts", "code", "is_loss"),
    [
        ({"kind": "tmpfs"}, "files-in-memory", False),
        ({"kind": "overlay"}, "files-in-container", False),
        ({"kind": "nfs4"}, "files-remote", False),
        ({"kind": "9p"}, "files-remote", False),
        ({"kind": "ext4", "options": frozenset(["rw", "nobarrier"])}, "no-barriers", False),
        ({"is_mount": True}, "journal-apart", True),
        ({"journal_apart": True}, "journal-apart", True),
        ({"journal_mode": "memory"}, "no-journal", True),
        ({"journal_mode": "off"}, "no-journal", True),
        ({"synchronous": 1}, "not-synced", False),
        ({"preload": "/usr/lib/libeatmydata.so"}, "fsync-off", False),
        ({"names": 2}, "several-names", False),
        ({"free": 100 * 2**20}, "disk-nearly-full", False),
        ({"free": 10 * 2**30, "size": 10**13}, "disk-nearly-full", False),
    ],
)
def test_files_that_a_crash_or_a_container_takes_along_are_named(
    facts: dict[str, Any], code: str, is_loss: bool
) -> None:
    (doubt,) = of_files(FileFacts("/data/webhooks.db", **{"kind": "ext4", **facts}))
    assert (doubt.code, doubt.is_loss) == (code, is_loss)
    assert "/data" in doubt.text or code in ("no-journal", "not-synced", "fsync-off")


def test_the_mount_of_a_path_is_the_longest_and_latest_that_holds_it() -> None:
    mounts = read_mounts(
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro\n"
        "23 22 0:5 / /data rw shared:1 - tmpfs tmpfs rw\n"
        "24 22 0:6 / /data rw shared:2 master:1 - overlay overlay rw\n"
        "25 22 0:7 / /data/with\\040space rw - nfs4 host:/x rw,nobarrier\n"
        "nonsense\n"
    )
    kinds = {
        path: getattr(mount_of(path, mounts), "kind", None)
        for path in ("/", "/data", "/database", "/data/with space/x")
    }
    assert kinds == {"/": "ext4", "/data": "overlay", "/database": "ext4", "/data/with space/x": "nfs4"}
    assert "nobarrier" in mounts[3].options
    assert mount_of("/x", []) is None


# -- looking -----------------------------------------------------------------------------------------------


def test_a_database_in_use_is_looked_at(database: Database) -> None:
    found = codes(Durability(database).doubts())
    if database.is_sqlite:
        assert not {"journal-apart", "no-journal", "not-synced", "several-names"} & set(found)
    else:
        assert set(found) <= {"fsync-off", "full-page-writes-off"}  # the tests' own server


@pytest.mark.parametrize("level", ["database", "role", "url"])
def test_synchronous_commit_that_is_off_for_us_is_seen_wherever_it_was_set(postgresql_url: str, level: str) -> None:
    admin = connect(postgresql_url)
    with admin.read() as connection:
        name, role = connection.exec_driver_sql("select current_database(), current_user").one()
    what = f'database "{name}"' if level == "database" else f'role "{role}" in database "{name}"'
    try:
        if level != "url":
            with admin.write() as connection:
                connection.execute(text(f"alter {what} set synchronous_commit = off"))
        database = connect(postgresql_url)
        if level == "url":
            from sqlalchemy import event

            event.listen(
                database.engine, "connect", lambda c, record: (c.execute("set synchronous_commit = off"), c.commit())
            )
        (doubt,) = [each for each in Durability(database).doubts() if each.code == "synchronous-commit-off"]
        database.dispose()
    finally:
        if level != "url":
            with admin.write() as connection:
                connection.execute(text(f"alter {what} reset synchronous_commit"))
        admin.dispose()
    expected = {"database": f'alter database "{name}" reset', "role": f'in database "{name}" reset', "url": ""}[level]
    assert expected in (doubt.command or "")


def test_rights_that_our_role_lacks_are_named_with_the_grant(postgresql_url: str) -> None:
    from sqlalchemy import event

    database = connect(postgresql_url)
    event.listen(database.engine, "connect", lambda c, record: (c.execute("set role pg_read_all_data"), c.commit()))
    (doubt,) = [each for each in Durability(database).doubts() if each.code == "grants-missing"]
    database.dispose()
    assert "delete on webhooks_actions" in doubt.text
    assert 'grant update on webhooks_deliveries to "pg_read_all_data"' in (doubt.command or "")
    assert "select on" not in doubt.text


def test_tables_that_a_crash_empties_are_seen(postgresql_url: str) -> None:
    database = connect(postgresql_url)
    with database.write() as connection:
        connection.exec_driver_sql("alter table webhooks_deliveries set unlogged")
    try:
        (doubt,) = [each for each in Durability(database).doubts() if each.code == "unlogged-tables"]
        assert "webhooks_deliveries" in doubt.text
    finally:
        with database.write() as connection:
            connection.exec_driver_sql("alter table webhooks_deliveries set logged")
        database.dispose()


def test_a_second_name_and_a_journal_that_is_a_link_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.db"
    path.touch()
    os.link(path, tmp_path / "other.db")
    (tmp_path / "webhooks.db-wal").symlink_to(tmp_path / "elsewhere")
    facts = look_at_files(str(path), "wal", 2, {})
    assert (facts.names, facts.journal_apart, facts.is_mount) == (2, True, False)
    assert facts.kind or sys.platform == "darwin"
    assert facts.free > 0


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="there is no file system in memory to look at")
def test_a_file_in_memory_is_seen(tmp_path: Path) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = Path(directory) / "webhooks.db"
        database = connect(f"sqlite:///{path}")
        migrate.upgrade(database)
        assert "files-in-memory" in codes(Durability(database).doubts())
        database.dispose()


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true", "sqlite:///file:x?mode=memory&uri=true",
     "sqlite:///file:x?mode=memory&cache=shared&uri=true", "sqlite:///file:/x?vfs=memdb&uri=true"],
)  # fmt: skip
def test_a_database_that_is_memory_is_refused_however_it_is_written(url: str) -> None:
    with pytest.raises(ConfigurationError, match="in memory is lost with its process"):
        connect(url)


def test_a_password_with_an_at_sign_is_refused_without_showing_its_rest() -> None:
    with pytest.raises(ConfigurationError, match="write it as %40") as caught:
        connect("postgresql://app:first@second@db.example/hooks")
    assert "second" not in str(caught.value)


def test_on_macos_a_commit_reaches_the_disk_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    connection = sqlite3.connect(tmp_path / "x.db")
    set_up_sqlite(connection)
    for pragma in ("fullfsync", "checkpoint_fullfsync"):
        assert connection.execute(f"pragma {pragma}").fetchone() == (1,)
    connection.close()


# -- at start ----------------------------------------------------------------------------------------------


def test_a_start_says_what_it_doubts_and_refuses_what_loses_events_for_sure(
    make_consumer: Callable[..., Consumer], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    webhooks = make_consumer().webhooks
    doubts = [Doubt("fsync-off", "the server does not sync", "psql -c x")]
    monkeypatch.setattr(Durability, "doubts", lambda self: doubts)
    with caplog.at_level(logging.WARNING):
        webhooks.prepare_database()
    assert "the server does not sync: psql -c x" in caplog.text
    doubts.append(Doubt("journal-apart", "the journal is elsewhere", is_loss=True))
    with pytest.raises(ConfigurationError, match="the journal is elsewhere"):
        webhooks.prepare_database()
