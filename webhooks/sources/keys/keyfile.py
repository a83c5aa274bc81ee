"""Write a SECRET_FILE: one JSON object, label → secret, that running processes read again when it changed.

Every change is made under a lock and by renaming a complete file of mode 0600 into place, so that a reader sees the old
one or the new one, and a crash leaves one of them. A file that held one secret as text, or a list, becomes an object
with the labels that its secrets had. A symbolic link is followed: what it points to is replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from webhooks.errors import ConfigurationError
from webhooks.settings import Secret, shown_path
from webhooks.sources.keys.keyring import read_secret_file

#: How long a change waits for another one to end.
PATIENCE = timedelta(seconds=10)


class KeyFile:
    """The keys in one SECRET_FILE. source: its name, for messages."""

    def __init__(self, source: str, path: Path | None) -> None:
        self._source = source
        self.path = None if path is None else Path(os.path.realpath(path))

    def require_writable(self) -> None:
        """Raise ConfigurationError, with the setting to add, when no file can be written; changes nothing."""
        setting = f"set WEBHOOKS_SOURCES__{self._source}__SECRET_FILE=/path/keys.json"
        if self.path is None:
            raise ConfigurationError(
                f"source {self._source!r} has no secret_file, where the new signature key would be written; {setting} "
                f'(or secret_file = "/path/keys.json" in [sources.{self._source}]), writable by this user'
            )
        self._read()
        try:
            with self._written({}) as beside:
                beside.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"nothing can be written beside the secret file {shown_path(self.path)} of source {self._source!r} "
                f"({error.strerror}); {setting}, in a directory that is writable by this user"
            ) from None

    def labels(self) -> list[str]:
        """The labels of the keys in the file; none when there is no file."""
        return [secret.label for secret in self._read()]

    def secrets(self) -> list[Secret]:
        """The keys in the file; none when there is no file."""
        return self._read()

    def put(self, label: str, secret: Secret) -> None:
        """Add a key, or replace the one of that label. A key has one label: held under another, it loses that."""
        value = secret.reveal()
        self._change(lambda keys: {name: other for name, other in keys.items() if other != value} | {label: value})

    def remove(self, label: str) -> bool:
        """Take a key away; whether it was there. Never the last one: a source without a key does not start."""
        removed = False

        def without(keys: dict[str, str]) -> dict[str, str]:
            nonlocal removed
            removed = label in keys and len(keys) > 1
            return {name: value for name, value in keys.items() if name != label} if removed else keys

        self._change(without)
        return removed

    # -- the file ------------------------------------------------------------------------------------------

    def _read(self) -> list[Secret]:
        if self.path is None or not self.path.exists():
            return []
        try:
            if self.path.read_bytes().strip() in (b"", b"{}"):
                return []
            return read_secret_file(self.path)
        except (ValueError, OSError) as error:
            raise ConfigurationError(f"source {self._source!r}: {error}") from None

    def _change(self, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        assert self.path is not None
        with self._lock():
            keys = {secret.label: secret.reveal() for secret in self._read()}
            changed = change(dict(keys))
            if changed == keys:
                return
            with self._written(changed) as beside:
                os.replace(beside, self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    @contextlib.contextmanager
    def _written(self, keys: dict[str, str]) -> Iterator[Path]:
        """A complete file beside ours, readable by its owner alone; gone afterwards unless it was renamed."""
        assert self.path is not None
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(keys, file, indent=2, ensure_ascii=False)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
                if os.geteuid() == 0:
                    with contextlib.suppress(OSError):  # root writes for another user
                        owner = os.stat(self.path if self.path.exists() else self.path.parent)
                        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            yield beside
        finally:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        assert self.path is not None
        descriptor = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            deadline = time.monotonic() + PATIENCE.total_seconds()
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise ConfigurationError(
                            f"another process has held the lock of {shown_path(self.path)} for {PATIENCE.total_seconds():g} s"
                        ) from None
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)
