"""Which events or deliveries are meant: one grammar for the command line, pages and Python.

Promises: what was written wrongly is told with its place; the same text means the same everywhere. Not here: SQL
(`store.conditions`).

`selection` reads texts into a `Selection`, its `where` by `expression`; `line` reads one line, and changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.selection.expression import Expression as Expression
    from webhooks.selection.selection import ANY_CHARACTER as ANY_CHARACTER
    from webhooks.selection.selection import ANY_TEXT as ANY_TEXT
    from webhooks.selection.selection import CONDITIONS as CONDITIONS
    from webhooks.selection.selection import MOST_DOUBLE_WILDCARDS as MOST_DOUBLE_WILDCARDS
    from webhooks.selection.selection import STATES as STATES
    from webhooks.selection.selection import UNROUTED as UNROUTED
    from webhooks.selection.selection import Selection as Selection
    from webhooks.selection.selection import glob_parts as glob_parts
    from webhooks.selection.selection import is_exact_in_sql as is_exact_in_sql
    from webhooks.selection.selection import parse_duration as parse_duration
    from webhooks.selection.selection import parse_id as parse_id
    from webhooks.selection.selection import parse_time as parse_time
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "expression": ["Expression"],
            "selection": [
                "ANY_CHARACTER",
                "ANY_TEXT",
                "CONDITIONS",
                "MOST_DOUBLE_WILDCARDS",
                "STATES",
                "Selection",
                "UNROUTED",
                "glob_parts",
                "is_exact_in_sql",
                "parse_duration",
                "parse_id",
                "parse_time",
            ],
        },
    )
