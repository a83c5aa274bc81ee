"""The tutorials as printed: each file is written, each command typed, and what they say one sees is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.reading import Newcomer
from tests.acceptance.support import Processes
from tests.support import ROOT

pytestmark = pytest.mark.release

#: production.md, which needs a server and PostgreSQL, has a test of its own.
TUTORIALS = sorted(set((ROOT / "docs" / "tutorials").glob("*.md")) - {ROOT / "docs" / "tutorials" / "production.md"})


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_works_as_printed(page: Path, processes: Processes) -> None:
    newcomer = Newcomer(processes, env={"PYTEST_ADDOPTS": "-p no:cacheprovider -p no:randomly"})
    assert newcomer.follow(page.read_text("utf-8")) > 0
