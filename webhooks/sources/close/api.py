"""The settings of Close's API: `api_key` (or `api_key_file`) and `api_url` in the source's section. Pure but for the file.

The key is only needed by what asks Close (`catch-up`, `subscriptions`, `doctor`); accepting webhooks needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webhooks.errors import ConfigurationError
from webhooks.settings import Secret
from webhooks.sources.api import API_OPTIONS, is_local, read_key, read_url

URL = "https://api.close.com/api/v1"


@dataclass(frozen=True, slots=True)
class Api:
    """Where Close's API is and the key for it. source: the name of the source that it belongs to."""

    source: str
    url: str = URL
    key: Secret | None = None

    @property
    def is_local(self) -> bool:
        """Whether the address is on this machine."""
        return is_local(self.url)

    def require_key(self) -> Secret:
        """The key. Raises ConfigurationError with the line to add."""
        if self.key is None:
            raise ConfigurationError(
                f"source {self.source!r} has no API key, without which Close cannot be asked; make one for an admin in "
                f'Close (Settings, Developer, API Keys) and set WEBHOOKS_SOURCES__{self.source}__API_KEY, or api_key = "api_…" '
                f"in [sources.{self.source}]"
            )
        return self.key


def read_api(source: str, options: Mapping[str, Any]) -> tuple[Api, list[str]]:
    """The API's settings and what is wrong with them; no sentence holds the key."""
    problems: list[str] = []
    key = read_key(source, options, "Close", problems)
    return Api(source, read_url(source, options, URL, problems), key), problems


__all__ = ["API_OPTIONS", "URL", "Api", "read_api"]
