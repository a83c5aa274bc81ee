"""The settings of a sender's API: `api_key` (or `api_key_file`) and `api_url` in the source's section. Pure but for the file.

The key is only needed by what asks the sender (`catch-up`, `subscriptions`, `doctor`); accepting webhooks needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from webhooks.settings import Secret, shown_path

API_OPTIONS = frozenset(("api_key", "api_key_file", "api_url"))
_LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))


def is_local(url: str) -> bool:
    """Whether an address is on this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def read_key(
    source: str, options: Mapping[str, Any], sender: str, problems: list[str], *, joined: str = ""
) -> Secret | None:
    """The key for a sender's API, of `api_key` or `api_key_file`; None where neither says one. Adds to `problems`.

    joined: what a key must be that has two parts with a colon between; "" for keys that have none.
    """
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
        problems.append(f"source {source!r}: {name} is blank; give an API key of {sender}'s, or take the setting away")
    elif not stripped.isascii() or not stripped.isprintable() or " " in stripped or (":" in stripped and not joined):
        problems.append(
            f"source {source!r}: {name} holds a character that no API key has; copy it as {sender} shows it"
        )
    elif joined and (stripped.count(":") != 1 or "" in stripped.split(":")):
        problems.append(f"source {source!r}: {name} must be {joined}")
    else:
        return Secret(stripped, "api_key")
    return None


def read_url(source: str, options: Mapping[str, Any], default: str, problems: list[str]) -> str:
    """The address of a sender's API, without a slash at its end; `default` where `api_url` says none. Adds to `problems`."""
    url = options.get("api_url", default)
    expected = f"expected an address such as {default!r}"
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None:
        problems.append(f"source {source!r}: api_url is not usable; {expected}")
        return default
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        problems.append(f"source {source!r}: api_url is http, which would show the key on its way; use https")
        return default
    return str(url).rstrip("/")


__all__ = ["API_OPTIONS", "is_local", "read_key", "read_url"]
