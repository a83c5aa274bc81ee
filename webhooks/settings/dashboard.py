"""The section `[dashboard]`: where it is served, and who may do what there.

Files with hashes are read at start, so that a mistake in one stops it. Not here: how anyone is let in (`dashboard.access`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webhooks.formats import did_you_mean
from webhooks.formats import json as jsonio
from webhooks.formats.redaction import Redaction
from webhooks.settings.values import (
    Reader,
    one_of,
    read_bool,
    read_names,
    read_path,
    read_public_url,
    read_text,
    shown_path,
)

#: What a person may do: look, or also act.
ROLES = ("viewer", "operator")
#: In `from` of the proxy: a server that listens on a Unix socket, whose peer has no address.
UNIX = "unix"

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}", re.ASCII)
_PASSWORD_HASH = re.compile(r"scrypt:[0-9]+:[0-9]+:[0-9]+\$[^$\s]+\$[0-9a-f]{64,}", re.ASCII)
_TOKEN_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class PasswordUser:
    """Who may log in with a password; a section `[dashboard.users.<name>]`. password_hash: as `webhooks dashboard hash` makes it."""

    name: str
    password_hash: str = field(repr=False)
    role: str = "viewer"


@dataclass(frozen=True, slots=True)
class DashboardToken:
    """What a script sends as `Authorization: Bearer …`; a section `[dashboard.tokens.<name>]`.

    token_hash: SHA-256 of the token, in hexadecimal.
    """

    name: str
    token_hash: str = field(repr=False)
    role: str = "viewer"


@dataclass(frozen=True, slots=True)
class DashboardProxy:
    """A proxy in front that says who is there; the section `[dashboard.proxy]`.

    user_header, groups_header: which it sets; it must take them out of what clients send.
    peers: addresses from which it connects (`from`), "unix" for a socket of this machine.
    groups: {group: role}; a user who is in none of them is a viewer.
    """

    user_header: str
    peers: tuple[str, ...]
    groups_header: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """What the operator says of the dashboard.

    mount: whether the web processes answer it as well, beside what they accept.
    public_url: under which browsers reach it; another Host than this and loopback is refused.
    payloads_for: the least role that sees values of payloads; others see keys and types.
    redact: which values of payloads are hidden from all, until one is revealed with a reason.
    """

    mount: bool = False
    public_url: str = ""
    payloads_for: str = "operator"
    redact: Redaction = field(default_factory=Redaction)
    users: Mapping[str, PasswordUser] = field(default_factory=dict)
    tokens: Mapping[str, DashboardToken] = field(default_factory=dict)
    proxy: DashboardProxy | None = None

    @property
    def has_login(self) -> bool:
        """Whether anyone could be let in."""
        return bool(self.users or self.proxy is not None)


def read_dashboard(value: Any) -> DashboardSettings:
    """The section, from a table or from JSON of one. Raises ValueError with every mistake in it."""
    if isinstance(value, str):
        try:
            value = jsonio.load(value.encode())
        except jsonio.ERRORS:
            value = None
    if not isinstance(value, Mapping):
        raise ValueError("expected a section [dashboard], or JSON of one")
    problems: list[str] = []
    given = _read_keys(value, _READERS, "dashboard", problems)
    given["users"] = {user.name: user for user in _users(value.get("users", {}), problems)}
    given["tokens"] = {token.name: token for token in _tokens(value.get("tokens", {}), problems)}
    if "proxy" in value:
        given["proxy"] = _proxy(value["proxy"], problems)
    if problems:
        raise ValueError("; ".join(problems))
    return DashboardSettings(**given)


def _read_keys(
    section: Mapping[Any, Any], readers: Mapping[str, Reader | None], where: str, problems: list[str]
) -> dict[str, Any]:
    """What the readers make of a section's keys. readers: None for what is read elsewhere."""
    found: dict[str, Any] = {}
    for key, raw in section.items():
        if key not in readers:
            problems.append(f"{where}.{key}: there is no such key{did_you_mean(str(key), readers)}")
            continue
        reader = readers[key]
        if reader is None:
            continue
        try:
            found[key] = reader(raw)
        except ValueError as error:
            problems.append(f"{where}.{key}: {error}")
    return found


