"""docs/logs.md has every message at warning and above, each with what to do, and no other."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support import ROOT

#: {method: the level of what it logs}; `log` is told one, which may be a warning.
LEVELS = {
    "warning": "warning",
    "warn": "warning",
    "log": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
#: What stands before the method's name: a logger, or what writes to one.
LOGGER = re.compile(r"(?:^|[._])(?:log|logger|repeated)$")
#: Templates and the local Close's own server.
ELSEWHERE = ("webhooks/starter/", "webhooks/sandbox/")


def messages(source: str, module: str) -> Iterator[tuple[str, str, str]]:
    """(logger, level, message) of each call that logs at warning and above."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        logger = ast.unparse(node.func.value)
        if LOGGER.search(logger) is None:
            continue
        if node.func.attr == "log" and ast.unparse(node.args[0]) in ("logging.DEBUG", "logging.INFO"):
            continue
        texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        sentences = [text for text in texts if " " in text or "%" in text]
        if sentences:
            theirs = "gunicorn.error" if re.search(r"\.log$", logger) else module
            yield theirs, LEVELS[node.func.attr], sentences[0]
        else:
            # what is handed on: `Repeated.warn` has the text from its caller, which is found there
            assert isinstance(node.args[0], ast.Name), f"{module}:{node.lineno}: what does it say?"


@functools.cache
def logged() -> set[tuple[str, str, str]]:
    found: set[tuple[str, str, str]] = set()
    for path in sorted((ROOT / "webhooks").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(ELSEWHERE):
            module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            found |= set(messages(path.read_text("utf-8"), module))
    return found


ROW = re.compile(r"^\| (warning|error|critical) \| ``? ?(.+?) ?``? \| (.+) \|$")


def documented() -> Iterator[tuple[str, str, str, str]]:
    """(logger, level, message, what to do) of each row."""
    logger = ""
    for line in (ROOT / "docs" / "logs.md").read_text("utf-8").splitlines():
        if heading := re.match(r"^### `(.+)`$", line):
            logger = heading[1]
        elif row := ROW.match(line):
            yield logger, row[1], row[2], row[3]


def test_the_page_has_every_message_at_warning_and_above() -> None:
    missing = sorted(logged() - {row[:3] for row in documented()})
    assert missing == [], "add each to docs/logs.md, below its logger, with what to do"


def test_the_page_has_no_message_that_the_code_does_not_log() -> None:
    extra = sorted({row[:3] for row in documented()} - logged())
    assert extra == [], "the code does not log these (any more) at that level: take them out of docs/logs.md"


def test_every_message_says_what_to_do_once() -> None:
    rows = list(documented())
    assert [row for row in rows if not re.search(r"[.`)]$", row[3])] == []
    assert [key for key, times in Counter(row[:3] for row in rows).items() if times > 1] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("logger.warning('it is %s', x)", [("m", "warning", "it is %s")]),
        ("logger.info('it is %s', x)", []),
        ("logger.exception('it failed')", [("m", "error", "it failed")]),
        ("server.log.error('It failed')", [("gunicorn.error", "error", "It failed")]),
        ("self.recorder.repeated.warn('locked', 'it is %s', x)", [("m", "warning", "it is %s")]),
        ("self._logger.log(level, '%s: %s', a, b)", [("m", "warning", "%s: %s")]),
        ("logger.log(logging.INFO, 'it is')", []),
        ("warnings.warn('it is old')", []),
        ("task.exception()", []),
    ],
)
def test_calls_that_log_are_found(source: str, found: list[tuple[str, str, str]]) -> None:
    assert list(messages(source, "m")) == found
