"""Schemes by name: the rows of the table, one with a class of its own, and those of other distributions.

`make_declared` turns a source's settings into a source: a row by its name, `custom` (alias `hmac`) for a sender
described in `webhooks.toml`, or a scheme from another distribution (entry point group
`webhooks.sources`: a `Scheme`, or a subclass of `Source` that takes the settings).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from webhooks.errors import ConfigurationError
from webhooks.formats import did_you_mean
from webhooks.settings import shown
from webhooks.sources import logs
from webhooks.sources.base import Source, SourceSettings
from webhooks.sources.declared.rows import (
    COMMERCE_ROWS,
    CUSTOM,
    DEVELOPMENT_ROWS,
    FIRST_ROWS,
    FURTHER_ROWS,
    PLATFORM_ROWS,
    WORK_ROWS,
)
from webhooks.sources.declared.scheme import Scheme
from webhooks.sources.declared.source import DeclaredSource

#: The scheme that is no row.
CLOSE = "close"
#: Every row; a name stands once.
ROWS: tuple[Scheme, ...] = (
    *FIRST_ROWS,
    *FURTHER_ROWS,
    *DEVELOPMENT_ROWS,
    *WORK_ROWS,
    *COMMERCE_ROWS,
    *PLATFORM_ROWS,
)
#: {name in `scheme = "…"`: row}.
SCHEMES: Mapping[str, Scheme] = {row.name: row for row in ROWS} | {"hmac": CUSTOM}
#: {name: the class of its sources}: rows whose senders can be asked for what never reached us.
LOGGED: Mapping[str, str] = {"github": "GitHubSource", "paypal": "PayPalSource", "stripe": "StripeSource"}


def scheme_names() -> list[str]:
    """Every name that `scheme = "…"` may have, those of other distributions included."""
    return sorted({*SCHEMES, CLOSE, *_foreign()})


def make_declared(settings: SourceSettings) -> Source:
    """The source that `settings` describe. Raises ConfigurationError with every mistake in them."""
    if settings.scheme in SCHEMES:
        kind = getattr(logs, LOGGED[settings.scheme]) if settings.scheme in LOGGED else DeclaredSource
        made: Source = kind(settings, SCHEMES[settings.scheme])
        return made
    if settings.scheme in _foreign():
        return _make_foreign(settings)
    raise ConfigurationError(
        f"source {settings.name!r}: no scheme named {shown(settings.scheme)}"
        f"{did_you_mean(settings.scheme, scheme_names())}; known: {', '.join(scheme_names())}"
    )


@cache
def _foreign() -> dict[str, object]:
    """{name: entry point} of the schemes that other distributions bring; not loaded before one is used."""
    return {each.name: each for each in entry_points(group="webhooks.sources")}


def _make_foreign(settings: SourceSettings) -> Source:
    try:
        found = _foreign()[settings.scheme].load()  # type: ignore[attr-defined]
    except Exception as error:
        raise ConfigurationError(
            f"source {settings.name!r}: scheme {settings.scheme!r} cannot be loaded ({type(error).__name__}: {error})"
        ) from error
    if isinstance(found, Scheme):
        return DeclaredSource(settings, found)
    if isinstance(found, type) and issubclass(found, Source):
        return found(settings)
    raise ConfigurationError(
        f"source {settings.name!r}: the entry point of scheme {settings.scheme!r} is neither a Scheme nor a Source"
    )
