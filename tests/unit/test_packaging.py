"""What is installed from the wheel is what stands in the checkout, no more and no less.

Setuptools leaves out, without a word, packages and data files that setup.cfg does not name.
"""

from __future__ import annotations

import configparser
import email.message
import email.parser
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT
from webhooks.version import DISTRIBUTION, install

#: Top-level files that the build reads.
BUILD_FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")

#: Directories that travel, and where to.
TRAVELS = {"webhooks": "webhooks", "migrations": "webhooks/migrations"}


def files(directory: Path) -> list[Path]:
    """What a clean clone has in it: not what Python and the tools leave there."""
    return [path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def read_setup() -> configparser.RawConfigParser:
    setup = configparser.RawConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the source distribution (so that this is complete too) of a copy, without the network."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILD_FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
    for name in TRAVELS:
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", source],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.parser.BytesParser().parsebytes(wheel.read(name))


def test_every_package_is_named_in_setup_cfg() -> None:
    found = {
        ".".join([TRAVELS[name].replace("/", "."), *path.relative_to(ROOT / name).parent.parts])
        for name in TRAVELS
        for path in files(ROOT / name)
        if path.suffix == ".py" and "starter" not in path.parts
    }
    named = set(read_setup()["options"]["packages"].split())
    assert sorted(found - named) == [], "add these to [options] packages in setup.cfg"
    assert sorted(named - found) == [], "these are in [options] packages of setup.cfg, and hold no module"


@pytest.mark.release
@pytest.mark.parametrize("name", TRAVELS)
def test_the_wheel_carries_every_file(wheel: zipfile.ZipFile, name: str) -> None:
    expected = {f"{TRAVELS[name]}/{path.relative_to(ROOT / name).as_posix()}": path for path in files(ROOT / name)}
    carried = set(wheel.namelist())
    missing = sorted(set(expected) - carried)
    assert missing == [], "add these to [options.package_data] in setup.cfg, or to .gitignore"
    changed = [packed for packed, path in expected.items() if wheel.read(packed) != path.read_bytes()]
    assert changed == []


@pytest.mark.release
def test_the_wheel_carries_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Above all not the deployer's handlers/ and our tests."""
    assert {name.split("/")[0] for name in wheel.namelist()} == {"webhooks", _dist_info(wheel)}


@pytest.mark.release
def test_the_wheel_has_the_command_the_plugin_the_licence_and_the_types_marker(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "webhooks/py.typed" in names
    assert f"{_dist_info(wheel)}/licenses/LICENSE" in names
    entry_points = wheel.read(f"{_dist_info(wheel)}/entry_points.txt").decode()
    assert entry_points.split() == [
        "[console_scripts]", "webhooks", "=", "webhooks.cli:main",
        "[pytest11]", "webhooks", "=", "webhooks.testing.plugin",
    ]  # fmt: skip


@pytest.mark.release
def test_the_metadata_names_licence_and_python(metadata: email.message.Message) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"


@pytest.mark.release
def test_every_requirement_is_pinned_within_its_range(metadata: email.message.Message) -> None:
    """constraints.txt is what CI installs: a pin that is missing lets another version in, unseen."""
    pins = {
        canonicalize_name(name): version
        for name, _, version in (
            line.partition("==") for line in (ROOT / "constraints.txt").read_text().split("\n") if "==" in line
        )
    }
    for requirement in map(Requirement, metadata.get_all("Requires-Dist") or []):
        name = canonicalize_name(requirement.name)
        if name == DISTRIBUTION:
            continue
        assert name in pins, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pins[name]), f"constraints.txt pins {name}=={pins[name]}: {requirement}"


@pytest.mark.release
def test_an_ordinary_install_brings_what_the_worker_class_needs(metadata: email.message.Message) -> None:
    """gunicorn's gevent class imports more than gunicorn itself requires: its extra has it."""
    (gunicorn,) = (
        requirement
        for requirement in map(Requirement, metadata.get_all("Requires-Dist") or [])
        if requirement.name == "gunicorn"
    )
    assert gunicorn.extras == {"gevent"}


def test_constraints_hold_no_address_and_no_path() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#") and ("/" in line or " " in line)] == []


@pytest.mark.release
@pytest.mark.parametrize("extra", ["postgres", "http", "crypto", "sentry", "tracing"])
def test_the_extra_test_has_what_an_extra_needs(metadata: email.message.Message, extra: str) -> None:
    """The extra `test` alone must be enough to run every test."""
    nested = {
        name
        for requirement in map(Requirement, metadata.get_all("Requires-Dist") or [])
        if requirement.name == DISTRIBUTION and requirement.marker and requirement.marker.evaluate({"extra": "test"})
        for name in requirement.extras
    }
    assert extra in nested


@pytest.mark.release
def test_the_distribution_has_one_name(metadata: email.message.Message) -> None:
    """The package index has another project of the package's name, which would be put over ours."""
    setup = read_setup()
    extras = set(setup["options.extras_require"])
    assert metadata["Name"] == setup["metadata"]["name"] == DISTRIBUTION
    assert install("http") == "pip install 'webhooks-consumer[http]'"
    written = ("*.py", "*.cfg", "*.md", "*.toml", "*.yaml", "*.yml", "Dockerfile")
    tops = [ROOT / name for name in ("webhooks", "handlers", "benchmarks", "deploy", "docs", "tests", ".github")]
    texts = [path for top in tops for pattern in written for path in top.rglob(pattern)]
    texts += [path for pattern in written for path in ROOT.glob(pattern)]
    asked = [
        (str(path.relative_to(ROOT)), named[1], named[2])
        for path in texts
        for named in re.finditer(r"\b(webhooks(?:-consumer)?)\[([a-z,]+)\]", path.read_text("utf-8"))
    ]
    assert asked
    assert [each for each in asked if each[1] != DISTRIBUTION or not set(each[2].split(",")) <= extras] == []
    bare = re.compile(r"pip install ([^\n`]*\s)?webhooks(?![\w-])")
    offers = [path for path in texts if path.name not in ("version.py",) and bare.search(path.read_text("utf-8"))]
    assert offers == []


def _dist_info(wheel: zipfile.ZipFile) -> str:
    return next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
