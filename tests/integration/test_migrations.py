"""Upgrades lead to the tables that the code wants, from anywhere, on both databases, and never half-way."""

from __future__ import annotations

import importlib
import multiprocessing
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import text

from tests.support import ROOT, patience
from webhooks.database import Database, History, MigrationChange
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.database.migrations import run as migrate
from webhooks.database.migrations.histories import MigrationError, forget_revisions
from webhooks.errors import ConfigurationError, StorageUnavailable

SHIPPED = sorted(path.name for path in (ROOT / "handlers" / "migrations").iterdir() if path.is_dir())


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    """A database without any table."""
    database = connect(empty_database_url)
    yield database
    database.dispose()


def catalogue(database: Database) -> dict[str, Any]:
    """All that the database knows of its tables, partial indexes, collations, defaults and comments included.

    {object: description}. Alembic's own comparison looks neither at the condition of an index nor at a collation.
    """
    if database.is_sqlite:
        query = "select type || ' ' || name, sql from sqlite_master where sql is not null"
    else:
        query = """
            select 'column ' || table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default,
                collation_name, col_description((quote_ident(table_name))::regclass, ordinal_position))
            from information_schema.columns where table_schema = 'public'
            union all select 'index ' || indexname, indexdef from pg_indexes where schemaname = 'public'
            union all select 'constraint ' || conname, pg_get_constraintdef(oid) from pg_constraint
            where connamespace = 'public'::regnamespace
            union all select 'settings ' || relname, array_to_string(reloptions, ' ') from pg_class
            where relnamespace = 'public'::regnamespace and reloptions is not null
            union all select 'compression ' || attrelid::regclass || '.' || attname, attcompression::text
            from pg_attribute join pg_class on pg_class.oid = attrelid
            where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and attcompression <> ''"""
    with database.read() as connection:
        rows = connection.execute(text(query)).all()
    return {
        name: re.sub(r"[\s\"]+", " ", definition).replace("( ", "(")
        for name, definition in rows
        if "version" not in name
    }


def tables(database: Database) -> set[str]:
    return {
        name.partition(" ")[2].partition(".")[0]
        for name in catalogue(database)
        if name.startswith(("table ", "column "))
    }


# -- the core ------------------------------------------------------------------------------------------------


def test_upgrading_from_nothing_gives_the_tables_of_the_schema(empty: Database) -> None:
    assert migrate.upgrade(empty) == [MigrationChange("core", None, migrate.core().head)]
    migrated = catalogue(empty)
    migrate.downgrade(empty, "base")

    schema.metadata.create_all(empty.engine)

    assert migrated == catalogue(empty)
    assert migrate.check(empty) == [
        f"core is not there yet, its head is {migrate.core().head}; run `webhooks db upgrade`"
    ]
    migrate.stamp(empty)
    assert migrate.check(empty) == []


def test_everything_can_be_taken_back_and_applied_again(empty: Database) -> None:
    migrate.upgrade(empty)
    before = catalogue(empty)

    migrate.downgrade(empty, "base")
    assert tables(empty) == set()
    assert not migrate.is_current(empty)
    migrate.upgrade(empty)

    assert catalogue(empty) == before


def test_an_upgrade_of_a_database_at_head_changes_nothing(database: Database) -> None:
    assert migrate.upgrade(database) == []


def test_an_upgrade_keeps_what_is_stored(database: Database) -> None:
    with database.write() as connection:
        connection.execute(schema.leases.insert().values(name="a", holder="b", until=schema.EPOCH))

    migrate.upgrade(database)

    with database.read() as connection:
        assert connection.execute(schema.leases.select()).one().holder == "b"


def test_the_core_has_one_head() -> None:
    assert [revision.down for revision in migrate.core().revisions] == [
        (),
        *((revision.id,) for revision in migrate.core().revisions[:-1]),
    ]


def test_every_migration_says_what_it_does() -> None:
    for _, revision in migrate.history([migrate.plugin(f"handlers.{name}") for name in SHIPPED]):
        assert re.fullmatch(r"\d{4}_[a-z0-9_]+\.py", revision.path.name)
        assert revision.message != revision.path.stem


# -- is it current -------------------------------------------------------------------------------------------


def test_an_empty_database_is_not_current(empty: Database) -> None:
    assert not migrate.is_current(empty)


def test_a_migrated_database_is_current(database: Database) -> None:
    assert migrate.is_current(database)


