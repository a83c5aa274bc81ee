"""How much one statement of a listing looks at. Asked for by name at each use, so that tests may set other numbers."""

from __future__ import annotations

#: Rows of one statement of a walk.
STEP = 500
#: The same of a walk of what holds lanes: each statement looks at all that do.
HELD_STEP = 2_000
#: Rows that one statement of a look judges, at most: a look with a deadline ends soon after it.
WINDOW = 2_000
#: The same where each body is read and judged here.
JUDGED_WINDOW = 500
#: Deliveries that `stats` looks back over, at most.
STATS_LIMIT = 100_000
