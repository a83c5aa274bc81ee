"""The demo: a secret made at random, a source that uses it, and where the running `dev` listens.

The secret is used by `dev` and by the commands that one tries beside it, never by `run` or gunicorn. Nothing here knows
a server; see `serve`.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Beside the database; ignored by git.
SECRET_FILE = "webhooks.demo-secret"
#: What a running `dev` leaves for the commands beside it.
NOTE_FILE = ".webhooks/dev.json"
#: The event that the demo sends itself.
EVENT_TYPE = "activity.whatsapp_message.created"
SOURCE = "close"


def secret_path(directory: Path) -> Path:
    return directory / SECRET_FILE


def make_secret(directory: Path) -> Path:
    """The demo secret's file; made at random, readable by its owner only, when there is none."""
    path = secret_path(directory)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def overrides_if_needed(directory: Path, environ: Mapping[str, str]) -> dict[str, Any] | None:
    """Settings that add the demo source, where no source is configured and the demo has run; None elsewhere."""
    from webhooks.config import load_settings

    path = secret_path(directory)
    if not path.is_file() or load_settings(environ).sources:
        return None
    return overrides(path)


def overrides(secret: Path) -> dict[str, Any]:
    """Settings that add the demo source."""
    return {"sources": {SOURCE: {"secret_file": str(secret.absolute())}}}


def environment(secret: Path) -> dict[str, str]:
    """The same for a child process."""
    return {f"WEBHOOKS_SOURCES__{SOURCE}__SECRET_FILE": str(secret.absolute())}


# -- where `dev` listens -------------------------------------------------------------------------------------


def leave_note(directory: Path, url: str) -> None:
    """Tell the commands beside it where this process's server listens."""
    path = directory / NOTE_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"url": url, "pid": os.getpid()}))


def remove_note(directory: Path) -> None:
    (directory / NOTE_FILE).unlink(missing_ok=True)


def running_url(directory: Path) -> str | None:
    """The address of the `dev` that runs in this directory; None when none does."""
    try:
        note = json.loads((directory / NOTE_FILE).read_text())
        os.kill(note["pid"], 0)
        url: str = note["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if url.startswith("http://127.0.0.1:") or url.startswith("http://localhost:") else None
