"""The site that `make docs` makes has every page and every public name. Building it is a step of `.ci/run`; Sphinx is not needed here."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

from tests.support import ROOT
from tests.unit.test_docs import PAGES, PUBLIC, read


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("webhooks_docs_conf", ROOT / "docs" / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    return conf


@pytest.fixture(scope="module")
def conf() -> ModuleType:
    return load()


def test_every_page_is_in_the_tree_once_and_every_entry_is_a_page(conf: ModuleType) -> None:
    entries = re.findall(r"^(?:All pages <)?/([\w./-]+)>?$", conf.page_tree(read("docs/README.md")), re.MULTILINE)
    assert sorted(entries) == sorted(set(entries))
    pages = {path.relative_to(ROOT).with_suffix("").as_posix() for path in PAGES}
    assert pages <= set(entries), "add the page to a table of docs/README.md"
    assert [entry for entry in entries if not (ROOT / f"{entry}.md").exists()] == []


def test_the_parts_of_the_tree_are_what_a_reader_comes_for(conf: ModuleType) -> None:
    headings = [heading for heading, _ in conf.sections(read("docs/README.md"))]
    assert headings == ["Tutorials", "How-to", "Reference", "Explanation", "Taking part"]


def test_every_public_name_is_documented_by_its_docstring(conf: ModuleType) -> None:
    page = conf.with_docstrings(read("docs/api.md"))
    assert "| name |" not in page
    told = re.findall(r"^\.\. auto(class|exception|function|data):: ([\w.]+)$", page, re.MULTILINE)
    assert {name for _, name in told} >= {
        f"{module}.{name}" for module, names in PUBLIC.items() for name in names or ()
    }
    assert ("function", "webhooks.on") in told
    assert ("class", "webhooks.testing.Kit") in told
    assert ("exception", "webhooks.Retry") in told


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (["Take `name` and *args."], ["Take ``name`` and \\*args."]),
        (["Do.", "", "seconds: how long,", "    at most.", "x, y: where."],
         ["Do.", "", "", "- ``seconds``: how long,", "  at most.", "", "- ``x``, ``y``: where."]),
        (["Like this:", "", "    a * b", "", "Done_ well."], ["Like this:", "", "::", "", "    a * b", "", "Done\\_ well."]),
        (["So.", "", ">>> a * b", "1", "", "More."], ["So.", "", ">>> a * b", "1", "", "More."]),
    ],
)  # fmt: skip
def test_a_docstring_means_the_same_on_the_site(conf: ModuleType, docstring: list[str], expected: list[str]) -> None:
    assert conf.as_rest(docstring) == expected
