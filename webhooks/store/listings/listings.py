"""`Listings`: everything that can be looked at, under one name."""

from __future__ import annotations

from webhooks.store.listings.events import EventPages
from webhooks.store.listings.failures import Failures
from webhooks.store.listings.in_lane import LanePages
from webhooks.store.listings.short_ids import ShortIds
from webhooks.store.listings.statistics import Statistics


class Listings(EventPages, Failures, LanePages, Statistics, ShortIds):
    """Reads pages, groups and figures from one database. reader: makes events of rows."""


__all__ = ["Listings"]