def test_a_database_of_an_older_release_is_not_current(database: Database, line: Line) -> None:
    old = line("garden", 1)
    migrate.upgrade(database, plugins=[old])
    assert migrate.is_current(database, [old])

    new = line("garden", 2)

    assert not migrate.is_current(database, [new])
    assert migrate.check(database, [new]) == ["garden is at revision 0001, its head is 0002; run `webhooks db upgrade`"]


def test_a_database_of_a_newer_release_is_current_so_that_old_processes_go_on(database: Database, line: Line) -> None:
    migrate.upgrade(database, plugins=[line("garden", 3)])

    old = line("garden", 2)

    assert migrate.is_current(database, [old])
    assert migrate.upgrade(database, plugins=[old]) == []
    assert migrate.check(database, [old]) == [
        "garden is at revision 0003, and this code knows them up to 0002: a newer release has upgraded the database; "
        "install it here too"
    ]


def test_a_revision_that_nobody_knows_is_not_current(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("update webhooks_version set version_num = 'a-typo'")

    assert not migrate.is_current(database)
    with pytest.raises(MigrationError, match="core: Can't locate revision identified by 'a-typo'"):
        migrate.upgrade(database)
    restore_the_core(database)


def restore_the_core(database: Database) -> None:
    """Fixtures empty tables between tests, but version tables are left as they are."""
    with database.write() as connection:
        connection.exec_driver_sql(f"update webhooks_version set version_num = '{migrate.core().head}'")


def test_looking_needs_no_alembic(sqlite_url: str) -> None:
    """Alembic takes 0.6 s to import, and `/readyz` is asked every few seconds."""
    program = (
        "import sys; from webhooks.database.migrations import run as migrate; from webhooks.database.connect import connect;"
        f"database = connect({sqlite_url!r});"
        "assert migrate.is_current(database); assert migrate.upgrade(database) == [];"
        "migrate.current(database), migrate.history();"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_a_database_that_is_away_is_not_taken_for_an_empty_one() -> None:
    database = connect("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StorageUnavailable):
        migrate.is_current(database)
    with pytest.raises(StorageUnavailable):
        migrate.upgrade(database)
    database.dispose()


# -- plugins -------------------------------------------------------------------------------------------------


class Line(Protocol):
    def __call__(self, name: str, count: int, body: str = "") -> History: ...


@pytest.fixture
def line(tmp_path: Path) -> Line:
    """Makes a plugin with so many revisions; each adds a table. The same name again: another release of it."""

    def make(name: str, count: int, body: str = "") -> History:
        directory = tmp_path / f"release {count} 100%" / "migrations" / name
        directory.mkdir(parents=True)
        for number in range(1, count + 1):
            write(directory, number, body if number == count else "", name)
        return History(name, directory, f"webhooks_version_{name}", f"{name}_")

    return make


def write(directory: Path, number: int, body: str = "", name: str = "garden") -> Path:
    down = f'"{number - 1:04d}"' if number > 1 else None
    path = directory / f"{number:04d}_beds.py"
    path.write_text(
        f'"""Bed {number}."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
        f'revision = "{number:04d}"\ndown_revision = {down}\n\n\ndef upgrade():\n'
        f'    op.create_table("{name}_{number}", sa.Column("id", sa.Integer(), primary_key=True))\n{body}\n\n'
        f'def downgrade():\n    op.drop_table("{name}_{number}")\n'
    )
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_the_migrations_of_a_shipped_plugin_give_the_tables_of_its_code(database: Database, name: str) -> None:
    plugin = migrate.plugin(f"handlers.{name}")
    __import__(f"handlers.{name}")
    assert plugin.metadata is not None

    migrate.upgrade(database, plugins=[plugin])
    assert migrate.check(database, [plugin]) == []
    with database.write() as connection:
        plugin.metadata.create_all(connection)  # what is there already is left alone

    assert migrate.check(database, [plugin]) == []
    migrate.downgrade(database, "base", plugin=plugin)
    assert [each for each in tables(database) if not each.startswith("webhooks_")] == []
    migrate.upgrade(database, plugins=[plugin])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_plugin_keeps_to_its_own_tables(name: str) -> None:
    plugin = migrate.plugin(f"handlers.{name}")
    __import__(f"handlers.{name}")
    assert plugin.metadata is not None

    assert [table for table in plugin.metadata.tables if not plugin.owns_table(table)] == []


def test_a_plugin_that_is_gone_stands_in_nobodys_way(database: Database, line: Line) -> None:
    garden, pond = line("garden", 1), line("pond", 2)
    migrate.upgrade(database, plugins=[garden, pond])

    assert migrate.is_current(database, [pond])
    assert migrate.check(database, [pond]) == []
    assert migrate.check(database) == []
    assert migrate.upgrade(database, plugins=[pond]) == []
    assert {"garden_1", "pond_1", "pond_2"} <= tables(database)


def test_a_plugin_that_comes_later_is_upgraded_alone(database: Database, line: Line) -> None:
    garden, pond = line("garden", 1), line("pond", 2)
    migrate.upgrade(database, plugins=[garden])

    assert migrate.upgrade(database, plugins=[garden, pond]) == [MigrationChange("pond", None, "0002")]


def test_taking_the_core_back_leaves_plugins_alone(empty: Database, line: Line) -> None:
    garden = line("garden", 1)
    migrate.upgrade(empty, plugins=[garden])

    migrate.downgrade(empty, "base")

    assert tables(empty) == {"garden_1"}
    assert [state.revision for state in migrate.current(empty, [garden])] == [None, "0001"]


def test_a_history_can_go_up_and_down_by_steps(database: Database, line: Line) -> None:
    garden = line("garden", 3)

    assert migrate.upgrade_plugin(database, garden, "0001") == MigrationChange("garden", None, "0001")
    assert migrate.upgrade_plugin(database, garden, "+1") == MigrationChange("garden", "0001", "0002")
    assert migrate.downgrade(database, "0001", plugin=garden) == MigrationChange("garden", "0002", "0001")
    assert migrate.upgrade_plugin(database, garden) == MigrationChange("garden", "0001", "0003")


def test_an_unknown_revision_says_where_to_look(database: Database, line: Line) -> None:
    with pytest.raises(MigrationError, match=r"Can't locate revision.*'0009'; `webhooks db history` lists"):
        migrate.upgrade_plugin(database, line("garden", 1), "0009")


# -- when it goes wrong --------------------------------------------------------------------------------------


def test_a_migration_that_fails_leaves_nothing_of_itself(database: Database, line: Line) -> None:
    """Also on SQLite, where tools commonly leave a table half-way."""
    garden = line("garden", 1)
    migrate.upgrade(database, plugins=[garden])
    write(garden.directory, 2)
    write(garden.directory, 3, '    op.add_column("garden_1", sa.Column("x", sa.Text()))\n    op.execute("nonsense")')
    forget_revisions()
    before = catalogue(database)

    with pytest.raises(MigrationError) as caught:
        migrate.upgrade(database, plugins=[garden])

    assert re.fullmatch(
        r"migration 0003 of garden failed: \w+: .*nonsense.*; nothing of it was kept, "
        r"garden is at revision 0001 as before",
        str(caught.value),
    )
    assert catalogue(database) == before
    assert [state.revision for state in migrate.current(database, [garden])] == [migrate.core().head, "0001"]

    write(garden.directory, 3)
    assert migrate.upgrade(database, plugins=[garden]) == [MigrationChange("garden", "0001", "0003")]


def test_a_migration_that_raises_leaves_nothing_of_itself(database: Database, line: Line) -> None:
    garden = line("garden", 1, '    raise RuntimeError("the author forgot something")')

    with pytest.raises(MigrationError, match=r"migration 0001 of garden failed: RuntimeError: the author forgot.*"):
        migrate.upgrade(database, plugins=[garden])

    assert "garden_1" not in tables(database)
    assert not migrate.is_current(database, [garden])
    assert migrate.is_current(database)


def test_a_column_can_be_altered_on_sqlite_without_losing_what_refers_to_its_table(sqlite_url: str, line: Line) -> None:
    """The table is copied there, and dropping the old one would delete the referring rows."""
    database = connect(sqlite_url)
    body = """
    op.create_table("garden_plants", sa.Column("bed", sa.Integer(),
                    sa.ForeignKey("garden_1.id", ondelete="cascade", name="fk")))
    op.execute("insert into garden_1 (id) values (7)")
    op.execute("insert into garden_plants (bed) values (7)")"""
    garden = line("garden", 1, body)
    migrate.upgrade(database, plugins=[garden])
    write(
        garden.directory,
        2,
        '    with op.batch_alter_table("garden_1", recreate="always") as batch:\n'
        '        batch.add_column(sa.Column("size", sa.Integer()))',
    )
    forget_revisions()

    migrate.upgrade(database, plugins=[garden])

    with database.write() as connection:
        assert connection.exec_driver_sql("select bed from garden_plants").scalars().all() == [7]
        connection.exec_driver_sql("delete from garden_1")
        # foreign keys are in force again, on this very connection
        assert connection.exec_driver_sql("select bed from garden_plants").scalars().all() == []
    database.dispose()


def test_a_migration_that_breaks_references_is_refused_on_sqlite(sqlite_url: str, line: Line) -> None:
    database = connect(sqlite_url)
    body = """
    op.create_table("garden_plants", sa.Column("bed", sa.Integer(), sa.ForeignKey("garden_1.id", name="fk")))
    op.execute("insert into garden_plants (bed) values (8)")"""

    with pytest.raises(MigrationError, match="rows of garden_plants refer to rows of garden_1 that are not there"):
        migrate.upgrade(database, plugins=[line("garden", 1, body)])

    assert "garden_plants" not in tables(database)
    database.dispose()


def test_a_table_in_use_gives_way_to_those_who_wait_and_says_try_again(
    postgresql_url: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "WAIT_FOR_TABLE", timedelta(milliseconds=50))
    database = connect(postgresql_url)
    garden = line("garden", 1)
    migrate.upgrade(database, plugins=[garden])
    write(garden.directory, 2, '    op.add_column("garden_1", sa.Column("size", sa.Integer()))')
    forget_revisions()

    with database.engine.begin() as other:
        other.exec_driver_sql("select * from garden_1")
        with pytest.raises(
            StorageUnavailable, match=r"a table is in use.*nothing was changed; run `webhooks db upgrade`"
        ):
            migrate.upgrade(database, plugins=[garden])

    assert migrate.upgrade(database, plugins=[garden]) == [MigrationChange("garden", "0001", "0002")]
    database.dispose()


def test_an_upgrade_waits_for_another_one_and_gives_up_with_a_reason(
    postgresql_url: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "WAIT_FOR_OTHERS", timedelta(milliseconds=50))
    database = connect(postgresql_url)

    with database.engine.begin() as other:
        other.exec_driver_sql(f"select pg_advisory_xact_lock({migrate.ADVISORY_LOCK})")
        with pytest.raises(StorageUnavailable, match=r"another upgrade of this database has been running for 0\.05 s"):
            migrate.upgrade(database, plugins=[line("garden", 1)])

    database.dispose()


def test_a_web_processs_limit_on_statements_does_not_hold_for_migrations(postgresql_url: str, line: Line) -> None:
    database = connect(postgresql_url, patience=timedelta(milliseconds=300))

    migrate.upgrade(database, plugins=[line("garden", 1, '    op.execute("select pg_sleep(0.4)")')])

    assert "garden_1" in tables(database)
    database.dispose()


# -- at the same time ----------------------------------------------------------------------------------------


def upgrade_once(url: str, barrier: Any, results: Any) -> None:
    import alembic.command  # noqa: F401  # its import takes longer than the upgrade

    database = connect(url)
    barrier.wait(timeout=patience(60))
    results.put([(change.before, change.after) for change in migrate.upgrade(database)])
    database.dispose()


def test_processes_that_upgrade_at_once_do_it_once(empty_database_url: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "alembic.command"])
    barrier, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=upgrade_once, args=(empty_database_url, barrier, results)) for _ in range(3)]
    for process in processes:
        process.start()
    changes = [results.get(timeout=patience(60)) for _ in processes]
    for process in processes:
        process.join(timeout=patience(60))

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(changes) == [[], [], [(None, migrate.core().head)]]
    results.close()
    results.join_thread()


