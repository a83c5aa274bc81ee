"""What pytest loads in every run: one small module."""

from __future__ import annotations

import subprocess
import sys

from tests.support import ROOT


def test_the_plugin_imports_nothing_but_pytest() -> None:
    code = (
        "import pytest, sys\nbefore = set(sys.modules)\nimport webhooks.testing.plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == [
        "webhooks", "webhooks.lazy", "webhooks.testing", "webhooks.testing.plugin", "webhooks.version",
    ]  # fmt: skip


def test_pytest_finds_it_where_the_package_is_installed() -> None:
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "webhooks = webhooks.testing.plugin" in setup["options.entry_points"]["pytest11"]