def _named(value: Any, kind: str, problems: list[str]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The sections of a kind, each with its name."""
    if not isinstance(value, Mapping):
        problems.append(f"dashboard.{kind}: expected a section for each, such as [dashboard.{kind}.ada]")
        return
    for name, section in value.items():
        if not isinstance(section, Mapping):
            problems.append(f"dashboard.{kind}.{name}: expected a section with its hash and role")
        elif not _NAME.fullmatch(str(name)):
            problems.append(f"dashboard.{kind}.{name}: a name has letters, digits and _.@+-, at most 64 of them")
        else:
            yield str(name), section


def _hash(section: Mapping[Any, Any], key: str, pattern: re.Pattern[str], where: str, problems: list[str]) -> str:
    """The hash that a section holds or names a file of; "" and a problem where there is none."""
    how = f"give {key} or {key}_file; `webhooks dashboard hash` makes it"
    try:
        if f"{key}_file" in section:
            path = read_path(section[f"{key}_file"])
            text = _content(path)
        else:
            text = read_text(section[key])
    except KeyError:
        problems.append(f"{where}: it has no {key}; {how}")
        return ""
    except ValueError as error:
        problems.append(f"{where}: {error}")
        return ""
    if pattern.fullmatch(text) is None:
        problems.append(f"{where}: {key} is no hash of ours; {how}")
    return text


def _content(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(f"the file {shown_path(path)} cannot be read: {reason}") from None


def _users(value: Any, problems: list[str]) -> Iterator[PasswordUser]:
    readers: Mapping[str, Reader | None] = {
        "role": one_of(*ROLES),
        "password_hash": None,
        "password_hash_file": None,
    }
    for name, section in _named(value, "users", problems):
        where = f"dashboard.users.{name}"
        given = _read_keys(section, readers, where, problems)
        yield PasswordUser(name, _hash(section, "password_hash", _PASSWORD_HASH, where, problems), **given)


def _tokens(value: Any, problems: list[str]) -> Iterator[DashboardToken]:
    readers: Mapping[str, Reader | None] = {"role": one_of(*ROLES), "token_hash": None, "token_hash_file": None}
    for name, section in _named(value, "tokens", problems):
        where = f"dashboard.tokens.{name}"
        given = _read_keys(section, readers, where, problems)
        yield DashboardToken(name, _hash(section, "token_hash", _TOKEN_HASH, where, problems), **given)


def _proxy(section: Any, problems: list[str]) -> DashboardProxy | None:
    where = "dashboard.proxy"
    if not isinstance(section, Mapping):
        problems.append(f"{where}: expected a section with user_header and from")
        return None
    readers: Mapping[str, Reader | None] = {
        "user_header": _read_header,
        "groups_header": _read_header,
        "from": _read_peers,
        "groups": _read_groups,
    }
    given = _read_keys(section, readers, where, problems)
    for key, why in (("user_header", "says who is there"), ("from", "its addresses, or a client could say anything")):
        if key not in section:
            problems.append(
                f"{where}: it has no {key}, which {why}" if key == "user_header" else f"{where}: from is missing: {why}"
            )
    if problems:
        return None
    return DashboardProxy(peers=given.pop("from"), **given)


def _read_header(value: Any) -> str:
    text = read_text(value)
    if _HEADER.fullmatch(text) is None:
        raise ValueError("expected the name of a header, such as 'X-Forwarded-User'")
    return text


def _read_peers(value: Any) -> tuple[str, ...]:
    """Addresses of proxies, and "unix". Raises ValueError."""
    names = read_names(value)
    for name in names:
        if name == UNIX:
            continue
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise ValueError(f"{name[:40]!r} is no address; expected such as '10.0.0.7', or 'unix'") from None
    return tuple(name if name == UNIX else str(ipaddress.ip_address(name)) for name in names)


def _read_groups(value: Any) -> Mapping[str, str]:
    """{group: role}. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError('expected a table of groups and roles, such as { ops = "operator" }')
    read = one_of(*ROLES)
    return {read_text(name): read(role) for name, role in value.items()}


_READERS: Mapping[str, Reader | None] = {
    "mount": read_bool,
    "redact": lambda value: Redaction(read_names(value)),
    "public_url": read_public_url,
    "payloads_for": one_of(*ROLES),
    "users": None,
    "tokens": None,
    "proxy": None,
}

__all__ = [
    "ROLES",
    "UNIX",
    "DashboardProxy",
    "DashboardSettings",
    "DashboardToken",
    "PasswordUser",
    "read_dashboard",
]
