"""Sources: `make_source(settings)` turns settings into the source that verifies and reads a sender's requests."""

from __future__ import annotations

from webhooks.sources.base import Secret, Source, SourceSettings
from webhooks.sources.schemes import make_source, scheme_names

__all__ = ["Secret", "Source", "SourceSettings", "make_source", "scheme_names"]
