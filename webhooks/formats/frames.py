"""Where code stood, for people: which of many frames are the author's own, and how a frame is said.

A traceback of a handler begins with a dozen frames of ours and may end with twenty of a library. What its author looks
for is the last line of her own. `own_frames` picks those below a directory, without what is installed there.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: The package that this module is in: frames of its files are never an author's own.
_HERE = str(Path(__file__).parents[1])
_STDLIB = str(Path(traceback.__file__).parent)
#: A frame as `traceback` writes it, with the line of code below it.
_FRAME = re.compile(
    r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<name>.+)\n(?:    (?P<code>.*)(?:\n|\Z))?', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One line that was being run. code: its text, or "" where that is not known."""

    file: str
    line: int
    name: str
    code: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether its file came with Python or with a package."""
        return self.file.startswith(_STDLIB) or bool({"site-packages", "dist-packages"} & set(Path(self.file).parts))

    def is_below(self, directory: Path) -> bool:
        """Whether its file is in `directory` or below, and not installed there."""
        return Path(self.file).is_relative_to(directory) and not self.is_installed

    def said(self, directory: Path) -> str:
        """`handlers/hello.py, line 9, in greet`; the whole path where it is not below `directory`."""
        path = Path(self.file)
        shown = path.relative_to(directory) if path.is_relative_to(directory) else path
        return f"{shown}, line {self.line}, in {self.name}"


def frames_of(text: str) -> list[Frame]:
    """The frames of a traceback that was written down, the outermost first."""
    return [
        Frame(found["file"], int(found["line"]), found["name"], (found["code"] or "").strip())
        for found in _FRAME.finditer(text)
    ]


def own_frames(frames: Iterable[Frame], directory: Path) -> Sequence[Frame]:
    """Those of the author who works in `directory`; where there is none, the last one that is neither ours nor installed.

    The outermost first. Empty only where there are none but ours.
    """
    others = [frame for frame in frames if not frame.file.startswith((_HERE, "<"))]
    below = [frame for frame in others if frame.is_below(directory)]
    return below or [frame for frame in others if not frame.is_installed][-1:] or others[-1:]


__all__ = ["Frame", "frames_of", "own_frames"]
