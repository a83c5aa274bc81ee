"""Whose directory a process uses, and what gunicorn's master imports for it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import ROOT
from webhooks.http.gunicorn import settings
from webhooks.http.metrics import begin_group, master
from webhooks.http.metrics.directory import OURS, group, is_ours

LOG = logging.getLogger("test")
CFG = SimpleNamespace(uid=os.geteuid(), gid=os.getegid())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("atexit.register", lambda act: None)
    for name in (master.VARIABLE, OURS):
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back


def test_a_worker_makes_a_directory_for_itself_and_its_children(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "prometheus_client")
    begin_group()
    made = group()
    assert made is not None
    assert is_ours(made)
    assert made.parent == tmp_path
    monkeypatch.setenv(OURS, f"1:{made}")  # as a child finds it
    begin_group()
    assert group() == made


def test_a_worker_that_was_executed_anew_keeps_its_directory_and_holds_it_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left = tmp_path / "webhooks-metrics-x"
    left.mkdir()
    monkeypatch.setenv(master.VARIABLE, str(left))
    monkeypatch.setenv(OURS, f"{os.getpid()}:{left}")
    begin_group()
    assert group() == left
    with pytest.raises(BlockingIOError):
        master.hold(left / master.IN_USE)
    master.remove_left(tmp_path)
    assert left.exists()


@pytest.mark.parametrize("embedded", ["", "1"])
def test_the_operators_directory_is_used_as_it_is_but_not_by_a_worker_beside_a_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, embedded: str
) -> None:
    monkeypatch.delitem(sys.modules, "prometheus_client")
    monkeypatch.setenv(master.VARIABLE, str(tmp_path / "theirs"))
    monkeypatch.setenv("WEBHOOKS_EMBEDDED", embedded)
    begin_group()
    assert (group() == tmp_path / "theirs") is not bool(embedded)


def test_where_the_library_was_imported_before_a_line_says_what_is_not_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import prometheus_client  # noqa: F401

    begin_group()
    assert group() is None
    assert "prometheus_client was imported too early" in caplog.text


def test_the_master_leaves_the_operators_directory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(master.VARIABLE, "/theirs")
    server: Any = SimpleNamespace(log=LOG, cfg=CFG)
    master.begin(server)
    master.fold(server)
    master.end(server)
    assert vars(server) == {"log": LOG, "cfg": CFG}


def test_a_master_without_a_place_says_so_and_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(master, "SHARED_MEMORY", Path("/proc/none"))
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    server: Any = SimpleNamespace(log=LOG, cfg=CFG)
    master.begin(server)
    assert "There will be no metrics" in caplog.text
    assert group() is None


def test_the_master_imports_nothing_but_the_standard_library() -> None:
    code = "import sys\nimport webhooks.http.metrics.master\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded - set(sys.stdlib_module_names) - {"_virtualenv", "sitecustomize"} <= {"webhooks", "__main__"} | {
        name for name in loaded if name.startswith(("__editable__", "_distutils", "distutils"))
    }


@pytest.mark.parametrize(
    ("environ", "toml", "says"),
    [
        ({}, "", False),
        ({"WEBHOOKS_METRICS": "true"}, "", True),
        ({"webhooks_metrics": "1"}, "", True),
        ({}, "metrics = true\n", True),
        ({}, "METRICS = true\n", True),
        ({"WEBHOOKS_METRICS": "false"}, "metrics = true\n", False),
        ({}, "metrics = \n", False),
    ],
)
def test_the_master_knows_from_the_settings(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], toml: str, says: bool
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    if toml:
        Path("webhooks.toml").write_text(toml)
    assert settings.is_true(settings._read_setting("METRICS", "false")) is says
