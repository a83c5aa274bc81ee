"""What is said of one thing that may lose events."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Doubt:
    """One thing that a 2xx rests on and that may not hold.

    code: stable, for scripts.
    text: what could be lost, and the fix.
    command: what mends it, if one command does.
    is_loss: events are lost for sure, so nothing starts.
    """

    code: str
    text: str
    command: str | None = None
    is_loss: bool = False


__all__ = ["Doubt"]
