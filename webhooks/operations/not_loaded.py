"""What was saved and did not load: `webhooks dev` leaves word of it in the project, and its console shows it.

The code of before runs on meanwhile. A note whose process has ended says nothing any more. Nothing here imports what was saved.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

#: Where it is, below the directory of a project.
NOTE = ".webhooks/not-loaded.json"


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """One save that changed nothing.

    files: that were saved, below the directory.
    problems: what is wrong with them, lines with file and line.
    """

    files: Sequence[str]
    problems: Sequence[str]
    at: datetime

    def is_about(self, file: str) -> bool:
        """Whether a file was saved, or is named in what is wrong."""
        return file in self.files or any(problem.startswith(f"{file}, line ") for problem in self.problems)


def leave(directory: Path, found: NotLoaded) -> bool:
    """Leave word of it; False where that cannot be written, which only the console misses."""
    path = directory / NOTE
    note = {
        "files": list(found.files),
        "problems": list(found.problems),
        "at": found.at.isoformat(),
        "pid": os.getpid(),
    }
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(exist_ok=True)
        part.write_text(json.dumps(note), "utf-8")
        part.replace(path)  # a page never reads half of it
    except OSError:
        return False
    return True


def remove(directory: Path) -> None:
    """What was saved has loaded, or its process ends."""
    with contextlib.suppress(OSError):
        (directory / NOTE).unlink()


def read(directory: Path) -> NotLoaded | None:
    """What did not load last in a project whose `webhooks dev` runs; None where all of it did."""
    try:
        note = json.loads((directory / NOTE).read_text("utf-8"))
        pid, texts = note["pid"], [*note["files"], *note["problems"]]
        if type(pid) is not int or pid <= 0 or not all(isinstance(text, str) for text in texts):
            return None
        os.kill(pid, 0)
        return NotLoaded(note["files"], note["problems"], datetime.fromisoformat(note["at"]))
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        return None


__all__ = ["NOTE", "NotLoaded", "leave", "read", "remove"]