def test_threads_that_upgrade_at_once_do_it_once(empty: Database) -> None:
    """Alembic keeps what it works on in module globals."""
    changes: list[list[MigrationChange]] = []
    threads = [threading.Thread(target=lambda: changes.append(migrate.upgrade(empty))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(len(change) for change in changes) == [0, 0, 0, 1]


# -- finding histories ---------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory of a deployer, who runs commands in it."""
    (tmp_path / "deploy").mkdir()
    monkeypatch.chdir(tmp_path / "deploy")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path / "deploy"
    for name in set(sys.modules) - before:
        if name.startswith("plugins"):
            del sys.modules[name]


def test_a_module_has_its_migrations_beside_it_and_a_package_inside(project: Path) -> None:
    (project / "plugins" / "garden").mkdir(parents=True)
    (project / "plugins" / "garden" / "__init__.py").write_text("raise SystemExit('imported')")
    (project / "plugins" / "garden" / "migrations").mkdir()
    (project / "plugins" / "pond.py").write_text("raise SystemExit('imported')")
    (project / "plugins" / "migrations" / "pond").mkdir(parents=True)
    (project / "plugins" / "plain.py").write_text("")

    found = migrate.find_plugins(["plugins.garden", "plugins.plain", "plugins.pond"])

    assert [(history.name, history.version_table) for history in found] == [
        ("garden", "webhooks_version_garden"),
        ("pond", "webhooks_version_pond"),
    ]
    assert [history.directory for history in found] == [
        project / "plugins" / "garden" / "migrations",
        project / "plugins" / "migrations" / "pond",
    ]


def test_two_plugins_of_one_name_are_refused(project: Path) -> None:
    for package in ("plugins", "plugins_too"):
        (project / package / "migrations" / "garden").mkdir(parents=True)
        (project / package / "garden.py").write_text("")

    with pytest.raises(ConfigurationError) as caught:
        migrate.find_plugins(["plugins.garden", "plugins_too.garden"])

    assert str(caught.value) == (
        "the handler modules 'plugins.garden' and 'plugins_too.garden' both keep their migrations in "
        "webhooks_version_garden; rename one of them"
    )


def test_a_module_that_does_not_exist_is_named(project: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no handler module 'plugins\.nothing'"):
        migrate.find_plugins(["plugins.nothing"])


def test_a_name_too_long_for_a_table_is_refused_before_postgresql_cuts_it(project: Path) -> None:
    with pytest.raises(ConfigurationError, match="shorten it to 46 letters"):
        migrate.find_plugins(["plugins." + "x" * 47])


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"0001_a.py": "x = 1"}, r"0001_a\.py is no migration: it must say revision"),
        ({"0001_a.py": "def"}, r"0001_a\.py:1: invalid syntax"),
        (
            {"0002_a.py": 'revision = "0002"\ndown_revision = "0001"'},
            r"0002_a\.py of garden follows revision '0001', which is not in",
        ),
        (
            {
                "0001_a.py": 'revision = "0001"\ndown_revision = None',
                "0002_b.py": 'revision = "0002"\ndown_revision = "0001"',
                "0002_c.py": 'revision: str = "0003"\ndown_revision: str = "0001"',
            },
            r"garden end in 2 heads \(0002, 0003\); let one follow the other",
        ),
        (
            {
                "0001_a.py": 'revision = "0001"\ndown_revision = "0002"',
                "0002_b.py": 'revision = "0002"\ndown_revision = "0001"',
            },
            "are no single line from first to last",
        ),
    ],
)
def test_a_history_that_cannot_be_followed_is_explained(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    with pytest.raises(MigrationError, match=complaint):
        _ = History("garden", tmp_path, "webhooks_version_garden", "garden_").head


# -- writing the next one ------------------------------------------------------------------------------------

MODULE = """
from sqlalchemy import Column, Index, Integer, MetaData, Table, Text

metadata = MetaData()
beds = Table(
    "garden_beds", metadata, Column("id", Integer, primary_key=True), Column("plant", Text, nullable=False){more}
)
"""


def test_the_next_migration_is_written_from_the_tables_of_the_code(
    project: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "plugins").mkdir()
    module = project / "plugins" / "garden.py"
    module.write_text(MODULE.format(more=""))
    garden = migrate.plugin("plugins.garden")
    monkeypatch.syspath_prepend(str(project))
    importlib.invalidate_caches()
    loaded = importlib.import_module("plugins.garden")

    first = migrate.revision(garden, "Garden beds.", database=database)

    assert first == project / "plugins" / "migrations" / "garden" / "0001_garden_beds.py"
    assert "###" not in first.read_text()
    assert migrate.upgrade(database, plugins=[garden]) == [MigrationChange("garden", None, "0001")]
    assert migrate.check(database, [garden]) == []

    del sys.modules["plugins.garden"]
    module.write_text(MODULE.format(more=', Column("colour", Text), Index("ix_garden_plant", "plant")') + "\n")
    importlib.invalidate_caches()
    loaded = importlib.import_module("plugins.garden")
    assert loaded.beds.c.colour is not None
    assert migrate.check(database, [garden]) == [
        "garden: column garden_beds.colour is missing",
        "garden: index ix_garden_plant is missing",
    ]
    second = migrate.revision(garden, "add colours", database=database)
    assert second.name == "0002_add_colours.py"
    with pytest.raises(MigrationError, match=r"not at the head of garden.*run `webhooks db upgrade` first"):
        migrate.revision(garden, "too early", database=database)
    assert not list(garden.directory.glob("0003*"))
    migrate.upgrade(database, plugins=[garden])
    assert migrate.check(database, [garden]) == []
    migrate.downgrade(database, "base", plugin=garden)


def test_the_next_migration_of_a_plugin_without_tables_is_empty(
    project: Path, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "plugins").mkdir()
    (project / "plugins" / "garden.py").write_text("")
    garden = migrate.plugin("plugins.garden")

    path = migrate.revision(garden, "prepare the ground")

    assert "def upgrade() -> None:\n    pass" in path.read_text()
    assert path.read_text().startswith('"""prepare the ground.\n\nRevision 0001 of this history; follows nothing.')
    assert capsys.readouterr().out == ""  # standard output is the caller's
    assert migrate.upgrade(database, plugins=[garden]) == [MigrationChange("garden", None, "0001")]


def test_a_migration_without_a_name_is_refused(line: Line) -> None:
    with pytest.raises(ConfigurationError, match="a migration is named for its effect"):
        migrate.revision(line("garden", 1), "  ")


# -- drift ---------------------------------------------------------------------------------------------------


def test_a_table_that_was_changed_by_hand_is_found(empty: Database) -> None:
    migrate.upgrade(empty)
    with empty.write() as connection:
        connection.exec_driver_sql("drop index ix_webhooks_events_received_at")
        connection.exec_driver_sql("alter table webhooks_events add column mine integer")
        connection.exec_driver_sql("drop table webhooks_leases")

    assert sorted(migrate.check(empty)) == [
        "core: column webhooks_events.mine is there, and not in the code",
        "core: index ix_webhooks_events_received_at is missing",
        "core: table webhooks_leases is missing",
    ]


def test_the_tables_of_others_are_nobodys_business(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("create table customers (id integer primary key)")

    assert migrate.check(database) == []


# -- whose a table is ----------------------------------------------------------------------------------------


@pytest.fixture
def plugins(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of handler modules that can be imported, and are forgotten afterwards."""
    folder = project / "plugins"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(project))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugins"]:
        del sys.modules[name]


def load(folder: Path, name: str, tables: str) -> History:
    """Write a handler module with these tables, and load it."""
    (folder / f"{name}.py").write_text(f"from sqlalchemy import *\n\nmetadata = MetaData()\n{tables}\n")
    importlib.invalidate_caches()
    sys.modules.pop(f"plugins.{name}", None)
    importlib.import_module(f"plugins.{name}")
    return migrate.plugin(f"plugins.{name}")


BEDS = 'Table("garden_beds", metadata, Column("id", Integer, primary_key=True){more})'
SPADES = 'Table("garden_tools_spades", metadata, Column("id", Integer, primary_key=True))'


def test_a_revision_never_drops_what_its_own_history_did_not_make(database: Database, plugins: Path) -> None:
    garden, tools = load(plugins, "garden", BEDS.format(more="")), load(plugins, "garden_tools", SPADES)
    migrate.revision(garden, "beds", database=database)
    migrate.revision(tools, "spades", database=database)
    migrate.upgrade(database, plugins=[garden, tools])
    with database.write() as connection:
        connection.exec_driver_sql("create table garden_orders (id integer primary key)")
        connection.exec_driver_sql("create index ix_by_hand on garden_beds (id)")
        connection.exec_driver_sql("alter table garden_beds add column by_hand integer")
    garden = load(plugins, "garden", BEDS.format(more=', Column("soil", Text)'))

    problems = migrate.check(database, [garden, tools])
    written = migrate.revision(garden, "soil", database=database).read_text("utf-8")

    assert not [problem for problem in problems if "orders" in problem or "spades" in problem]
    assert "soil" in written
    upward = written.partition("def downgrade")[0]
    assert "drop" not in upward
    assert "orders" not in written
    assert "spades" not in written
    migrate.upgrade(database, plugins=[garden, tools])
    with database.read() as connection:
        assert connection.exec_driver_sql("select count(*) from garden_orders").scalar() == 0


def test_a_revision_drops_what_its_own_history_made_and_the_code_has_no_more(database: Database, plugins: Path) -> None:
    both = BEDS.format(more=', Column("soil", Text, index=True)') + "\n" + BEDS.replace("beds", "pots").format(more="")
    garden = load(plugins, "garden", both)
    migrate.revision(garden, "beds and pots", database=database)
    migrate.upgrade(database, plugins=[garden])
    garden = load(plugins, "garden", BEDS.format(more=""))

    upward = migrate.revision(garden, "less", database=database).read_text("utf-8").partition("def downgrade")[0]

    assert "drop_table('garden_pots')" in upward.replace('"', "'")
    assert "drop_column('soil')" in upward.replace('"', "'") or "drop_column('garden_beds', 'soil')" in upward.replace(
        '"', "'"
    )
    migrate.upgrade(database, plugins=[garden])
    assert migrate.check(database, [garden]) == []
    migrate.downgrade(database, "base", plugin=garden)


def test_a_neighbours_table_that_the_code_reads_is_left_as_it_is(database: Database, plugins: Path) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("create table users (id integer primary key, name text, secret text)")
    garden = load(
        plugins,
        "garden",
        BEDS.format(more="") + '\nTable("users", metadata, Column("id", Integer), Column("name", Text))',
    )

    written = migrate.revision(garden, "beds", database=database).read_text("utf-8")
    migrate.upgrade(database, plugins=[garden])

    assert "users" not in written
    assert migrate.check(database, [garden]) == []


def test_a_table_without_a_migration_is_named_with_the_command(database: Database, plugins: Path) -> None:
    garden = load(plugins, "garden", BEDS.format(more=""))
    named = (
        "garden: table garden_beds of plugins.garden without a migration; "
        "run `webhooks db revision garden -m 'add garden_beds'`"
    )
    assert migrate.check(database, [garden]) == [named]

    migrate.revision(garden, "add garden_beds", database=database)
    assert migrate.unmigrated(database, [garden]) == []
    migrate.upgrade(database, plugins=[garden])
    assert migrate.check(database, [garden]) == []

    garden = load(plugins, "garden", BEDS.format(more="") + "\n" + BEDS.replace("beds", "pots").format(more=""))
    assert migrate.check(database, [garden]) == [named.replace("beds", "pots")]


def test_models_without_a_migration_are_named_too(database: Database, plugins: Path) -> None:
    models = (
        "from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column\ndel metadata\n"
        "class Base(DeclarativeBase):\n    pass\n"
        "class Bed(Base):\n    __tablename__ = 'garden_beds'\n    id: Mapped[int] = mapped_column(primary_key=True)\n"
    )
    garden = load(plugins, "garden", models)
    assert [each.tables for each in migrate.unmigrated(database, [garden])] == [("garden_beds",)]
    migrate.revision(garden, "beds", database=database)
    migrate.upgrade(database, plugins=[garden])
    assert migrate.check(database, [garden]) == []


def test_looking_makes_no_file(tmp_path: Path, line: Line) -> None:
    database = connect(f"sqlite:///{tmp_path / 'new.db'}")
    try:
        assert not migrate.is_current(database)
        for look in (
            lambda: migrate.current(database),
            lambda: migrate.check(database),
            lambda: migrate.stamp(database),
        ):
            with pytest.raises(StorageUnavailable, match=r"there is no file '.*new\.db'; run: webhooks db upgrade"):
                look()
        assert not list(tmp_path.glob("new*"))
        migrate.upgrade(database)
        assert (tmp_path / "new.db").exists()
    finally:
        database.dispose()


@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_every_table_is_in_the_schema_that_was_named(empty_database_url: str) -> None:
    """By the setting or by the URL; it is made where it is missing."""
    for url, name in ((empty_database_url, "hooks"), (f"{empty_database_url}&options=-csearch_path%3Dother", None)):
        database = connect(url, schema=name)
        try:
            assert migrate.upgrade(database)
            assert migrate.is_current(database)
            assert migrate.check(database) == []
            with database.read() as connection:
                found = connection.exec_driver_sql(
                    "select distinct schemaname from pg_tables where tablename like 'webhooks%%'"
                ).scalars()
                assert set(found) <= {"hooks", "other"}
        finally:
            database.dispose()
