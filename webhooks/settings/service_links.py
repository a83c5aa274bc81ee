"""Variables that look like settings and are none: what Kubernetes tells a pod of a Service named `webhooks`.

`WEBHOOKS_PORT=tcp://10.96.14.7:80` is among them, which would stop every command.
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables (read 2026-11-29)
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

logger = logging.getLogger(__name__)

_LINK = re.compile(
    r"WEBHOOKS_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)",
    re.ASCII,
)


def is_service_link(variable: str, value: str) -> bool:
    """Whether a variable is one that Kubernetes sets for a Service named `webhooks`, and no setting."""
    if variable == "WEBHOOKS_PORT":
        return "://" in value
    return _LINK.fullmatch(variable) is not None


def without_service_links(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment without them; one line says which were passed over."""
    links = [variable for variable, value in sorted(environ.items()) if is_service_link(variable, value)]
    if not links:
        return environ
    logger.warning(
        "%s: set by Kubernetes for a Service named webhooks, and no settings; enableServiceLinks: false in the pod ends them",
        ", ".join(links),
    )
    return {variable: value for variable, value in environ.items() if variable not in links}


__all__ = ["is_service_link", "without_service_links"]
