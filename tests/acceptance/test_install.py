"""`.ci/install`, with which `make` sets up: it takes a Python that can do it, or says what to install."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.acceptance.support import Process, Processes
from tests.support import ROOT

#: Answers as a Python would that is recent, has venv, and whose pip notes what it is asked to install.
GOOD = """#!/bin/sh
case "$*" in
--version) echo "Python 3.12.1" ;;
"-m venv --without-pip "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
"-m pip --version") ;;
"-m pip install "*) echo "pip asked for: $*" ;;
esac
"""

#: One that came without pip, as Debian's does: venv has one.
NO_PIP = """#!/bin/sh
case "$*" in
"-m pip "*) exit 1 ;;
"-m venv --without-pip "*) ;;
"-m venv "*) mkdir -p "$3/bin"; printf '#!/bin/sh\\necho "pip of venv asked for: $*"' > "$3/bin/python"; chmod +x "$3/bin/python" ;;
esac
"""

#: A version manager's shim for a version that is not installed.
SHIM = """#!/bin/sh
echo "pyenv: command not found" >&2
exit 127
"""

#: As Debian ships it: recent, without ensurepip.
NO_VENV = """#!/bin/sh
case "$*" in
*ensurepip*) exit 1 ;;
*version_info*print*|*print*version_info*) echo 3.13 ;;
esac
"""

UV = """#!/bin/sh
echo "uv asked for: $*"
"""


@pytest.fixture
def bin(tmp_path: Path) -> Path:
    """The only directory on the PATH: the tools that a script needs, and no Python."""
    bin = tmp_path / "bin"
    bin.mkdir()
    for tool in ("sh", "mkdir", "cp", "chmod", "date"):
        (bin / tool).symlink_to(next(p for p in (Path("/bin") / tool, Path("/usr/bin") / tool) if p.exists()))
    return bin


def put(bin: Path, name: str, text: str) -> None:
    (bin / name).write_text(text)
    (bin / name).chmod(0o755)


def install(processes: Processes, bin: Path, python: str = "", constraints: str = "") -> Process:
    script = str(ROOT / ".ci" / "install")
    return processes.run("sh", script, "venv", python, constraints, "--editable", ".", env={"PATH": str(bin)})


def test_without_a_python_it_says_what_to_install(processes: Processes, bin: Path) -> None:
    process = install(processes, bin)
    assert process.wait() == 1
    assert "needs Python 3.11 or later" in process.output
    assert "apt-get install python3 python3-venv" in process.output


def test_a_shim_without_its_python_is_passed_over(processes: Processes, bin: Path) -> None:
    put(bin, "python3.15", SHIM)
    put(bin, "python3.12", GOOD)
    process = install(processes, bin, constraints="pins.txt")
    assert process.wait() == 0
    assert "making venv with Python 3.12.1" in process.output
    assert "--constraint pins.txt --editable ." in process.output


def test_a_python_without_pip_lets_venv_put_one_there(processes: Processes, bin: Path) -> None:
    put(bin, "python3.12", NO_PIP)
    process = install(processes, bin)
    assert process.wait() == 0
    assert re.search(r"pip of venv asked for: .* --editable \.\n", process.output)


def test_the_newest_python_is_taken(processes: Processes, bin: Path) -> None:
    put(bin, "python3", GOOD.replace("3.12.1", "3.11.0"))
    put(bin, "python3.12", GOOD)
    assert "making venv with Python 3.12.1" in install(processes, bin).output


def test_a_python_without_venv_is_named_with_its_package(processes: Processes, bin: Path) -> None:
    put(bin, "python3.13", NO_VENV)
    process = install(processes, bin)
    assert process.wait() == 1
    assert "python3.13 has no venv module; on Debian and Ubuntu: apt-get install python3.13-venv" in process.output


def test_a_python_asked_for_by_name_must_be_recent(processes: Processes, bin: Path) -> None:
    put(bin, "python3.12", GOOD)
    put(bin, "python3.9", "#!/bin/sh\nexit 1\n")
    process = install(processes, bin, python="python3.9")
    assert process.wait() == 1
    assert "PYTHON=python3.9 is not a Python of version 3.11 or later" in process.output


def test_uv_is_used_when_it_is_there(processes: Processes, bin: Path) -> None:
    put(bin, "uv", UV)
    process = install(processes, bin)
    assert process.wait() == 0
    assert "uv asked for: venv --quiet --allow-existing --python >=3.11 venv" in process.output
    assert "uv asked for: pip install --quiet --python venv/bin/python --editable ." in process.output


def test_an_environment_that_is_there_is_kept(processes: Processes, bin: Path, tmp_path: Path) -> None:
    put(bin, "python3.12", GOOD)
    install(processes, bin)
    os.remove(bin / "python3.12")
    process = install(processes, bin)
    assert process.wait() == 0
    assert "making" not in process.output
