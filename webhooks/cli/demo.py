"""The demo: a secret made at random, a source that uses it, and where the running `dev` and a local Close listen.

The secret is used by `dev` and by the commands that one tries beside it, never by `run` or gunicorn. While a local Close
runs in the directory, the demo's source has its API as well, so that `catch-up`, `subscriptions` and `doctor` can
be tried; a source that is configured is left as it is. Nothing here knows a server; see `dev`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from webhooks.cli import Failure, output
from webhooks.errors import ConfigurationError

#: Beside the database; ignored by git.
SECRET_FILE = "webhooks.demo-secret"
#: What a running `dev`, and a running local Close, leave for the commands beside them.
NOTE_FILE = ".webhooks/dev.json"
CLOSE_NOTE_FILE = ".webhooks/close.json"
#: The event that the demo sends itself.
EVENT_TYPE = "activity.whatsapp_message.created"
#: Loaded by `dev --demo`, each where no handler of the directory takes that event: {event type: module}.
HANDLERS = {
    EVENT_TYPE: "webhooks.cli.demo_handlers",
    "activity.opportunity_status_change.created": "webhooks.cli.demo_deal",
}
SOURCE = "close"


def secret_path(directory: Path) -> Path:
    """Where the demo secret of a directory is, or would be."""
    return directory / SECRET_FILE


def make_secret(directory: Path) -> Path:
    """The demo secret's file; made at random, readable by its owner only, when there is none. Raises `Failure`."""
    path = secret_path(directory)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if not running_close(directory):
            _forget_subscriptions(path)
        return path
    except OSError as error:
        raise Failure(
            f"{str(path)!r} cannot be made: {error.strerror}; go to a directory that you may write in, or configure a source"
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def label_key(secret: Path, subscription_id: str, key: str) -> None:
    """Label the demo's key with the subscription of a local Close that signs with it, as for a real Close."""
    from webhooks.settings import Secret
    from webhooks.sources import KeyFile

    with contextlib.suppress(OSError, ConfigurationError):  # it is verified under any label
        KeyFile(SOURCE, secret).put(subscription_id, Secret(key))


def _forget_subscriptions(secret: Path) -> None:
    """Keep one key, without the label of a subscription that went with its local Close."""
    from webhooks.sources import KeyFile, read_secret_file

    with contextlib.suppress(OSError, ValueError, ConfigurationError):  # the start says what is wrong with the file
        first, *others = read_secret_file(secret)
        if others or not first.label.isdigit():
            keys = KeyFile(SOURCE, secret)
            keys.put("1", first)
            for other in others:
                keys.remove(other.label)


def overrides_if_needed(directory: Path, environ: Mapping[str, str]) -> dict[str, Any] | None:
    """What commands beside `dev` need besides the settings; None when that is nothing.

    The demo source, where no source is configured and the demo has run; the demo's handlers, while it runs with them.
    """
    from webhooks.settings import load_settings

    path = secret_path(directory)
    handlers = _demo_handlers(directory)
    if not path.is_file() and not handlers:
        return None
    settings = load_settings(environ)
    made = overrides(path) if path.is_file() and not settings.sources else {}
    if missing := [module for module in handlers if module not in settings.handlers]:
        made["handlers"] = [*settings.handlers, *missing]
    return made or None


def overrides(secret: Path) -> dict[str, Any]:
    """Settings that add the demo source."""
    return {"sources": {SOURCE: {"secret_file": str(secret.absolute()), **running_close(secret.parent)}}}


def environment(secret: Path) -> dict[str, str]:
    """The same for a child process."""
    return {
        f"WEBHOOKS_SOURCES__{SOURCE}__{name.upper()}": value
        for name, value in overrides(secret)["sources"][SOURCE].items()
    }


# -- where they listen ---------------------------------------------------------------------------------------


def leave_note(directory: Path, url: str, *, handlers: Sequence[str] = ()) -> None:
    """Tell the commands beside it where this process's server listens, and which of our handlers its worker has.

    Where that cannot be written, it is said: nothing but those commands needs it.
    """
    note = {"url": url, "demo_handlers": list(handlers)}
    _leave(directory / NOTE_FILE, note, "commands beside this one do not find its server; set PORT for them")


def leave_close_note(directory: Path, api_url: str, api_key: str, posts_to: str | None) -> None:
    """Tell the commands beside it where this process's local Close has its API, and which address it posts to."""
    note = {"api_url": api_url, "api_key": api_key, "public_url": posts_to}
    _leave(directory / CLOSE_NOTE_FILE, note, "commands beside this one do not find this Close")


def remove_note(directory: Path) -> None:
    """Take our own note away; that of another `dev` of this directory stays."""
    _remove(directory / NOTE_FILE)


def remove_close_note(directory: Path) -> None:
    """The same for that of a local Close."""
    _remove(directory / CLOSE_NOTE_FILE)


def running_url(directory: Path) -> str | None:
    """The address of the `dev` that runs in this directory; None when none does."""
    url = _read(directory / NOTE_FILE).get("url")
    return url if _is_local(url) else None


def running_close(directory: Path) -> dict[str, str]:
    """The settings by which the local Close that runs in this directory is asked; none when none does."""
    note = _read(directory / CLOSE_NOTE_FILE)
    if not _is_local(note.get("api_url")) or not isinstance(note.get("api_key"), str):
        return {}
    return {name: note[name] for name in ("api_url", "api_key", "public_url") if isinstance(note.get(name), str)}


def _is_local(url: object) -> bool:
    return isinstance(url, str) and url.startswith(("http://127.0.0.1:", "http://localhost:"))


def _demo_handlers(directory: Path) -> list[str]:
    """Which of the demo's handlers the `dev` that runs in this directory has; no others, whatever the note says."""
    noted = _read(directory / NOTE_FILE).get("demo_handlers")
    return [module for module in HANDLERS.values() if isinstance(noted, list) and module in noted]


# -- the console -----------------------------------------------------------------------------------------------

CONSOLE_FILE = ".webhooks/console.json"


def leave_console_note(directory: Path, url: str, user: str) -> Path | None:
    """Tell the server of this `dev` the key of its console, made anew at each start; where the note is.

    None, and a line, where it cannot be written. user: who develops here.
    """
    path = directory / CONSOLE_FILE
    note = {"directory": str(directory), "key": secrets.token_urlsafe(24), "url": url, "user": user}
    try:
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({**note, "pid": os.getpid()}, file)
    except OSError as error:
        output.print_note(f"{str(path)!r} cannot be written ({error.strerror}): there is no console")
        return None
    return path.absolute()


def console_link(directory: Path) -> str | None:
    """The link that opens the console of the `dev` that runs in this directory; None when there is none."""
    note = _read(directory / CONSOLE_FILE)
    return (
        f"{note['url']}/dashboard/console?key={note['key']}" if _is_local(note.get("url")) and "key" in note else None
    )


def remove_console_note(directory: Path) -> None:
    """Take our own note away."""
    _remove(directory / CONSOLE_FILE)


# -- notes ---------------------------------------------------------------------------------------------------


def _leave(path: Path, note: Mapping[str, Any], without: str) -> None:
    """Write a note of this process. without: what does not work where that cannot be done."""
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**note, "pid": os.getpid()}))
    except OSError as error:
        output.print_note(f"{str(path)!r} cannot be written ({error.strerror}): {without}")


def _remove(path: Path) -> None:
    if _read(path).get("pid") == os.getpid():
        with contextlib.suppress(OSError):
            path.unlink()


def _read(path: Path) -> dict[str, Any]:
    """What a process that still runs left there; nothing when none does, or it cannot be read."""
    try:
        note = json.loads(path.read_text())
        if type(note["pid"]) is not int or note["pid"] <= 0:
            return {}
        os.kill(note["pid"], 0)
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        return {}
    return dict(note)
