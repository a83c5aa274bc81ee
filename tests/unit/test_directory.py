"""Which directory was read, and which project is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from webhooks.errors import ConfigurationError
from webhooks.settings import load_settings, project_near, require_sources, where_read


def project(at: Path) -> Path:
    (at / "handlers").mkdir(parents=True)
    (at / "handlers" / "a.py").touch()
    return at


def test_the_project_above_or_the_only_one_below_is_named(tmp_path: Path) -> None:
    shop = project(tmp_path / "shop")
    assert project_near(shop / "handlers") == shop
    assert project_near(tmp_path) == shop
    assert f"there is a project above: cd {shop}" in where_read(shop / "handlers")
    assert f"there is a project below: cd {shop}" in where_read(tmp_path)
    assert where_read(shop) == f"read was {shop}, which has no webhooks.toml"
    project(tmp_path / "other")
    assert project_near(tmp_path) is None  # which of the two?


def test_an_installation_without_a_source_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "webhooks.toml").touch()
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    with pytest.raises(ConfigurationError) as caught:
        require_sources(load_settings({}))
    assert (
        f"(read was {tmp_path / 'deep'}, which has no webhooks.toml; there is a project above: cd {tmp_path})"
        in str(caught.value)
    )
