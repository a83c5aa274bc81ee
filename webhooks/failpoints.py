"""Places where a test can kill this process: at every commit boundary of a delivery's life.

`WEBHOOKS_TEST_FAILPOINT="finish.before_commit:3"` (several with commas) makes the third passage of that place a
`kill -9` of this process; without the variable `hit` is an empty function. `tests/acceptance/test_crash.py` goes
through `NAMES` on both databases and checks that nothing is lost, stuck or done twice.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "WEBHOOKS_TEST_FAILPOINT"

#: Every place, in the order in which a delivery meets them.
NAMES = (
    "claim.before_commit",
    "claim.after_commit",
    "run.before_handler",
    "run.after_handler",
    "run.before_mark",
    "run.before_commit",
    "run.after_commit",
    "finish.before_commit",
    "finish.after_commit",
    "retry.before_commit",
    "retry.after_commit",
    "dead.before_commit",
    "dead.after_commit",
    "rescue.before_commit",
    "rescue.after_commit",
    "replay.before_commit",
    "replay.after_commit",
    "action.before_commit",
    "action.after_commit",
    "prune.before_commit",
    "prune.after_commit",
)


def parse(text: str) -> dict[str, int]:
    """{place: which passage is the last}. Raises ValueError for a place that does not exist."""
    wanted: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, count = part.partition(":")
        if name not in NAMES:
            raise ValueError(f"{VARIABLE}: no place named {name!r}; places: {', '.join(NAMES)}")
        wanted[name] = int(count or 1)
    return wanted


#: Whether a test asked for any place.
IS_WANTED = bool(_wanted := parse(os.environ.get(VARIABLE, "")))

if IS_WANTED:
    _passed: Counter[str] = Counter()

    def hit(name: str) -> None:
        """Pass a place; the last passage asked for ends the process as `kill -9` would."""
        _passed[name] += 1
        if _passed[name] == _wanted.get(name):
            os.kill(os.getpid(), signal.SIGKILL)

else:

    def hit(name: str) -> None:
        """Pass a place; nothing happens unless a test asked for it."""
