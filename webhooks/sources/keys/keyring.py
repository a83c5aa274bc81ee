"""The keys of one source: decoded once, and read again when their file changed.

Keys come from the settings and from a `SECRET_FILE`. The file holds a JSON object (label → secret), a JSON list, or
one secret as plain text; it is looked at (`stat`) at most once a second while requests come, and at once after a
failed signature, so that a key that was just added works for the request that needs it. A file that cannot be used
keeps the old keys and is logged once per change; at start it is a ConfigurationError.

The only I/O below `store`, because a rotation must not need a restart; `clock` and `stat` are handed in by tests.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from webhooks.errors import ConfigurationError, StorageUnavailable, hide_keys
from webhooks.forks import PerProcess
from webhooks.formats import json as jsonio
from webhooks.model import InboundRequest
from webhooks.settings import require_labels, shown, shown_path
from webhooks.sources.base import Secret
from webhooks.sources.signing import MAX_SECRETS

logger = logging.getLogger(__name__)

K = TypeVar("K")
Fingerprint = tuple[int, int, int]
#: Looks up the secrets of the tenant that a request is for. The request is not verified: believe nothing in it.
Provider = Callable[["InboundRequest"], Sequence[Secret]]

#: Seconds between two looks at the file.
LOOK_EVERY_SECONDS = 1.0
#: Decoded keys of providers that are remembered.
MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Key(Generic[K]):
    """A decoded key and the label of the secret that it came from."""

    label: str
    value: K

    def __repr__(self) -> str:
        return f"Key(label={self.label!r}, value='***')"


class KeyRing(Generic[K]):
    """The keys that a source tries, in order; safe for threads.

    decode: turns a secret's text into a key; raises ValueError, without the value, when it cannot.
    may_wait: start without a secret while the file is not there, since the sender is going to bring one.
    Raises ConfigurationError, with every mistake at once, when a secret cannot be used or there is none.
    """

    def __init__(
        self,
        source: str,
        secrets: Sequence[Secret],
        decode: Callable[[str], K],
        file: str | Path | None = None,
        provider: Provider | None = None,
        *,
        may_wait: bool = False,
        clock: Callable[[], float] = time.monotonic,
        stat: Callable[[Path], os.stat_result] = os.stat,
    ) -> None:
        self._source = source
        self._decode = decode
        self._file = Path(file) if file else None
        self._provider = provider
        self._may_wait = may_wait
        self._provided: dict[Secret, Key[K]] = {}
        self._configured = self._not_in_file(secrets)
        self._clock = clock
        self._stat = stat
        self._lock = PerProcess(threading.Lock)
        self._looked_at = clock()
        self._seen: Fingerprint | None = self._fingerprint()
        self._secrets: tuple[Secret, ...] = ()
        #: why the file could not be read again, while the keys of before are tried; "" where it could
        self.problem = ""
        self._keys = self._load()

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets as written, for `diagnose`."""
        return self._secrets

    def current(self, request: InboundRequest | None = None) -> tuple[Key[K], ...]:
        """The keys to try now; looks at the file when the last look is a second ago.

        request: whose keys the provider is asked for; None for those that hold for every request. Raises
        StorageUnavailable when the provider fails, so that the sender tries again.
        """
        if self._file is not None and self._clock() - self._looked_at >= LOOK_EVERY_SECONDS:
            self.refresh()
        if self._provider is None or request is None:
            return self._keys
        return (*self._keys, *self._ask(self._provider, request))

    def _ask(self, provider: Provider, request: InboundRequest) -> list[Key[K]]:
        try:
            secrets = list(provider(request))[:MAX_SECRETS]
        except Exception as error:
            # not its text, which may hold the secrets that it looked up
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = type(error).__name__
            logger.error(
                "the secrets_from of source %r failed with %s in %s, line %s",
                self._source,
                kind,
                where.filename,
                where.lineno,
            )
            raise StorageUnavailable(f"secrets_from failed with {kind}") from None
        keys = []
        for secret in secrets:
            try:
                if secret not in self._provided:
                    if len(self._provided) >= MAX_REMEMBERED:
                        self._provided.clear()
                    self._provided[secret] = Key(secret.label, self._decode(secret.reveal()))
                keys.append(self._provided[secret])
            except ValueError as error:
                logger.error("source %r: secret %r of secrets_from %s", self._source, secret.label, error)
        return keys

    def refresh(self) -> bool:
        """Look at the file at once; whether the keys are others than before."""
        if self._file is None:
            return False
        with self._lock.get():
            self._looked_at = self._clock()
            seen = self._fingerprint()
            if seen == self._seen:
                return False
            self._seen = seen
            try:
                keys = self._load()
            except ConfigurationError as error:
                self.problem = "; ".join(error.problems)
                logger.error("the secrets of source %r stay as they were: %s", self._source, self.problem)
                return False
            self.problem = ""
            changed = keys != self._keys
            self._keys = keys
            if changed:
                logger.info("source %r read its secrets again: %s", self._source, ", ".join(k.label for k in keys))
            return changed

    def _not_in_file(self, secrets: Sequence[Secret]) -> tuple[Secret, ...]:
        """The secrets that only the settings hold: what settings took from the file must go when it goes from there."""
        try:
            values = {secret.reveal() for secret in read_secret_file(self._file)} if self._file is not None else set()
        except ValueError:
            values = set()  # told by `_load`
        return tuple(secret for secret in secrets if secret.reveal() not in values)

    def _fingerprint(self) -> Fingerprint | None:
        if self._file is None:
            return None
        try:
            found = self._stat(self._file)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _load(self) -> tuple[Key[K], ...]:
        problems: list[str] = []
        secrets = [*self._configured]
        waits = self._may_wait and self._file is not None and not self._file.exists()
        if self._file is not None and not waits:
            try:
                in_file = read_secret_file(self._file)
            except ValueError as error:
                problems.append(f"source {self._source!r}: {error}")
            else:
                # one that is in both goes by its label in the file, which says whose it is
                values = {secret.reveal() for secret in in_file}
                secrets = [secret for secret in secrets if secret.reveal() not in values] + in_file
        keys: list[Key[K]] = []
        for secret in secrets:
            if not secret.reveal().strip():
                problems.append(f"source {self._source!r}: secret {secret.label!r} is blank")
                continue
            try:
                keys.append(Key(secret.label, self._decode(secret.reveal())))
            except ValueError as error:
                problems.append(f"source {self._source!r}: secret {secret.label!r} {error}")
        labels = [secret.label for secret in secrets]
        for label in sorted({label for label in labels if labels.count(label) > 1}):
            problems.append(f"source {self._source!r}: two secrets are labelled {label!r}; give each its own label")
        if not secrets and not problems and self._provider is None and not waits:
            problems.append(
                f"source {self._source!r} has no secret; set WEBHOOKS_SOURCES__{self._source}__SECRET or "
                f"WEBHOOKS_SOURCES__{self._source}__SECRET_FILE"
            )
        if len(secrets) > MAX_SECRETS:
            problems.append(f"source {self._source!r} has {len(secrets)} secrets; at most {MAX_SECRETS} are tried")
        if problems:
            raise ConfigurationError(problems)
        self._secrets = tuple(secrets)
        return tuple(keys)


