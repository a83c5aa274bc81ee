"""The table of senders: one row each, in the language of `scheme`, with the page that each fact comes from.

`first` has the rows from the beginning, `further` those whose keys the sender publishes; the others stand by what their senders
tell of: `development`, `work`, `commerce`, `platforms`. `custom` is the empty row that `webhooks.toml` fills.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.sources.declared.rows.commerce import COMMERCE_ROWS as COMMERCE_ROWS
    from webhooks.sources.declared.rows.development import DEVELOPMENT_ROWS as DEVELOPMENT_ROWS
    from webhooks.sources.declared.rows.first import CUSTOM as CUSTOM
    from webhooks.sources.declared.rows.first import FIRST_ROWS as FIRST_ROWS
    from webhooks.sources.declared.rows.further import FURTHER_ROWS as FURTHER_ROWS
    from webhooks.sources.declared.rows.platforms import PLATFORM_ROWS as PLATFORM_ROWS
    from webhooks.sources.declared.rows.work import WORK_ROWS as WORK_ROWS
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "first": ["CUSTOM", "FIRST_ROWS"],
            "further": ["FURTHER_ROWS"],
            "commerce": ["COMMERCE_ROWS"],
            "development": ["DEVELOPMENT_ROWS"],
            "platforms": ["PLATFORM_ROWS"],
            "work": ["WORK_ROWS"],
        },
    )
