"""The application that `make_app` makes, by the settings of the working directory: `celery -A webhooks.contrib.celery.app worker`."""

from __future__ import annotations

import os

from webhooks.contrib.celery.application import make_app
from webhooks.settings import load_settings

app = make_app(load_settings(os.environ))

__all__ = ["app"]
