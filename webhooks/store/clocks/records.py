"""What a repair did, and how much one statement of it does."""

from __future__ import annotations

from dataclasses import dataclass

#: Rows that are moved in one statement.
BATCH = 500


@dataclass(frozen=True, slots=True)
class Repaired:
    """How many instants were moved. due: deliveries that are due sooner now."""

    leases: int = 0
    due: int = 0
    breakers: int = 0

    def __bool__(self) -> bool:
        return bool(self.leases or self.due or self.breakers)


__all__ = ["BATCH", "Repaired"]
