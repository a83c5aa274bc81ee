"""An application's own Alembic proposes nothing of ours, and everything of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forkserver import ForkServer
from tests.support import ROOT
from webhooks.contrib.alembic import not_ours, ours
from webhooks.database.connect import connect

APP = """
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from webhooks import Webhooks
from webhooks.contrib.alembic import not_ours

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = {uri!r}
app.config["WEBHOOKS_DATABASE_URL"] = {url!r}
app.config["WEBHOOKS_SOURCES"] = {{"close": {{"secret": "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"}}}}
db = SQLAlchemy(app)
Webhooks(app)
Migrate(app, db, include_name=not_ours)


class Order(db.Model):
    __tablename__ = "garden_orders"  # beside garden_beds, which is a plugin's
    id = db.Column(db.Integer, primary_key=True)


class Hook(db.Model):
    __tablename__ = "webhooks_orders"
    id = db.Column(db.Integer, primary_key=True)
"""

GARDEN = """
from sqlalchemy import Column, Index, Integer, MetaData, Table

metadata = MetaData()
Table("garden_beds", metadata, Column("id", Integer, primary_key=True), Column("n", Integer), Index("ix_garden_n", "n"))
"""


@pytest.fixture
def flask(tmp_path: Path, fork_server: ForkServer) -> Callable[..., str]:
    """Run a command of the application `theirs`; what it wrote."""

    def run(*arguments: str) -> str:
        argv = [sys.executable, "-m", "flask", "--app", "theirs", *arguments]
        done = fork_server.run(argv, cwd=tmp_path, env={"PATH": "", "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode()

    return run


@pytest.mark.one_database
def test_flask_db_migrate_proposes_nothing_of_ours(
    tmp_path: Path, empty_database_url: str, flask: Callable[..., str]
) -> None:
    uri = empty_database_url.replace("postgresql://", "postgresql+psycopg://")
    (tmp_path / "theirs.py").write_text(APP.format(uri=uri, url=empty_database_url))
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "garden.py").write_text(GARDEN)
    flask("webhooks", "db", "upgrade")
    flask("webhooks", "db", "revision", "garden", "-m", "beds")
    flask("webhooks", "db", "upgrade")
    if not empty_database_url.startswith("sqlite"):
        flask("webhooks", "db", "partition")
    database = connect(empty_database_url)
    with database.write() as connection:
        connection.exec_driver_sql("create table garden_old (id integer primary key)")
    database.dispose()

    flask("db", "init")
    flask("db", "migrate", "-m", "first")
    (written,) = (tmp_path / "migrations" / "versions").glob("*.py")
    upward = written.read_text().partition("def downgrade")[0]

    assert "create_table('garden_orders'" in upward
    assert "create_table('webhooks_orders'" in upward
    assert upward.count("drop_table") == 1, upward
    assert "drop_table('garden_old')" in upward, "that is the application's own affair"
    assert "garden_beds" not in upward
    assert "ix_garden_n" not in upward
    flask("db", "upgrade")
    flask("webhooks", "db", "check")
    flask("db", "check")


@pytest.mark.parametrize(
    ("name", "kind", "parents"),
    [
        ("webhooks_events", "table", {"schema_name": None}),
        ("webhooks_events_2026_48", "table", {"schema_name": None}),
        ("webhooks_version", "table", {}),
        ("webhooks_version_of_a_plugin_that_is_gone", "table", {}),
        ("ix_webhooks_events_type", "index", {"table_name": "webhooks_events"}),
        ("id", "column", {"table_name": "webhooks_deliveries"}),
    ],
)
def test_ours_is_told_by_the_table(name: str, kind: str, parents: dict[str, str]) -> None:
    assert ours(name, kind, parents)
    assert not not_ours(name, kind, parents)


@pytest.mark.parametrize(
    ("name", "kind", "parents"),
    [
        ("customers", "table", {}),
        ("webhooks_orders", "table", {}),
        (None, "schema", {}),
        ("ix_webhooks_events_type", "index", {"table_name": "customers"}),
    ],
)
def test_what_is_not_ours_is_left_to_the_application(name: str | None, kind: str, parents: dict[str, str]) -> None:
    assert not ours(name, kind, parents)


def test_without_an_application_the_plugins_of_the_directory_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhooks.database.migrations.histories.known_plugins", {})
    versions = tmp_path / "handlers" / "migrations" / "garden"
    versions.mkdir(parents=True)
    (tmp_path / "handlers" / "garden.py").write_text("")
    (versions / "0001_beds.py").write_text(
        '"""Beds."""\nfrom alembic import op\nrevision = "0001"\ndown_revision = None\n\n\n'
        'def upgrade():\n    op.execute("create table garden_beds (id integer)")\n'
    )
    assert ours("garden_beds", "table", {})
    assert not ours("garden_orders", "table", {})
