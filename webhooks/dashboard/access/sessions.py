"""The cookie: who logged in, signed; nothing of it is kept here, so a restart ends no login.

It names the user and a digest of her password's hash, so that a new password ends it; the role is not in it. It ends
after `IDLE` without a request, and `LONGEST` after the login however busy.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from itsdangerous import BadData, URLSafeSerializer

NAME = "webhooks_dashboard"
IDLE = timedelta(hours=12)
LONGEST = timedelta(days=7)
#: A cookie that is older is written anew, so that it ends `IDLE` after the last request, or a little earlier.
REWRITE_AFTER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Login:
    """One login. digest: of what proved it; id: made at random, forms are signed for it."""

    user: str
    digest: str
    id: str
    began_at: datetime
    seen_at: datetime


class LoginCookies:
    """Signs and reads cookies. keys: the newest last; the others only verify."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._signer = URLSafeSerializer(list(keys), salt="webhooks.dashboard.session")

    def begin(self, user: str, proof: str, now: datetime) -> Login:
        """A new login. proof: what the digest is of: a password's hash, or a key."""
        return Login(user, digest_of(proof), secrets.token_urlsafe(12), now, now)

    def write(self, session: Login) -> str:
        """The cookie's text."""
        began, seen = int(session.began_at.timestamp()), int(session.seen_at.timestamp())
        return str(self._signer.dumps([session.user, session.digest, session.id, began, seen]))

    def read(self, text: str, now: datetime) -> Login | None:
        """The login of a cookie; None where it is not ours, or has ended."""
        try:
            user, digest, id, began, seen = self._signer.loads(text)
            session = Login(
                str(user), str(digest), str(id), datetime.fromtimestamp(began, UTC), datetime.fromtimestamp(seen, UTC)
            )
        except (BadData, ValueError, TypeError, OverflowError, OSError):
            return None
        return session if now - session.seen_at < IDLE and now - session.began_at < LONGEST else None


def digest_of(proof: str) -> str:
    """What a cookie holds of a password's hash, or of a key: enough to see that it changed, too little to try passwords on."""
    return hashlib.sha256(b"webhooks.dashboard\0" + proof.encode()).hexdigest()[:24]


__all__ = ["IDLE", "LONGEST", "NAME", "REWRITE_AFTER", "Login", "LoginCookies", "digest_of"]
