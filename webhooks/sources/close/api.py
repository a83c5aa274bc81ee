"""The settings of Close's API: `api_key` (or `api_key_file`) and `api_url` in the source's section. Pure but for the file.

The key is only needed by what asks Close (`catch-up`, `subscriptions`, `doctor`); accepting webhooks needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from webhooks.errors import ConfigurationError
from webhooks.settings import Secret, shown_path

URL = "https://api.close.com/api/v1"
API_OPTIONS = frozenset(("api_key", "api_key_file", "api_url"))
_LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))


@dataclass(frozen=True, slots=True)
class Api:
    """Where Close's API is and the key for it. source: the name of the source that it belongs to."""

    source: str
    url: str = URL
    key: Secret | None = None

    @property
    def is_local(self) -> bool:
        """Whether the address is on this machine."""
        return urlsplit(self.url).hostname in _LOOPBACK

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
    key = _read_key(source, options, problems)
    return Api(source, _read_url(source, options.get("api_url", URL), problems), key), problems


def _read_key(source: str, options: Mapping[str, Any], problems: list[str]) -> Secret | None:
    if "api_key" in options and "api_key_file" in options:
        problems.append(f"source {source!r}: api_key and api_key_file are the same setting; keep one of them")
        return None
    name, text = "api_key", options.get("api_key")
    if "api_key_file" in options:
        name = "api_key_file"
        try:
            text = Path(str(options[name])).read_text("utf-8")
        except UnicodeDecodeError:
            problems.append(
                f"source {source!r}: the file {shown_path(str(options[name]))} of api_key_file is not UTF-8 text"
            )
            return None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "its name is none"
            problems.append(
                f"source {source!r}: the file {shown_path(str(options[name]))} of api_key_file cannot be read: {reason}"
            )
            return None
    elif text is None:
        return None
    stripped = text.strip() if isinstance(text, str) else ""
    if not stripped:
        problems.append(f"source {source!r}: {name} is blank; give an API key of Close's, or take the setting away")
    elif not stripped.isascii() or not stripped.isprintable() or " " in stripped or ":" in stripped:
        problems.append(f"source {source!r}: {name} holds a character that no API key has; copy it as Close shows it")
    else:
        return Secret(stripped, "api_key")
    return None


def _read_url(source: str, url: Any, problems: list[str]) -> str:
    expected = f"expected an address such as {URL!r}"
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None:
        problems.append(f"source {source!r}: api_url is not usable; {expected}")
        return URL
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        problems.append(f"source {source!r}: api_url is http, which would show the key on its way; use https")
        return URL
    return str(url).rstrip("/")
