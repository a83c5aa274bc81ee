"""Close (close.com): its signature, its envelope and its event types."""

from __future__ import annotations

from webhooks.sources.close.envelope import parse_log_entry
from webhooks.sources.close.source import CloseSource

__all__ = ["CloseSource", "parse_log_entry"]
