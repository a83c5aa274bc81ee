"""Every benchmark in its short form, or one of them with its own options.

python -m benchmarks                    all of them: some minutes
python -m benchmarks ingest --all       one, as `python -m benchmarks.ingest --all`
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

#: In the order in which they run when none is named.
PARTS = ("ingest", "dispatch", "handlers", "growth", "mixed", "replay", "slow_crowd")
#: Only when named.
OTHERS = ("dashboard", "health", "metrics", "quick", "synced")


def main(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] not in (*PARTS, *OTHERS):
        print(
            f"there is no benchmark named {arguments[0]!r}; there are: {', '.join((*PARTS, *OTHERS))}", file=sys.stderr
        )
        return 2
    worst = 0
    for part in arguments[:1] or PARTS:
        module = importlib.import_module(f"benchmarks.{part}")
        worst = max(worst, module.main(arguments[1:]))
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
