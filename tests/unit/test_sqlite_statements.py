"""The text of statements for SQLite, as newer versions of Python read it."""

from __future__ import annotations

import re

from tests.support import ROOT

#: `?1` beside a sequence of values: sqlite3 of Python 3.12.0 to 3.12.3 takes it for a name, and warns.
NUMBERED = re.compile(r"\?(?:[1-9]|\{)")


def test_no_statement_numbers_its_parameters() -> None:
    """Seen with Python 3.12.1; see https://github.com/python/cpython/issues/117995 for its end."""
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for name in ("database", "session", "store")
        for path in (ROOT / "webhooks" / name).rglob("*sqlite*.py")
        for match in NUMBERED.finditer(path.read_text("utf-8"))
    ]
    assert found == []
