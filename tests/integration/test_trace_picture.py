"""The picture in docs/traces.md shows what a run records."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support import ROOT
from tests.trace_picture import PICTURE, DrawnSpan, draw, in_order


def shown(picture: Path) -> list[str]:
    """The spans of a picture, without their times."""
    titles = [
        element.text or ""
        for element in ElementTree.fromstring(picture.read_text("utf-8")).iter()
        if element.tag.endswith("title")
    ]
    return [re.sub(r"[\d.]+ ms", "", title) for title in titles]


@pytest.mark.thorough
def test_the_picture_shows_the_spans_of_a_run(tmp_path: Path) -> None:
    fresh = tmp_path / "trace.svg"
    subprocess.run([sys.executable, "-m", "tests.trace_picture", fresh], check=True, cwd=ROOT)
    assert sorted(shown(PICTURE)) == sorted(shown(fresh)), "run: .venv/bin/python -m tests.trace_picture"
    assert len(shown(PICTURE)) == 5


def test_spans_lie_below_their_parents_and_names_are_only_text() -> None:
    spans = [
        DrawnSpan("c", "t", "process <a&b>", "CONSUMER", 2, 3, "r"),
        DrawnSpan("r", "t", "receive", "SERVER", 0, 1),
        DrawnSpan("x", "u", "process later", "CONSUMER", 9, 9, links=("t" * 32,), error="E"),
        DrawnSpan("b", "t", "commit", "INTERNAL", 0.5, 1, "r"),
    ]
    assert [(depth, span.id) for depth, span in in_order(spans)] == [(0, "r"), (1, "b"), (1, "c"), (0, "x")]
    texts = [element.text for element in ElementTree.fromstring(draw(spans)).iter() if element.tag.endswith("text")]
    assert "process <a&b>" in texts
    assert "trace u…, linked to tttttttt…" in texts
