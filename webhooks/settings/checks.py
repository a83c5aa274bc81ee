"""What settings need of each other: mistakes that no single one of them makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from webhooks.errors import ConfigurationError
from webhooks.formats import show_duration
from webhooks.settings.directory import where_read
from webhooks.settings.settings import FILE, Settings
from webhooks.settings.values import shown

#: Dedup keys outlive payloads by at least this long, so that a late copy is still known as a duplicate.
DEDUP_MARGIN = timedelta(days=5)


def require_sources(settings: Settings) -> None:
    """Raise `ConfigurationError` with the line to add when no source is configured."""
    if not settings.sources:
        raise ConfigurationError(
            "no source is configured, so nothing could be accepted; set WEBHOOKS_SOURCES__close__SECRET to the "
            f'signature key of your Close subscription, or write to {FILE}: [sources.close] and below it secret = "…". '
            f"To look around without one: webhooks dev --demo ({where_read(Path.cwd())})"
        )


def require_dedup_covers(settings: Settings, tolerances: Mapping[str, timedelta]) -> None:
    """Raise `ConfigurationError` when an accepted signature may be older than what dedup remembers.

    tolerances: {source: how old its signatures may be}, the scheme's own where the settings name none.
    """
    problems = [
        f"source {name!r}: signatures are taken for {show_duration(tolerance)}, not shorter than dedup_retention "
        f"{show_duration(settings.dedup_retention)}; an old request sent again would be taken for a new event: "
        f"raise dedup_retention, or set a shorter tolerance in [sources.{name}]"
        for name, tolerance in tolerances.items()
        if tolerance >= settings.dedup_retention
    ]
    if problems:
        raise ConfigurationError(problems)


def contradictions(settings: Settings, failed: Iterable[str]) -> Iterator[str]:
    """Mistakes that only several settings together make; those that could not be read are left out."""

    def known(*names: str) -> bool:
        return not set(names) & set(failed)

    least = settings.payload_retention + DEDUP_MARGIN
    if known("dedup_retention", "payload_retention") and settings.dedup_retention < least:
        yield (
            f"dedup_retention is {show_duration(settings.dedup_retention)} and payload_retention "
            f"{show_duration(settings.payload_retention)}; dedup keys must outlive payloads by {DEDUP_MARGIN.days} "
            f"days, or late copies would be new events: set dedup_retention to at least {show_duration(least)}"
        )
    if known("heartbeat", "lease") and settings.heartbeat * 2 > settings.lease:
        yield (
            f"heartbeat is {show_duration(settings.heartbeat)} and lease {show_duration(settings.lease)}; one late "
            f"heartbeat would lose the lease: set heartbeat to at most {show_duration(settings.lease / 2)}"
        )
    if known("retry_base", "retry_cap") and settings.retry_base > settings.retry_cap:
        yield (
            f"retry_base is {show_duration(settings.retry_base)}, above retry_cap {show_duration(settings.retry_cap)}; "
            "raise retry_cap or lower retry_base"
        )
    if known("metrics", "metrics_token") and settings.metrics and not settings.metrics_token:
        yield (
            "metrics is true and there is no metrics_token, so any proxy in front would publish /metrics: set "
            "WEBHOOKS_METRICS_TOKEN (or …_FILE; openssl rand -hex 24 makes one), or set metrics_port alone, which is a "
            "worker's and needs none on this machine"
        )
    is_near = settings.metrics_host in ("127.0.0.1", "::1", "localhost")
    if known("metrics_host", "metrics_port", "metrics_token") and not is_near and not settings.metrics_token:
        yield (
            f"metrics_host is {shown(settings.metrics_host)} and there is no metrics_token, so other machines could read "
            "the metrics of workers: set WEBHOOKS_METRICS_TOKEN, or leave metrics_host at 127.0.0.1"
        )
    tolerances = {s.name: s.tolerance for s in settings.sources.values() if s.tolerance is not None}
    if known("dedup_retention"):
        try:
            require_dedup_covers(settings, tolerances)
        except ConfigurationError as error:
            yield from error.problems


__all__ = ["DEDUP_MARGIN", "contradictions", "require_dedup_covers", "require_sources"]
