"""Beside Celery: hand events over to tasks, or let Celery's processes run our deliveries.

Promises: the broker is never in the way of a request; what it loses, doubles or delays loses and doubles nothing, since
rows say what is to be run and messages are hints. Not here: what a delivery is (`delivery`), who runs it otherwise
(`webhooks worker`).

`recipe` makes a handler that calls a task; that needs nothing else of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.contrib.celery.recipe import hand_over as hand_over
else:
    __getattr__, __dir__ = lazily(__name__, {"recipe": ["hand_over"]})
