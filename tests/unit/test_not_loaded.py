"""What was saved and did not load, as the console reads it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from tests.support import each
from webhooks.operations.not_loaded import NOTE, NotLoaded, leave, read, remove

FOUND = NotLoaded(["handlers/a.py"], ["handlers/a.py, line 3: NameError: x"], datetime(2026, 3, 10, tzinfo=UTC))


def test_what_is_left_is_read_until_it_is_taken_away(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    assert leave(tmp_path, FOUND)
    assert read(tmp_path) == FOUND
    remove(tmp_path)
    remove(tmp_path)
    assert read(tmp_path) is None


def test_where_nothing_can_be_written_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / ".webhooks").write_text("a file")
    assert not leave(tmp_path, FOUND)
    assert read(tmp_path) is None


@each(
    "note",
    ["", "[]", "{}", '{"pid": "1", "files": [], "problems": [], "at": "2026-03-10"}', '{"pid": -1, "files": [], "problems": [], "at": "x"}',
     '{"pid": 4194305, "files": [], "problems": [], "at": "2026-03-10T00:00:00+00:00"}', '{"pid": 1e99, "files": [], "problems": []}'],
)  # fmt: skip
def test_a_note_of_a_process_that_ended_or_of_another_shape_says_nothing(tmp_path: Path, note: str) -> None:
    (tmp_path / NOTE).parent.mkdir(exist_ok=True)
    (tmp_path / NOTE).write_text(note)
    assert read(tmp_path) is None
    whole = {"pid": os.getpid(), "files": [5], "problems": [], "at": "2026-03-10"}
    (tmp_path / NOTE).write_text(json.dumps(whole))
    assert read(tmp_path) is None


def test_a_file_that_was_saved_or_is_named_is_what_it_is_about() -> None:
    assert FOUND.is_about("handlers/a.py")
    assert NotLoaded(["b.py"], ["handlers/a.py, line 3: NameError: x"], FOUND.at).is_about("handlers/a.py")
    assert not FOUND.is_about("handlers/b.py")
