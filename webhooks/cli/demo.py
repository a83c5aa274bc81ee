"""The demo: a secret made at random, a source that uses it, and where the running `dev` listens.

The secret is used by `dev` and by the commands that one tries beside it, never by `run` or gunicorn. Nothing here knows
a server; see `serve`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from webhooks.cli import Failure, output

#: Beside the database; ignored by git.
SECRET_FILE = "webhooks.demo-secret"
#: What a running `dev` leaves for the commands beside it.
NOTE_FILE = ".webhooks/dev.json"
#: Loaded by `dev --demo` where no handler of the directory takes the demo's event.
HANDLERS = "webhooks.cli.demo_handlers"
#: The event that the demo sends itself.
EVENT_TYPE = "activity.whatsapp_message.created"
SOURCE = "close"


def secret_path(directory: Path) -> Path:
    return directory / SECRET_FILE


def make_secret(directory: Path) -> Path:
    """The demo secret's file; made at random, readable by its owner only, when there is none. Raises `Failure`."""
    path = secret_path(directory)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path
    except OSError as error:
        raise Failure(
            f"{str(path)!r} cannot be made: {error.strerror}; go to a directory that you may write in, or configure a source"
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def overrides_if_needed(directory: Path, environ: Mapping[str, str]) -> dict[str, Any] | None:
    """What commands beside `dev` need besides the settings; None when that is nothing.

    The demo source, where no source is configured and the demo has run; the demo's handlers, while it runs with them.
    """
    from webhooks.config import load_settings

    path = secret_path(directory)
    has_handlers = _has_demo_handlers(directory)
    if not path.is_file() and not has_handlers:
        return None
    settings = load_settings(environ)
    made = overrides(path) if path.is_file() and not settings.sources else {}
    if has_handlers and HANDLERS not in settings.handlers:
        made["handlers"] = [*settings.handlers, HANDLERS]
    return made or None


def overrides(secret: Path) -> dict[str, Any]:
    """Settings that add the demo source."""
    return {"sources": {SOURCE: {"secret_file": str(secret.absolute())}}}


def environment(secret: Path) -> dict[str, str]:
    """The same for a child process."""
    return {f"WEBHOOKS_SOURCES__{SOURCE}__SECRET_FILE": str(secret.absolute())}


# -- where `dev` listens -------------------------------------------------------------------------------------


def leave_note(directory: Path, url: str, *, has_demo_handlers: bool = False) -> None:
    """Tell the commands beside it where this process's server listens, and whether its worker has our handlers.

    Where that cannot be written, it is said: nothing but those commands needs it.
    """
    path = directory / NOTE_FILE
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"url": url, "pid": os.getpid(), "has_demo_handlers": has_demo_handlers}))
    except OSError as error:
        output.say(
            f"{str(path)!r} cannot be written ({error.strerror}): commands beside this one do not find its server; "
            "set PORT for them"
        )


def remove_note(directory: Path) -> None:
    """Take our own note away; that of another `dev` of this directory stays."""
    if _read_note(directory).get("pid") == os.getpid():
        with contextlib.suppress(OSError):
            (directory / NOTE_FILE).unlink()


def running_url(directory: Path) -> str | None:
    """The address of the `dev` that runs in this directory; None when none does."""
    url = _read_note(directory).get("url")
    if not isinstance(url, str):
        return None
    return url if url.startswith("http://127.0.0.1:") or url.startswith("http://localhost:") else None


def _has_demo_handlers(directory: Path) -> bool:
    """Whether the `dev` that runs in this directory has the demo's handlers."""
    return _read_note(directory).get("has_demo_handlers") is True


def _read_note(directory: Path) -> dict[str, Any]:
    """What the `dev` that runs in this directory left; nothing when none does, or it cannot be read."""
    try:
        note = json.loads((directory / NOTE_FILE).read_text())
        if type(note["pid"]) is not int or note["pid"] <= 0:
            return {}
        os.kill(note["pid"], 0)
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        return {}
    return dict(note)
