"""Sphinx's configuration: `make docs` makes a site of the pages as they are, in build/site.

The pages stay Markdown that any forge shows: links between them are links between files, and nothing in them is Sphinx's.
What a site needs besides is added while a page is read: the tree of pages from the headings of docs/README.md
(`page_tree`), and the docstrings of the names in docs/api.md (`with_docstrings`). The checkout is Sphinx's source directory,
so that the front page is the README and its links lead where they do on a forge.

Functions that need no Sphinx are tested by tests/unit/test_site.py; Sphinx is imported by none of them.
"""

from __future__ import annotations

import inspect
import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from webhooks.version import VERSION  # noqa: E402  the checkout's

project = "webhooks"
author = "the webhooks contributors"
project_copyright = author
release = version = VERSION

root_doc = "README"
INDEX = "docs/README"
API = "docs/api"
#: Every page of the site; others are shown on the forge only.
include_patterns = [
    "*.md",
    "docs/**.md",
    "deploy/README.md",
    "tests/README.md",
    "benchmarks/README.md",
]
exclude_patterns = ["build", "dist", ".*"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
# headings are linked to as on a forge
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "inherited-members": "object, Exception, Enum, Scheme"}
# `first$` and `…` in what is typed, and JSON with placeholders, are no faults
suppress_warnings = ["misc.highlighting_failure"]

# "lead_id" is typed as it stands
smartquotes = False

html_theme = "furo"
html_title = f"webhooks {VERSION}"
html_show_sphinx = False
html_copy_source = False
html_static_path: list[str] = []


def sections(index: str) -> Iterator[tuple[str, list[str]]]:
    """Each heading of docs/README.md with the pages it links to, in order: names as Sphinx has them, seen from the checkout."""
    for part in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        targets = re.findall(r"\]\(([^)#:\s]+)\.md\)", text)
        yield heading, list(dict.fromkeys(posixpath.normpath(f"docs/{target}") for target in targets))


def page_tree(index: str) -> str:
    """The tree of pages, as Markdown that only Sphinx reads: one part for each heading."""
    parts = [f"```{{toctree}}\n:hidden:\n\nAll pages </{INDEX}>\n```"]
    for heading, pages in sections(index):
        lines = "\n".join(f"/{page}" for page in pages)
        parts.append(f"```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{lines}\n```")
    return "\n\n".join(parts)


def with_docstrings(page: str) -> str:
    """docs/api.md, with the docstrings in place of each table of names."""

    def documented(match: re.Match[str]) -> str:
        module, between, rows = match.groups()
        names = re.findall(r"^\| `(\w+)", rows, re.MULTILINE)
        directives = [f".. py:module:: {module}"]
        directives += [f".. auto{kind_of(module, name)}:: {module}.{name}" for name in names]
        body = "\n\n".join(directives)
        return f"## `{module}`\n{between}```{{eval-rst}}\n{body}\n```\n"

    return re.sub(
        r"^## `([\w.]+)`\n((?:(?!\||##).*\n)*)\| name \|.*\n\| ---.*\n((?:\|.*\n)+)",
        documented,
        page,
        flags=re.MULTILINE,
    )


def kind_of(module: str, name: str) -> str:
    """Which of autodoc's directives documents it."""
    value = getattr(__import__(module, fromlist=[name]), name)
    if isinstance(value, type):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if inspect.isroutine(value) else "data"


def as_rest(docstring: list[str]) -> list[str]:
    """A docstring of ours as reStructuredText: arguments as a list, indented lines and examples as code, `names` as code."""
    lines: list[str] = []
    in_code = in_example = False
    for line in docstring:
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>> "))
        is_code = line.startswith("    ") and bool(line.strip()) and not in_example
        if is_code and not in_code and (not lines or not lines[-1].strip()):
            lines += ["::", ""]
            in_code = True
        elif not is_code and line.strip():
            in_code = False
        if in_code or in_example or not line.strip():
            lines.append(line)
        elif match := re.match(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)", line):
            names = ", ".join(f"``{name}``" for name in match[1].split(", "))
            lines += ["", f"- {names}: {inline(match[2])}"]
        elif lines and lines[-1].startswith(("- ", "  ")):
            lines.append(f"  {inline(line.strip())}")
        else:
            lines.append(inline(line.strip()))
    return lines


def inline(text: str) -> str:
    """A line without what reStructuredText would read into it; `code` as code."""
    parts = re.split(r"`([^`]+)`", text)
    plain = [re.sub(r"([\\*|]|_\b)", r"\\\1", part) for part in parts]
    return "".join(f"``{part}``" if number % 2 else plain[number] for number, part in enumerate(parts))


def _read(_app: Any, name: str, source: list[str]) -> None:
    if name == root_doc:
        source[0] += "\n\n" + page_tree((ROOT / f"{INDEX}.md").read_text("utf-8"))
    elif name == API:
        source[0] = with_docstrings(source[0])


def _documented(_app: Any, _what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
    lines[:] = as_rest(lines)


def _finished(app: Any, error: Exception | None) -> None:
    """Servers ask for index.html."""
    if error is None and app.builder.name == "html":
        shutil.copy(Path(app.outdir, f"{root_doc}.html"), Path(app.outdir, "index.html"))


def setup(app: Any) -> None:
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _documented)
    app.connect("build-finished", _finished)
