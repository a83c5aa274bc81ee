"""What of a payload may be seen: values that are hidden where people look, and values that are replaced where events leave.

`paths` hides what patterns name (`[dashboard] redact`); everything else stays as it was written. `rules` is the other way
round, for fixtures: everything is replaced but what rules let stay, with values of the same kind and shape, and
`checked` proves that nothing that was replaced is left. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.formats.redaction.paths import HIDDEN as HIDDEN
    from webhooks.formats.redaction.paths import SHORTEST as SHORTEST
    from webhooks.formats.redaction.paths import Redaction as Redaction
    from webhooks.formats.redaction.paths import scrub as scrub
    from webhooks.formats.redaction.rules import STRICT as STRICT
    from webhooks.formats.redaction.rules import FixtureRules as FixtureRules
    from webhooks.formats.redaction.rules import Leak as Leak
    from webhooks.formats.redaction.rules import Replacer as Replacer
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "paths": ["HIDDEN", "Redaction", "SHORTEST", "scrub"],
            "rules": ["Leak", "Replacer", "FixtureRules", "STRICT"],
        },
    )
