"""Every promise names a test that exists."""

from __future__ import annotations

import re

from tests.support import ROOT, each

PAGE = ROOT / "docs" / "guarantees.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE.read_text("utf-8"))))


@each(("path", "name"), NAMED)
def test_a_test_that_proves_a_promise_exists(path: str, name: str) -> None:
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


def test_every_promise_has_a_proof() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ") and "---" not in line]
    promises = [row for row in rows if not row.startswith("| promise")]
    assert len(promises) > 20
    assert [row for row in promises if "::test_" not in row] == []
