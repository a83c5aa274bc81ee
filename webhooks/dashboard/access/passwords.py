"""Passwords and tokens: how they are kept, compared, and how many tries there are.

A password costs 32 MB and half a second to try, one at a time in a process; an unknown name costs the same. Failures are
counted in this process and on record, so that several processes, or a restart, give no further tries. A token is long and
made at random, so a plain digest of it is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from werkzeug.security import check_password_hash, generate_password_hash

from webhooks.errors import WebhooksError

#: As werkzeug 3.1 makes it by default, fixed here so that hashes stay readable by `settings`.
METHOD = "scrypt:32768:8:1"
#: So many failures within `WINDOW`, of a name or of an address, and no password is tried any more.
MOST_FAILURES = 10
WINDOW = timedelta(minutes=15)
#: Names and addresses whose failures are remembered at most.
_MOST_KNOWN = 10_000


class TooManyFailures(WebhooksError):
    """No password is tried now. seconds: until one is again, at most."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many failed logins; try again in {max(1, round(seconds / 60))} min")
        self.seconds = seconds


def hash_password(password: str) -> str:
    """What stands in the settings for a password."""
    return generate_password_hash(password, METHOD)


def hash_token(token: str) -> str:
    """What stands in the settings for a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def find_token(token: str, hashes: Mapping[str, str]) -> str | None:
    """The name of a token; None where there is none. hashes: {name: hash}."""
    given = hash_token(token)
    found = [name for name, each in hashes.items() if hmac.compare_digest(given, each)]
    return found[0] if found else None


class Passwords:
    """Compares passwords.

    hashes: {name: hash}.
    clock: aware UTC now.
    count: how many tries of a name, or from an address, are on record as failed since then, by any process: `count(since,
        name=…)`, `count(since, address=…)`.
    """

    def __init__(
        self,
        hashes: Mapping[str, str],
        clock: Callable[[], datetime],
        count: Callable[..., int] = lambda since, **of: 0,
    ) -> None:
        self._hashes = hashes
        self._clock = clock
        self._count = count
        self._lock = threading.Lock()
        self._failures: dict[str, list[datetime]] = {}
        #: compared with where no such user is, so that it takes as long; made at the first try
        self._nobody = ""

    def is_right(self, name: str, password: str, address: str) -> bool:
        """Try a password. address: from which it came. Raises `TooManyFailures`, before anything is compared."""
        keys = (f"name {name[:100]}", f"address {address}")
        with self._lock:  # one hash at a time: each takes 32 MB
            now = self._clock()
            self._require_few(keys, now)
            self._require_few_on_record(name, address, now)
            self._nobody = self._nobody or self._make_nobody()
            known = self._hashes.get(name)
            is_right = check_password_hash(known or self._nobody, password) and known is not None
            if not is_right:
                self._remember(keys, now)
            else:
                self._failures.pop(keys[0], None)
        return is_right

    def _make_nobody(self) -> str:
        """The hash of a password that is no user's, as costly as those of users."""
        method = next(iter(self._hashes.values()), METHOD).partition("$")[0]
        return generate_password_hash(secrets.token_hex(16), method)

    def _require_few(self, keys: tuple[str, ...], now: datetime) -> None:
        for key in keys:
            recent = [at for at in self._failures.get(key, ()) if now - at < WINDOW]
            if len(recent) >= MOST_FAILURES:
                raise TooManyFailures(int((recent[-MOST_FAILURES] + WINDOW - now).total_seconds()) + 1)

    def _require_few_on_record(self, name: str, address: str, now: datetime) -> None:
        since = now - WINDOW
        of_name = self._count(since, name=name) if name in self._hashes else 0
        if of_name >= MOST_FAILURES or self._count(since, address=address) >= MOST_FAILURES:
            raise TooManyFailures(int(WINDOW.total_seconds()))

    def _remember(self, keys: tuple[str, ...], now: datetime) -> None:
        for key in keys:
            recent = [at for at in self._failures.pop(key, ()) if now - at < WINDOW]
            self._failures[key] = [*recent, now][-MOST_FAILURES:]
        while len(self._failures) > _MOST_KNOWN:
            del self._failures[next(iter(self._failures))]


__all__ = ["MOST_FAILURES", "WINDOW", "Passwords", "TooManyFailures", "find_token", "hash_password", "hash_token"]
