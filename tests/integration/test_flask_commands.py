"""`flask webhooks …` reads the application's own configuration, whatever the command, and makes no other database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from flask import Flask
from flask.cli import ScriptInfo

from webhooks.app import APPLICATION, Webhooks
from webhooks.cli import process_group
from webhooks.cli.context import read_settings
from webhooks.routing import Registry

pytestmark = pytest.mark.one_database

KEY = "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"

Flasks = Callable[[str], Flask]


@pytest.fixture
def theirs() -> Iterator[Flasks]:
    """Makes an application whose URL, sources and prefix stand in `app.config` alone."""
    made: list[Webhooks] = []

    def make(url: str) -> Flask:
        app = Flask("theirs")
        app.config["WEBHOOKS_DATABASE_URL"] = url
        app.config["WEBHOOKS_SOURCES"] = {"crm": {"scheme": "close", "secret": KEY}}
        app.config["WEBHOOKS_URL_PREFIX"] = "/hooks"
        made.append(Webhooks(app, registry=Registry()))
        return app

    yield make
    for each in made:
        each.close()


def run(app: Flask, *words: str) -> Result:
    return app.test_cli_runner().invoke(args=["webhooks", *words])


LOOKING = [
    "events list",
    "events show 1",
    "deliveries list",
    "handlers",
    "sources",
    "explain x",
    "quarantine list",
    "stats",
    "doctor",
    "db current",
    "db history",
    "db check",
    "db partition --status",
    "replay --all --dry-run",
    "requeue --all --dry-run",
    "prune --dry-run",
    "catch-up crm --since 1h --dry-run",
    "subscriptions list",
]
CHANGING = [
    "handlers pause x",
    "deliveries cancel 1",
    "replay --all --yes",
    "requeue --all",
    "prune",
    "db stamp",
    "db downgrade base --yes",
]


@pytest.mark.parametrize("command", [*LOOKING, *CHANGING])
def test_no_command_but_an_upgrade_makes_a_file(tmp_path: Path, theirs: Flasks, command: str) -> None:
    result = run(theirs(f"sqlite:///{tmp_path / 'theirs.db'}"), *command.split())

    assert sorted(path.name for path in tmp_path.iterdir() if "db" in path.name) == []
    if result.exit_code == 0:
        return  # it has something to show, or to do, without
    assert result.exit_code in (1, 2), result.output
    assert not isinstance(result.exception, (AttributeError, KeyError, TypeError)), result.output
    if "there is no file" in result.output:
        assert "run: flask webhooks db upgrade" in result.output


@pytest.mark.parametrize("command", ["events list", "db current", "db check", "stats", "deliveries list"])
def test_a_missing_file_is_one_sentence_with_the_command(tmp_path: Path, theirs: Flasks, command: str) -> None:
    result = run(theirs(f"sqlite:///{tmp_path / 'theirs.db'}"), *command.split())
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith(
        f"there is no file '{tmp_path / 'theirs.db'}'; run: flask webhooks db upgrade"
    )


def test_an_upgrade_is_of_the_applications_database(tmp_path: Path, empty_database_url: str, theirs: Flasks) -> None:
    app = theirs(empty_database_url)

    result = run(app, "db", "upgrade")

    assert result.exit_code == 0, result.output
    assert app.extensions["webhooks"].check()[0] == ()
    assert not (tmp_path / "webhooks.db").exists() or "webhooks.db" in empty_database_url
    for command in ("db current", "db check", "events list", "stats", "handlers", "deliveries list"):
        assert (found := run(app, *command.split())).exit_code == 0, found.output
    assert "/hooks/crm" in run(app, "sources").output
    assert "flask webhooks" in run(app, "doctor").output
    app.extensions["webhooks"].close()


def test_the_config_of_the_application_is_above_the_environment(
    tmp_path: Path, theirs: Flasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'other.db'}")
    monkeypatch.setenv("WEBHOOKS_URL_PREFIX", "/other")
    app = theirs(f"sqlite:///{tmp_path / 'theirs.db'}")
    with click.Context(click.Command("x"), obj=ScriptInfo(create_app=lambda: app)):
        settings = read_settings(with_demo=True)
    assert (settings.url_prefix, sorted(settings.sources)) == ("/hooks", ["crm"])
    assert run(app, "db", "upgrade").exit_code == 0
    assert (tmp_path / "theirs.db").exists()
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize("named", ["theirs:app", None])
def test_children_load_the_application_that_was_named(named: str | None) -> None:
    with click.Context(click.Command("x"), obj=ScriptInfo(app_import_path=named)):
        assert process_group.gunicorn_command(Path())[-1] == "webhooks.app:application()"
        assert process_group.worker_command()[1:] == [
            "-m",
            "flask",
            *(["--app", named] if named else []),
            "webhooks",
            "worker",
        ]
        assert process_group.flask_environment() == {APPLICATION: named or ""}


def test_without_a_name_for_it_no_child_is_started_for_another_application() -> None:
    made: Any = Flask("theirs")
    with (
        click.Context(click.Command("x"), obj=ScriptInfo(create_app=lambda: made)),
        pytest.raises(click.ClickException, match="flask --app MODULE webhooks"),
    ):
        process_group.gunicorn_command(Path())


def test_looking_at_the_service_through_flask_prepares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webhooks.app import create_app

    monkeypatch.setenv("WEBHOOKS_SOURCES__close__SECRET", KEY)
    with click.Context(click.Command("db"), obj=ScriptInfo(app_import_path="wsgi:app"), info_name="flask"):
        create_app()
    assert "webhooks.db" not in os.listdir(tmp_path)
    create_app().extensions["webhooks"].close()
    assert "webhooks.db" in os.listdir(tmp_path)


def test_a_table_without_a_migration_is_named_at_start_by_check_and_by_doctor(
    tmp_path: Path, theirs: Flasks, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "garden_of_a_test.py").write_text(
        "from sqlalchemy import Column, Integer, MetaData, Table\n\nmetadata = MetaData()\n"
        'Table("garden_of_a_test_beds", metadata, Column("id", Integer, primary_key=True))\n'
    )
    command = "webhooks db revision garden_of_a_test -m 'add garden_of_a_test_beds'"

    app = theirs(database_url)

    assert f"run `flask {command}`" in caplog.text
    assert f"run `flask {command}`" in run(app, "db", "check").output
    assert f"-> flask {command}" in run(app, "doctor").output
