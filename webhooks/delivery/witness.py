"""Watch a run for what happens outside its session, as far as the interpreter tells.

An audit hook sees what Python code does to files, sockets and processes, and the open descriptors are compared before and
after. Not seen: what a library in C does by itself and closes again (a database driver, a native HTTP client), what a process
does that was there before, changes of this process's own memory, and waiting.

An audit hook cannot be taken away, so this is for processes that end with a rehearsal; nothing is heard outside `watching`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: What a run may do to the world, by its audit event. Source: https://docs.python.org/3.11/library/audit_events.html
_DEEDS = frozenset(
    (
        "ftplib.connect", "os.chmod", "os.chown", "os.exec", "os.fork", "os.forkpty", "os.kill", "os.link", "os.mkdir",
        "os.posix_spawn", "os.putenv", "os.remove", "os.rename", "os.rmdir", "os.spawn", "os.symlink", "os.system",
        "os.truncate", "os.unsetenv", "shutil.copyfile", "shutil.move", "shutil.rmtree", "smtplib.connect", "socket.bind",
        "socket.connect", "socket.sendmsg", "socket.sendto", "sqlite3.connect", "subprocess.Popen", "urllib.Request",
    )
)  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Linux has the first, others the second.
_DESCRIPTORS = next((path for path in ("/proc/self/fd", "/dev/fd") if os.path.isdir(path)), None)

#: What is heard at the moment; None: nothing.
_heard: list[str] | None = None
#: Threads that were there before, of which nothing is heard.
_others: frozenset[int] = frozenset()
_is_hooked = False


@contextlib.contextmanager
def watching(*, but: Path | None = None, in_loop: bool = False) -> Iterator[list[str]]:
    """What is done meanwhile by this thread and those that it starts, a line each; complete when the block has ended.

    but: a database file, which with those beside it is the session's own.
    in_loop: it is done by the thread of an event loop, which was there before and has descriptors of its own, so all threads
        are listened to, and no descriptors compared.
    """
    global _heard, _others, _is_hooked
    if not _is_hooked:
        sys.addaudithook(_hear)
        _is_hooked = True
    before = {} if in_loop else _open_descriptors()
    _others = frozenset() if in_loop else frozenset(sys._current_frames()) - {threading.get_ident()}
    found = _heard = []
    try:
        yield found
    finally:
        _heard = None
        if not in_loop:
            left = [name for number, name in _open_descriptors().items() if number not in before]
            found += [f"left open: {name}" for name in left]
        if but is not None:
            found[:] = [line for line in found if str(but) not in line]


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    heard = _heard
    if heard is None or threading.get_ident() in _others:
        return
    if any("__pycache__" in argument for argument in arguments[:2] if isinstance(argument, str)):
        return  # an import
    if event in _DEEDS:
        where = f": {arguments[-1]!r}" if event == "socket.connect" else ""
        heard.append(f"{event}{where}")
    elif event == "open" and isinstance(arguments[0], str) and _is_written(arguments):
        heard.append(f"open: {arguments[0]}")


def _is_written(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = arguments
    writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & _WRITES)
    return writes and path != os.devnull


def _open_descriptors() -> dict[str, str]:
    """{number: what it is} of what this process has open."""
    found: dict[str, str] = {}
    for number in os.listdir(_DESCRIPTORS) if _DESCRIPTORS else ():
        with contextlib.suppress(OSError):  # that of the listing itself
            found[number] = os.readlink(f"{_DESCRIPTORS}/{number}")
    return found


__all__ = ["watching"]
