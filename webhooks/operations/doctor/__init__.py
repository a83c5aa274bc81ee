"""Say what is wrong before users notice, and which command repairs it, or shows more.

Promises: nothing stops the examination, because what could not be looked at is a finding of its own; what could lose or
repeat something is left to the command that the finding names.

`collect` gathers `facts`: from the settings, the database and, where there is an API key, from the sender. `checks` turns
facts into findings; it is pure, so every sentence has a table-like test. `repair` does what is safe: it resumes what was
not paused on purpose, subscribes to what handlers lack, fetches keys and starts a catch-up.

Not here: how it is shown (`cli.doctor`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from webhooks.lazy import lazily

if TYPE_CHECKING:
    from webhooks.operations.doctor.checks import CHECKS as CHECKS
    from webhooks.operations.doctor.checks import diagnose as diagnose
    from webhooks.operations.doctor.collect import Doctor as Doctor
    from webhooks.operations.doctor.facts import Facts as Facts
    from webhooks.operations.doctor.facts import HandlerFacts as HandlerFacts
    from webhooks.operations.doctor.facts import SourceFacts as SourceFacts
    from webhooks.operations.doctor.findings import Finding as Finding
    from webhooks.operations.doctor.findings import Fix as Fix
    from webhooks.operations.doctor.findings import Level as Level
    from webhooks.operations.doctor.source_checks import expected_silence as expected_silence
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "checks": ["CHECKS", "diagnose"],
            "collect": ["Doctor"],
            "facts": ["Facts", "HandlerFacts", "SourceFacts"],
            "findings": ["Finding", "Fix", "Level"],
            "source_checks": ["expected_silence"],
        },
    )
