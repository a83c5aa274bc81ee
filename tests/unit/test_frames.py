"""Which frames are the author's own, and how they are said."""

from __future__ import annotations

import traceback
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from webhooks.formats import Frame, error_text, frames_of, own_frames

HERE = Path("/app")
OURS = str(Path(traceback.__file__).parent / "json" / "decoder.py")


def test_the_frames_of_a_stored_traceback_are_read_back() -> None:
    try:
        _raise()
    except ZeroDivisionError as error:
        found = frames_of(error_text(error))
    assert [frame.name for frame in found] == ["test_the_frames_of_a_stored_traceback_are_read_back", "_raise"]
    assert found[-1].file == __file__
    assert found[-1].code == "return 1 / 0"


def _raise() -> float:
    return 1 / 0


def test_frames_below_the_directory_are_the_authors_own() -> None:
    frames = [
        Frame("/app/handlers/a.py", 3, "f"),
        Frame("/app/.venv/lib/site-packages/requests/api.py", 9, "get"),
        Frame(OURS, 8, "loads"),
        Frame("<string>", 1, "g"),
    ]
    assert [frame.said(HERE) for frame in own_frames(frames, HERE)] == ["handlers/a.py, line 3, in f"]


def test_elsewhere_the_last_that_is_not_installed_stands_for_them() -> None:
    frames = [Frame("/srv/shop/tasks.py", 3, "f"), Frame(OURS, 8, "loads")]
    assert [frame.said(HERE) for frame in own_frames(frames, HERE)] == ["/srv/shop/tasks.py, line 3, in f"]
    assert own_frames(frames[1:], HERE) == frames[1:]
    assert own_frames([], HERE) == []


@given(st.text(max_size=300))
def test_any_text_can_be_searched_for_frames(text: str) -> None:
    own_frames(frames_of(text), HERE)
