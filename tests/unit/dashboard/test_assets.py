"""What browsers are given: as it came from its makers, with its licence, small, and from nowhere else."""

from __future__ import annotations

import hashlib
import re
import sys
from importlib import resources
from pathlib import Path

import pytest

from webhooks.dashboard.assets import every_asset

#: sha256 of dist/htmx.min.js in the npm package htmx.org 4.0.1, and of axe.min.js in axe-core 4.14.1, each taken from that
#: package on 2026-11-29.
HTMX = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"
AXE = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
#: Bytes of each script of ours.
LARGEST = 8_000


def test_vendored_files_are_their_makers() -> None:
    vendored = [name for name in every_asset() if name.startswith("vendor/") and not name.endswith("LICENSES")]
    assert vendored == ["vendor/htmx-4.0.1.min.js"], "another file needs its digest here, and its licence beside it"
    assert hashlib.sha256(every_asset()[vendored[0]].body).hexdigest() == HTMX
    assert "htmx 4.0.1" in every_asset()["vendor/LICENSES"].body.decode()


def test_the_checker_of_accessibility_is_its_makers() -> None:
    file = Path(sys.prefix) / "axe-4.14.1.js"
    if not file.exists():
        pytest.skip("axe-core is missing; `make test-browser` fetches it by npm")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == AXE


def test_every_file_of_the_package_is_served() -> None:
    root = resources.files("webhooks.dashboard") / "static"
    files = {child.name for child in root.iterdir() if child.is_file()}
    files |= {f"vendor/{child.name}" for child in (root / "vendor").iterdir()}
    assert files == set(every_asset())


def test_scripts_of_ours_are_small() -> None:
    sizes = {name: len(asset.body) for name, asset in every_asset().items() if re.fullmatch(r"\w+\.js", name)}
    assert sizes
    assert {name: size for name, size in sizes.items() if size > LARGEST} == {}


def test_no_page_and_no_script_names_another_host() -> None:
    root = resources.files("webhooks.dashboard")
    ours = [child for child in (root / "templates").iterdir() if child.name.endswith(".html")]
    ours += [root / "static" / name for name in every_asset() if not name.startswith("vendor/")]
    named = {
        (file.name, address)
        for file in ours
        for address in re.findall(
            r"(?:src|href|action|url)\s*[=(]\s*[\"']?(?:https?:)?//[^\"' )]+", file.read_text("utf-8")
        )
    }
    assert named == set()
