"""The name by which deployed files import gunicorn's settings; they are in `http.gunicorn.settings`."""

from webhooks.http.gunicorn.settings import *  # noqa: F403
