"""The benchmarks' picture: lines where they belong, and text that cannot be markup."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import plot, quick


def test_a_plot_is_an_svg_with_a_line_for_each_and_points_within_it() -> None:
    made = plot.draw(
        [plot.Line("ideal <8>", [(1, 8000), (100, 80)], is_dashed=True), plot.Line("ours", [(1, 900), (100, 79)])],
        x_title="ms & more",
        y_title="a second",
    )
    tree = ElementTree.fromstring(made)
    texts = [text for element in tree.iter() if (text := element.text)]
    assert {"ideal <8>", "ours", "ms & more", "a second", "ours: 900"} <= set(texts)
    circles = [element for element in tree.iter() if element.tag.endswith("circle")]
    assert len(circles) == 2
    assert all(
        0 < float(each.attrib["cx"]) < plot.WIDTH and 0 < float(each.attrib["cy"]) < plot.HEIGHT for each in circles
    )
    assert float(circles[0].attrib["cy"]) < float(circles[1].attrib["cy"]), "more is higher"


def test_without_a_point_there_is_no_plot() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        plot.draw([plot.Line("ours", [])], x_title="x", y_title="y")


def test_a_change_of_less_than_a_tenth_is_none() -> None:
    assert [quick.word(change) for change in (0.5, 0.91, 1.0, 1.09, 1.2)] == [
        "cheaper",
        "the same",
        "the same",
        "the same",
        "dearer",
    ]
    table = quick.changes({"a": 2.0, "gone": 1.0}, {"a": 1.0, "new": 3.0}, {"a": "run"})
    assert "run" in table
    assert "0.50" in table
    assert "new" not in table


def test_only_a_file_of_the_same_benchmark_is_compared_with() -> None:
    with pytest.raises(ValueError, match="it was not written by"):
        quick.medians({"benchmark": "ingest", "comparisons": []})
