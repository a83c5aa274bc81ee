"""Who is there, and what she may do.

Promises: nothing is shown to anyone who is not let in by the settings, and nothing changes but by a POST from our own page
by an operator; a changed password, a removed user or a changed role counts from the next request on. Not here: the
pages of logging in (`pages.login`), what an action does.

`guard` asks in this order: is the address one of ours (`hosts`), who comes (a token, the application's callable, a proxy's
header, `sessions`), and, for a POST, is it from our page (`forgery`). `passwords` compares and counts failures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.dashboard.access.guard import Access as Access
    from webhooks.dashboard.access.guard import make_access as make_access
    from webhooks.dashboard.access.passwords import TooManyFailures as TooManyFailures
    from webhooks.dashboard.access.passwords import hash_password as hash_password
    from webhooks.dashboard.access.passwords import hash_token as hash_token
    from webhooks.dashboard.access.records import DashboardUser as DashboardUser
    from webhooks.dashboard.access.records import Refused as Refused
    from webhooks.dashboard.access.records import UserRole as UserRole
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "guard": ["Access", "make_access"],
            "passwords": ["TooManyFailures", "hash_password", "hash_token"],
            "records": ["Refused", "UserRole", "DashboardUser"],
        },
    )
