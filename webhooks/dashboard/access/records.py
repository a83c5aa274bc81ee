"""Who comes, and why a request is not let in."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from webhooks.errors import WebhooksError


class UserRole(enum.IntEnum):
    """What a person may do; a higher one may all that a lower one may."""

    VIEWER = 1  #: looks
    OPERATOR = 2  #: also acts, and sees the values of payloads

    @property
    def word(self) -> str:
        """As it is written in settings."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> UserRole:
        """The role of that word."""
        return cls[word.upper()]


class Door(enum.StrEnum):
    """How a user was let in."""

    PASSWORD = "password"  #: by our form
    PROXY = "proxy"  #: a proxy says who it is
    APPLICATION = "application"  #: the host application says it
    TOKEN = "token"  #: a script
    CONSOLE = "console"  #: the link that `webhooks dev` printed


@dataclass(frozen=True, slots=True)
class DashboardUser:
    """Who is there. `Webhooks(app, dashboard_user=…)` gives such ones: a name and a role are enough.

    role: "viewer" or "operator", or a `UserRole`.
    session: what forms are signed for; with a cookie of ours, each login has its own.
    """

    name: str
    role: UserRole | str
    door: Door = Door.APPLICATION
    session: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.role, UserRole):
            object.__setattr__(self, "role", UserRole.of(self.role))

    def may(self, needed: UserRole) -> bool:
        """Whether her role is enough."""
        assert isinstance(self.role, UserRole)
        return self.role >= needed


class Refused(WebhooksError):
    """A request is not let in. status: of the answer. The text says what to do, and nothing about users."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


__all__ = ["DashboardUser", "Door", "Refused", "UserRole"]
