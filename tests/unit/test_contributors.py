"""What contributors are told agrees with what is run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT, each
from webhooks.model import AttemptOutcome, DeliveryState, Disposition
from webhooks.routing import HandlerOptions


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_the_forge_runs_what_anybody_can_run() -> None:
    steps = re.findall(r"^ +- run: (.+)$", read(".github/workflows/ci.yml"), re.MULTILINE)
    assert steps == [".ci/run"]


def test_the_hooks_run_what_make_runs() -> None:
    """So that what a commit is refused for is what CI refuses."""
    recipes = re.findall(r"^\t\$\(BIN\)/((?:ruff|mypy).*)$", read("Makefile"), re.MULTILINE)
    entries = re.findall(r"^ +entry: \.venv/bin/(.+)$", read(".pre-commit-config.yaml"), re.MULTILINE)
    assert sorted(entry.replace(" --force-exclude", "") for entry in entries) == sorted(recipes)


def test_commands_that_contributors_are_told_exist() -> None:
    (block,) = re.findall(
        r"^## Five commands\n\n```console\n(.+?)```", read("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL
    )
    told = [line.partition("#")[0].split() for line in block.splitlines()]
    assert len(told) == 5
    targets = {
        word for _, command, *words in told if command == "make" for word in words if re.fullmatch(r"[a-z]+", word)
    }
    assert targets == {"test", "lint", "types"}
    assert all(re.search(rf"^{target}:", read("Makefile"), re.MULTILINE) for target in targets)
    assert (ROOT / ".ci" / "run").exists()


@pytest.mark.parametrize("name", [".github/ISSUE_TEMPLATE/bug.yml", ".github/pull_request_template.md"])
def test_who_reports_a_fault_is_asked_for_the_doctor(name: str) -> None:
    assert "webhooks doctor --json" in read(name)


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", ".github/ISSUE_TEMPLATE/bug.yml"])
def test_a_hole_is_reported_in_private_and_to_no_invented_address(name: str) -> None:
    assert "SECURITY.md" in read(name) or name == "SECURITY.md"
    assert re.findall(r"[\w.+-]+@[\w-]+\.\w+", read(name)) == []


def test_the_glossary_has_every_state_outcome_and_receipt() -> None:
    page = read("docs/glossary.md")
    words = [state.label for state in DeliveryState] + [str(one) for one in AttemptOutcome]
    words += sorted({str(one.answer) for one in Disposition})
    assert [word for word in words if not re.search(rf"\b{word}\b", page)] == []


def test_the_glossary_says_each_word_once() -> None:
    told = re.findall(r"^\| (.+?) \|", read("docs/glossary.md"), re.MULTILINE)
    words = [word for cell in told if cell not in ("word", "---") for word in cell.split(", ")]
    # a claim and what ends it stand in one row, and a replay's revision is another than a copy's
    assert sorted({word for word in words if words.count(word) > 1}) == ["revision"]


@each("option", HandlerOptions.__annotations__)
def test_every_option_of_a_handler_is_described(option: str) -> None:
    assert re.search(rf"`{option}(=[^`]*)?`", read("docs/handlers.md")) or f"{option}=" in read("docs/handlers.md")


def test_the_nightly_finds_pythons_that_only_pyenv_has(tmp_path: Path) -> None:
    """One on the PATH wins; a shim without a Python behind it does not."""
    function = re.search(r"^pythons\(\) \{.*?^\}", read(".ci/nightly"), re.MULTILINE | re.DOTALL)
    assert function is not None
    shims, versions = tmp_path / "shims", tmp_path / "pyenv" / "versions"
    made = {
        shims / "python3.11": 0,
        shims / "python3.12": 1,
        versions / "3.12.1/bin/python3.12": 0,
        versions / "3.11.7/bin/python3.11": 0,
    }
    for path, code in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\nexit {code}\n")
        path.chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", "-c", f"{function[0]}\npythons"],
        env={"PATH": str(shims), "PYENV_ROOT": str(tmp_path / "pyenv")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [
        "python3.11", str(shims / "python3.11"), "python3.12", str(versions / "3.12.1/bin/python3.12"),
    ]  # fmt: skip
