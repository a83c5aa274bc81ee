"""The URL of a PostgreSQL database, read once for all: the pool, the listener and every command connect by it alike.

What its query says goes to libpq: `sslmode`, `target_session_attrs`, `service`, `passfile`, `options` and so on; what libpq does not
know is refused with a sentence. Several hosts may be written as libpq writes them, `host1:5432,host2:5433`.
https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS (read 2026-11-29)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import URL

from webhooks.errors import ConfigurationError
from webhooks.formats import did_you_mean

#: {parameter of libpq that we set ourselves: why}
OURS = {
    "application_name": "our processes are told apart by it",
    "connect_timeout": "a post is answered within 2.5 s, whatever the database does",
    "client_encoding": "it is UTF-8",
}
_AUTHORITY = re.compile(r"(?P<scheme>[a-z+]+://)(?P<authority>[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?", re.DOTALL)


def with_single_hosts(text: str) -> str:
    """The URL as SQLAlchemy reads it: several hosts of its authority become parameters `host`."""
    match = _AUTHORITY.fullmatch(text)
    if match is None or "," not in match["authority"].rpartition("@")[2]:
        return text
    user, at, hosts = match["authority"].rpartition("@")
    named = [f"host={quote(host, safe=':[]')}" for host in hosts.split(",")]
    query = "&".join([*named, *filter(None, [match["query"]])])
    return f"{match['scheme']}{user}{at}{match['path'] or '/'}?{query}"


def in_schema(url: URL, schema: str) -> URL:
    """The same, with a search_path of its own; what the URL says besides stays."""
    said = url.query.get("options", "")
    options = [said] if isinstance(said, str) else list(said)
    return url.update_query_dict({"options": " ".join([*filter(None, options), f"-c search_path={schema}"])})


def connection_arguments(url: URL, *, options: str, **ours: Any) -> dict[str, Any]:
    """What psycopg is called with: what the URL says, and beside it what we set.

    options: what we say to the server (`-c name=value …`); those of the URL come first, so ours hold.
    ours: other parameters of libpq; where the URL has one as well, the URL's holds.

    Raises `ConfigurationError` for a parameter that libpq does not know, or that is ours to set.
    """
    if wrong := list(_complaints(url)):
        raise ConfigurationError(wrong)
    _, said = url.get_dialect()().create_connect_args(url)
    said = {name: value if isinstance(value, (str, int)) else ",".join(value) for name, value in said.items()}
    every = " ".join(filter(None, [said.get("options"), options]))
    return {**ours, **said, **({"options": every} if every else {})}


def _complaints(url: URL) -> Iterator[str]:
    from psycopg import pq

    known = {default.keyword.decode() for default in pq.Conninfo.get_defaults()}
    for name in sorted(url.query):
        if name in OURS:
            yield f"DATABASE_URL sets {name}, which is ours to set ({OURS[name]}); take it out"
        elif name not in known:
            yield f"DATABASE_URL sets {name[:40]!r}, which PostgreSQL's client library does not know{did_you_mean(name, known)}; take it out"


__all__ = ["OURS", "connection_arguments", "in_schema", "with_single_hosts"]
