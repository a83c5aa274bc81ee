"""Repair what a wrong clock wrote: leases, due times and open breakers that lie further ahead than their reason.

Instants of leases and due times are the database's clock: on PostgreSQL its host's, on SQLite each process's own. A clock
that was ahead for a moment would else be believed for as long as it was ahead, and one that is behind finds nothing due.
What can be known of an instant is its reason: a lease is as long as its holder's (`webhooks_processes.lease`), a wait as
long as from `scheduled_at` to `due_at`, a fresh delivery is due when it is made. So what ends later than now and its
reason is moved to just there. Nothing is ever moved further away, and nothing is deleted.

Several processes on one SQLite file share a machine, and so its monotonic clock: `differing` tells by it which are alive
and have another idea of the time. What such a process holds is not taken from it, and a wait that it wrote is left to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.store.clocks.clocks import Clocks as Clocks
    from webhooks.store.clocks.records import Repaired as Repaired
else:
    __getattr__, __dir__ = lazily(__name__, {"clocks": ["Clocks"], "records": ["Repaired"]})
