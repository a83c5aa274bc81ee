"""How values are written and read: JSON, text that is safe to show, what a database's error says.

Promises: bytes and text from outside never make anything here fail in another way than it says, and what comes out can
be stored and printed. Pure functions, no clock, no connection.

`json` reads and writes bodies, `sqlstates` reads errors of databases, `text` makes any error and any text fit for a
line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.formats.text import error_summary as error_summary
    from webhooks.formats.text import error_text as error_text
    from webhooks.formats.text import exception_text as exception_text
    from webhooks.formats.text import one_line as one_line
    from webhooks.formats.text import printable as printable
    from webhooks.formats.text import text_of as text_of
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "text": ["error_summary", "error_text", "exception_text", "one_line", "printable", "text_of"],
        },
    )