def load_provider(source: str, given: object) -> Provider | None:
    """The callable that the option `secrets_from` names ("module:function") or is. Raises ConfigurationError."""
    if given is None or callable(given):
        return given
    if not isinstance(given, str) or given.count(":") != 1:
        raise ConfigurationError(f"source {source!r}: secrets_from is {shown(given)}; it must be 'module:function'")
    module, _, name = given.partition(":")
    # neither is shown before it was found: it may be a secret in a name's place
    try:
        imported = importlib.import_module(module)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"source {source!r}: the module that secrets_from names cannot be loaded ({type(error).__name__}); it must be "
            "'module:function'"
        ) from error
    found = getattr(imported, name, None)
    if found is not None and not callable(found):
        raise ConfigurationError(f"source {source!r}: what secrets_from names in module {module!r} is not a function")
    if found is None:
        raise ConfigurationError(
            f"source {source!r}: what secrets_from names cannot be loaded: module {module!r} has no such function; "
            "it must be 'module:function'"
        )
    provider: Provider = found
    return provider


def read_secret_file(path: Path) -> list[Secret]:
    """The secrets in a file: a JSON object (label → secret), a JSON list, or one secret as plain text.

    Raises ValueError, naming the file and never its content.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"the secret file {shown_path(path)} cannot be read ({error.strerror})") from None
    if raw.lstrip()[:1] not in (b"{", b"["):
        try:
            return [Secret(raw.decode("utf-8").strip(), "1")]
        except UnicodeDecodeError:
            raise ValueError(f"the secret file {shown_path(path)} is not UTF-8 text") from None
    try:
        found = jsonio.load_watching(raw)
    except jsonio.NotJSON as error:
        raise ValueError(f"the secret file {shown_path(path)} is {error}") from None
    if isinstance(found, jsonio.Watched) and found.doubled:
        raise ValueError(f"the secret file {shown_path(path)} holds the label {hide_keys(min(found.doubled))!r} twice")
    pairs = found.items() if isinstance(found, Mapping) else ((str(n), value) for n, value in enumerate(found, 1))
    secrets = []
    for label, value in pairs:
        if not isinstance(value, str):
            raise ValueError(f"the secret file {shown_path(path)} holds no text under the label {hide_keys(label)!r}")
        try:
            require_labels({label: value})
        except ValueError as error:
            raise ValueError(f"in the secret file {shown_path(path)} {error}") from None
        secrets.append(Secret(value.strip(), label))
    if not secrets:
        raise ValueError(f"the secret file {shown_path(path)} holds no secret")
    return secrets
