"""Who asked for a change: kept on record with what was changed (`operations.actions`), and said in the log.

Every operation that changes something takes an `Actor`. `via` says by which of our doors it came, so that a page can tell
what was pressed from what was typed.
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass

logger = logging.getLogger(__name__)


class Via(enum.StrEnum):
    """By which door an operation was asked for."""

    CLI = "cli"  #: a command was typed
    DASHBOARD = "dashboard"  #: a button was pressed
    TOKEN = "token"  #: a script sent a request with a token
    PYTHON = "python"  #: a program called it


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a change.

    name: of the user, as it is kept on record.
    via: by which door.
    address: of the client, where there is one.
    """

    name: str
    via: Via = Via.PYTHON
    address: str | None = None

    def __str__(self) -> str:
        return self.name

    def tell(self, action: str, what: str) -> None:
        """Say in the log what this actor did. action: its name, such as "requeue". what: a sentence without its subject."""
        logger.info("%s (%s) %s", self.name, self.via.value, what, extra={"action": action, "via": self.via.value})


__all__ = ["Actor", "Via"]
