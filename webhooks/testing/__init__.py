"""Test handlers with the real thing, small: real intake, store and dispatcher over a database of the test's own.

Promises: what a post does here it does in production, by the same statements; everything runs in the test's thread, when it is
told; no secret of yours is read, and no network is used. Not in `drain`: time-outs, a handler's own process, limits of
concurrency and rate, the circuit breaker; those are a worker's.

`making` makes a `Kit`: it reads `project`, gives each source a key made for the run (`keys`), and a copy of a database that is
migrated once (`databases`). `kit` is what a test holds: `posting` signs and posts, `fixtures` reads files, `draining` claims and runs, `clock`
stands still, or follows a server's. Its parts are `looking` (what became of deliveries), `calling` (one event, one function), `operating` (requeue, replay,
figures, a real worker) and `adverse` (a worker dies, events overtake one another); `sandbox` is a sandbox beside it, `records` are what comes back. `plugin` has the fixtures for pytest, and imports nothing else of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.testing.kit import Kit as Kit
    from webhooks.testing.making import make_kit as make_kit
    from webhooks.testing.records import Filtered as Filtered
    from webhooks.testing.records import NothingScheduled as NothingScheduled
    from webhooks.testing.records import Posted as Posted
    from webhooks.testing.records import Run as Run
    from webhooks.testing.records import StillBusy as StillBusy
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "kit": ["Kit"],
            "making": ["make_kit"],
            "records": ["Filtered", "NothingScheduled", "Posted", "Run", "StillBusy"],
        },
    )
