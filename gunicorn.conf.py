"""gunicorn reads this file of the working directory by itself; the settings and their reasons travel in the wheel."""

from webhooks.gunicorn_conf import *  # noqa: F403
