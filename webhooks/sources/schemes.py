"""The schemes by name, and how a source is made from its settings."""

from __future__ import annotations

import difflib

from webhooks.errors import ConfigurationError
from webhooks.sources.base import Source, SourceSettings
from webhooks.sources.close import CloseSource

_SCHEMES: dict[str, type[Source]] = {CloseSource.scheme: CloseSource}


def scheme_names() -> list[str]:
    return sorted(_SCHEMES)


def make_source(settings: SourceSettings) -> Source:
    """The source that `settings` describe. Raises ConfigurationError with every mistake in them."""
    scheme = _SCHEMES.get(settings.scheme)
    if scheme is None:
        near = difflib.get_close_matches(settings.scheme, _SCHEMES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(
            f"source {settings.name!r}: no scheme named {settings.scheme!r}; known: {', '.join(scheme_names())}{hint}"
        )
    return scheme(settings)
