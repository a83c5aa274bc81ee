"""What gunicorn's settings mean for our gevent worker: how many connections, and whether it may read requests itself."""

from __future__ import annotations

import os
import resource
from typing import Any

from gunicorn.config import Config, PostRequest, PreRequest

from webhooks.http.gunicorn.plain_posts import LONGEST_HEAD, MOST_FIELDS

#: Files that a process opens besides its connections: the database, logs, modules.
_OTHER_FILES = 200


def connection_limit(cfg: Config) -> int:
    """How many connections a process serves: gunicorn's setting, and fewer where it may not open so many files."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = int(cfg.worker_connections)
    return limit if files == resource.RLIM_INFINITY else max(16, min(limit, files - _OTHER_FILES))


def reads_heads(cfg: Config) -> bool:
    """Whether requests come in the bytes of the connection itself, one after another."""
    return not cfg.is_ssl and cfg.protocol == "http" and not has_proxy_protocol(cfg) and "h2" not in cfg.http_protocols


def has_proxy_protocol(cfg: Config) -> bool:
    """Whether connections begin with a line of a proxy's."""
    return cfg.proxy_protocol not in (False, "off", None)


def allows_direct_route(cfg: Config, log: Any) -> bool:
    """Whether gunicorn's settings leave nothing to do that the direct route does not."""
    return (
        bool(cfg.keepalive)
        and reads_heads(cfg)
        and cfg.header_map == "drop"
        and not log.access_log_enabled
        and not cfg.statsd_host
        and cfg.pre_request is PreRequest.default
        and cfg.post_request is PostRequest.default
        and not os.environ.get("SCRIPT_NAME")
        and (cfg.limit_request_line <= 0 or cfg.limit_request_line >= LONGEST_HEAD)
        and (cfg.limit_request_field_size <= 0 or cfg.limit_request_field_size >= LONGEST_HEAD)
        and (cfg.limit_request_fields <= 0 or cfg.limit_request_fields >= MOST_FIELDS)
    )


__all__ = ["allows_direct_route", "connection_limit", "reads_heads"]
