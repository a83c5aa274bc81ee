"""Units, compose file, image and manifests: commands that exist, one user, times above ours, and the same for `init --deploy`."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner

from tests.support import ROOT
from webhooks.cli import group
from webhooks.cli.init import DEPLOY, starter_files
from webhooks.http.gunicorn.settings import graceful_timeout
from webhooks.settings import Settings

FILES = ROOT / "deploy"
UID = 10001
GRACE = Settings().grace.total_seconds()
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((FILES / "kubernetes" / "webhooks.yaml").read_text("utf-8")))
COMPOSE: dict[str, Any] = yaml.safe_load((FILES / "compose.yaml").read_text("utf-8"))


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in MANIFESTS:
        if "template" in manifest["spec"]:
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


def require_command(words: list[str]) -> None:
    command: Any = group
    assert words[0] == "webhooks", words
    for word in words[1:]:
        if word.startswith("--"):
            assert word in {option for parameter in command.params for option in parameter.opts}, words
        else:
            command = command.get_command(None, word)
            assert command is not None, words


def test_what_init_writes_is_what_stands_in_the_repository() -> None:
    for name, path in starter_files(DEPLOY).items():
        if name.startswith("deploy/") and name != "deploy/Dockerfile":
            assert path.read_bytes() == (ROOT / name).read_bytes(), name


def test_every_command_exists() -> None:
    for unit in FILES.glob("*.service"):
        [line] = re.findall(r"^ExecStart=\S+/(webhooks .*)$", unit.read_text("utf-8"), re.MULTILINE)
        require_command(line.split())
    for service in COMPOSE["services"].values():
        if "command" in service:
            require_command(service["command"])
    for _, pod in pods():
        [container] = pod["containers"]
        require_command(container["command"])
        if "exec" in container.get("livenessProbe", {}):
            require_command(container["livenessProbe"]["exec"]["command"])


def test_processes_have_the_time_that_they_take_to_stop() -> None:
    units = {path.stem: path.read_text("utf-8") for path in FILES.glob("*.service")}
    for name, least in {"webhooks-web": graceful_timeout, "webhooks-worker": GRACE}.items():
        assert int(re.findall(r"^TimeoutStopSec=(\d+)$", units[name], re.MULTILINE)[0]) > least
    for name, least in {"web": graceful_timeout, "worker": GRACE}.items():
        assert int(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s")) > least
    graces = {name: pod["terminationGracePeriodSeconds"] for name, pod in pods() if name != "webhooks-schema"}
    assert graces["webhooks-web"] > graceful_timeout + 5, "preStop waits 5 s"
    assert graces["webhooks-worker"] > GRACE


def test_one_user_without_rights_and_a_root_that_is_read_only() -> None:
    for dockerfile in (FILES / "Dockerfile", DEPLOY / "deploy" / "Dockerfile"):
        text = dockerfile.read_text("utf-8")
        assert f"USER {UID}:{UID}" in text
        assert "HEALTHCHECK" in text
    for name, pod in pods():
        assert pod["enableServiceLinks"] is False, name
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (UID, True), name
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
    for name in ("schema", "web", "worker"):
        assert COMPOSE["services"][name]["read_only"] is True


@pytest.mark.parametrize("ignore", [ROOT / ".dockerignore", DEPLOY / "dot-dockerignore"], ids=["ours", "init"])
def test_an_image_gets_what_is_named_and_nothing_else(ignore: Path) -> None:
    lines = [line for line in ignore.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "**"
    assert not [line for line in lines if "secret" in line or "deploy" in line or ".env" in line]
    dockerfile = (ignore.parent / "deploy" / "Dockerfile").read_text("utf-8")
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        word.strip("./")
        for words in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
        for word in words.split()
    }
    assert copied - {""} <= let_in


def test_deployment_is_written_into_a_new_project_and_into_one_that_is_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(group, ["init", "--deploy", "new"])
    assert result.exit_code == 0, result.output
    written = set(starter_files()) | set(starter_files(DEPLOY))
    assert set(result.stdout.split()) == written
    assert all((tmp_path / "new" / name).is_file() for name in written)

    assert CliRunner().invoke(group, ["init", "there"]).exit_code == 0
    result = CliRunner().invoke(group, ["init", "--deploy", "there"])
    assert set(result.stdout.split()) == set(starter_files(DEPLOY))
    again = CliRunner().invoke(group, ["init", "--deploy", "there"])
    assert again.exit_code == 1
    assert "would be written over; nothing was written" in again.stderr


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    (tmp_path / "webhooks").write_text("#!/bin/sh\n")
    (tmp_path / "webhooks").chmod(0o755)
    for path in (*FILES.glob("*.service"), *FILES.glob("*.socket")):
        text = re.sub(r"/srv/webhooks/\.venv/bin/", f"{tmp_path}/", path.read_text("utf-8")).replace(
            "User=webhooks\n", ""
        )
        (tmp_path / path.name).write_text(text)
    units = sorted(str(path) for path in tmp_path.glob("webhooks-*"))
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "webhooks" in line], done.stderr


@pytest.mark.release
def test_kubernetes_takes_the_manifests() -> None:
    kubernetes_validate: Any = pytest.importorskip("kubernetes_validate", reason="it is part of the extra dev")
    for manifest in MANIFESTS:
        # raises for what the schema of Kubernetes does not know
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**MANIFESTS[0], "speck": {}}, kubernetes_validate.latest_version(), strict=True)
