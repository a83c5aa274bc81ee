"""A source of its settings. The table of senders is loaded only where one of them is configured."""

from __future__ import annotations

from webhooks.sources.base import Source, SourceSettings
from webhooks.sources.close import CloseSource


def make_source(settings: SourceSettings) -> Source:
    """The source that `settings` describe. Raises ConfigurationError with every mistake in them."""
    if settings.scheme == CloseSource.scheme:
        return CloseSource(settings)
    from webhooks.sources.declared.schemes import make_declared

    return make_declared(settings)


__all__ = ["make_source"]
